"""The models people have: every file of the models folders, described from its header alone.

Folders are AUTOMATIC1111's and Forge's: models/Stable-diffusion, models/VAE, models/text_encoder (and models/CLIP);
ComfyUI's: models/checkpoints, models/diffusion_models (and models/unet), models/vae, models/text_encoders (and
models/clip); and whatever --ckpt-dir, --vae-dir and --text-encoder-dir add.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from modules.core.checkpoint import MODEL_INDEXES, Defaults, ModelInfo, read_header
from modules.core.errors import CheckpointError, CheckpointMissing, OutOfMemory, UnsafeCheckpoint
from modules.core.family import Family, Part
from modules.services.hashing import Hasher, HashJob
from modules.services.model_cache import ModelCache, without_long_metadata
from modules.services.model_folders import (
    CHECKPOINT_FOLDERS,
    TEXT_ENCODER_FOLDERS,
    VAE_FOLDERS,
    below,
    model_files,
)
from modules.services.model_names import STARTER, hint, match, uniquely_named
from modules.services.model_notes import NOTHING, ModelNotes, Note, Notes, Taken, checked_profile
from modules.services.readers import Identify, Readers, installed_readers
from modules.services.state import StateDatabase
from modules.services.storage import FoundFile
from modules.services.subscribers import Subscribers

_VAE_BESIDE = re.compile(r"\.vae\.\w+$", re.IGNORECASE)  # AUTOMATIC1111: model.vae.safetensors beside model.safetensors
_LEAST_SECONDS = 1.0  # between two looks into the folders
_SHARE = 20  # and at least this many times as long as a look takes (a sleeping network drive)
_FIRST_SECONDS = 1.0  # of reading headers never seen before; the rest is read behind the listing


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """One look into the folders. keys: path -> the cache's key. unread: files whose headers are still to be read.

    recognised: path -> what a checkpoint is without its note, where that is another thing.
    """

    checkpoints: tuple[ModelInfo, ...] = ()
    vaes: tuple[ModelInfo, ...] = ()
    text_encoders: tuple[ModelInfo, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    notes: Notes = field(default_factory=dict)
    recognised: Mapping[str, ModelInfo] = field(default_factory=dict)
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
        self._checkpoint_folders = (*below(models_dirs, CHECKPOINT_FOLDERS), *ckpt_dirs)
        self._vae_folders = (*below(models_dirs, VAE_FOLDERS), *vae_dirs)
        self._text_folders = (*below(models_dirs, TEXT_ENCODER_FOLDERS), *text_encoder_dirs)
        self._readers = readers or installed_readers()
        self._cache = ModelCache(state, self._readers.version)
        self._notes = ModelNotes(state)
        self._hashing = hashing
        self._now = now
        self._looking = threading.Lock()
        self._lock = threading.Lock()
        self._listing: _Listing | None = None
        self._due = 0.0
        self._hashes = 0  # that came to be known
        self._subscribers: Subscribers[[]] = Subscribers()
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

    def reads(self, info: ModelInfo) -> tuple[str, int]:
        """By whose tokens a prompt for a checkpoint is counted, and how many are read at once (see `Reads`)."""
        return self._readers.reads(info)

    def families(self) -> Mapping[str, Family]:
        """The families that a checkpoint can be taken as, by name."""
        return {name: kind for name, kind in self._readers.families.items() if kind.predictions}

    def note(self, info: ModelInfo) -> Note:
        """What a person decided about a checkpoint; an empty note where that is nothing."""
        return self._current().notes.get((info.path, info.size), NOTHING)

    def recognised(self, info: ModelInfo) -> ModelInfo:
        """The checkpoint as its header describes it, whatever it is taken as, with its own defaults."""
        return self._current().recognised.get(info.path, info)

    def take(self, info: ModelInfo, taken: Taken) -> ModelInfo:
        """Take a checkpoint as something else, or with an empty `taken` as what it is recognised as, from now on.

        Returns the new description. Raises RequestError for what it cannot be taken as.
        """
        self._readers.check(self.recognised(info), taken)
        return self._remember(info, replace(self.note(info), taken=taken))

    def remember(self, info: ModelInfo, profile: Mapping[str, Any]) -> ModelInfo:
        """Begin with these values of a request whenever the checkpoint is chosen; with none, with its own defaults.

        Returns the new description. Raises RequestError for what no profile holds.
        """
        return self._remember(info, replace(self.note(info), profile=checked_profile(profile)))

    def _remember(self, info: ModelInfo, note: Note) -> ModelInfo:
        self._notes.put(info.path, info.size, note)
        self.refresh()
        self._subscribers.tell()
        return next((each for each in self.checkpoints() if each.path == info.path), info)

    def hash_of(self, info: ModelInfo) -> str | None:
        """The file's SHA-256 if it is known; else None, and it is computed next."""
        key = self._current().keys.get(info.path)
        if key is None:
            return info.sha256
        known = self._cache.sha256(key, info.size, info.mtime_ns)
        if known is None and _hashable(info):
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
        return self._subscribers.add(callback)

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
                if _hashable(info) and info.sha256 is None:
                    self._hasher.request(HashJob(listing.keys[info.path], Path(info.path), info.size, info.mtime_ns))
        self._subscribers.tell()

    def _read_the_rest(self) -> None:
        while True:
            with self._looking:
                if self._closing.is_set() or (self._listing is not None and not self._listing.unread):
                    self._reading = None
                    return
                self._look(_FIRST_SECONDS)
            time.sleep(0.01)  # a lock is not handed over by itself: whoever waits for it comes first now

    def _read(self, until: float | None) -> _Listing:
        found = list(model_files(self._checkpoint_folders))
        beside = [(name, file) for name, file in found if _VAE_BESIDE.search(file.path.name)]
        models = [(name, file) for name, file in found if not _VAE_BESIDE.search(file.path.name)]
        vaes = [*model_files(self._vae_folders), *beside]
        keys: dict[str, str] = {}
        notes = self._notes.all()
        listed_models, unread = self._described(models, "", self._readers.checkpoint, keys, until)
        noted = tuple(self._noted(info, notes) for info in listed_models)
        listed_vaes, unread_vaes = self._described(vaes, "vae|", self._readers.vae, keys, until)
        texts = list(model_files(self._text_folders))
        listed_texts, unread_texts = self._described(texts, "text|", self._readers.text_encoder, keys, until)
        return _Listing(
            checkpoints=noted,
            vaes=listed_vaes,
            text_encoders=listed_texts,
            keys=keys,
            notes=notes,
            recognised={each.path: each for each, after in zip(listed_models, noted, strict=True) if after is not each},
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
        return tuple(uniquely_named(infos)), unread

    def _noted(self, info: ModelInfo, notes: Notes) -> ModelInfo:
        """The description of a checkpoint as a person wants it taken, with the defaults that are remembered for it."""
        note = notes.get((info.path, info.size))
        if not note:
            return info
        if note.taken.family and note.taken.family != info.family and note.taken.family in self._readers.families:
            info = self._read_as(info, note.taken.family)
        info = self._readers.taken(info, note.taken)
        names = {each.name for each in fields(Defaults)}
        wanted = {name: value for name, value in note.profile.items() if name in names}
        return replace(info, defaults=replace(info.defaults, **wanted))

    def _read_as(self, info: ModelInfo, family: str) -> ModelInfo:
        key, file = f"as {family}|{info.path}", FoundFile(Path(info.path), info.size, info.mtime_ns)
        read = self._cache.info(key, file)
        if read is None:
            read, lasting = _describe(file, self._readers.read_as(family))
            if lasting:
                self._cache.put([(key, read)])
        return replace(read, name=info.name, sha256=info.sha256)

    def _hashed(self, job: HashJob, sha256: str) -> None:
        self._cache.put_hash(job.key, job.size, job.mtime_ns, sha256)
        self._hashes += 1
        self._due = 0.0
        self._subscribers.tell()

    def _find(self, text: str, what: str, part: Callable[[_Listing], tuple[ModelInfo, ...]]) -> ModelInfo:
        wanted = text.strip()
        found = match(wanted, part(self._current()))
        if found is None:  # it may have come within the last second
            self.refresh()
            infos = part(self._current())
            found = match(wanted, infos)
        if found is None:
            shown = wanted if len(wanted) <= 100 else wanted[:97] + "..."
            raise CheckpointMissing(f"There is no {what} {shown!r}.", hint=hint(wanted, infos))
        return found


def _hashable(info: ModelInfo) -> bool:
    """A hash names one file: a folder has none."""
    return info.supported and Path(info.path).name not in MODEL_INDEXES


def _describe(file: FoundFile, read: Identify) -> tuple[ModelInfo, bool]:
    """The description, and whether it holds as long as the file does."""
    label = "Unknown"
    try:
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
