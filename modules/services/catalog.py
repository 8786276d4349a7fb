"""The models people have: every file of the models folders, described from its header alone.

Folders are AUTOMATIC1111's and Forge's: models/Stable-diffusion, models/VAE, models/text_encoder (and models/CLIP);
ComfyUI's: models/checkpoints, models/diffusion_models (and models/unet), models/vae, models/text_encoders (and
models/clip); and whatever --ckpt-dir, --vae-dir and --text-encoder-dir add.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from modules.core.checkpoint import PICKLES, ModelInfo, read_header
from modules.core.errors import CheckpointError, CheckpointMissing, OutOfMemory, UnsafeCheckpoint
from modules.core.family import Part
from modules.services.hashing import Hasher, HashJob
from modules.services.model_cache import ModelCache, without_long_metadata
from modules.services.readers import Identify, Readers, installed_readers
from modules.services.state import StateDatabase
from modules.services.storage import FoundFile, walk

CHECKPOINT_FOLDERS = ("Stable-diffusion", "checkpoints", "diffusion_models", "unet")
VAE_FOLDERS = ("VAE", "vae")
TEXT_ENCODER_FOLDERS = ("text_encoder", "text_encoders", "CLIP", "clip")
SUFFIXES = frozenset({".safetensors", ".gguf"}) | PICKLES
STARTER = "inferenz-starter"  # listed last, so that whoever has a model of their own starts with that
_VAE_BESIDE = re.compile(r"\.vae\.\w+$", re.IGNORECASE)  # AUTOMATIC1111: model.vae.safetensors beside model.safetensors
_INDEX = "model_index.json"  # marks a folder in diffusers' layout
_LEAST_SECONDS = 1.0  # between two looks into the folders
_SHARE = 20  # and at least this many times as long as a look takes (a sleeping network drive)
_FIRST_SECONDS = 1.0  # of reading headers never seen before; the rest is read behind the listing
_NEAR = 5  # names that an error offers


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """One look into the folders. keys: path -> the cache's key. unread: files whose headers are still to be read."""

    checkpoints: tuple[ModelInfo, ...] = ()
    vaes: tuple[ModelInfo, ...] = ()
    text_encoders: tuple[ModelInfo, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    unread: int = 0


class Catalog:
    """Checkpoints, VAEs and text encoders by name. Thread-safe. New files appear within a second of being asked for.

    A thousand files that were never seen before take seconds to read: the listing then grows meanwhile (`unread`).

    models_dirs: folders laid out as models/ is; ckpt_dirs, vae_dirs, text_encoder_dirs: further folders. hashing:
    whether to hash what nobody asked for, looked at whenever files are found.
    """

    def __init__(
        self,
        models_dirs: Sequence[Path],
        ckpt_dirs: Sequence[Path],
        vae_dirs: Sequence[Path],
        state: StateDatabase,
        *,
        text_encoder_dirs: Sequence[Path] = (),
        readers: Readers | None = None,
        hashing: Callable[[], bool] = lambda: True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checkpoint_folders = (*_below(models_dirs, CHECKPOINT_FOLDERS), *ckpt_dirs)
        self._vae_folders = (*_below(models_dirs, VAE_FOLDERS), *vae_dirs)
        self._text_folders = (*_below(models_dirs, TEXT_ENCODER_FOLDERS), *text_encoder_dirs)
        self._readers = readers or installed_readers()
        self._cache = ModelCache(state, self._readers.version)
        self._hashing = hashing
        self._now = now
        self._looking = threading.Lock()
        self._lock = threading.Lock()
        self._listing: _Listing | None = None
        self._due = 0.0
        self._hashes = 0  # that came to be known
        self._subscribers: list[Callable[[], None]] = []
        self._hasher = Hasher(self._hashed)
        self._closing = threading.Event()
        self._reading: threading.Thread | None = None

    def checkpoints(self) -> tuple[ModelInfo, ...]:
        """Every file of the checkpoint folders by name; what cannot be loaded has supported False and its problem."""
        return self._current().checkpoints

    def vaes(self) -> tuple[ModelInfo, ...]:
        """Every file of the VAE folders, and those that lie beside their checkpoint as name.vae.safetensors."""
        return self._current().vaes

    def text_encoders(self) -> tuple[ModelInfo, ...]:
        """Every file of the text encoder folders."""
        return self._current().text_encoders

    def unread(self) -> int:
        """How many new files are not listed yet, because their headers are still being read."""
        return self._current().unread

    def find(self, text: str) -> ModelInfo:
        """A checkpoint by name, title, file name, path or hash (at least 8 digits).

        Raises CheckpointMissing, which offers near names. The one found may be unsupported.
        """
        return self._find(text, "checkpoint", lambda listing: listing.checkpoints)

    def find_vae(self, text: str) -> ModelInfo:
        """A VAE, as `find`."""
        return self._find(text, "VAE", lambda listing: listing.vaes)

    def find_text_encoder(self, text: str) -> ModelInfo:
        """A text encoder, as `find`."""
        return self._find(text, "text encoder", lambda listing: listing.text_encoders)

    def needs(self, info: ModelInfo) -> tuple[Part, ...]:
        """What a checkpoint consists of beside its denoiser, in its own file or in others."""
        return self._readers.needs(info)

    def hash_of(self, info: ModelInfo) -> str | None:
        """The file's SHA-256 if it is known; else None, and it is computed next."""
        key = self._current().keys.get(info.path)
        if key is None:
            return info.sha256
        known = self._cache.sha256(key, info.size, info.mtime_ns)
        if known is None and info.supported:
            self._hasher.request(HashJob(key, Path(info.path), info.size, info.mtime_ns), urgent=True)
        return known

    def refresh(self) -> None:
        """Look into the folders now; returns when the listing is complete."""
        with self._looking:
            self._look(None)

    def pause_hashing(self, paused: bool) -> None:
        """Leave disk and processor to a running job, or go on. What `hash_of` was asked for is hashed all the same."""
        self._hasher.pause(paused)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback()` when files come, change or go, or a hash is known. Returns how to end that."""
        with self._lock:
            self._subscribers.append(callback)

        def end() -> None:
            with self._lock:
                if callback in self._subscribers:
                    self._subscribers.remove(callback)

        return end

    def close(self) -> None:
        """End the threads."""
        self._closing.set()
        self._hasher.close()
        with self._looking:
            reading = self._reading
        if reading is not None:
            reading.join()

    def _current(self) -> _Listing:
        listing = self._listing
        if listing is not None and self._now() < self._due:
            return listing
        # While one thread looks, the others are served what is known
        if self._looking.acquire(blocking=listing is None):
            try:
                if self._listing is None or self._now() >= self._due:
                    self._look(_FIRST_SECONDS)
            finally:
                self._looking.release()
        return self._listing or _Listing()

    def _look(self, budget: float | None) -> None:
        """Make a new listing. budget: seconds for reading headers, None for all it takes. Call it with `_looking`."""
        began, hashes = self._now(), self._hashes
        listing = self._read(None if budget is None else began + budget)
        took = self._now() - began
        changed = listing != self._listing
        self._listing = listing
        self._due = self._now() + (_LEAST_SECONDS if changed else max(_LEAST_SECONDS, _SHARE * took))
        if self._hashes != hashes:  # one that came while we looked may not be in this listing
            self._due = 0.0
        if listing.unread and self._reading is None and not self._closing.is_set():
            self._reading = threading.Thread(target=self._read_the_rest, name="model-headers", daemon=True)
            self._reading.start()
        if not changed:
            return
        if self._hashing():
            for info in (*listing.checkpoints, *listing.vaes, *listing.text_encoders):
                if info.supported and info.sha256 is None:
                    self._hasher.request(HashJob(listing.keys[info.path], Path(info.path), info.size, info.mtime_ns))
        self._tell()

    def _read_the_rest(self) -> None:
        while True:
            with self._looking:
                if self._closing.is_set() or (self._listing is not None and not self._listing.unread):
                    self._reading = None
                    return
                self._look(_FIRST_SECONDS)
            time.sleep(0.01)  # a lock is not handed over by itself: whoever waits for it comes first now

    def _tell(self) -> None:
        with self._lock:
            subscribers = tuple(self._subscribers)
        for subscriber in subscribers:
            subscriber()

    def _read(self, until: float | None) -> _Listing:
        found = list(_files(self._checkpoint_folders))
        beside = [(name, file) for name, file in found if _VAE_BESIDE.search(file.path.name)]
        models = [(name, file) for name, file in found if not _VAE_BESIDE.search(file.path.name)]
        vaes = [*_files(self._vae_folders), *beside]
        keys: dict[str, str] = {}
        listed_models, unread = self._described(models, "", self._readers.checkpoint, keys, until)
        listed_vaes, unread_vaes = self._described(vaes, "vae|", self._readers.vae, keys, until)
        texts = list(_files(self._text_folders))
        listed_texts, unread_texts = self._described(texts, "text|", self._readers.text_encoder, keys, until)
        return _Listing(
            checkpoints=listed_models,
            vaes=listed_vaes,
            text_encoders=listed_texts,
            keys=keys,
            unread=unread + unread_vaes + unread_texts,
        )

    def _described(
        self,
        found: Sequence[tuple[str, FoundFile]],
        prefix: str,
        read: Identify,
        keys: dict[str, str],
        until: float | None,
    ) -> tuple[tuple[ModelInfo, ...], int]:
        """The files' descriptions, and how many are still to be read. until: when to stop reading new headers."""
        infos: list[ModelInfo] = []
        new: list[tuple[str, ModelInfo]] = []
        unread = 0
        for name, file in sorted(found, key=lambda each: each[0] != STARTER):  # there is always one to begin with
            key = f"{prefix}{file.path}"
            info = self._cache.info(key, file)
            if info is None:
                if self._closing.is_set() or (until is not None and self._now() >= until):
                    unread += 1
                    continue
                info, lasting = _describe(file, read)
                if lasting:
                    new.append((key, info))
            keys.setdefault(str(file.path), key)
            infos.append(replace(info, name=name, sha256=self._cache.sha256(key, info.size, info.mtime_ns)))
        if new:
            self._cache.put(new)
        return tuple(_uniquely_named(infos)), unread

    def _hashed(self, job: HashJob, sha256: str) -> None:
        self._cache.put_hash(job.key, job.size, job.mtime_ns, sha256)
        self._hashes += 1
        self._due = 0.0
        self._tell()

    def _find(self, text: str, what: str, part: Callable[[_Listing], tuple[ModelInfo, ...]]) -> ModelInfo:
        wanted = text.strip()
        found = _match(wanted, part(self._current()))
        if found is None:  # it may have come within the last second
            self.refresh()
            infos = part(self._current())
            found = _match(wanted, infos)
        if found is None:
            shown = wanted if len(wanted) <= 100 else wanted[:97] + "..."
            raise CheckpointMissing(f"There is no {what} {shown!r}.", hint=_hint(wanted, infos))
        return found


def _below(models_dirs: Iterable[Path], names: Iterable[str]) -> Iterator[Path]:
    return (folder / name for folder in models_dirs for name in names)


def _files(folders: Iterable[Path]) -> Iterator[tuple[str, FoundFile]]:
    """Every model file with its name: the path below its folder, without the extension. A path is given once."""
    seen: set[Path] = set()
    for folder in _distinct(folders):
        root = folder.absolute()
        found = list(walk(root, SUFFIXES | {".json"}))
        trees = {file.path.parent for file in found if file.path.name == _INDEX}
        for file in found:
            inside = bool(trees) and not trees.isdisjoint(file.path.parents)
            whole = file.path.name == _INDEX and trees.isdisjoint(file.path.parent.parents)
            if file.path in seen or (inside and not whole) or (file.path.suffix.lower() == ".json" and not whole):
                continue
            seen.add(file.path)
            named = file.path.parent if whole else file.path.with_suffix("")
            yield (named.relative_to(root).as_posix() if named != root else root.name), file


def _distinct(folders: Iterable[Path]) -> Iterator[Path]:
    """Each folder that is there once: where a file system ignores case, VAE and vae are one."""
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        try:
            stat = folder.stat()
        except OSError:
            continue
        if (stat.st_dev, stat.st_ino) not in seen:
            seen.add((stat.st_dev, stat.st_ino))
            yield folder


def _describe(file: FoundFile, read: Identify) -> tuple[ModelInfo, bool]:
    """The description, and whether it holds as long as the file does."""
    label = "Unknown"
    try:
        if file.path.name == _INDEX:
            label = "diffusers folder"
            raise CheckpointError(f"{file.path.parent.name} is a folder in diffusers' layout, not supported yet.")
        info = without_long_metadata(read(read_header(file.path)))
        # As listed: where the file changed in between, the next look reads it again
        return replace(info, path=str(file.path), size=file.size, mtime_ns=file.mtime_ns), True
    except (CheckpointError, OutOfMemory) as error:
        # What the system refused, such as permission, may be granted while the file stays as it is
        problem, lasting = str(error), not isinstance(error.__cause__, OSError)
        lasting = lasting and not isinstance(error, CheckpointMissing)
        label = "Pickle" if isinstance(error, UnsafeCheckpoint) else label
    except OSError as error:
        problem, lasting = f"{file.path.name} cannot be read: {error.strerror or error}.", False
    info = ModelInfo(
        name=file.path.stem,
        path=str(file.path),
        family="unknown",
        label=label,
        supported=False,
        problem=problem,
        dtype="",
        components=(),
        size=file.size,
        mtime_ns=file.mtime_ns,
    )
    return info, lasting


def _uniquely_named(infos: Iterable[ModelInfo]) -> Iterator[ModelInfo]:
    """By name, the starter last. Of several with one name the loadable one keeps it, then that of the first folder."""
    taken: set[str] = set()
    ordered = sorted(
        infos, key=lambda info: (info.name == STARTER, info.name.casefold(), info.name, not info.supported)
    )
    for info in ordered:
        name, number = info.name, 2
        while name in taken:
            name, number = f"{info.name} ({number})", number + 1
        taken.add(name)
        yield info if name == info.name else replace(info, name=name)


def _match(text: str, infos: Sequence[ModelInfo]) -> ModelInfo | None:
    if not text:
        return None
    for fold in (str, str.casefold):
        wanted = fold(text.replace("\\", "/"))
        for names in (_names, _file_names):
            for info in infos:
                if wanted in {fold(name.replace("\\", "/")) for name in names(info)}:
                    return info
    title = re.fullmatch(r"(.+?) \[([0-9a-fA-F]{8,64})\]", text)
    if title:  # a title whose hash is of another copy, or not known here yet
        return _match(title[2], infos) or _match(title[1], infos)
    if re.fullmatch(r"[0-9a-fA-F]{8,64}", text):
        return next((info for info in infos if info.sha256 and info.sha256.startswith(text.lower())), None)
    return None


def _names(info: ModelInfo) -> tuple[str, ...]:
    return info.name, info.title, info.path


def _file_names(info: ModelInfo) -> tuple[str, ...]:
    path = Path(info.path)
    return f"{info.name}{path.suffix}", path.name, path.stem


def _hint(text: str, infos: Sequence[ModelInfo]) -> str:
    if not infos:
        return "There are none at all."
    names = {info.name.casefold(): info.name for info in infos if info.supported} or {"": infos[0].name}
    near = get_close_matches(text.casefold()[:200], names, n=_NEAR, cutoff=0.4)
    if near:
        return f"Did you mean {' or '.join(names[name] for name in near)}?"
    shown = list(names.values())[:_NEAR]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"There are: {', '.join(shown)}{more}."
