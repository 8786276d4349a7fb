"""Even steps in the timesteps the model was trained on, and the places where they may begin and end."""

from __future__ import annotations

from collections.abc import Sequence

from modules.core.errors import RequestError
from modules.core.sampling import NoiseLevels, schedule
from modules.core.spacing import RANGE_OPTIONS, bounds


@schedule("uniform", label="Uniform", rank=10)
def uniform(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """Even timesteps over all that was trained, both ends included, then 0 (k-diffusion's `get_sigmas`)."""
    return normal.run(steps, levels)


@schedule("normal", label="Normal", options=RANGE_OPTIONS, rank=60)
def normal(steps: int, levels: NoiseLevels, *, sigma_min: float = 0, sigma_max: float = 0) -> Sequence[float]:
    """Even timesteps from the noisiest to the least noisy one, both included, then 0.

    Without a range of its own it is Uniform: AUTOMATIC1111 lists the same numbers under two names.
    """
    low, high = (levels.timestep(sigma) for sigma in bounds(levels, sigma_min, sigma_max))
    return [levels.sigma(high + index / max(steps - 1, 1) * (low - high)) for index in range(steps)] + [0.0]


@schedule("sgm_uniform", label="SGM Uniform", aliases=("sgm",), options=RANGE_OPTIONS, rank=40)
def sgm_uniform(steps: int, levels: NoiseLevels, *, sigma_min: float = 0, sigma_max: float = 0) -> Sequence[float]:
    """Even timesteps from the noisiest one, with the least noisy one replaced by 0 (Stability AI's generative-models).

    The last step is thus as long as the others, which few-step models (LCM, Turbo, Lightning) are trained for.
    """
    low, high = (levels.timestep(sigma) for sigma in bounds(levels, sigma_min, sigma_max))
    return [levels.sigma(high + index / steps * (low - high)) for index in range(steps)] + [0.0]


@schedule("turbo", label="Turbo", rank=90)
def turbo(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """Every (count / steps)-th timestep, rounded to a trained one, ending a stride above the last one, then 0.

    What distilled models (SDXL Turbo, Lightning) were trained on: the "trailing" spacing of Lin et al. 2023, table 2.
    Raises RequestError for more steps than trained levels.
    """
    _enough(steps, levels)
    stride = len(levels.sigmas) / steps
    return [levels.sigmas[max(round(index * stride - 1), 0)] for index in range(steps, 0, -1)] + [0.0]


@schedule("simple", label="Simple", rank=50)
def simple(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """Every (count / steps)-th trained sigma from the noisiest down, never between two of them, then 0.

    Raises RequestError for more steps than trained levels: some would come twice.
    """
    _enough(steps, levels)
    stride = len(levels.sigmas) / steps
    return [levels.sigmas[-1 - int(index * stride)] for index in range(steps)] + [0.0]


@schedule("ddim", label="DDIM", aliases=("ddim_uniform",), rank=70)
def ddim(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """Timesteps 1, 1 + c, 1 + 2c ... with c = count / steps, from the noisiest, then 0 (Song et al. 2021, D.2, linear).

    The original takes c as a whole number and so makes more steps than asked where `steps` does not divide the number
    of trained levels; here the timesteps are rounded down instead. Raises RequestError for more steps than levels.
    """
    _enough(steps, levels)
    count = len(levels.sigmas)
    offset = 1 if steps < count else 0  # with as many steps as levels there is no room for it
    return [levels.sigmas[offset + index * count // steps] for index in reversed(range(steps))] + [0.0]


def _enough(steps: int, levels: NoiseLevels) -> None:
    if steps > len(levels.sigmas):
        raise RequestError(
            "steps",
            f"this schedule cannot make {steps} steps of {len(levels.sigmas)} trained noise levels",
            accepted=f"at most {len(levels.sigmas)}, or another schedule",
        )
