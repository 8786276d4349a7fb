"""Samplers on flow models. No torch at run time.

A flow model's latent is x = (1 - t) * x0 + t * n, and its path follows dx/dt = (x - x0) / t: the same equation as that
of x = x0 + sigma * n in sigma. Samplers of that equation take flow latents as they are, with sigma = t. Those that add
noise, or that take x apart into picture and noise, need the other form: they are given x / (1 - t) and t / (1 - t),
where the pictures are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modules.core.errors import RequestError
from modules.core.sampling import Sampler, Sampling, Schedule

if TYPE_CHECKING:
    from torch import Tensor

NEARLY_NOISE = 0.999  # the time that stands for 1, where sigma would be infinite and float32 lose the picture beside it


def rescales(sampler: Sampler, options: Mapping[str, float]) -> bool:
    """Whether a flow model's latents are rescaled for a sampler with these options."""
    if sampler.flow:
        return sampler.flow == "rescaled"
    return not sampler.deterministic or options.get("eta", 0) > 0 or options.get("s_churn", 0) > 0


def unfit(kinds: Iterable[Sampler] | Iterable[Schedule]) -> frozenset[str]:
    """The names of those that make no sense for a flow model."""
    return frozenset(kind.name for kind in kinds if kind.flow in ("never", False))


def check_flow(sampler: Sampler, schedule: Schedule) -> None:
    """Raises RequestError for what makes no sense for a flow model."""
    if sampler.flow == "never":
        raise RequestError(
            "sampler", f"{sampler.label} is made for other models than this flow model", accepted="Euler or DPM++ 2M"
        )
    if not schedule.flow:
        raise RequestError(
            "schedule", f"{schedule.label} is made for other models than this flow model", accepted="Simple or Normal"
        )


def rescaled_levels(times: Sequence[float]) -> tuple[float, ...]:
    """t / (1 - t) of each time; a first time of 1 counts as NEARLY_NOISE, or as halfway to it from the next one."""
    first, *rest = times
    if first >= 1:
        first = max(NEARLY_NOISE, (1 + rest[0]) / 2 if rest else 0)
    return tuple(time / (1 - time) for time in (first, *rest))


def rescaled(start: Callable[[Tensor, Sequence[float]], Sampling], x: Tensor, times: Sequence[float]) -> Sampling:
    """A sampling of the other form, asked and answered in flow latents. start(x, sigmas): begins it.

    x: (1, C, H, W) at times[0].
    """
    sigmas = rescaled_levels(times)
    scale = sigmas[0] if times[0] >= 1 else 1 + sigmas[0]
    inner: Any = start(x * scale, sigmas)
    query = next(inner)
    while True:
        time = query.sigma / (1 + query.sigma)
        answer = yield replace(query, x=query.x * (1 - time), sigma=time)
        try:
            query = inner.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
