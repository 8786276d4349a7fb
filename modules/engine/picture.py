"""A picture as a coroutine: it encodes, samples and decodes by asking, and knows nothing of who answers.

`denoise` drives a sampler through guidance; `watched` is a wrapper with a sampling's own signature that lets someone
look on. Nothing here makes the device wait.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor

from modules.core.errors import EngineError
from modules.core.generation import Emphasis
from modules.core.guidance import Call, ClassifierFree, Guidance
from modules.core.operations import Decode, Encode, ModelKey, Operation, Picture, Predict
from modules.core.sampling import Noise, NoiseLevels, Sampling
from modules.prompting.stages import Part, Stages

LOOK_STEPS = 5  # between looks whether a prediction holds NaN: three small kernels each


class Stopped(Exception):
    """Thrown into a picture that is to end now. keep: what is there of it shall be decoded."""

    def __init__(self, *, keep: bool) -> None:
        super().__init__("stopped")
        self.keep = keep


class NotFinite(EngineError):
    """A latent or a decoded picture holds NaN or infinity. part: "latent" or "picture"."""

    def __init__(self, part: str) -> None:
        super().__init__(
            f"The model produced no valid numbers: the {part} holds NaN, in float32 too.",
            hint="The checkpoint or its VAE is probably damaged; try another VAE or another checkpoint.",
        )
        self.part = part


class StartingNoise(Noise, Protocol):
    """A picture's own noise, the starting noise included. notice: what the person should know of it, mostly ""."""

    notice: str

    def initial(self) -> Tensor:
        """Standard normal (1, C, H, W) float32 on the device."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What a picture must know of a loaded model. channels, downscale: of its latents.

    levels(width, height, shift): its noise levels for a picture of so many pixels, see `Backbone.noise_levels`.
    """

    levels: Callable[[int, int, float | None], NoiseLevels]
    channels: int
    downscale: int
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class Course:
    """The way from noise to picture on one model. sigmas: its steps + 1 noise levels; inner: the same as the sampler
    itself sees them, which is what its noise is made for. sample(x, noise): starts at x, of level sigmas[0].
    """

    sigmas: Sequence[float]
    inner: Sequence[float]
    sample: Callable[[Tensor, Noise], Sampling]


@dataclass(frozen=True, kw_only=True)
class Order:
    """One picture to make. course(levels): from the plan's sampler and schedule.

    prompt: the prompts that AND joins, each with its stages; negative: the negative prompt's stages. width, height:
    pixels. noise(seed, shape, sigmas, device): the picture's noise, for the levels its sampler sees. guide(): the
    picture's guidance. evaluations: of the model over all steps, 0 where that is not known. distilled, shift: see
    `GenerationPlan`.
    """

    model: ModelKey
    prompt: tuple[Part, ...]
    negative: Stages
    clip_skip: int
    emphasis: Emphasis
    width: int
    height: int
    cfg_scale: float
    seed: int
    strict: bool
    seamless: bool
    course: Callable[[NoiseLevels], Course]
    noise: Callable[[int, tuple[int, ...], Sequence[float], torch.device], StartingNoise]
    guide: Callable[[], Guidance] = ClassifierFree
    evaluations: int = 0
    distilled: float | None = None
    shift: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A picture's result. rgb: (H, W, 3) uint8 on the CPU. partial: stopped before its last step."""

    rgb: Tensor
    partial: bool = False


class Watcher(Protocol):
    """Looks on while a picture is made. Called from the engine's thread; must not make the device wait."""

    def canvas(self, model: ModelKey) -> Canvas:
        """The facts of the model, which is resident whenever a picture runs."""

    def began(self, x: Tensor, sigmas: Sequence[float]) -> None:
        """Sampling begins at x (1, C, H, W), noise of level sigmas[0]."""

    def stepped(self, step: int, sigma: float, denoised: Tensor) -> None:
        """Step `step` (0-based), which began at `sigma`, is done; denoised: its last prediction of x0."""

    def notice(self, text: str) -> None:
        """Something the person should know."""


def denoise(
    sampling: Sampling, calls: Callable[[int], Call], guidance: Guidance, *, strict: bool = False, steps: int = 0
) -> Generator[Operation, Any, Tensor]:
    """Drive a sampler: every question becomes a `Predict`, guided. Returns the latent.

    calls(k): what evaluation k uses, counted from 0: evaluations, not steps. steps: of all, where known.
    """
    query = next(sampling)
    for k in count():
        call = calls(k)
        rows = guidance.rows(query, call)
        left = max(1, steps - query.step) if steps else 0
        answers = yield Predict(call.model, rows, strict=strict, left=left)
        guided = guidance.combine(query, call, answers)
        answer = (guided.denoised, guided.unconditional) if query.uncond else guided.denoised
        try:
            query = sampling.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
    raise AssertionError("a count has no end")


def watched(sampling: Sampling, stepped: Callable[[int, float, Tensor], None]) -> Sampling:
    """The same sampling; `stepped(step, sigma, denoised)` is called once per step, after its last evaluation."""
    query = next(sampling)
    sigma = query.sigma
    while True:
        answer = yield query
        denoised = answer[0] if query.uncond else answer
        try:
            following = sampling.send(answer)
        except StopIteration as end:
            stepped(query.step, sigma, denoised)
            return end.value  # type: ignore[no-any-return]
        if following.step != query.step:
            stepped(query.step, sigma, denoised)
            sigma = following.sigma
        query = following


def picture(order: Order, watcher: Watcher) -> Picture:
    """Make one picture. Returns `Finished`.

    A latent or picture that is not finite is made again in float32, and the watcher is told; raises NotFinite where
    that does not help. Raises Stopped when it is stopped with nothing to keep.
    """
    model = order.model
    while True:
        try:
            latent, partial = yield from _sampled(order, model, watcher)
            rgb = yield from _decoded(order, model, latent, watcher, stopped=partial)
            return Finished(rgb=rgb, partial=partial)
        except NotFinite as error:
            if error.part != "latent" or model.dtype == "float32":
                raise
            watcher.notice(f"The latent held NaN in {model.dtype}: the picture is made again in float32.")
            model = replace(model, dtype="float32")


class Finiteness:
    """Looks at predictions now and then, so that a picture that holds NaN is not carried to its last step.

    A CPU's answer is there at once; another device's is asked for and read at the next look, so that nothing waits.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._answer: Tensor | None = None
        self._ready: Any = None

    def look(self, denoised: Tensor) -> None:
        """Called once per step with its prediction. Raises NotFinite, perhaps of an earlier one."""
        due = self._steps % LOOK_STEPS == 0
        self._steps += 1
        if not due or (self._ready is not None and not self._ready.query()):
            return
        if self._answer is not None and not bool(self._answer):
            raise NotFinite("latent")
        finite = torch.isfinite(denoised).all()
        if denoised.device.type == "cuda":
            self._answer = torch.empty((), dtype=torch.bool, pin_memory=True)
            self._answer.copy_(finite, non_blocking=True)
            self._ready = torch.cuda.Event()
            self._ready.record(torch.cuda.current_stream(denoised.device))
        elif denoised.device.type == "cpu":
            if not bool(finite):
                raise NotFinite("latent")
        else:
            self._answer = finite  # read after LOOK_STEPS more: it is long there by then


def _sampled(order: Order, model: ModelKey, watcher: Watcher) -> Generator[Operation, Any, tuple[Tensor, bool]]:
    """Returns (latent, partial): the finished latent, or the last prediction where it was stopped and is to be kept."""
    texts = _texts(order)
    encoded = dict(zip(texts, (yield Encode(model, texts, order.clip_skip, order.emphasis)), strict=True))
    canvas = watcher.canvas(model)
    levels = canvas.levels(order.width, order.height, order.shift)

    def calls(k: int) -> Call:
        wanted = tuple((encoded[part.stages.at(k)], part.weight) for part in order.prompt)
        negative = encoded[order.negative.at(k)]
        return Call(
            model=model, texts=wanted, negative=negative, scale=order.cfg_scale,
            evaluation=k, evaluations=order.evaluations, flows=levels.flows, seamless=order.seamless,
            distilled=order.distilled,
        )  # fmt: skip

    course = order.course(levels)
    sigmas = course.sigmas
    shape = (1, canvas.channels, order.height // canvas.downscale, order.width // canvas.downscale)
    noise = order.noise(order.seed, shape, course.inner, canvas.device)
    if noise.notice:
        watcher.notice(noise.notice)
    x = noise.initial() * sigmas[0]
    watcher.began(x, sigmas)
    latest: Tensor | None = None
    finiteness = Finiteness()

    def stepped(step: int, sigma: float, denoised: Tensor) -> None:
        nonlocal latest
        finiteness.look(denoised)
        latest = denoised
        watcher.stepped(step, sigma, denoised)

    sampling = watched(course.sample(x, noise), stepped)
    try:
        latent = yield from denoise(sampling, calls, order.guide(), strict=order.strict, steps=len(sigmas) - 1)
    except Stopped as stop:
        if not stop.keep or latest is None:
            raise
        return latest, True
    return latent, False


def _texts(order: Order) -> tuple[str, ...]:
    """Every text of all stages: the prompt's first, the negative prompt's first, then the others, each once."""
    first, negative = order.prompt[0].stages.at(0), order.negative.at(0)
    every = (text for stages in (*(part.stages for part in order.prompt), order.negative) for text in stages.texts)
    return (first, negative, *(text for text in dict.fromkeys(every) if text not in (first, negative)))


def _decoded(
    order: Order, model: ModelKey, latent: Tensor, watcher: Watcher, *, stopped: bool
) -> Generator[Operation, Any, Tensor]:
    fp32 = False
    while True:
        try:
            pixels: Tensor = yield Decode(model, latent, fp32=fp32, seamless=order.seamless)
            return pixels
        except Stopped as stop:
            # All steps are done, so whoever keeps partial pictures keeps this one; a second stop ends it.
            if not stop.keep or stopped:
                raise
            stopped = True
        except NotFinite as error:
            if error.part == "latent" and stopped:
                # Whoever stopped a picture waits for a decode at most, not for all its steps over again
                raise Stopped(keep=False) from error
            if error.part == "latent" or fp32:
                raise
            fp32 = True
            watcher.notice("The decoded picture held NaN: it is decoded again in float32.")
