"""The model manager: brings checkpoints into memory, keeps the recently used ones, and gives memory back."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from modules.core.checkpoint import Header, ModelInfo, Separate, read_header
from modules.core.errors import CheckpointMissing, NotAMatch, OutOfMemory, UnsupportedCheckpoint
from modules.core.family import Family, recognise
from modules.core.generation import FileRef, ModelChoice
from modules.core.job import EngineOptions
from modules.core.operations import ModelKey
from modules.core.plugin import collect
from modules.diffusion.backbone import Backbone, BackboneKind, Placement
from modules.engine import memory
from modules.engine.placement import Machine, place, this_machine
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A model that is ready. source: where it came from; seconds: how long that took."""

    backbone: Backbone
    source: Literal["resident", "memory", "file"]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Loaders:
    """Which families are known and how they are loaded: the registries."""

    families: Mapping[str, Family] = field(
        default_factory=lambda: collect("modules.families", Family, group="inferenz.families")
    )
    kinds: Mapping[str, BackboneKind] = field(
        default_factory=lambda: collect("modules.backbones", BackboneKind, group="inferenz.backbones")
    )


_IDENTIFY: Mapping[str, Callable[[Header], ModelInfo]] = {
    "text_encoder": identify_text_encoder, "text_encoder_2": identify_text_encoder,
    "text_encoder_3": identify_text_encoder, "vae": identify_vae,
}  # fmt: skip


class ModelManager:
    """Loaded checkpoints under a memory budget, least recently used given up first. For one thread: the engine's.

    A model in use is pinned and never given up. A file that cannot be loaded changes nothing: what was loaded stays.
    """

    def __init__(
        self, options: EngineOptions, *, machine: Machine | None = None, loaders: Loaders | None = None
    ) -> None:
        """Raises SetupError when the options ask for a device or precision that is not here."""
        self._machine = machine or this_machine()
        self._loaders = loaders or Loaders()
        self._placement = place(options, self._machine)
        self._options = options
        self._loaded: OrderedDict[ModelKey, Backbone] = OrderedDict()
        self._pins: Counter[ModelKey] = Counter()
        self._automatic = memory.budget(self._placement.device)

    @property
    def placement(self) -> Placement:
        """Where and in which precision the next model is loaded."""
        return self._placement

    @property
    def device_label(self) -> str:
        """The device's name as people know it."""
        name = str(self._placement.device)
        return next((device.label for device in self._machine.devices if device.name == name), name)

    @property
    def budget(self) -> int:
        """Bytes that loaded models may take together."""
        return self._automatic if self._options.cache_bytes is None else self._options.cache_bytes

    def key(self, choice: ModelChoice) -> ModelKey:
        """The key a model has now; a changed file has another. Raises CheckpointMissing."""
        dtype = str(self._placement.dtype).removeprefix("torch.")
        # a separate file's time goes into its name: a key has one time, the checkpoint's
        parts = {name: f"{file.path}@{_modified(file)}" for name, file in choice.separate.named}
        return ModelKey(
            choice.checkpoint.path, _modified(choice.checkpoint), dtype=dtype, taken_as=choice.taken_as, **parts
        )

    def bring(self, choice: ModelChoice) -> Brought:
        """Load a checkpoint, or find it loaded. Raises CheckpointError or OutOfMemory; the others stay usable."""
        start = time.perf_counter()
        key = self.key(choice)
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return Brought(backbone=self._loaded[key], source="resident", seconds=time.perf_counter() - start)
        info = self._describe(choice)
        parts = Separate(**{name: _part(file, _IDENTIFY[name]) for name, file in choice.separate.named})
        self._drop_outdated(key)
        self._make_room((info, *parts.files))
        backbone = self._load(info, parts)
        backbone.key = key
        self._loaded[key] = backbone
        self._keep_budget()
        return Brought(backbone=backbone, source="file", seconds=time.perf_counter() - start)

    def pin(self, key: ModelKey) -> None:
        """Hold a loaded model: it is not given up until `unpin` was called as often."""
        if key not in self._loaded:
            raise KeyError(key)
        self._pins[key] += 1

    def unpin(self, key: ModelKey) -> None:
        """Let go of a pinned model once."""
        self._pins[key] -= 1
        if self._pins[key] <= 0:
            del self._pins[key]
        self._keep_budget()

    def loaded(self) -> tuple[str, ...]:
        """Names of the loaded checkpoints, most recently used first."""
        return tuple(dict.fromkeys(Path(key.checkpoint).stem for key in reversed(self._loaded)))

    def keys(self) -> frozenset[ModelKey]:
        """The loaded models."""
        return frozenset(self._loaded)

    def loaded_bytes(self) -> int:
        """Bytes of the weights of all loaded models."""
        return sum(backbone.weight_bytes for backbone in self._loaded.values())

    def unload(self) -> None:
        """Give up every model that is not pinned."""
        self._give_up([key for key in self._loaded if key not in self._pins])

    def configure(self, options: EngineOptions) -> None:
        """Take new options. Models loaded for another placement go, pinned ones when they are let go.

        Raises SetupError, and changes nothing, when the options ask for what is not here.
        """
        placement = place(options, self._machine)
        moved = placement != self._placement
        self._options, self._placement = options, placement
        if moved:
            self.unload()
            self._automatic = memory.budget(placement.device)
        self._keep_budget()

    def _describe(self, choice: ModelChoice) -> ModelInfo:
        path = Path(choice.checkpoint.path)
        taken = choice.family if choice.family in self._loaders.families else ""
        info = recognise(read_header(path), self._loaders.families, family=taken)
        if info.family not in self._loaders.kinds:
            raise UnsupportedCheckpoint(f"{path.name} is {info.label}, which is not supported yet.")
        variant = info.variant if choice.variant is None else choice.variant
        return replace(info, prediction=choice.prediction or info.prediction, variant=variant)

    def _load(self, info: ModelInfo, separate: Separate[ModelInfo]) -> Backbone:
        load = self._loaders.kinds[info.family].load
        try:
            return load(info, separate, self._placement)
        except (MemoryError, RuntimeError) as error:
            if not memory.is_short(error):
                raise
            self.unload()
        try:
            return load(info, separate, self._placement)
        except (MemoryError, RuntimeError) as error:
            if not memory.is_short(error):
                raise
            raise OutOfMemory(
                f"There is not enough free memory on {self._placement.device} for {info.name}.",
                hint="Start with --medvram or --lowvram, or close other programs.",
            ) from error

    def _drop_outdated(self, key: ModelKey) -> None:
        """Give up what was loaded from an older version of the same file: its map is of no more use."""
        outdated = [
            other
            for other in self._loaded
            if other.checkpoint == key.checkpoint and other.mtime_ns != key.mtime_ns and other not in self._pins
        ]
        self._give_up(outdated)

    def _make_room(self, files: tuple[ModelInfo, ...]) -> None:
        """Give up the least recently used models before the new one is loaded, so that the peak stays in the budget."""
        itemsize = self._placement.dtype.itemsize
        self._keep_budget(sum(int(file.size * itemsize / _ITEM_BYTES.get(file.dtype, 2)) for file in files))

    def _keep_budget(self, coming: int = 0) -> None:
        sizes = {key: backbone.weight_bytes for key, backbone in self._loaded.items()}
        total, leaving = sum(sizes.values()) + coming, []
        candidates = list(self._loaded) if coming else list(self._loaded)[:-1]  # the newest one is about to be used
        for key in candidates:
            if total <= self.budget:
                break
            if key not in self._pins:
                leaving.append(key)
                total -= sizes[key]
        self._give_up(leaving)

    def _give_up(self, keys: list[ModelKey]) -> None:
        for key in keys:
            self._loaded.pop(key).close()
        if keys:
            memory.give_back(self._placement.device)


_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


def _part(file: FileRef, identify: Callable[[Header], ModelInfo]) -> ModelInfo:
    info = identify(read_header(Path(file.path)))
    if not info.supported:
        raise UnsupportedCheckpoint(info.problem)
    return info


def _modified(file: FileRef) -> int:
    try:
        return Path(file.path).stat().st_mtime_ns
    except FileNotFoundError:
        raise CheckpointMissing(f"{file.name}: there is no such file.", hint=f"It was at {file.path}.") from None
    except OSError as error:
        raise NotAMatch(f"{file.name} cannot be read: {error.strerror}.") from error
