"""Integrals of interpolating polynomials, from which multistep samplers take their weights. Plain Python floats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache


def integral(function: Callable[[float], float], start: float, end: float, *, points: int) -> float:
    """The integral over [start, end] by Gauss-Legendre: exact for polynomials of degree 2 * points - 1."""
    middle, half = (start + end) / 2, (end - start) / 2
    return half * sum(weight * function(middle + half * place) for place, weight in _gauss(points))


def lagrange(nodes: Sequence[float], j: int, at: float) -> float:
    """The polynomial that is 1 at nodes[j] and 0 at the other nodes, at the place `at`."""
    return math.prod((at - node) / (nodes[j] - node) for k, node in enumerate(nodes) if k != j)


@cache
def _gauss(points: int) -> tuple[tuple[float, float], ...]:
    """(place, weight) on [-1, 1]: the roots of the Legendre polynomial, found by Newton's method."""
    found = []
    for index in range(points):
        place = math.cos(math.pi * (index + 0.75) / (points + 0.5))
        slope = 1.0
        for _ in range(8):  # from this start it is exact after five
            value, slope = _legendre(points, place)
            place -= value / slope
        found.append((place, 2 / ((1 - place**2) * slope**2)))
    return tuple(found)


def _legendre(degree: int, at: float) -> tuple[float, float]:
    """The Legendre polynomial and its slope, by Bonnet's recurrence."""
    before, value = 1.0, at
    for k in range(2, degree + 1):
        before, value = value, ((2 * k - 1) * at * value - (k - 1) * before) / k
    return value, degree * (at * value - before) / (at**2 - 1)
