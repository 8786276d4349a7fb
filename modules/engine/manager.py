"""The model manager: brings checkpoints into memory, keeps the recently used ones, and gives memory back."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import psutil
import torch

from modules.backbones.weights import read_described
from modules.core.checkpoint import Header, ModelInfo, Separate, read_header
from modules.core.errors import CheckpointMissing, NotAMatch, OutOfMemory, UnsupportedCheckpoint
from modules.core.family import Family, recognise
from modules.core.generation import FileRef, ModelChoice
from modules.core.job import EngineOptions, MemoryMode
from modules.core.operations import ModelKey
from modules.core.plugin import collect
from modules.diffusion.arena import HostPool
from modules.diffusion.backbone import Backbone, BackboneKind, Movable, Placement
from modules.diffusion.shortage import is_short
from modules.engine import memory
from modules.engine.estimate import Weights, Work, weights_of
from modules.engine.placement import MODES, Machine, next_mode, place, this_machine
from modules.engine.room import WAYS, Fit, Room, bytes_there, loaded_weights, own_memory
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A model that is ready. source: where it came from; seconds: how long that took; fit: how its work fits."""

    backbone: Backbone
    source: Literal["resident", "memory", "file"]
    seconds: float
    fit: Fit


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


POOL_SHARE = 0.25  # of the host's memory, kept at most while no model uses it


class ModelManager:
    """Loaded checkpoints, least recently used given up first where memory is wanted. For one thread: the engine's.

    A model in use is pinned and never given up. A file that cannot be loaded changes nothing: what was loaded stays.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        machine: Machine | None = None,
        loaders: Loaders | None = None,
        free: Callable[[torch.device], int] = memory.free,
    ) -> None:
        """free(device): bytes that could be taken now. Raises SetupError when the options ask for what is not here."""
        self._machine = machine or this_machine()
        self._loaders = loaders or Loaders()
        self._room = Room(free)
        self._pool = _pool(place(options, self._machine).device)
        self._placement = self._placed(options)
        self._options = options
        self._loaded: OrderedDict[ModelKey, Backbone] = OrderedDict()
        self._fresh: dict[ModelKey, int] = {}
        self._pins: Counter[ModelKey] = Counter()
        self._automatic = memory.budget()

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
        dtype = str(self._placement_of(choice.family).dtype).removeprefix("torch.")
        # a separate file's time goes into its name: a key has one time, the checkpoint's
        parts = {name: f"{file.path}@{_modified(file)}" for name, file in choice.separate.named}
        return ModelKey(
            choice.checkpoint.path, _modified(choice.checkpoint), dtype=dtype, taken_as=choice.taken_as, **parts
        )

    def bring(self, choice: ModelChoice, work: Work | None = None) -> Brought:
        """Load a checkpoint, or find it loaded, and make room for its work (by default a picture of its own size).

        Raises CheckpointError or OutOfMemory; the others stay usable.
        """
        start = time.perf_counter()
        key = self.key(choice)
        if key in self._loaded:
            self._loaded.move_to_end(key)
            fit = self.fit(key, work)
            return Brought(backbone=self._loaded[key], source="resident", seconds=time.perf_counter() - start, fit=fit)
        info = self._describe(choice)
        parts = Separate(**{name: _part(file, _IDENTIFY[name]) for name, file in choice.separate.named})
        self._drop_outdated(key)
        headers = {name: read_described(part) for name, part in parts.named}
        placement = self._placement_of(choice.family)
        weights = weights_of(read_described(info), headers, placement)
        self._keep_budget(weights)
        fit = self._judged(key, info, weights, work)
        self._make_free(fit.choice.needed, key)
        backbone = self._load(info, parts, replace(placement, vram=fit.choice.mode))
        backbone.key = key
        self._loaded[key], self._fresh[key] = backbone, weights.fresh
        self._keep_budget()
        return Brought(backbone=backbone, source="file", seconds=time.perf_counter() - start, fit=fit)

    def fit(self, key: ModelKey, work: Work | None = None) -> Fit:
        """Make room for work of a loaded model, in place: its memory mode may change, and others may be given up."""
        backbone = self._loaded[key]
        there = bytes_there(backbone)
        fit = self._judged(key, backbone.info, loaded_weights(backbone), work, backbone)
        self._make_free(fit.choice.needed - there, key)
        if isinstance(backbone, Movable):
            self._change(backbone, fit.choice.mode)
        return fit

    def relieve(self, key: ModelKey, work: Work, most: MemoryMode = "low") -> str:
        """Do something about memory that ran out in the middle of work: others are given up, or else the model goes
        over to the next mode, as far as `most`. Returns what was done, "" where nothing is left to do.
        """
        backbone = self._loaded[key]
        held = sum(bytes_there(other) for other in self._others(key))
        if held or not own_memory(backbone.placement.device):
            leaving = [other for other in self._loaded if other != key and other not in self._pins]
            self._give_up(leaving)
            if leaving:
                return "Memory ran out: other models were given up for this one."
        mode = next_mode(backbone.placement.vram)
        unchangeable = not isinstance(backbone, Movable) or not own_memory(backbone.placement.device)
        if mode is None or unchangeable or MODES.index(mode) > MODES.index(most):
            return ""
        assert isinstance(backbone, Movable)
        self._room.ran_out(key, work, backbone.placement.vram)
        self._change(backbone, mode)
        return f"Memory ran out: from here on {WAYS[backbone.placement.vram]}."

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
        self._pool.clear()
        memory.give_back(self._placement.device)  # what the pool let go of, too

    def configure(self, options: EngineOptions) -> None:
        """Take new options. Models loaded for another placement go, pinned ones when they are let go.

        Raises SetupError, and changes nothing, when the options ask for what is not here.
        """
        placement = self._placed(options)
        # Another memory mode is taken when the next request asks: no file has to be read again for it
        moved = replace(placement, vram="normal") != replace(self._placement, vram="normal")
        if placement.device != self._placement.device:
            self._pool = _pool(placement.device)
            placement = replace(placement, pool=self._pool)
        self._options, self._placement = options, placement
        if moved:
            self.unload()
            self._automatic = memory.budget()
        self._keep_budget()

    def _describe(self, choice: ModelChoice) -> ModelInfo:
        path = Path(choice.checkpoint.path)
        taken = choice.family if choice.family in self._loaders.families else ""
        info = recognise(read_header(path), self._loaders.families, family=taken)
        if info.family not in self._loaders.kinds:
            raise UnsupportedCheckpoint(f"{path.name} is {info.label}, which is not supported yet.")
        variant = info.variant if choice.variant is None else choice.variant
        return replace(info, prediction=choice.prediction or info.prediction, variant=variant)

    def _placed(self, options: EngineOptions) -> Placement:
        return replace(place(options, self._machine), pool=self._pool)

    def _placement_of(self, family: str) -> Placement:
        """Where and in which precision a model of `family` is loaded."""
        return replace(place(self._options, self._machine, family), pool=self._pool)

    def _load(self, info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> Backbone:
        """Load so, or where memory is short for that, without the other models, then in the next modes."""
        load = self._loaders.kinds[info.family].load
        try:
            return load(info, separate, placement)
        except (MemoryError, RuntimeError) as error:
            if not is_short(error):
                raise
        self.unload()
        modes = MODES[MODES.index(placement.vram) :] if own_memory(placement.device) else (placement.vram,)
        for chosen in modes:
            memory.give_back(placement.device)  # only here has the failed attempt let go of its tensors
            try:
                return load(info, separate, replace(placement, vram=chosen))
            except (MemoryError, RuntimeError) as error:
                if not is_short(error):
                    raise
        raise OutOfMemory(
            f"There is not enough free memory on {placement.device} for {info.name}.",
            hint="Start with --medvram or --lowvram, or close other programs.",
        )

    def _judged(
        self, key: ModelKey, info: ModelInfo, weights: Weights, work: Work | None, loaded: Backbone | None = None
    ) -> Fit:
        wanted = work or Work(width=info.defaults.width, height=info.defaults.height)
        movable = loaded is None or isinstance(loaded, Movable)
        # A model that cannot change stays as it was placed
        placement = self._placement_of(info.family) if loaded is None or movable else loaded.placement
        movable = movable and self._options.vram != "normal"  # that says so: only what runs out changes it
        return self._room.judge(
            key, info, weights, wanted, placement, there=bytes_there(loaded) if loaded else 0,
            others=self._could_be_given_up(key), movable=movable,
        )  # fmt: skip

    def _could_be_given_up(self, key: ModelKey) -> int:
        if own_memory(self._placement.device):
            return sum(bytes_there(other) for other in self._others(key))
        return sum(self._fresh[other] for other in self._loaded if other != key and other not in self._pins)

    def _others(self, key: ModelKey | None) -> list[Backbone]:
        return [backbone for other, backbone in self._loaded.items() if other != key and other not in self._pins]

    def _change(self, backbone: Movable, mode: MemoryMode) -> None:
        """Bring a model into a memory mode, or where memory is short for that, into the next one."""
        chosen: MemoryMode | None = mode
        while chosen is not None:
            try:
                backbone.change(chosen)
                return
            except (MemoryError, RuntimeError) as error:
                if not is_short(error):
                    raise
            memory.give_back(self._placement.device)
            chosen = next_mode(chosen)

    def _make_free(self, wanted: int, key: ModelKey) -> None:
        """Give up others, the least recently used first, until so many bytes are free."""
        device = self._placement.device
        if self._room.free(device) >= wanted:
            return
        for backbone in self._others(key):
            if isinstance(backbone, Movable):
                backbone.retreat()
        if not own_memory(device):  # else what the pool keeps is not the memory that is short
            self._pool.clear()
        memory.give_back(device)
        for other in list(self._loaded):
            if self._room.free(device) >= wanted:
                return
            backbone = self._loaded[other]
            held = bytes_there(backbone) if own_memory(device) else self._fresh[other]
            if held and other != key and other not in self._pins:
                self._give_up([other])

    def _drop_outdated(self, key: ModelKey) -> None:
        """Give up what was loaded from an older version of the same file: its map is of no more use."""
        outdated = [
            other
            for other in self._loaded
            if other.checkpoint == key.checkpoint and other.mtime_ns != key.mtime_ns and other not in self._pins
        ]
        self._give_up(outdated)

    def _cost(self, key: ModelKey) -> int:
        """What a loaded model counts: of a budget that a person set, all its weights; else what it takes of the host's
        memory. On a device with memory of its own that is everything where it comes and goes, and nothing where it is
        there as a whole: what is free on the device decides over those, see `_make_free`.
        """
        backbone = self._loaded[key]
        if self._options.cache_bytes is not None:
            return backbone.weight_bytes
        if own_memory(self._placement.device):
            return 0 if backbone.placement.vram == "normal" else backbone.weight_bytes
        return self._fresh[key]

    def _keep_budget(self, coming: Weights | None = None) -> None:
        """Give up the least recently used beyond the budget; before a new one is loaded, so that the peak is in it."""
        sizes = {key: self._cost(key) for key in self._loaded}
        total, leaving = sum(sizes.values()), []
        if coming and self._options.cache_bytes is not None:
            total += coming.total
        elif coming and not own_memory(self._placement.device):
            total += coming.fresh
        candidates = list(self._loaded) if coming else list(self._loaded)[:-1]  # the newest one is about to be used
        for key in candidates:
            if total <= self.budget:
                break
            if key not in self._pins and sizes[key]:
                leaving.append(key)
                total -= sizes[key]
        self._give_up(leaving)

    def _give_up(self, keys: list[ModelKey]) -> None:
        for key in keys:
            self._loaded.pop(key).close()
            self._fresh.pop(key, None)
            self._room.forget(key)
        if keys:
            memory.give_back(self._placement.device)


def _pool(device: torch.device) -> HostPool:
    """Memory of the host for weights that cannot stay in their file, kept for the next model."""
    return HostPool(int(psutil.virtual_memory().total * POOL_SHARE), pin=device.type == "cuda")


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
