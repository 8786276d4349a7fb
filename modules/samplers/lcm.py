"""Latent consistency sampling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Query, Sampling, sampler

if TYPE_CHECKING:
    from torch import Tensor


@sampler("lcm", label="LCM", order=None, aliases=("k_lcm", "sample_lcm", "LCMScheduler"), rank=200)
def lcm(x: Tensor, sigmas: Sequence[float], noise: Noise) -> Sampling:
    """Multistep consistency sampling (Luo et al. 2023, algorithm 3): jump to x0, add fresh noise, jump again.

    For models distilled for it (LCM, LCM-LoRA), in 2 to 8 steps. The paper's boundary scalings (c_skip, c_out) are left
    out: at the noise levels asked for they differ from (0, 1) by less than 1e-5.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x = yield Query(x, sigma, step)
        if sigma_next > 0:
            x = x + noise.fresh() * sigma_next
    return x
