"""Room for models on a device: which memory mode a model gets for its work, and what people are told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from modules.core.checkpoint import ModelInfo
from modules.core.job import MemoryMode
from modules.core.operations import ModelKey
from modules.diffusion.backbone import Backbone, Movable, PartName, Placement
from modules.engine import memory
from modules.engine.estimate import Weights, Work, needs_of, part_devices
from modules.engine.placement import MODES, Choice, choose, next_mode

WAYS: Mapping[MemoryMode, str] = {
    "normal": "all of it is on the device",
    "medium": "its parts take turns on the device",
    "low": "its layers come to the device one after another, which is slow",
}


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How work fits. notice: what the person should be told, "" where there is nothing new."""

    choice: Choice
    notice: str = ""


class Room:
    """Judges what fits. free(device): bytes that could be taken now. For one thread: the engine's.

    What ran out of memory is remembered: as much work of the same model is not tried in that mode again.
    """

    def __init__(self, free: Callable[[torch.device], int] = memory.free) -> None:
        self.free = free
        self._failed: dict[ModelKey, tuple[int, MemoryMode]] = {}
        self._told: dict[ModelKey, tuple[MemoryMode, bool]] = {}

    def judge(
        self,
        key: ModelKey,
        info: ModelInfo,
        weights: Weights,
        work: Work,
        placement: Placement,
        *,
        there: int = 0,
        others: int = 0,
        movable: bool = True,
    ) -> Fit:
        """How `work` fits. weights: of the model. placement.vram: the least that is to be saved. there: bytes that the
        model has on the device already; others: that other models can give up; movable: the mode can be chosen.
        """
        room = self.free(placement.device) + there + others
        apart = own_memory(placement.device)
        # In one memory with the file, what is mapped from it needs none; what is loaded already has it
        parts: Mapping[PartName, int] = weights.parts if apart else {"denoiser": weights.fresh}
        needs = needs_of(info, parts, work, placement)
        least = max(placement.vram, self._least(key, work), key=MODES.index) if apart else "normal"
        choice = choose(needs, room, least=least, movable=apart and movable)
        return Fit(choice=choice, notice=self._notice(key, info, work, choice, placement))

    def ran_out(self, key: ModelKey, work: Work, mode: MemoryMode) -> None:
        """There was too little memory for `work` in this mode."""
        self._failed[key] = (_size(work), next_mode(mode) or mode)

    def forget(self, key: ModelKey) -> None:
        """The model is no longer loaded."""
        self._told.pop(key, None)

    def _least(self, key: ModelKey, work: Work) -> MemoryMode:
        size, mode = self._failed.get(key, (0, "normal"))
        return mode if _size(work) >= size else "normal"

    def _notice(self, key: ModelKey, info: ModelInfo, work: Work, choice: Choice, placement: Placement) -> str:
        now = (choice.mode, choice.fits)
        before = self._told.get(key, (placement.vram, True))
        self._told[key] = now
        if now in (before, (placement.vram, True)):
            return ""
        what = f"{info.label} at {work.width} x {work.height}: about {_gigabytes(choice.whole)} needed"
        if not own_memory(placement.device):
            return f"{what}, {_gigabytes(choice.room)} are free: the system may become slow, or end the program."
        said = f"{what}, {_gigabytes(choice.room)} free: {WAYS[choice.mode]}."
        return said if choice.fits else f"{said} Even so {_gigabytes(choice.needed)} are needed, and it may fail."


def own_memory(device: torch.device) -> bool:
    """Whether the device has memory of its own; on the CPU and on Apple's GPUs there is one for all."""
    return device.type not in ("cpu", "mps")


def bytes_there(backbone: Backbone) -> int:
    """Bytes of weights that a model has on its device."""
    if not own_memory(backbone.placement.device):
        return 0
    return backbone.bytes_there if isinstance(backbone, Movable) else backbone.weight_bytes


def loaded_weights(backbone: Backbone) -> Weights:
    """The weights of a loaded model that belong on its device."""
    if not isinstance(backbone, Movable):
        return Weights(parts={"denoiser": backbone.weight_bytes})
    devices = part_devices(backbone.placement)
    there = {part: size for part, size in backbone.part_bytes.items() if devices[part] == backbone.placement.device}
    return Weights(parts=there)


def _size(work: Work) -> int:
    return work.rows * work.latent_pixels


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
