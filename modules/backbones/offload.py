"""Models larger than the device's memory: accelerate hooks that bring weights for as long as they are needed.

`medium` keeps one part (text encoder, UNet or VAE) on the device: calling another part sends the first one away.
`low` brings each layer just before it computes. In both, the weights stay where they were loaded (often a mapped
file), and sending them away only drops the device's copy: nothing is copied back.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from accelerate.utils import send_to_device
from torch import Tensor, nn


class OneAtATime:
    """The parts that take turns on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._present: _Turn | None = None

    def add(self, part: nn.Module) -> None:
        """Let `part` (its weights on the CPU) come to the device when it is called."""
        add_hook_to_module(part, _Turn(self, part))

    def enter(self, turn: _Turn) -> None:
        """Make `turn` the one part on the device."""
        if self._present is not turn:
            self.clear()
            turn.bring()
            self._present = turn

    def clear(self) -> None:
        """Take the present part off the device."""
        if self._present:
            self._present.leave()
            self._present = None


class _Turn(ModelHook):  # type: ignore[misc]  # accelerate is untyped
    def __init__(self, turns: OneAtATime, part: nn.Module) -> None:
        self.turns, self.part = turns, part
        self.home: list[tuple[Any, str, Tensor]] = []

    def bring(self) -> None:
        for module in self.part.modules():
            tables: tuple[Any, ...] = (module._parameters, module._buffers)
            for table in tables:
                for name, value in table.items():
                    if value is not None:
                        self.home.append((table, name, value))
        try:
            self._copy()
        except BaseException:
            self.leave()  # what has come already would stay for good: the next time its home is taken to be here
            raise

    def _copy(self) -> None:
        for table, name, value in self.home:
            copy = value.detach().to(self.turns.device)
            table[name] = nn.Parameter(copy, requires_grad=False) if isinstance(value, nn.Parameter) else copy

    def leave(self) -> None:
        for table, name, value in self.home:
            table[name] = value
        self.home.clear()

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.turns.enter(self)
        return send_to_device(args, self.turns.device), send_to_device(kwargs, self.turns.device)


def by_layer(part: nn.Module, device: torch.device) -> None:
    """Let each layer of `part` (its weights on the CPU) come to the device just before it computes."""
    cpu_offload(part, execution_device=device, state_dict=dict(part.state_dict()))


def release(part: nn.Module) -> None:
    """Take all hooks off `part`, which breaks the reference cycles they make."""
    remove_hook_from_module(part, recurse=True)
