"""Muon for matrices and kernels, AdamW for the rest, over any number of processes.

Muon (Jordan et al. 2024) makes a momentum orthogonal by Newton-Schulz steps. On this small a model it reaches in a
third of the steps what AdamW does. torch.optim.Muon takes matrices alone; kernels are matrices here, too, and each
process orthogonalises its share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed

from models.starter_training.precision import quick

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic's coefficients, from the same
STEPS = 4
MATCH = 0.2  # an update's root mean square, so that one learning rate serves both (Liu et al. 2025, "Muon is scalable")
APART = ("conv_in", "conv_out", "embedding.weight", "quant")  # neither at the ends nor in tables


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values near 1, by matrix products in the quick type."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(quick(matrix.device))
    x = x / (x.norm() + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * (square @ square)) @ x
    found: Tensor = (x.T if tall else x).float()
    return found


class Optimiser:
    """Takes gradients that are the same in every process, and steps the same in every process.

    rate: of AdamW; Muon's is `ratio` times that.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]], *, ratio: float, betas: tuple[float, float]) -> None:
        matrices: list[Tensor] = []
        rest: list[Tensor] = []
        for name, value in named:
            kernel = value.ndim >= 2 and not any(part in name for part in APART)
            kernel = kernel and min(value.shape[0], value[0].numel()) >= 16
            (matrices if kernel else rest).append(value)
        self._matrices, self._ratio = matrices, ratio
        self._adamw = torch.optim.AdamW(rest, lr=1e-3, betas=betas, weight_decay=0.0)
        self._momenta = [torch.zeros_like(value) for value in matrices]
        self._rank = distributed.get_rank() if distributed.is_initialized() else 0
        self._world = distributed.get_world_size() if distributed.is_initialized() else 1
        self._mine = self._shares()

    @torch.no_grad()
    def step(self, rate: float, *, momentum: float = 0.95, decay: float = 0.01) -> None:
        """One step at learning rate `rate`; gradients are cleared."""
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        updates = torch.zeros(sum(value.numel() for value in self._matrices), device=self._matrices[0].device)
        for value, kept, update, mine in zip(
            self._matrices, self._momenta, self._split(updates), self._mine, strict=True
        ):
            if value.grad is not None:
                kept.lerp_(value.grad, 1 - momentum)
                if mine:
                    ahead = torch.lerp(value.grad, kept, momentum).reshape(value.shape[0], -1)
                    update.copy_(orthogonal(ahead).reshape(-1) * (MATCH * max(ahead.shape) ** 0.5))
            value.grad = None
        if self._world > 1:
            distributed.all_reduce(updates)
        speed = rate * self._ratio
        for value, update in zip(self._matrices, self._split(updates), strict=True):
            value.mul_(1 - speed * decay).sub_(update.view(value.shape), alpha=speed)

    def state(self) -> dict[str, Any]:
        """What `load` takes."""
        return {"adamw": self._adamw.state_dict(), "momenta": self._momenta}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on as saved."""
        self._adamw.load_state_dict(state["adamw"])
        for kept, saved in zip(self._momenta, state["momenta"], strict=True):
            kept.copy_(saved)

    def _split(self, updates: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.split(updates, [value.numel() for value in self._matrices]))

    def _shares(self) -> list[bool]:
        """The dearest matrices first, each to whoever has least to do."""
        costs = [value.numel() * min(value.shape[0], value[0].numel()) for value in self._matrices]
        load, mine = [0] * self._world, [False] * len(costs)
        for index in sorted(range(len(costs)), key=lambda place: -costs[place]):
            owner = load.index(min(load))
            load[owner] += costs[index]
            mine[index] = owner == self._rank
        return mine
