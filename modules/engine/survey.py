"""What an engine tells of itself, looked up now and then so that asking costs nothing."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import psutil
import torch

from modules.core.job import EngineOptions, EngineStatus
from modules.engine.memory import driver_info
from modules.engine.resident import Resident
from modules.engine.room import own_memory

INTERVAL_SECONDS = 1.0


class Survey:
    """Keeps the last known status. `look` is called from the engine's thread, `status` from any."""

    def __init__(self, options: EngineOptions, clock: Callable[[], float]) -> None:
        self.status = EngineStatus(state="starting", options=options)
        self._clock = clock
        self._looked = float("-inf")

    def configure(self, options: EngineOptions) -> None:
        """The options changed."""
        self.status = replace(self.status, options=options)

    def gone(self) -> None:
        """The engine has ended."""
        self.status = replace(self.status, state="gone", loaded=())

    def look(self, resident: Resident, *, busy: bool) -> None:
        """Look again, if that is due, or state or loaded checkpoints changed."""
        state: Literal["busy", "idle"] = "busy" if busy else "idle"
        loaded = tuple(resident.manager.loaded())
        fit = resident.fit if busy else None
        placement = resident.backbone.placement if busy else resident.manager.placement
        mode = placement.vram if fit and own_memory(placement.device) else ""
        known = state == self.status.state and loaded == self.status.loaded and mode == self.status.memory_mode
        if known and self._clock() - self._looked < INTERVAL_SECONDS:
            return
        self._looked = self._clock()
        device, dtype = placement.unet_device, str(placement.dtype).removeprefix("torch.")
        used, total = memory(device)
        self.status = replace(
            self.status, state=state, device=str(device), device_name=device_name(device), dtype=dtype,
            memory_used=used, memory_total=total, loaded=loaded,
            memory_mode=mode, memory_needed=fit.choice.needed if fit else 0,
        )  # fmt: skip


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes in use and in all: of the device, or of this process and the machine where they are one."""
    if device.type in {"cuda", "xpu"}:
        free, total = driver_info(device)
        return total - free, total
    if device.type == "mps":
        return torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory()
    return psutil.Process().memory_info().rss, psutil.virtual_memory().total


def device_name(device: torch.device) -> str:
    """A device as people know it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "xpu":
        return str(torch.xpu.get_device_name(device))
    return "Apple GPU" if device.type == "mps" else f"CPU ({platform.processor() or platform.machine()})"
