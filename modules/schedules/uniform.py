"""Even steps in the timesteps the model was trained on: three places where the steps may begin and end."""

from __future__ import annotations

from collections.abc import Sequence

from modules.core.errors import RequestError
from modules.core.sampling import NoiseLevels, schedule


@schedule("normal", label="Normal", aliases=("uniform",), rank=60)
def normal(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """Even timesteps from the noisiest to the least noisy one, both included, then 0.

    AUTOMATIC1111 lists the same numbers under two names, "Uniform" and "Normal".
    """
    last = len(levels.sigmas) - 1
    return [levels.sigma(last * (1 - index / max(steps - 1, 1))) for index in range(steps)] + [0.0]


@schedule("sgm_uniform", label="SGM Uniform", aliases=("sgm",), rank=40)
def sgm_uniform(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """Even timesteps from the noisiest one, with the least noisy one replaced by 0 (Stability AI's generative-models).

    The last step is thus as long as the others, which few-step models (LCM, Turbo, Lightning) are trained for.
    """
    last = len(levels.sigmas) - 1
    return [levels.sigma(last * (1 - index / steps)) for index in range(steps)] + [0.0]


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
