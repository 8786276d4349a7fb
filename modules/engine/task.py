"""A job while it is in the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from modules.core.errors import InferenzError, RequestError
from modules.core.flow import check_flow, rescaled, rescaled_levels, rescales
from modules.core.generation import GenerationPlan
from modules.core.guidance import ClassifierFree, Guidance
from modules.core.job import Failed
from modules.core.operations import ModelKey, Picture
from modules.core.sampling import Noise, NoiseLevels, Sampler, Sampling, Schedule, SpacingChoice, sigmas_for
from modules.diffusion.noise import NoiseChoice, PictureNoise
from modules.engine.batcher import Trajectory
from modules.engine.picture import Course, Order, StartingNoise, picture
from modules.engine.watch import PictureWatch
from modules.engine.whole import WHOLE_FAMILIES, whole_picture
from modules.prompting.networks import without_tags
from modules.prompting.stages import parts_of, stages_of


@dataclass(eq=False)
class Task:
    """A job in progress. submitted: the clock's seconds. guide: makes a picture's guidance.
    next_index: the picture to begin next.

    live: the pictures in progress. ready: the job was told of its model; encoded: and of its prompts; told: and of what
    such a model leaves undone.
    """

    job: str
    plan: GenerationPlan
    model: ModelKey
    sampler: Sampler
    schedule: Schedule
    submitted: float
    guide: Callable[[], Guidance] = ClassifierFree
    next_index: int = 0
    live: dict[Trajectory, PictureWatch] = field(default_factory=dict)
    ready: bool = False
    encoded: bool = False
    told: set[str] = field(default_factory=set)
    interrupted: bool = False
    failure: Exception | None = None
    model_seconds: float = 0.0

    def batch(self) -> range:
        """The pictures to begin next, side by side."""
        begin = self.next_index
        self.next_index = min(begin + self.plan.batch_size, len(self.plan.seeds))
        return range(begin, self.next_index)

    @property
    def exhausted(self) -> bool:
        """No picture is left to begin."""
        return self.next_index >= len(self.plan.seeds)

    @property
    def rounds(self) -> int:
        """How many further batches are to begin."""
        return -(-(len(self.plan.seeds) - self.next_index) // self.plan.batch_size)

    def picture(self, index: int, watch: PictureWatch) -> Picture:
        """Picture `index` as a coroutine."""
        if self.plan.family in WHOLE_FAMILIES:
            return whole_picture(self.model, self.plan.only(index), watch, self.told)
        return picture(self.order(index), watch)

    def order(self, index: int) -> Order:
        """What picture `index` is to be."""
        plan, chosen, spacing = self.plan.only(index), self.sampler, self.schedule
        evaluations = plan.steps * chosen.evaluations

        def course(levels: NoiseLevels) -> Course:
            choice = SpacingChoice(options=plan.schedule_options, discard=plan.discard_penultimate)
            if levels.flows:
                check_flow(chosen, spacing)
            return course_of(chosen, plan.options, sigmas_for(chosen, spacing, plan.steps, levels, choice), levels)

        return Order(
            model=self.model, prompt=parts_of(without_tags(plan.prompt), evaluations),
            negative=stages_of(without_tags(plan.negative_prompt), evaluations),
            clip_skip=plan.clip_skip, emphasis=plan.emphasis,
            width=plan.width, height=plan.height, cfg_scale=plan.cfg_scale * chosen.cfg_factor, seed=plan.seeds[0],
            strict=plan.strict, seamless=plan.tiling, course=course, noise=partial(picture_noise, plan),
            guide=self.guide, evaluations=evaluations, distilled=plan.distilled_cfg_scale, shift=plan.shift,
        )  # fmt: skip


def course_of(sampler: Sampler, options: Mapping[str, float], sigmas: Sequence[float], levels: NoiseLevels) -> Course:
    """The sampler's way over `sigmas`, on a flow model in the form that it is made for."""

    def run(x: Tensor, inner: Sequence[float], noise: Noise) -> Sampling:
        return sampler.run(x, inner, noise, **options)

    if not (levels.flows and rescales(sampler, options)):
        return Course(sigmas=sigmas, inner=sigmas, sample=lambda x, noise: run(x, sigmas, noise))

    def sample(x: Tensor, noise: Noise) -> Sampling:
        return rescaled(lambda start, inner: run(start, inner, noise), x, sigmas)

    return Course(sigmas=sigmas, inner=rescaled_levels(sigmas), sample=sample)


def picture_noise(
    plan: GenerationPlan, seed: int, shape: tuple[int, ...], sigmas: Sequence[float], device: torch.device
) -> StartingNoise:
    """The noise of the one picture of `plan`."""
    downscale = plan.height // shape[2]
    width, height = plan.seed_resize or (0, 0)
    choice = NoiseChoice(
        source=plan.noise_source,
        variation_seed=plan.variation_seeds[0] if plan.variation_seeds else 0,
        variation_strength=plan.variation_strength if plan.variation_seeds else 0.0,
        resize=(height // downscale, width // downscale) if plan.seed_resize else None,
        ensd=plan.ensd,
    )
    return PictureNoise(seed, shape, sigmas, device, choice)


def chosen_sampler(
    plan: GenerationPlan, samplers: Mapping[str, Sampler], schedules: Mapping[str, Schedule]
) -> tuple[Sampler, Schedule]:
    """The plan's sampler and schedule, "automatic" resolved. Raises RequestError for names and options unknown here."""
    sampler = samplers.get(plan.sampler)
    if sampler is None:
        raise RequestError("sampler", f"there is no sampler {plan.sampler!r}", accepted=", ".join(samplers))
    schedule = schedules.get(sampler.schedule if plan.schedule == "automatic" else plan.schedule)
    if schedule is None:
        raise RequestError("schedule", f"there is no schedule {plan.schedule!r}", accepted=", ".join(schedules))
    sampler.checked_options(plan.options)
    schedule.checked_options(plan.schedule_options)
    return sampler, schedule


def failed(job: str, error: Exception) -> Failed:
    """The event that ends a job on an error."""
    if isinstance(error, InferenzError):
        return Failed(job=job, code=error.code, message=error.message, hint=error.hint)
    return Failed(
        job=job,
        code="engine",
        message=f"The engine hit an unexpected error: {type(error).__name__}: {error}",
        hint="The log has the details.",
    )
