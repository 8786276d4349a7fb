"""Weights of a module on their way between their home on the CPU and a device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

CPU = torch.device("cpu")


class Weights:
    """The parameters and buffers of some modules: at home, or as copies on a device.

    What is at home stays there (often a mapped file) while copies are used, so that sending those away copies nothing.
    Tensors that several names share are copied once.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules = list(modules)
        self._home: list[tuple[dict[str, Any], str, Tensor]] = []

    @property
    def away(self) -> bool:
        """Whether copies are used."""
        return bool(self._home)

    @property
    def nbytes(self) -> int:
        """Bytes of all, each tensor counted once."""
        return sum({id(value): value.nbytes for _, _, value in self._slots()}.values())

    @property
    def pinned_bytes(self) -> int:
        """Bytes that all would take in pinned memory: torch takes a power of two of it for each tensor."""
        sizes = {id(value): value.nbytes for _, _, value in self._slots()}.values()
        return sum(1 << (size - 1).bit_length() for size in sizes if size)

    def bring(self, device: torch.device, *, non_blocking: bool = False) -> list[Tensor]:
        """Use copies on `device`, which are returned. Where that fails, everything is at home again."""
        copies: dict[int, Tensor] = {}
        try:
            for table, name, value in self._slots():
                copy = copies.get(id(value))
                if copy is None:
                    copy = copies[id(value)] = value.detach().to(device, non_blocking=non_blocking)
                self._home.append((table, name, value))
                table[name] = _like(value, copy)
        except BaseException:
            self.leave()  # what has come already would stay for good: the next time its home is taken to be there
            raise
        return list(copies.values())

    def leave(self) -> None:
        """Use what is at home again; the copies are dropped."""
        for table, name, value in self._home:
            table[name] = value
        self._home.clear()

    def settle(self, device: torch.device, *, pin: bool = False) -> None:
        """Make `device` the home of those that are elsewhere; nothing may be away. pin: in pinned memory."""
        moved: dict[int, Tensor] = {}
        for table, name, value in self._slots():
            if value.device == device and (not pin or value.is_pinned()):
                continue
            if id(value) not in moved:
                there = value.detach().to(device)
                moved[id(value)] = there.pin_memory() if pin else there
            table[name] = _like(value, moved[id(value)])

    def _slots(self) -> list[tuple[dict[str, Any], str, Tensor]]:
        tables = [table for module in self._modules for table in (module._parameters, module._buffers)]
        return [(table, name, value) for table in tables for name, value in table.items() if value is not None]


def _like(value: Tensor, copy: Tensor) -> Tensor:
    return nn.Parameter(copy, requires_grad=False) if isinstance(value, nn.Parameter) else copy
