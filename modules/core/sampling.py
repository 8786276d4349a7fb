"""The language between samplers, schedules and what drives them. No torch at run time.

Noise levels are sigmas of the variance-exploding form x = x0 + sigma * n (Karras et al. 2022), Python floats (float64).
A model trained in the variance-preserving form (Stable Diffusion) is wrapped so that samplers never see the difference.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol

from modules.core.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

LAST_ALPHA_BAR = 4.8973451890853435e-08  # of models trained to end in noise alone


@dataclass(frozen=True)
class Query:
    """A sampler asks for the denoised prediction of x at noise level sigma.

    x: (1, C, H, W). step: 0-based step of the schedule this question belongs to (a second-order sampler asks twice in
    one step). uncond True: answer (denoised, unconditional) instead of denoised, for CFG++.
    """

    x: Tensor
    sigma: float
    step: int
    uncond: bool = False


# Yields questions, is sent predictions of x0 shaped like x, returns the finished latent.
Sampling = Generator[Query, Any, "Tensor"]


class Noise(Protocol):
    """One picture's own noise after the starting noise; each picture has its own stream, so batches equal singles."""

    def fresh(self) -> Tensor:
        """Standard normal, shaped like the latent; a new draw at each call (ancestral samplers)."""

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """Unit-variance increment of one Brownian path between two noise levels (SDE samplers).

        The path is the picture's own: the same interval gives the same increment, sub-intervals add up.
        """


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels a model was trained on: sigmas[t] for timestep t, strictly increasing.

    sigma = sqrt((1 - alpha_bar) / alpha_bar); Song et al. 2021 (DDIM) name the schedule, Karras et al. 2022 the sigma.
    Of a flow model (Lipman et al. 2023) sigma is its time t itself, and x = (1 - sigma) * x0 + sigma * n; the last one
    is 1, noise alone. prediction: "epsilon", "v", "edm" or "flow", see `modules.diffusion.parameterisation`. family: of
    the model, for schedules with tables of their own. terminal: of a flow model, the time at which its last step is to
    begin, whatever the schedule; 0 for none. data: the deviation of the latents that inputs and outputs were scaled by
    (EDM's sigma_data). logarithmic: the model is told sigma's logarithm in place of a timestep, as EDM has it.
    """

    sigmas: tuple[float, ...]
    prediction: str = "epsilon"
    family: str = ""
    terminal: float = 0.0
    data: float = 1.0
    logarithmic: bool = False

    @classmethod
    def scaled_linear(cls, start: float = 0.00085, end: float = 0.012, count: int = 1000) -> NoiseLevels:
        """Stable Diffusion's betas: linear in sqrt(beta) from `start` to `end` (Rombach et al. 2022)."""
        low, high = math.sqrt(start), math.sqrt(end)
        product, sigmas = 1.0, []
        for index in range(count):
            product *= 1.0 - (low + (high - low) * index / (count - 1)) ** 2
            sigmas.append(math.sqrt((1.0 - product) / product))
        return cls(tuple(sigmas))

    def zero_terminal_snr(self) -> NoiseLevels:
        """The same, rescaled so that the last one is (all but) noise alone: Lin et al. 2023, algorithm 1.

        The last alpha_bar is LAST_ALPHA_BAR, as in AUTOMATIC1111 and ComfyUI, for sigma would be infinite at 0.
        """
        roots = [1 / math.sqrt(sigma**2 + 1) for sigma in self.sigmas]  # of alpha_bar
        first, last = roots[0], roots[-1]
        scaled = [(root - last) * first / (first - last) for root in roots]
        scaled[-1] = math.sqrt(LAST_ALPHA_BAR)
        return replace(self, sigmas=tuple(math.sqrt(1 - root**2) / root for root in scaled))

    @classmethod
    def flow(cls, shift: float = 1.0, count: int = 1000, family: str = "", terminal: float = 0.0) -> NoiseLevels:
        """Times 1/count ... 1, leaning towards 1 for `shift` > 1: shift * t / (1 + (shift - 1) * t).

        Esser et al. 2024 (Stable Diffusion 3), equation 23. Flux's mu is the logarithm of this shift.
        """
        times = (index / count for index in range(1, count + 1))
        return cls(tuple(shift * t / (1 + (shift - 1) * t) for t in times), "flow", family, terminal)

    @classmethod
    def edm(cls, low: float = 0.002, high: float = 80.0, data: float = 0.5) -> NoiseLevels:
        """Those of Karras et al. 2022 (EDM), where any level may come: a table of 1000, even in log sigma."""
        ratio = math.log(high / low)
        table = (low * math.exp(ratio * index / 999) for index in range(1000))
        return cls(tuple(table), "edm", data=data, logarithmic=True)

    @property
    def flows(self) -> bool:
        """Whether they are a flow model's."""
        return self.prediction == "flow"

    def noised(self, x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """`x0` at noise level `sigma`, of the shape of both."""
        return (1 - sigma) * x0 + sigma * noise if self.flows else x0 + sigma * noise

    @property
    def sigma_min(self) -> float:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> float:
        return self.sigmas[-1]

    def sigma(self, t: float) -> float:
        """Sigma at a possibly fractional timestep, interpolated linearly in log sigma."""
        t = min(max(t, 0.0), len(self.sigmas) - 1.0)
        low = min(int(t), len(self.sigmas) - 2)
        weight = t - low
        return math.exp((1 - weight) * math.log(self.sigmas[low]) + weight * math.log(self.sigmas[low + 1]))

    def told(self, sigma: float) -> float:
        """What the model is told as the time of `sigma`: the timestep, or a quarter of the logarithm (c_noise)."""
        return math.log(sigma) / 4 if self.logarithmic else self.timestep(sigma)

    def timestep(self, sigma: float) -> float:
        """The possibly fractional timestep of `sigma`: the inverse of `sigma()`, clamped to the trained range."""
        if sigma <= self.sigmas[0]:
            return 0.0
        if sigma >= self.sigmas[-1]:
            return len(self.sigmas) - 1.0
        high = bisect_left(self.sigmas, sigma)
        low_log, high_log = math.log(self.sigmas[high - 1]), math.log(self.sigmas[high])
        return high - 1 + (math.log(sigma) - low_log) / (high_log - low_log)


@dataclass(frozen=True, kw_only=True)
class Option:
    """A number that a sampler or schedule takes by keyword: its default and the closed range it may lie in.

    whole: an integer.
    """

    default: float
    low: float
    high: float
    whole: bool = False


class Optioned:
    """What has a label and options: samplers and schedules."""

    label: str
    options: Mapping[str, Option]
    options_field = "options"

    def checked_options(self, options: Mapping[str, float]) -> dict[str, float]:
        """`options` as they may be handed to `run`. Raises RequestError for an unknown name or a value out of range."""
        for name, value in options.items():
            field_name = f"{self.options_field}.{name}"
            if name not in self.options:
                accepted = ", ".join(self.options) or "no option at all"
                raise RequestError(field_name, f"{self.label} has no such option", accepted=accepted)
            option = self.options[name]
            if not option.low <= value <= option.high or (option.whole and value != int(value)):
                kind = "an integer" if option.whole else "a number"
                raise RequestError(
                    field_name,
                    f"{value!r} is not accepted",
                    accepted=f"{kind} from {option.low:g} to {option.high:g}",
                )
        return dict(options)

    def filled_options(self, options: Mapping[str, float]) -> dict[str, float]:
        """Every option: the checked one of `options`, else its default. Raises as `checked_options`."""
        defaults = {name: option.default for name, option in self.options.items()}
        return {**defaults, **self.checked_options(options)}

    def chosen_options(self, options: Mapping[str, float]) -> dict[str, float]:
        """Those of `options` that are not at their default: what is worth saying of them."""
        return {
            name: value
            for name, value in options.items()
            if name not in self.options or value != self.options[name].default
        }


SamplerRun = Callable[..., Sampling]


@dataclass(frozen=True, kw_only=True)
class Sampler(Optioned):
    """A sampler's description. `run(x, sigmas, noise, **options)` starts the coroutine.

    label: as AUTOMATIC1111 shows it. aliases: older and other programs' names. order: convergence order on a smooth
    ODE, None for a stochastic one. evaluations: model calls per step (progress and prompt editing count them).
    schedule: what "Automatic" means for it. drop_penultimate: leave out the last sigma but one (AUTOMATIC1111's
    "discard penultimate sigma"). rank: place in the list.

    own_levels: it asks at levels of its own, for which the schedule gives the two ends. adaptive: the number of steps
    is its own, too. ends_at_zero False: the result keeps the noise of the smallest positive sigma. cfg_factor: what the
    guidance scale is multiplied by. names_ensd: one of those for which AUTOMATIC1111 writes the eta noise seed delta.

    flow: how it runs on a flow model, see `modules.core.flow`; "" for what follows from the rest.
    """

    name: str
    label: str
    run: SamplerRun
    order: int | None
    aliases: tuple[str, ...] = ()
    evaluations: int = 1
    schedule: str = "normal"
    drop_penultimate: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)
    own_levels: bool = False
    adaptive: bool = False
    ends_at_zero: bool = True
    cfg_factor: float = 1.0
    names_ensd: bool = False
    flow: Literal["", "rescaled", "never"] = ""
    rank: int = 1000

    @property
    def deterministic(self) -> bool:
        return self.order is not None

    def says_ensd(self, options: Mapping[str, float]) -> bool:
        """Whether AUTOMATIC1111 would write the eta noise seed delta of a run with `options`: not at an eta of 0."""
        return self.names_ensd and options.get("eta") != 0


def sampler(name: str, *, label: str, order: int | None, **description: Any) -> Callable[[SamplerRun], Sampler]:
    """Mark a generator function as a sampler; the keywords are `Sampler`'s fields."""

    def describe(run: SamplerRun) -> Sampler:
        return Sampler(name=name, label=label, order=order, run=run, **description)

    return describe


ScheduleRun = Callable[..., Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Schedule(Optioned):
    """A noise schedule's description. `run(steps, levels, **options)` gives steps + 1 sigmas, strictly decreasing,
    last is 0. The fields are `Sampler`'s. flow: whether it makes sense for flow models."""

    options_field = "schedule_options"

    name: str
    label: str
    run: ScheduleRun
    options: Mapping[str, Option] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    flow: bool = True
    rank: int = 1000


def schedule(name: str, *, label: str, **description: Any) -> Callable[[ScheduleRun], Schedule]:
    """Mark a function as a schedule; the keywords are `Schedule`'s fields."""

    def describe(run: ScheduleRun) -> Schedule:
        return Schedule(name=name, label=label, run=run, **description)

    return describe


@dataclass(frozen=True, kw_only=True)
class SpacingChoice:
    """How a plan's noise levels are found. options: of the schedule. discard: leave out the last sigma but one; None
    for what the sampler wants."""

    options: Mapping[str, float] = field(default_factory=dict)
    discard: bool | None = None


def sigmas_for(
    chosen: Sampler, spacing: Schedule, steps: int, levels: NoiseLevels, choice: SpacingChoice = SpacingChoice()
) -> tuple[float, ...]:
    """The sigmas a sampler runs on: the schedule's, less the penultimate one where that is to be left out.

    As in AUTOMATIC1111, one step more is asked of the schedule then, so the number of steps stays as asked. Raises
    RequestError where the options leave no room for that many levels: samplers divide by the steps between them.
    """
    discard = chosen.drop_penultimate if choice.discard is None else choice.discard
    sigmas = tuple(spacing.run(steps + discard, levels, **choice.options))
    if not all(high > low for high, low in pairwise(sigmas)):
        raise RequestError(
            "schedule_options",
            f"{spacing.label} cannot make {steps} different noise levels with these",
            accepted=f"options nearer to their defaults, or fewer steps; this model has levels from "
            f"{levels.sigma_min:.4g} to {levels.sigma_max:.4g}",
        )
    return ended((*sigmas[:-2], sigmas[-1]) if discard else sigmas, levels.terminal)


def ended(sigmas: tuple[float, ...], terminal: float) -> tuple[float, ...]:
    """Times of a flow, ending in 0, stretched from their 1 so that the last step begins at `terminal`.

    As FlowMatchEulerDiscreteScheduler's shift_terminal (diffusers; LTX-Video, Qwen-Image). 0 and a single step leave
    them as they are.
    """
    if not terminal or len(sigmas) < 3:
        return sigmas
    scale = (1 - terminal) / (1 - sigmas[-2])
    return (*(1 - (1 - sigma) * scale for sigma in sigmas[:-1]), sigmas[-1])
