"""A Brownian path that can be asked anywhere, in any order: the virtual Brownian tree of Li et al. 2020, appendix E.

The path over [start, end] is halved again and again. What a half contributes, given the whole's increment W over a
length h, is a Brownian bridge (Levy's construction): W * left / h plus noise of variance left * right / h. The noise of
a node is drawn from a seed that follows from the path's seed and the node's place alone, so the path is one and the
same whatever was asked before.

It is torchsde's `BrownianTree` to the last bit, which k-diffusion's `BrownianTreeNoiseSampler` walks: the same seeds
(numpy's SeedSequence), the same grid of 1e-6, and the same order of float32 operations. torchsde draws a node's noise
anew for each of its two halves and for many of its descendants; here each is drawn once while the path passes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from modules.diffusion.sources import Stream

DIGITS = 6  # of time: torchsde's default tolerance
POOL_SIZE = 24  # of numpy's SeedSequence, in torchsde
KEPT_POINTS = 4  # points whose way through the tree is kept: a step's both ends, its middle, and one before


@dataclass(frozen=True)
class _Node:
    """An interval of the tree. number: its place among those of its depth, from the left."""

    start: float
    end: float
    depth: int = 0
    number: int = 0

    @property
    def middle(self) -> float:
        return round(0.5 * (self.end + self.start), DIGITS)

    def left(self) -> _Node:
        return _Node(self.start, self.middle, self.depth + 1, 2 * self.number)

    def right(self) -> _Node:
        return _Node(self.middle, self.end, self.depth + 1, 2 * self.number + 1)


class BrownianTree:
    """One Brownian path. seed: 0 to 2**64 - 1. shape: of its values. start, end: times, start < end.

    begin(seed): starts a stream of normal numbers, on whose device the path is computed.
    """

    def __init__(
        self, seed: int, shape: Sequence[int], *, start: float, end: float, begin: Callable[[int], Stream]
    ) -> None:
        self._seed, self._shape, self._begin = seed, tuple(shape), begin
        self._root = _Node(round(start, DIGITS), round(end, DIGITS))
        entropy = np.random.SeedSequence(entropy=seed, pool_size=POOL_SIZE)
        length = self._root.end - self._root.start
        self._whole = self._normal(int(entropy.generate_state(3)[0])) * math.sqrt(length)
        self._halves: dict[tuple[int, int], Tensor] = {}  # node -> increment over its left half
        self._points: list[float] = []  # asked last, the latest at the end

    def increment(self, start: float, end: float) -> Tensor:
        """The path's increment over [start, end], times rounded to 1e-6; zero where both are one then.

        Raises ValueError where that is not within the path.
        """
        start, end = round(start, DIGITS), round(end, DIGITS)
        if not self._root.start <= start <= end <= self._root.end:
            raise ValueError(f"{start} to {end} is not within {self._root.start} to {self._root.end}")
        if start == end:
            return self._whole.new_zeros(self._shape)
        parts = self._parts(self._root, self._whole, start, end)
        total = next(parts).clone()
        for part in parts:
            total += part
        self._forget_but(start, end)
        return total

    def _parts(self, node: _Node, whole: Tensor, start: float, end: float) -> Iterator[Tensor]:
        """Increments of the largest nodes that make up [start, end] within `node`, from left to right."""
        if (start, end) == (node.start, node.end):
            yield whole
            return
        middle, half = node.middle, self._half(node, whole)
        if start < middle:
            yield from self._parts(node.left(), half, start, min(end, middle))
        if end > middle:
            yield from self._parts(node.right(), whole - half, max(start, middle), end)

    def _half(self, node: _Node, whole: Tensor) -> Tensor:
        """The increment over the node's left half, of which `whole` is the increment over all of it."""
        key = (node.depth, node.number)
        known = self._halves.get(key)
        if known is not None:
            return known
        left, right = node.middle - node.start, node.end - node.middle
        share = 1 / (node.end - node.start)
        noise = self._normal(self._node_seed(node))
        half = whole.mul(left).mul_(share).add_(noise.mul_(math.sqrt(left * right * share)))
        self._halves[key] = half
        return half

    def _node_seed(self, node: _Node) -> int:
        place = (node.number, node.depth)
        return int(np.random.SeedSequence(self._seed, spawn_key=place, pool_size=POOL_SIZE).generate_state(1)[0])

    def _normal(self, seed: int) -> Tensor:
        return self._begin(seed).normal(self._shape)

    def _forget_but(self, *points: float) -> None:
        """Keep the nodes on the way to the last points only: a step's next neighbour shares most of them."""
        for point in points:
            if point in self._points:
                self._points.remove(point)
            self._points.append(point)
        dropped, self._points = self._points[:-KEPT_POINTS], self._points[-KEPT_POINTS:]
        if dropped:
            kept = {key for point in self._points for key in self._way(point)}
            self._halves = {key: half for key, half in self._halves.items() if key in kept}

    def _way(self, point: float) -> Iterator[tuple[int, int]]:
        """The nodes that are halved to reach `point`."""
        node = self._root
        while node.start < point < node.end:
            yield node.depth, node.number
            node = node.left() if point <= node.middle else node.right()
