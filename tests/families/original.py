"""Files in the original layouts, made from the state of diffusers' and transformers' classes by turning tables around.

What is tested against them is not made from them: diffusers' own conversion of such a file must give the state back.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from modules.core.checkpoint import Names, Source


def original_of(table: Names, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file that `table` would read `state` from."""
    whole: dict[str, Tensor] = {}
    rows: dict[str, list[tuple[int, Tensor]]] = {}
    for name, old in table.items():
        tensor = state[name]
        if isinstance(old, str):
            whole[old] = tensor
            continue
        if old.change == "swap_halves":
            tensor = torch.cat(tensor.chunk(2)[::-1])
        elif old.change == "transpose":
            tensor = tensor.T
        if old.rows is None:
            whole[old.name] = tensor
        else:
            assert tensor.shape[0] == old.rows[1] - old.rows[0]
            rows.setdefault(old.name, []).append((old.rows[0], tensor))
    for name, parts in rows.items():
        ordered = sorted(parts, key=lambda part: part[0])
        assert [start for start, _ in ordered] == [
            sum(len(tensor) for _, tensor in ordered[:i]) for i in range(len(ordered))
        ]
        whole[name] = torch.cat([tensor for _, tensor in ordered])
    return whole


def through(table: Names, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `table` reads from the tensors of a file: how a network is filled."""
    state = {}
    for name, old in table.items():
        if isinstance(old, str):
            state[name] = tensors[old]
            continue
        tensor = tensors[old.name]
        if old.rows is not None:
            tensor = tensor[old.rows[0] : old.rows[1]]
        if old.change == "swap_halves":
            tensor = torch.cat(tensor.chunk(2)[::-1])
        state[name] = tensor.T if old.change == "transpose" else tensor
    return state


def source_names(table: Names) -> set[str]:
    return {old.name if isinstance(old, Source) else old for old in table.values()}
