"""SA-Solver (Xue et al. 2023, "SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.quadrature import integral, lagrange
from modules.core.sampling import Noise, Option, Query, Sampling, sampler
from modules.core.stepping import S_NOISE

if TYPE_CHECKING:
    from torch import Tensor

POINTS = 16  # of the quadrature: more change nothing up to 1e-12
# Stable Diffusion's noise levels at timesteps 200 and 800, between which its authors' code puts noise in.
TAU_LOW, TAU_HIGH = 0.63, 5.93

Answers = Sequence[tuple[float, "Tensor"]]  # (lambda, denoised), newest first


@sampler(
    "sa_solver",
    label="SA-Solver",
    order=None,
    schedule="karras",
    aliases=("sample_sa_solver", "SASolverScheduler"),
    options={
        "eta": Option(default=1.0, low=0.0, high=1.0),
        "s_noise": S_NOISE,
        "tau_low": Option(default=TAU_LOW, low=0.0, high=1e6),
        "tau_high": Option(default=TAU_HIGH, low=0.0, high=1e6),
        "predictor": Option(default=3, low=1, high=4, whole=True),
        "corrector": Option(default=4, low=1, high=4, whole=True),
    },
    rank=260,
)
def sa_solver(
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    tau_low: float = TAU_LOW,
    tau_high: float = TAU_HIGH,
    predictor: float = 3,
    corrector: float = 4,
) -> Sampling:
    """Stochastic Adams-Bashforth, corrected by Adams-Moulton with the next step's answer (algorithm 1 of the paper).

    eta: the paper's tau while sigma lies from tau_low to tau_high; outside it is 0, a step without noise. predictor,
    corrector: how many answers each looks at; fewer in the first steps and in the last ones.
    Automatic is Karras: of 20 steps even in time blotches are left, of 20 of Karras's there are none.
    """
    steps = len(sigmas) - 1
    past: list[tuple[float, Tensor]] = []
    begun: tuple[Tensor, float, float, int] | None = None  # the last step without its drift, sigma, tau, answers
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if sigma_next == 0:
            return denoised
        past = [(-math.log(sigma), denoised), *past][:4]
        if begun is not None:
            base, sigma_last, tau, count = begun
            x = base + _drift(past[:count], sigma_last, sigma, tau)
        h = math.log(sigma / sigma_next)
        tau = eta if tau_low <= sigma <= tau_high else 0.0
        base = (sigma_next / sigma * math.exp(-(tau**2) * h)) * x
        if tau > 0:
            base = base + noise.fresh() * (s_noise * sigma_next * math.sqrt(-math.expm1(-2 * tau**2 * h)))
        begun = (base, sigma, tau, min(int(corrector), step + 2, steps - step + 1))
        x = base + _drift(past[: min(int(predictor), step + 1, steps - step)], sigma, sigma_next, tau)
    return x


def _drift(answers: Answers, sigma: float, sigma_next: float, tau: float) -> Tensor:
    """The integral of the answers' polynomial in lambda over the step: equations 14 and 17 of the paper over alpha.

    Of two answers the slope weighs h**2 / 2 in place of the exact moment, as in the authors' code.
    """
    rate, start, end = 1 + tau**2, -math.log(sigma), -math.log(sigma_next)
    h = end - start
    if len(answers) == 2:
        (new, newer), (old, older) = answers
        slope = (newer - older) / (new - old)
        begin = newer if new < end - h / 2 else older  # the answer at the step's start
        return -math.expm1(-rate * h) * begin + (rate * h**2 / 2) * slope
    nodes = [place for place, _ in answers]

    def weight(j: int, at: float) -> float:
        return rate * math.exp(-rate * (end - at)) * lagrange(nodes, j, at)

    first, *rest = (integral(partial(weight, j), start, end, points=POINTS) for j in range(len(nodes)))
    total = first * answers[0][1]
    for share, (_, answer) in zip(rest, answers[1:], strict=True):
        total = total + share * answer
    return total
