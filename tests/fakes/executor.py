"""The one fake of the executor seam: it records what it is told and says what the test wants said."""

from __future__ import annotations

from modules.core import job as events
from modules.core.generation import GenerationPlan
from modules.core.job import EngineOptions, EngineStatus, Event, OnEvent


class ScriptedExecutor:
    """An `Executor` whose events are the test's. `emit` runs the callback in the calling thread."""

    def __init__(self) -> None:
        self.plans: dict[str, GenerationPlan] = {}  # of jobs that have not ended, in the order they came
        self.submitted: list[str] = []
        self.interrupted: list[str] = []
        self.skipped: list[str] = []
        self.options = EngineOptions()
        self.closed = False
        self._on_event: OnEvent | None = None

    def start(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    def submit(self, job: str, plan: GenerationPlan) -> None:
        self.plans[job] = plan
        self.submitted.append(job)

    def interrupt(self, job: str) -> None:
        self.interrupted.append(job)

    def skip(self, job: str) -> None:
        self.skipped.append(job)

    def configure(self, options: EngineOptions) -> None:
        self.options = options

    def unload(self) -> None: ...

    def status(self) -> EngineStatus:
        return EngineStatus(state="gone" if self.closed else "idle", device="cpu", options=self.options)

    def close(self) -> None:
        self.closed = True
        for job in tuple(self.plans):
            self.emit(events.Failed(job=job, code="worker_gone", message="The server was closed."))

    def emit(self, *told: Event) -> None:
        """Say this."""
        assert self._on_event is not None
        for event in told:
            if isinstance(event, events.END_EVENTS):
                self.plans.pop(event.job, None)
            self._on_event(event)

    def begin(self, job: str, index: int = 0) -> None:
        """The model is there and picture `index` begins."""
        plan = self.plans[job]
        self.emit(
            events.ModelLoading(job=job, checkpoint=plan.checkpoint.name),
            events.ModelReady(job=job, checkpoint="starter", seconds=0.5, source="file", device="cpu", dtype="float32"),
            events.Started(job=job, index=index, seed=plan.seeds[index], sigmas=(14.0, 1.0, 0.0), payload=b"noise"),
        )

    def picture(self, job: str, index: int = 0, png: bytes = b"png") -> None:
        """Picture `index` is finished."""
        plan = self.plans[job]
        self.emit(
            events.ImageReady(
                job=job, index=index, seed=plan.seeds[index], width=plan.width, height=plan.height, seconds=1.0,
                device="cpu", dtype="float32", payload=png,
            )
        )  # fmt: skip

    def complete(self, job: str) -> None:
        """The whole course of a job."""
        for index in range(len(self.plans[job].seeds)):
            self.begin(job, index)
            self.picture(job, index)
        self.emit(events.Completed(job=job, seconds=1.0))
