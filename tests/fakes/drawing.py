"""An executor that draws: noise turns into a simple picture at a pace the test chooses. For tests of the page.

A prompt with "memory" in it fails as a device without memory does, one with "worker" as a worker that went away.
"""

from __future__ import annotations

import io
import threading
import time
from collections import deque

from PIL import Image, ImageDraw, ImageFilter

from modules.core import job as events
from modules.core.generation import GenerationPlan
from modules.core.job import EngineOptions, EngineStatus, Event, OnEvent

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "white", "black", "brown")
FAILURES = {
    "memory": ("out_of_memory", "The picture does not fit into the memory of the device.", "Make it smaller."),
    "worker": ("worker_gone", "The engine stopped while it was making this picture.", "It is starting again."),
}


class DrawingExecutor:
    """Runs one job after another in a thread. step_seconds: how long each step takes.

    hold_after: every picture waits after this step until `release` is called or its job is stopped, so that a test can
    act in its middle, however long that takes.
    """

    def __init__(self, *, step_seconds: float = 0.03, load_seconds: float = 0.2) -> None:
        self.step_seconds = step_seconds
        self.hold_after: int | None = None
        self._load_seconds = load_seconds
        self._waiting: deque[tuple[str, GenerationPlan]] = deque()
        self._stopped: set[str] = set()
        self._skipped: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._loaded = ""
        self._busy = False
        self._options = EngineOptions()
        self._on_event: OnEvent | None = None
        self._thread = threading.Thread(target=self._run, name="drawing")

    def start(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._thread.start()

    def submit(self, job: str, plan: GenerationPlan) -> None:
        with self._changed:
            self._waiting.append((job, plan))
            self._changed.notify()

    def interrupt(self, job: str) -> None:
        with self._changed:
            self._stopped.add(job)
            self._changed.notify_all()

    def skip(self, job: str) -> None:
        with self._changed:
            self._skipped.add(job)
            self._changed.notify_all()

    def release(self) -> None:
        """What is held goes on, and nothing is held any more."""
        with self._changed:
            self.hold_after = None
            self._changed.notify_all()

    def configure(self, options: EngineOptions) -> None:
        self._options = options

    def unload(self) -> None:
        self._loaded = ""

    def status(self) -> EngineStatus:
        return EngineStatus(
            state="busy" if self._busy else "idle", device="cpu", device_name="Drawing board", dtype="float32",
            memory_used=3 * 2**30, memory_total=16 * 2**30, loaded=(self._loaded,) if self._loaded else (),
        )  # fmt: skip

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    waiting = tuple(self._waiting)
                    break
                job, plan = self._waiting.popleft()
                self._busy = True
            self._job(job, plan)
        for job, _ in waiting:
            self._tell(events.Failed(job=job, code="worker_gone", message="The server was closed."))

    def _tell(self, event: Event) -> None:
        assert self._on_event is not None
        self._on_event(event)

    def _job(self, job: str, plan: GenerationPlan) -> None:
        name = plan.checkpoint.name
        source = "resident" if self._loaded == name else "file"
        self._tell(events.ModelLoading(job=job, checkpoint=name))
        time.sleep(0 if source == "resident" else self._load_seconds)
        self._loaded = name
        self._tell(
            events.ModelReady(job=job, checkpoint=name, seconds=self._load_seconds if source == "file" else 0.0,
                              source="resident" if source == "resident" else "file", device="cpu", dtype="float32")
        )  # fmt: skip
        words = (tuple(f"{word}</w>" for word in plan.prompt.lower().replace(",", " ,").split()),)
        negative = (tuple(f"{word}</w>" for word in plan.negative_prompt.lower().split()),)
        self._tell(events.Encoded(job=job, seconds=0.02, tokens=words, negative_tokens=negative))
        for word, (code, message, hint) in FAILURES.items():
            if word in plan.prompt:
                time.sleep(self.step_seconds)
                self._tell(events.Failed(job=job, code=code, message=message, hint=hint))
                return
        for index in range(len(plan.seeds)):
            if not self._picture(job, plan, index):
                self._tell(events.Interrupted(job=job))
                return
        self._tell(events.Completed(job=job, seconds=1.0))

    def _picture(self, job: str, plan: GenerationPlan, index: int) -> bool:
        """False when the job was interrupted."""
        size, seed = (plan.width, plan.height), plan.seeds[index]
        noise, subject = _noise(size), _subject(plan.prompt, size, seed)
        sigmas = tuple(14.6 * (1 - step / plan.steps) ** 2 for step in range(plan.steps + 1))
        self._tell(events.Started(job=job, index=index, seed=seed, sigmas=sigmas, payload=_bytes(noise, "JPEG")))
        frames, payload = [], b""
        begun = time.monotonic()
        for step in range(1, plan.steps + 1):
            time.sleep(self.step_seconds)
            if job in self._stopped or self._closed:
                return False
            if job in self._skipped:
                self._skipped.discard(job)
                return True
            share = step / plan.steps
            blurred = subject.filter(ImageFilter.GaussianBlur(max(size) / 12 * (1 - share)))
            jpeg = _bytes(Image.blend(noise, blurred, min(1.0, 0.15 + share)), "JPEG")
            seconds = time.monotonic() - begun
            frames.append(events.TraceFrame(step=step, sigma=sigmas[step], seconds=seconds, jpeg_bytes=len(jpeg)))
            payload += jpeg
            self._tell(
                events.Step(job=job, index=index, step=step, steps=plan.steps, sigma=sigmas[step], seconds=seconds)
            )
            self._tell(events.Preview(job=job, index=index, step=step, width=size[0], height=size[1], payload=jpeg))
            with self._changed:
                while step == self.hold_after and not self._closed and job not in self._stopped | self._skipped:
                    self._changed.wait()
        self._tell(events.Trace(job=job, index=index, frames=tuple(frames), payload=payload))
        self._tell(
            events.ImageReady(job=job, index=index, seed=seed, width=size[0], height=size[1],
                              seconds=time.monotonic() - begun, device="cpu", dtype="float32",
                              payload=_bytes(subject, "PNG"))
        )  # fmt: skip
        return True


def _noise(size: tuple[int, int]) -> Image.Image:
    return Image.merge("RGB", [Image.effect_noise(size, 90) for _ in range(3)])


def _subject(prompt: str, size: tuple[int, int], seed: int) -> Image.Image:
    """A round thing in the prompt's first colour on a ground in its last; the seed moves it."""
    found = [word for word in prompt.lower().replace(",", " ").split() if word in COLOURS] or ["orange", "white"]
    scale = 4
    image = Image.new("RGB", (size[0] * scale, size[1] * scale), found[-1] if len(found) > 1 else "white")
    side = min(image.size)
    x, y = image.size[0] // 2 + (seed % 7 - 3) * side // 40, image.size[1] // 2
    pen = ImageDraw.Draw(image)
    pen.ellipse((x - side * 0.33, y - side * 0.28, x + side * 0.33, y + side * 0.36), fill=found[0])
    pen.ellipse((x - side * 0.2, y - side * 0.18, x - side * 0.06, y - side * 0.02), fill="white")
    pen.line((x, y - side * 0.26, x + side * 0.08, y - side * 0.42), fill="saddlebrown", width=side // 28)
    return image.resize(size, Image.Resampling.LANCZOS)


def _bytes(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()
