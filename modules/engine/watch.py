"""One picture seen from outside: its events, previews and filmstrip, made without the sampler waiting for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from modules.core.job import ImageReady, Notice, Preview, Started, Step, Trace, TraceFrame
from modules.core.operations import ModelKey
from modules.diffusion.preview import LatentColours, Renderer, shrunk
from modules.engine.outbox import Outbox
from modules.engine.picture import Canvas, Finished
from modules.engine.sidework import Latest, Line
from modules.imaging.encode import encode_jpeg, encode_png
from modules.imaging.enlarge import enlarge

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FILMSTRIP_PIXELS = 256  # longer side of a filmstrip's frame, at most
LATENT_PIXELS = 8  # a frame or preview is at most so many times its latent's size when that is all there is to show
RENDER_SHARE = 20  # previews take at most 1/20 of the time of the thread beside the engine ...
CPU_RENDER_SHARE = 120  # ... and 1/120 where it has the sampler's own cores: that is what they cost there


@dataclass(frozen=True, kw_only=True)
class Looks:
    """How a model's latents are shown: its colours, which learn on, and what renders previews."""

    colours: LatentColours
    renderer: Renderer


@dataclass(frozen=True, kw_only=True)
class Studio:
    """What all watches share. canvas and looks: of the resident model. clock: seconds.

    broken(job, error): a finished picture could not be sent; called from a thread beside the engine's.
    """

    outbox: Outbox
    line: Line
    latest: Latest
    clock: Callable[[], float]
    canvas: Callable[[ModelKey], Canvas]
    looks: Callable[[], Looks | None]
    broken: Callable[[str, Exception], None]


class Snapshot:
    """A latent on its way to the CPU. A CUDA device is not waited for until someone looks.

    later: on other devices, too, where a copy always waits, it is made by `fetch` alone.
    """

    def __init__(self, latent: Tensor, *, later: bool = False) -> None:
        self._ready: Any = None
        self._source: Tensor | None = None
        if latent.device.type == "cuda":
            self._copy = torch.empty(latent.shape, dtype=latent.dtype, pin_memory=True)
            self._copy.copy_(latent, non_blocking=True)
            self._ready = torch.cuda.Event()
            # The latent's own device: a thread's current one may be another, whose events say nothing of this copy
            self._ready.record(torch.cuda.current_stream(latent.device))
        elif later:
            self._source = latent.detach().clone()
        else:
            self._copy = latent.detach().to("cpu", copy=True)

    def fetch(self) -> None:
        """Copy what was put off. Called from the engine's thread, best when the device has nothing left to do."""
        if self._source is not None:
            self._copy, self._source = self._source.to("cpu", copy=True), None

    def latent(self) -> Tensor:
        """(1, C, h, w) float32 on the CPU; `fetch` comes first where the copy was put off."""
        if self._ready is not None:
            self._ready.synchronize()
        return self._copy


@dataclass(frozen=True)
class _Frame:
    step: int
    sigma: float
    seconds: float
    snapshot: Snapshot


class PictureWatch:
    """Watches picture `index` of a job. Its methods are called from the engine's thread and do not wait."""

    def __init__(
        self, studio: Studio, job: str, *, index: int, seed: int, preview_ms: int, preview_size: int, trace: bool
    ) -> None:
        self._studio = studio
        self._job, self._index, self._seed = job, index, seed
        self._interval = preview_ms / 1000 if preview_ms else None
        self._size = preview_size
        self._trace = trace
        self._started = self._shown = 0.0
        self._steps = 0
        self._announced = False
        self._over = False
        self._lock = Lock()
        self._frames: list[_Frame] = []
        self._looks: Looks | None = None
        self._noticed: set[str] = set()

    def canvas(self, model: ModelKey) -> Canvas:
        return self._studio.canvas(model)

    def began(self, x: Tensor, sigmas: Sequence[float]) -> None:
        self._frames.clear()
        self._steps = len(sigmas) - 1
        if self._announced:  # the retry of a picture that has been announced
            return
        self._announced = True
        self._started = self._studio.clock()
        self._shown = float("-inf")
        looks = self._known_looks()
        payload = _noise_jpeg(looks, x / sigmas[0]) if looks else b""
        self._studio.outbox.send(
            Started(job=self._job, index=self._index, seed=self._seed, sigmas=tuple(sigmas), payload=payload)
        )

    def started(self, steps: int) -> None:
        """A model that cannot be stepped begins the picture: there are no noise levels to tell of."""
        self._steps = steps
        if self._announced:
            return
        self._announced = True
        self._started = self._studio.clock()
        self._studio.outbox.send(Started(job=self._job, index=self._index, seed=self._seed, sigmas=()))

    def progressed(self, step: int, steps: int) -> None:
        """Such a model has done step `step` of `steps`, counted from 1."""
        self._steps = steps
        self._tell_step(step, 0.0, self._studio.clock() - self._started)

    def _tell_step(self, step: int, sigma: float, seconds: float) -> None:
        self._studio.outbox.send(
            Step(job=self._job, index=self._index, step=step, steps=self._steps, sigma=sigma, seconds=seconds)
        )

    def stepped(self, step: int, sigma: float, denoised: Tensor) -> None:
        now = self._studio.clock()
        seconds = now - self._started
        self._tell_step(step + 1, sigma, seconds)
        looks = self._known_looks()
        due = self._interval is not None and now - self._shown >= self._interval
        if looks is None or not (due or self._trace):
            return
        snapshot = Snapshot(shrunk(denoised, max(self._size // 4, 64)), later=not due)
        if self._trace:
            self._frames.append(_Frame(step + 1, sigma, seconds, snapshot))
        if due:
            self._shown = now
            # Larger than the picture it would only cost the time of making it so
            size = _fitted(denoised.shape, min(self._size, max(denoised.shape[-2:]) * LATENT_PIXELS))
            share = CPU_RENDER_SHARE if denoised.device.type == "cpu" else RENDER_SHARE
            self._studio.latest.put(self._key, lambda: self._preview(step + 1, snapshot, looks.renderer, size, share))

    def notice(self, text: str) -> None:
        if text in self._noticed:
            return
        self._noticed.add(text)
        text = f"Picture {self._index + 1}: {text}"
        self._studio.outbox.send(Notice(job=self._job, index=self._index, text=text))

    def finished(self, result: Finished, *, device: str, dtype: str) -> None:
        """Send the filmstrip and the picture, in the order of calls."""
        seconds = self._studio.clock() - self._started
        looks, frames = self._known_looks(), tuple(self._frames)
        for frame in frames:
            frame.snapshot.fetch()  # the picture is on the CPU by now: the device has nothing left to do
        self.ended()
        height, width, _ = result.rgb.shape
        ready = ImageReady(
            job=self._job, index=self._index, seed=self._seed, width=width, height=height, seconds=seconds,
            device=device, dtype=dtype, partial=result.partial,
        )  # fmt: skip

        def send() -> None:
            try:
                if frames and looks:
                    self._send_trace(frames, looks.colours)
                self._studio.outbox.send(replace(ready, payload=encode_png(result.rgb.numpy())))
            except Exception as error:
                logger.exception("A finished picture could not be sent.")
                self._studio.broken(self._job, error)

        self._studio.line.put(send)

    def ended(self) -> None:
        """There will be no picture; nothing more is shown of it."""
        with self._lock:
            self._over = True
        self._frames.clear()
        self._studio.latest.drop(self._key)

    @property
    def _key(self) -> tuple[str, int]:
        return (self._job, self._index)

    def _known_looks(self) -> Looks | None:
        """The latest there were: options for previews may change while the picture runs, and its filmstrip goes on."""
        self._looks = self._studio.looks() or self._looks
        return self._looks

    def _preview(self, step: int, snapshot: Snapshot, renderer: Renderer, size: tuple[int, int], share: int) -> None:
        began = self._studio.clock()
        jpeg = encode_jpeg(enlarge(renderer.render(snapshot.latent()), *size), quality=80)
        preview = Preview(job=self._job, index=self._index, step=step, width=size[0], height=size[1], payload=jpeg)
        with self._lock:  # no preview after the picture
            if self._over:
                return
            self._studio.outbox.send(preview)
        if self._interval is not None:
            self._interval = max(self._interval, share * (self._studio.clock() - began))

    def _send_trace(self, frames: Sequence[_Frame], colours: LatentColours) -> None:
        jpegs = [_frame_jpeg(colours, frame.snapshot.latent()) for frame in frames]
        described = tuple(
            TraceFrame(step=frame.step, sigma=frame.sigma, seconds=frame.seconds, jpeg_bytes=len(jpeg))
            for frame, jpeg in zip(frames, jpegs, strict=True)
        )
        self._studio.outbox.send(Trace(job=self._job, index=self._index, frames=described, payload=b"".join(jpegs)))


def _fitted(shape: torch.Size, side: int) -> tuple[int, int]:
    """Width and height with the latent's proportions whose longer side is `side` pixels."""
    height, width = shape[-2:]
    factor = side / max(height, width)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _frame_jpeg(colours: LatentColours, latent: Tensor) -> bytes:
    side = min(max(latent.shape[-2:]) * LATENT_PIXELS, FILMSTRIP_PIXELS)
    return encode_jpeg(enlarge(colours.render(latent), *_fitted(latent.shape, side)), quality=80)


def _noise_jpeg(looks: Looks, noise: Tensor) -> bytes:
    """Noise as it is, pixel by pixel: smoothed it would no longer be noise."""
    small = shrunk(noise, 64).cpu()
    rgb: NDArray[np.uint8] = looks.colours.render(small)
    factor = max(1, FILMSTRIP_PIXELS // max(rgb.shape[:2]))
    return encode_jpeg(np.kron(rgb, np.ones((factor, factor, 1), dtype=np.uint8)), quality=70)
