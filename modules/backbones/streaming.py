"""Networks that compute with hardly any of their weights on the device: layers come one after another.

A layer is a module with weights of its own. Its weights come just before it computes and go when it is done; while it
computes, those of the layers that followed it the last time are on their way, on a stream of their own where the device
has streams (the idea of diffusers' group offloading, with single layers as groups, so that the least memory is that of
the largest layer and of AHEAD_BYTES).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from modules.backbones.moving import Weights

AHEAD_BYTES = 256 << 20  # that are on the device before they are needed: some layers of the largest transformers


@dataclass(eq=False)
class _Layer:
    weights: Weights
    nbytes: int
    copies: list[Tensor] = field(default_factory=list)
    arrived: Any = None  # a CUDA event: the copies are there
    follower: _Layer | None = None


@dataclass(eq=False)
class _Leaving:
    """Copies that the device may still be computing with. done: a CUDA event, None where calls wait."""

    copies: list[Tensor]
    nbytes: int
    done: Any


class Stream:
    """Brings the layers of all modules that are added. device: where they compute. For one thread."""

    def __init__(self, device: torch.device, ahead: int = AHEAD_BYTES) -> None:
        self.device, self.ahead = device, ahead
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._layers: list[_Layer] = []
        self._handles: list[RemovableHandle] = []
        self._coming: deque[_Layer] = deque()
        self._leaving: deque[_Leaving] = deque()
        self._last: _Layer | None = None

    def add(self, part: nn.Module) -> None:
        """Let the layers of `part`, whose weights are at home, come when they compute."""
        for module in part.modules():
            own = Weights([module])
            if own.nbytes == 0:
                continue
            layer = _Layer(own, own.nbytes)
            self._layers.append(layer)
            self._handles += (
                module.register_forward_pre_hook(partial(self._use, layer)),
                module.register_forward_hook(partial(self._finished, layer), always_call=True),
            )

    @property
    def bytes_there(self) -> int:
        """Bytes of weights on the device."""
        return sum(each.nbytes for each in self._coming) + sum(each.nbytes for each in self._leaving)

    def clear(self) -> None:
        """Take everything off the device."""
        for layer in self._layers:
            self._drop(layer)
        self._coming.clear()
        self._settle(0)
        self._last = None

    def close(self) -> None:
        """Take everything off the device and all hooks off the modules."""
        self.clear()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._layers.clear()

    def _use(self, layer: _Layer, *_: object) -> None:
        if layer in self._coming:
            while self._coming[0] is not layer:
                self._drop(self._coming.popleft())  # was passed over this time
            self._coming.popleft()
        elif not layer.weights.away:
            # Another way than the last time: what comes would be in this layer's place
            while self._coming:
                self._drop(self._coming.popleft())
            self._send(layer)
        if layer.arrived is not None:
            torch.cuda.current_stream(self.device).wait_event(layer.arrived)
        if self._last is not None and self._last is not layer:
            self._last.follower = layer
        self._last = layer
        self._look_ahead(layer)

    def _look_ahead(self, layer: _Layer) -> None:
        """Begin to bring what followed the last time, as much as there is room for."""
        waiting = sum(each.nbytes for each in self._coming)
        after = (self._coming[-1] if self._coming else layer).follower
        while after is not None and not after.weights.away:
            waiting += after.nbytes
            if waiting > self.ahead:
                return
            try:
                self._send(after)
            except (RuntimeError, MemoryError):
                return  # there is no room for it yet: it comes when it is needed
            self._coming.append(after)
            after = after.follower

    def _send(self, layer: _Layer) -> None:
        self._settle(max(0, self.ahead - layer.nbytes))
        if self._side is None:
            layer.copies = layer.weights.bring(self.device)
            return
        with torch.cuda.stream(self._side):
            layer.copies = layer.weights.bring(self.device, non_blocking=True)
            layer.arrived = torch.cuda.Event()
            layer.arrived.record(self._side)

    def _finished(self, layer: _Layer, *_: object) -> None:
        if not layer.weights.away:
            return
        done = None
        if self._side is not None:
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(self.device))
        # Their memory is the side stream's: it must not be filled again while the main one still computes with it
        self._leaving.append(_Leaving(layer.copies, layer.nbytes, done))
        self._drop(layer)
        if done is None:
            self._leaving.clear()

    def _settle(self, most: int) -> None:
        """Wait until at most `most` bytes are still computed with. Else a program that runs ahead of its device, as all
        do, would bring the whole network there."""
        total = sum(each.nbytes for each in self._leaving)
        while self._leaving and total > most:
            oldest = self._leaving.popleft()
            total -= oldest.nbytes
            if oldest.done is not None:
                oldest.done.synchronize()

    def _drop(self, layer: _Layer) -> None:
        layer.weights.leave()
        layer.copies, layer.arrived = [], None
