"""The app: builds, owns and closes the services. Nothing is global; two apps can live in one process.

Page, HTTP routes and command line are faces of it and find everything here.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import time
from typing import Any

from modules import samplers, schedules
from modules.core.addresses import is_loopback
from modules.core.errors import CheckpointError, RequestError, StorageError
from modules.core.generation import GenerationPlan
from modules.core.job import EngineOptions, Executor, ImageReady
from modules.executors.local import LocalExecutor
from modules.executors.pool import worker_pool
from modules.executors.worker import WorkerExecutor
from modules.imaging.formats import SaveFormat
from modules.prompting.dynamic import Wildcards
from modules.services.catalog import Catalog
from modules.services.fitting import Fitting
from modules.services.history import EngineFacts, History
from modules.services.inspection import Inspector
from modules.services.jobs import WINDOW, Jobs
from modules.services.lock import FolderLock
from modules.services.queue import JobStore, MemoryStore, SqliteStore
from modules.services.replay import Replays
from modules.services.resolve import Resolver
from modules.services.saving import Pictures
from modules.services.settings import Settings
from modules.services.state import StateDatabase
from modules.services.styles import Styles
from modules.services.words import Words

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = ".inferenz"  # below outputs/, never served
DAY_SECONDS = 86_400
ENGINE_SETTINGS = frozenset(
    (
        "preview_ms", "preview_size", "preview_taesd", "keep_partial", "cache_gb", "vram", "weights", "tiled_vae",
        "max_batch_rows", "trace",
    )
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where the page is served and to whom.

    host: address to listen on, "0.0.0.0" for all. port: None for 7860 or the next free one. users: (name, password)
    pairs, empty for no login. insecure: reach beyond this machine without a login. language, theme: of this run, None
    for what the settings say. root_path: prefix behind a reverse proxy. Raises RequestError, naming the flag, where
    everyone could reach the page without a login and nobody said so.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    share: bool = False
    users: tuple[tuple[str, str], ...] = ()
    insecure: bool = False
    autolaunch: bool = False
    language: str | None = None
    theme: str | None = None
    root_path: str = ""

    def __post_init__(self) -> None:
        if self.open_to_others and not self.users and not self.insecure:
            flag = "--share" if self.share else "--listen" if self.host == "0.0.0.0" else f"--server-name {self.host}"
            raise RequestError(
                flag, "would let everyone who finds the page use it without a login",
                accepted=f"{flag} with --gradio-auth NAME:PASSWORD, or with --insecure if that is meant",
            )  # fmt: skip

    @property
    def open_to_others(self) -> bool:
        """Whether other machines reach the page."""
        return self.share or not is_loopback(self.host)


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """Everything a start decides. data_dir holds models/ and outputs/ unless they are named themselves.

    ckpt_dirs, vae_dirs, text_encoder_dirs, wildcards_dirs: further folders of each kind. styles_file: in place of
    styles.csv in data_dir. devices: of several, one worker process each;
    `engine` names the first. in_process: the engine runs in this process instead of a worker. durable: the queue
    outlives the process; the command line's does not.
    """

    data_dir: Path = ROOT
    models_dirs: tuple[Path, ...] = ()
    ckpt_dirs: tuple[Path, ...] = ()
    vae_dirs: tuple[Path, ...] = ()
    text_encoder_dirs: tuple[Path, ...] = ()
    outputs_dir: Path | None = None
    styles_file: Path | None = None
    wildcards_dirs: tuple[Path, ...] = ()
    engine: EngineOptions = field(default_factory=EngineOptions)
    devices: tuple[str, ...] = ()
    in_process: bool = False
    durable: bool = True
    server: ServerConfig = field(default_factory=ServerConfig)

    @property
    def models(self) -> tuple[Path, ...]:
        """The folders that are laid out as models/ is."""
        return self.models_dirs or (self.data_dir / "models",)

    @property
    def styles(self) -> Path:
        return self.styles_file or self.data_dir / "styles.csv"

    @property
    def wildcards(self) -> tuple[Path, ...]:
        return (*(folder / "wildcards" for folder in self.models), *self.wildcards_dirs)

    @property
    def outputs(self) -> Path:
        return self.outputs_dir or self.data_dir / "outputs"

    @property
    def state_path(self) -> Path:
        return self.outputs / HIDDEN / "state.sqlite3"


@dataclass(frozen=True, kw_only=True)
class App:
    """The services of one installation. A context manager; `close` ends all of them, jobs first."""

    config: AppConfig
    settings: Settings
    catalog: Catalog
    history: History
    jobs: Jobs
    resolver: Resolver
    inspector: Inspector
    replays: Replays
    executor: Executor
    words: Words
    version: str
    owned: ExitStack

    def close(self) -> None:
        """End everything; what is queued goes on at the next start. May be called twice."""
        self.owned.close()

    def __enter__(self) -> App:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def build_app(config: AppConfig, *, executor: Executor | None = None, pictures: Pictures | None = None) -> App:
    """Open the services and start the queue.

    executor, pictures: in place of the engine and of the history (tests; the command line's --output). Raises
    StorageError or SetupError where a folder or database cannot be used; nothing stays open then.
    """
    hidden = config.outputs / HIDDEN
    with ExitStack() as stack:
        lock = FolderLock(hidden / "server.lock") if config.durable else None
        if lock is not None:
            stack.callback(lock.close)
        state = StateDatabase(config.state_path)
        stack.callback(state.close)
        settings = Settings(state)
        catalog = Catalog(
            config.models,
            config.ckpt_dirs,
            config.vae_dirs,
            state,
            text_encoder_dirs=config.text_encoder_dirs,
            # One picture from the command line is no occasion to read gigabytes that nobody asked for.
            hashing=lambda: config.durable and bool(settings.get("hash_models")),
        )
        stack.callback(catalog.close)
        history = History(
            config.outputs,
            state,
            date_folders=lambda: bool(settings.get("date_folders")),
            save_format=lambda: SaveFormat(kind=settings.get("image_format"), quality=settings.get("image_quality")),
            metadata=lambda: bool(settings.get("save_metadata")),
            thumbnail_bytes=int(settings.get("thumbnail_cache_mb")) << 20,
        )
        stack.callback(history.close)
        options = _engine_options(config, settings)
        chosen = executor or _executor(config, options, hidden / "logs" / "worker.log")
        words = Words(
            styles=Styles(config.styles),
            wildcards=Wildcards(config.wildcards),
            dynamic=lambda: bool(settings.get("dynamic_prompts")),
        )
        resolver = Resolver(
            models=catalog, settings=settings, words=words,
            known_samplers=samplers.registry(), known_schedules=schedules.registry(),
        )  # fmt: skip
        # A second server on the same folder has a queue of its own that ends with it: the first one's is not for it.
        owner = lock is not None and lock.held
        if lock is not None and not owner:
            log.warning("Another server uses %s: jobs queued here end with this one.", config.outputs)
        store: JobStore = _store(state, settings) if owner else MemoryStore()
        inspector = Inspector(Fitting(models=catalog, samplers=resolver.samplers, schedules=resolver.schedules))
        replays = Replays(inspector, pictures or history)
        jobs = Jobs(
            executor=chosen,
            resolver=resolver,
            pictures=replays,
            store=store,
            describe=_Describe(resolver, program_version()),
            model_hash=_ModelHash(catalog),
            on_busy=catalog.pause_hashing,
            window=WINDOW * max(1, len(config.devices)),
        )
        stack.callback(jobs.close)
        stack.callback(settings.subscribe(_Configure(config, settings, chosen)))
        if config.durable:
            history.recover()
        jobs.start()
        return App(
            config=config,
            settings=settings,
            catalog=catalog,
            history=history,
            jobs=jobs,
            resolver=resolver,
            inspector=inspector,
            replays=replays,
            executor=chosen,
            words=words,
            version=program_version(),
            owned=stack.pop_all(),
        )


def program_version() -> str:
    """This program's version: of the installed package, else as pyproject.toml says."""
    try:
        return version("inferenz")
    except PackageNotFoundError:
        for line in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines():
            if line.startswith("version"):
                return line.split('"')[1]
    return ""


def _store(state: StateDatabase, settings: Settings) -> SqliteStore:
    store = SqliteStore(state)
    try:
        store.forget(before=time() - settings.get("keep_jobs_days") * DAY_SECONDS)
    except StorageError as error:  # a full disk: the page must open all the same, for the trash is emptied there
        log.error("Old jobs could not be forgotten: %s", error)
    return store


def _executor(config: AppConfig, options: EngineOptions, log: Path) -> Executor:
    if config.in_process:
        return LocalExecutor(options)
    if len(config.devices) > 1:
        return worker_pool(options, config.devices, log)
    return WorkerExecutor(options, log_path=log)


def _engine_options(config: AppConfig, settings: Settings) -> EngineOptions:
    """The start's flags and the settings of now."""
    return replace(
        config.engine,
        cache_bytes=int(settings.get("cache_gb") * 2**30) or None,
        vram=settings.get("vram") if config.engine.vram == "auto" else config.engine.vram,
        storage=settings.get("weights"),
        tiled_vae=settings.get("tiled_vae"),
        preview_ms=settings.get("preview_ms"),
        preview_size=settings.get("preview_size"),
        keep_partial=settings.get("keep_partial"),
        max_batch_rows=settings.get("max_batch_rows"),
        trace=settings.get("trace"),
        taesd=str(config.models[0] / "VAE-approx") if settings.get("preview_taesd") else "",
    )


@dataclass(frozen=True)
class _Configure:
    """Tells the engine of settings that concern it."""

    config: AppConfig
    settings: Settings
    executor: Executor

    def __call__(self, name: str, _: Any) -> None:
        if name in ENGINE_SETTINGS:
            self.executor.configure(_engine_options(self.config, self.settings))


@dataclass(frozen=True)
class _Describe:
    """What a picture's file says beside its plan."""

    resolver: Resolver
    version: str

    def __call__(self, plan: GenerationPlan, event: ImageReady) -> EngineFacts:
        sampler, schedule = self.resolver.samplers[plan.sampler], self.resolver.schedules[plan.schedule]
        return EngineFacts(
            sampler=sampler.label,
            schedule=schedule.label,
            device=event.device,
            dtype=event.dtype,
            seconds=event.seconds,
            partial=event.partial,
            version=self.version,
            options=sampler.chosen_options(plan.options),
            schedule_options=schedule.chosen_options(plan.schedule_options),
            ensd=sampler.says_ensd(plan.options),
        )


@dataclass(frozen=True)
class _ModelHash:
    """The hash of a plan's checkpoint, if it is known by now: it is computed while pictures are made."""

    catalog: Catalog

    def __call__(self, plan: GenerationPlan) -> str | None:
        if plan.checkpoint.sha256:
            return plan.checkpoint.sha256
        try:
            info = self.catalog.find(plan.checkpoint.name)
        except CheckpointError:  # removed since: the picture is made all the same
            return None
        return self.catalog.hash_of(info) if info.path == plan.checkpoint.path else None
