"""What several samplers do to the noise level of a step: ancestral steps, churn, levels. No torch at run time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from modules.core.sampling import Noise, Option

if TYPE_CHECKING:
    from torch import Tensor


def ancestral_step(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """Split a step into a deterministic part down to `sigma_down` and fresh noise of deviation `sigma_up`.

    sigma_down**2 + sigma_up**2 == sigma_next**2. eta 0 is deterministic, eta 1 the ancestral (posterior) variance of
    Ho et al. 2020 (DDPM), written for x = x0 + sigma * n; between them Song et al. 2021 (DDIM), equation 16.
    """
    sigma_up = min(sigma_next, eta * sigma_next * math.sqrt(sigma**2 - sigma_next**2) / sigma)
    return math.sqrt(sigma_next**2 - sigma_up**2), sigma_up


@dataclass(frozen=True, kw_only=True)
class Churn:
    """Noise added before a deterministic step (Karras et al. 2022, algorithm 2); none with s_churn 0.

    s_churn: amount over the whole run. s_tmin, s_tmax: the sigmas between which it acts. s_noise: its deviation.
    """

    s_churn: float
    s_tmin: float
    s_tmax: float
    s_noise: float

    def raised(self, x: Tensor, sigma: float, steps: int, noise: Noise) -> tuple[Tensor, float]:
        """x raised from `sigma` to the noise level it is denoised from, and that level: the paper's sigma hat."""
        if self.s_churn <= 0 or not self.s_tmin <= sigma <= self.s_tmax:
            return x, sigma
        gamma = min(self.s_churn / steps, math.sqrt(2) - 1)
        sigma_hat = sigma * (1 + gamma)
        return x + noise.fresh() * (self.s_noise * math.sqrt(sigma_hat**2 - sigma**2)), sigma_hat


def karras_levels(count: int, low: float, high: float, rho: float = 7.0) -> list[float]:
    """`count` noise levels from `high` to `low`, even in sigma ** (1 / rho) (Karras et al. 2022, equation 5).

    The ends are exact: a sampler that compares levels must not take a rounding for a step.
    """
    first, last = high ** (1 / rho), low ** (1 / rho)
    between = [(first + index / (count - 1) * (last - first)) ** rho for index in range(1, count - 1)]
    return [high, *between, low][:count]


S_NOISE = Option(default=1.0, low=0.0, high=2.0)
CHURN_OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        "s_churn": Option(default=0.0, low=0.0, high=100.0),
        "s_tmin": Option(default=0.0, low=0.0, high=1e6),
        "s_tmax": Option(default=1e6, low=0.0, high=1e6),  # 1e6: above the noise levels of every model
        "s_noise": S_NOISE,
    }
)
ANCESTRAL_OPTIONS: Mapping[str, Option] = MappingProxyType(
    {"eta": Option(default=1.0, low=0.0, high=1.0), "s_noise": S_NOISE}
)
