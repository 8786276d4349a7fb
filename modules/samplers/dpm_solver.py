"""DPM-Solver (Lu et al. 2022): exponential integrators of the noise prediction, here with steps of its own choosing.

Of the schedule both take the two ends alone. They end at its smallest positive sigma, as AUTOMATIC1111's do, so that
little noise stays in the result.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from modules.core.sampling import Noise, Option, Query, Sampling, sampler
from modules.core.stepping import S_NOISE, ancestral_step

if TYPE_CHECKING:
    from torch import Tensor

ETA = Option(default=0.0, low=0.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """From sigma to sigma_next in lambda = -log sigma. index: what its questions call themselves."""

    sigma: float
    sigma_next: float
    index: int

    @property
    def h(self) -> float:
        return math.log(self.sigma / self.sigma_next)

    def inside(self, r: float) -> float:
        """The sigma at the part r of the step in lambda."""
        return self.sigma * math.exp(-r * self.h)


@sampler(
    "dpm_fast",
    label="DPM fast",
    names_ensd=True,
    order=3,
    own_levels=True,
    ends_at_zero=False,
    aliases=("k_dpm_fast", "sample_dpm_fast"),
    options={"eta": ETA, "s_noise": S_NOISE},
    rank=100,
)
def dpm_fast(x: Tensor, sigmas: Sequence[float], noise: Noise, *, eta: float = 0.0, s_noise: float = 1.0) -> Sampling:
    """DPM-Solver-fast (section 3.4 of the paper): steps of order 3, even in lambda, then what is left of the budget.

    The number of steps is that of all evaluations: a step of order 3 takes three of them.
    """
    budget, low = len(sigmas) - 1, min(sigma for sigma in sigmas if sigma > 0)
    if low == sigmas[0]:  # a single step has but one level to go by
        denoised: Tensor = yield Query(x, low, 0)
        return denoised
    orders = [3] * (budget // 3 - 1) + [2, 1] if budget % 3 == 0 else [3] * (budget // 3) + [budget % 3]
    h = math.log(sigmas[0] / low) / len(orders)
    levels = [*(sigmas[0] * math.exp(-h * index) for index in range(len(orders))), low]
    asked = 0
    for order, (sigma, sigma_next) in zip(orders, pairwise(levels), strict=True):
        target, sigma_up = _lowered(sigma, sigma_next, low, eta)
        step = _Step(sigma=sigma, sigma_next=target, index=asked)
        first = (x - (yield Query(x, sigma, asked))) / sigma
        if order == 1:
            x = _first(x, step, first)
        elif order == 2:
            x, _ = yield from _second(x, step, first, 1 / 2, counted=True)
        else:
            second = yield from _slope(x, step, first, 1 / 3, counted=True)
            x = yield from _third(x, step, first, second, counted=True)
        asked += order
        if sigma_up > 0:
            x = x + noise.fresh() * (s_noise * sigma_up)
    return x


@sampler(
    "dpm_adaptive",
    label="DPM adaptive",
    names_ensd=True,
    order=3,
    own_levels=True,
    adaptive=True,
    ends_at_zero=False,
    aliases=("k_dpm_ad", "k_dpm_adaptive", "sample_dpm_adaptive"),
    options={
        "order": Option(default=3, low=2, high=3, whole=True),
        "rtol": Option(default=0.05, low=0.001, high=1.0),
        "atol": Option(default=0.0078, low=0.0001, high=1.0),
        "h_init": Option(default=0.05, low=0.001, high=1.0),
        "pcoeff": Option(default=0.0, low=0.0, high=1.0),
        "icoeff": Option(default=1.0, low=0.0, high=1.0),
        "dcoeff": Option(default=0.0, low=0.0, high=1.0),
        "accept_safety": Option(default=0.81, low=0.1, high=0.99),
        "eta": ETA,
        "s_noise": S_NOISE,
    },
    rank=110,
)
def dpm_adaptive(
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    *,
    order: float = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    pcoeff: float = 0.0,
    icoeff: float = 1.0,
    dcoeff: float = 0.0,
    accept_safety: float = 0.81,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Sampling:
    """DPM-Solver-12 and -23 (appendix C of the paper): a step is as long as the tolerances allow.

    The difference between two solutions of neighbouring orders is the error; a step whose error is too large is taken
    again, shorter. rtol, atol: tolerances, relative and absolute. h_init: the first step in lambda. pcoeff, icoeff,
    dcoeff: of the controller. The number of steps is not heeded; a question's step says how far the run is in lambda.
    Each picture goes at its own pace, and the error is read at every step, for which a device waits.
    """
    sigma, low = sigmas[0], min(sigma for sigma in sigmas if sigma > 0)
    if low == sigma:
        denoised: Tensor = yield Query(x, low, 0)
        return denoised
    whole, end, steps = math.log(sigma / low), -math.log(low), len(sigmas) - 1
    pace = _Pace(h_init, (pcoeff, icoeff, dcoeff), 1.5 if eta else order, accept_safety)
    before, first = x, None
    while -math.log(sigma) < end - 1e-5:
        sigma_next = max(low, sigma * math.exp(-pace.h))
        target, sigma_up = _lowered(sigma, sigma_next, low, eta)
        done = 1 - math.log(sigma / low) / whole
        step = _Step(sigma=sigma, sigma_next=target, index=min(int(done * steps), steps - 1))
        if first is None:  # a step taken again begins with the same answer
            first = (x - (yield Query(x, sigma, step.index))) / sigma
        if order == 2:
            lower = _first(x, step, first)
            higher, _ = yield from _second(x, step, first, 1 / 2)
        else:
            lower, second = yield from _second(x, step, first, 1 / 3)
            higher = yield from _third(x, step, first, second)
        scale = (rtol * _larger(abs(lower), abs(before))).clip(min=atol)
        error = float(((lower - higher) / scale).square().mean()) ** 0.5
        if not math.isfinite(error):
            return higher  # no step would be short enough
        if pace.accepts(error):
            before, first, sigma = lower, None, sigma_next
            x = higher + noise.fresh() * (s_noise * sigma_up) if sigma_up > 0 else higher
    return x


class _Pace:
    """A PID controller of the step h in lambda (Hairer and Wanner 1996, IV.2). order: of the error."""

    def __init__(self, h: float, coefficients: tuple[float, float, float], order: float, safety: float) -> None:
        p, i, d = coefficients
        self.h = h
        self._powers = ((p + i + d) / order, -(p + 2 * d) / order, d / order)
        self._safety = safety
        self._inverse: tuple[float, float] | None = None  # of the errors of the last two accepted steps

    def accepts(self, error: float) -> bool:
        """Whether the step counts; sets h for the next one, or for taking this one again."""
        now = 1 / (error + 1e-8)
        last, but_one = self._inverse = self._inverse or (now, now)
        factor = math.prod(value**power for value, power in zip((now, last, but_one), self._powers, strict=True))
        factor = 1 + math.atan(factor - 1)
        self.h *= factor
        if factor < self._safety:
            return False
        self._inverse = (now, last)
        return True


def _lowered(sigma: float, sigma_next: float, low: float, eta: float) -> tuple[float, float]:
    """Where the deterministic part of an ancestral step ends, not below `low`, and the noise up from there."""
    if eta == 0:
        return sigma_next, 0.0
    target = max(low, ancestral_step(sigma, sigma_next, eta)[0])
    return target, math.sqrt(max(0.0, sigma_next**2 - target**2))


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """The larger of two tensors, element by element."""
    return b + (a - b).clip(min=0)


def _first(x: Tensor, step: _Step, first: Tensor) -> Tensor:
    """DPM-Solver-1. first: the noise prediction at the step's start."""
    return x - (step.sigma_next * math.expm1(step.h)) * first


def _slope(x: Tensor, step: _Step, first: Tensor, r: float, *, counted: bool = False) -> Generator[Query, Any, Tensor]:
    """The noise prediction at the part r of the step, reached by DPM-Solver-1."""
    inside = step.inside(r)
    u = x - (inside * math.expm1(r * step.h)) * first
    return (u - (yield Query(u, inside, step.index + counted))) / inside  # type: ignore[no-any-return]


def _second(
    x: Tensor, step: _Step, first: Tensor, r: float, *, counted: bool = False
) -> Generator[Query, Any, tuple[Tensor, Tensor]]:
    """DPM-Solver-2 with its middle at r, and the noise prediction there."""
    second = yield from _slope(x, step, first, r, counted=counted)
    growth = step.sigma_next * math.expm1(step.h)
    return x - growth * first - (growth / (2 * r)) * (second - first), second


def _third(
    x: Tensor, step: _Step, first: Tensor, second: Tensor, *, counted: bool = False
) -> Generator[Query, Any, Tensor]:
    """DPM-Solver-3 (algorithm 2 of the paper) with r1 = 1/3, where `second` is known, and r2 = 2/3."""
    h, r1, r2 = step.h, 1 / 3, 2 / 3
    inside = step.inside(r2)
    u = x - (inside * math.expm1(r2 * h)) * first
    u = u - (inside * (r2 / r1) * (math.expm1(r2 * h) / (r2 * h) - 1)) * (second - first)
    third = (u - (yield Query(u, inside, step.index + 2 * counted))) / inside
    x = x - (step.sigma_next * math.expm1(h)) * first
    return x - (step.sigma_next / r2 * (math.expm1(h) / h - 1)) * (third - first)  # type: ignore[no-any-return]
