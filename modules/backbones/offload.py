"""Models larger than the device's memory: which of their weights are on the device, and when.

`normal`: all of them. `medium`: those of one part (text encoder, UNet or transformer, VAE); calling another part sends
them away. `low`: layers come as they compute, see `modules.backbones.streaming`. Weights have a home on the CPU, often
the mapped file; sending them away drops the device's copy, and nothing is copied back. Only a model that was loaded
straight onto the device has to be, once.
"""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from modules.backbones.moving import CPU, Weights
from modules.backbones.streaming import Stream
from modules.core.job import MemoryMode
from modules.diffusion.shortage import is_short

PIN_SHARE = 0.5  # of the memory that is free: so much may be pinned, for copies that need no thread's help


class Turns:
    """The parts of one model that share a device, and their mode, which may change. For one thread."""

    def __init__(self, device: torch.device, mode: MemoryMode = "medium") -> None:
        self.device, self.mode = device, mode
        self._turns: list[_Turn] = []
        self._present: _Turn | None = None
        self._stream: Stream | None = None

    def add(self, part: nn.Module) -> None:
        """Take a filled part, whose weights are on the CPU or, in mode "normal", on the device."""
        turn = _Turn(self, part)
        self._turns.append(turn)
        self._start(turn)

    def change(self, mode: MemoryMode) -> None:
        """Go over to another mode. Where memory is too short for that, the mode stays and the error is raised."""
        if mode == self.mode:
            return
        before = self.mode
        self._stop()
        self.mode = mode
        try:
            for turn in self._turns:
                self._start(turn)
        except BaseException:
            self._stop()
            self.mode = before
            for turn in self._turns:
                self._start(turn)
            raise

    def enter(self, turn: _Turn) -> None:
        """Make `turn` the one part on the device."""
        if self._present is not turn:
            self.clear()
            turn.weights.bring(self.device)
            self._present = turn

    @property
    def bytes_there(self) -> int:
        """Bytes of weights on the device."""
        if self.mode == "normal":
            return sum(turn.weights.nbytes for turn in self._turns)
        if self._stream:
            return self._stream.bytes_there
        return self._present.weights.nbytes if self._present else 0

    def clear(self) -> None:
        """Take off the device what can go: not the parts of a model that is there as a whole."""
        if self._present:
            self._present.weights.leave()
            self._present = None
        if self._stream:
            self._stream.clear()

    def close(self) -> None:
        """Take off all hooks and let go of the parts."""
        self._stop()
        self._turns.clear()

    def _start(self, turn: _Turn) -> None:
        if self.mode == "normal":
            if any(value.device != self.device for value in _values(turn.part)):
                turn.weights.bring(self.device)
            return
        turn.weights.settle(CPU)
        if self.mode == "medium":
            turn.listen()
            return
        self._pin(turn)
        if self._stream is None:
            self._stream = Stream(self.device)
        self._stream.add(turn.part)

    def _stop(self) -> None:
        self.clear()
        if self._stream:
            self._stream.close()
            self._stream = None
        for turn in self._turns:
            turn.stop()

    def _pin(self, turn: _Turn) -> None:
        """Pin what comes again at every step, where there is memory for that: copies are then the device's own work."""
        room = psutil.virtual_memory().available * PIN_SHARE
        if self.device.type != "cuda" or turn.weights.pinned_bytes >= room:
            return
        try:
            turn.weights.settle(CPU, pin=True)
        except (MemoryError, RuntimeError) as error:
            # Systems let less be pinned than there is (Windows, containers): the others come from where they are
            if not is_short(error):
                raise


class _Turn:
    def __init__(self, turns: Turns, part: nn.Module) -> None:
        self.part = part
        self.weights = Weights(part.modules())
        self._turns = turns
        self._handles: list[RemovableHandle] = []

    def listen(self) -> None:
        """Come to the device when the part computes. Its children count, too: a VAE's are called without itself."""
        for module in (self.part, *self.part.children()):
            # One without weights needs none, and may be a part of other models as well (Qwen-Image's places)
            if next(_values(module), None) is not None:
                self._handles.append(module.register_forward_pre_hook(lambda *_: self._turns.enter(self)))

    def stop(self) -> None:
        """Go home, and take the hooks off."""
        self.weights.leave()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _values(part: nn.Module) -> Iterator[torch.Tensor]:
    yield from part.parameters()
    yield from part.buffers()
