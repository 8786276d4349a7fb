"""UniPC: a unified predictor-corrector (Zhao et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Option, Query, Sampling, sampler

if TYPE_CHECKING:
    from torch import Tensor

History = Sequence[tuple[float, "Tensor"]]  # (lambda, denoised) of the steps so far, newest last


@sampler(
    "unipc",
    label="UniPC",
    order=3,
    schedule="sgm_uniform",
    aliases=("uni_pc", "k_unipc", "UniPCMultistepScheduler"),
    options={
        "order": Option(default=3, low=1, high=3, whole=True),
        "bh": Option(default=1, low=1, high=3, whole=True),
        "lower_order_final": Option(default=1, low=0, high=1, whole=True),
    },
    rank=230,
)
def unipc(
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    *,
    order: float = 3,
    bh: float = 1,
    lower_order_final: float = 1,
) -> Sampling:
    """UniPC-p of the denoised prediction, multistep, with lower orders at the first and last steps.

    The corrector (UniC) uses the answer that the next predictor (UniP) needs anyway, so it costs no evaluation.
    bh: the paper's B(h), 1 for h ("bh1") and 2 for exp(h) - 1 ("bh2"); 3 for UniPC_v ("vary_coeff"), which has none.
    lower_order_final 0: the last steps are of as high an order as those before; the very last has no other than 1.
    """
    steps = len(sigmas) - 1
    history: list[tuple[float, Tensor]] = []
    before, sigma_before = x, sigmas[0]  # corrected x of the last step and its noise level
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised: Tensor = yield Query(x, sigma, step)
        if step > 0:
            x = _update(before, sigma_before, sigma, history, bh, ahead=denoised)
        if sigma_next == 0:
            return denoised
        p = min(int(order), step + 1, steps - step if lower_order_final else steps)
        history = [*history, (-math.log(sigma), denoised)][-p:]
        before, sigma_before = x, sigma
        x = _update(x, sigma, sigma_next, history, bh)
    return x


def _update(
    x: Tensor, sigma: float, sigma_next: float, history: History, bh: float, *, ahead: Tensor | None = None
) -> Tensor:
    """One step of UniP or, where `ahead`, the denoised prediction at sigma_next, is known, of UniC.

    Equations 3 and 8 of the paper in its data-prediction form, divided by alpha.
    """
    h = math.log(sigma / sigma_next)
    newest_lambda, newest = history[-1]
    ratios = [(past_lambda - newest_lambda) / h for past_lambda, _ in reversed(history[:-1])]
    differences = [(past - newest) / r for r, (_, past) in zip(ratios, reversed(history[:-1]), strict=True)]
    if ahead is not None:
        ratios.append(1.0)
        differences.append(ahead - newest)
    scale = math.expm1(-h) if bh == 2 else -h
    x = (sigma_next / sigma) * x - math.expm1(-h) * newest
    for weight, difference in zip(_weights(ratios, h, scale, exact=bh == 3), differences, strict=True):
        x = x - (scale * weight) * difference
    return x


def _weights(ratios: Sequence[float], h: float, scale: float, *, exact: bool) -> list[float]:
    """The paper's a_m: sum over m of a_m * r_m**(k - 1) = k! * phi_(k+1)(-h) * -h / B(h), for k from 1 on.

    For one unknown the paper's a_1 = 1/2 is exact enough (its appendix on UniPC-2) and what every implementation uses;
    for more, B(h) cancels. exact: solved for one as well, which is UniPC_v (the paper's appendix C).
    """
    if len(ratios) == 1 and not exact:
        return [0.5]
    matrix, right = [], []
    phi = math.expm1(-h) / -h - 1
    for k in range(1, len(ratios) + 1):
        matrix.append([r ** (k - 1) for r in ratios])
        right.append(math.factorial(k) * phi / scale)
        phi = phi / -h - 1 / math.factorial(k + 1)
    return _solve(matrix, right)


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gaussian elimination with pivoting, for the two or three unknowns there are."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for column in range(size):
        pivot = max(range(column, size), key=lambda index: abs(rows[index][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for index in range(size):
            if index != column:
                factor = rows[index][column]
                rows[index] = [a - factor * b for a, b in zip(rows[index], rows[column], strict=True)]
    return [row[-1] for row in rows]
