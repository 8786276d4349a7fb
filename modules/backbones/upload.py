"""From mapped files to a device: through two buffers in turn, so that reading and sending overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.diffusion.arena import Arena

BUFFER = 32 << 20  # bytes


class Upload:
    """Copies tensors to a device. While one buffer is on its way, the other is filled.

    arena: where the buffers come from, best of a pool that pins. Tensors that are sent may be used at once by work on
    the device's current stream; `finish` before the buffers go.
    """

    def __init__(self, device: torch.device, arena: Arena, size: int = BUFFER) -> None:
        self.device = device
        self._queued = device.type == "cuda"  # other devices' copies have read the buffer when they return
        self._buffers = [arena.take(size), arena.take(size)]
        self._sent: list[torch.cuda.Event | None] = [None, None]
        self._turn, self._used = 0, 0

    def send(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """The same on the device, in `dtype`; cast there."""
        home = torch.empty(tensor.shape, dtype=tensor.dtype, device=self.device)
        source, target = _bytes(tensor.contiguous()), _bytes(home)
        place = 0
        while place < len(source):
            room = self._room()
            count = min(len(room), len(source) - place)
            room[:count].copy_(source[place : place + count])
            target[place : place + count].copy_(room[:count], non_blocking=self._queued)
            self._used += count
            place += count
        return home.to(dtype)

    def finish(self) -> None:
        """Wait until everything has left the buffers."""
        self._mark()
        for index in range(len(self._buffers)):
            self._wait(index)
        self._used = 0

    def _room(self) -> Tensor:
        """What is left of the buffer whose turn it is, or the whole of the next one."""
        if self._used == len(self._buffers[self._turn]):
            self._mark()
            self._turn, self._used = 1 - self._turn, 0
            self._wait(self._turn)
        return self._buffers[self._turn][self._used :]

    def _mark(self) -> None:
        if self._queued:
            with torch.cuda.device(self.device):
                self._sent[self._turn] = event = torch.cuda.Event()
                event.record()

    def _wait(self, index: int) -> None:
        if event := self._sent[index]:
            event.synchronize()
            self._sent[index] = None


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
