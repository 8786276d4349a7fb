"""The live side of one job: executor events folded into what a snapshot shows.

Guarded by the lock of `services.jobs`; nothing here blocks, so folding an event costs microseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from math import ceil

from modules.core import job as events
from modules.core.generation import GenerationPlan
from modules.services.notices import notices_of
from modules.services.views import ErrorView, ImageView, JobState, JobView

PACE_STEPS = 8  # steps over which the pace of a picture is measured: short enough to follow a change of company


class Progress:
    """One job. `apply` folds an event; `view` is the snapshot, rebuilt only after a change.

    plan: the whole job. saved: picture index -> record id of pictures made before a restart; they are not run again,
    and `todo` maps the executor's indices to the plan's.
    """

    def __init__(
        self, *, job: str, owner: str, plan: GenerationPlan, created: float, saved: Mapping[int, int] | None = None
    ) -> None:
        saved = saved or {}
        self.job = job
        self.owner = owner
        self.plan = plan
        self.todo = tuple(index for index in range(len(plan.seeds)) if index not in saved)
        self.ahead = 0
        self._images = [
            ImageView(index=index, seed=seed, steps=plan.steps)
            if index not in saved
            else ImageView(
                index=index, seed=seed, steps=plan.steps, step=plan.steps, state="done", picture=saved[index]
            )
            for index, seed in enumerate(plan.seeds)
        ]
        self._marks: dict[int, deque[tuple[int, float]]] = {}  # index -> (steps done, seconds) of the latest steps
        self._decode_seconds: deque[float] = deque(maxlen=PACE_STEPS)
        self._pace: float | None = None
        self._base = JobView(id=job, owner=owner, state="queued", plan=plan, created=created, notices=notices_of(plan))
        self._view: JobView | None = None

    @classmethod
    def of_view(cls, view: JobView) -> Progress:
        """An ended job as it was remembered."""
        progress = cls(job=view.id, owner=view.owner, plan=view.plan, created=view.created)
        progress._base = view
        progress._images = list(view.images)
        return progress

    @property
    def state(self) -> JobState:
        return self._base.state

    @property
    def over(self) -> bool:
        return self._base.over

    def remaining_plan(self) -> GenerationPlan:
        """What the executor is to run: the plan less the pictures made before."""
        return self.plan if len(self.todo) == len(self.plan.seeds) else self.plan.picked(self.todo)

    def change(
        self,
        *,
        state: JobState | None = None,
        started: float | None = None,
        ended: float | None = None,
        error: ErrorView | None = None,
        unsaved: int | None = None,
    ) -> None:
        """Change fields of the job itself; None leaves one as it is, but `error` is always set."""
        base = self._base
        self._touch(
            replace(
                base,
                state=state or base.state,
                started=started if started is not None else base.started,
                ended=ended if ended is not None else base.ended,
                error=error,
                unsaved=base.unsaved if unsaved is None else unsaved,
            )
        )

    def touch(self) -> None:
        """Something that the snapshot shows has changed."""
        self._touch(self._base)

    def _touch(self, base: JobView) -> None:
        self._base = replace(base, seq=base.seq + 1)
        self._view = None

    def apply(self, event: events.Event, now: float) -> None:
        """Fold one event in. now: seconds since 1970. Ends and pictures are settled by whoever saves them."""
        base = self._base
        match event:
            case events.Queued():
                self.ahead = event.ahead
            case events.ModelLoading():
                base = replace(base, state="loading")
            case events.ModelReady():
                base = replace(
                    base, device=event.device, dtype=event.dtype, model_seconds=event.seconds, model_source=event.source
                )
            case events.Encoded():
                base = replace(
                    base, encode_seconds=event.seconds, tokens=event.tokens, negative_tokens=event.negative_tokens
                )
            case events.Started():
                index = self.todo[event.index]
                self._marks[index] = deque([(0, 0.0)], maxlen=PACE_STEPS + 1)
                self._image(index, state="running", sigmas=event.sigmas, sigma=event.sigmas[0] if event.sigmas else 0.0)
                base = replace(base, state="running")
            case events.Step():
                self._step(self.todo[event.index], event)
            case events.Preview():
                index = self.todo[event.index]
                self._image(index, preview_seq=self._images[index].preview_seq + 1)
            case events.Notice():
                base = replace(base, notices=(*base.notices, event.text))
            case events.ImageReady():
                index = self.todo[event.index]
                self._decode_seconds.append(max(event.seconds - self._images[index].seconds, 0.0))
                self._image(index, state="running", seconds=event.seconds, partial=event.partial)
            case _:
                return
        if base.started is None and not isinstance(event, events.Queued):
            base = replace(base, started=now)
        self._touch(base)

    def _step(self, index: int, event: events.Step) -> None:
        marks = self._marks.setdefault(index, deque([(0, 0.0)], maxlen=PACE_STEPS + 1))
        marks.append((event.step, event.seconds))
        (first, since), (last, until) = marks[0], marks[-1]
        if until > since:
            self._pace = (last - first) / (until - since)
        self._image(index, step=event.step, steps=event.steps, sigma=event.sigma, seconds=event.seconds)

    def _image(self, index: int, **changes: object) -> None:
        self._images[index] = replace(self._images[index], **changes)  # type: ignore[arg-type]

    def skip_running(self) -> None:
        """The pictures now in progress are left out."""
        for image in self._images:
            if image.state == "running" and image.step < image.steps:
                self._image(image.index, state="skipped")
        self.touch()

    def saved(self, index: int, picture: int) -> None:
        """Picture `index` is in the history as record `picture`."""
        self._image(index, state="done", picture=picture)
        self._marks.pop(index, None)
        self.touch()

    def end(self, state: JobState, now: float, error: ErrorView | None = None) -> None:
        """The job is over; pictures that are not saved by now were left out."""
        for image in self._images:
            if image.state != "done":
                self._image(image.index, state="skipped")
        self.change(state=state, ended=now, error=error)

    def view(self) -> JobView:
        """The snapshot."""
        if self._view is None:
            running = not self._base.over
            self._view = replace(
                self._base,
                images=tuple(self._images),
                ahead=self.ahead if self._base.state == "queued" else 0,
                eta=self._eta() if running else None,
                steps_per_second=self._pace if running else None,
            )
        return self._view

    def _eta(self) -> float | None:
        """Seconds left: the steps still to do at the pace of now, as many pictures side by side as run now."""
        if not self._pace:
            return None
        left = [image for image in self._images if image.state in ("waiting", "running")]
        running = sum(image.state == "running" for image in left)
        abreast = max(min(running or self.plan.batch_size, len(left)), 1)
        steps = sum(image.steps - image.step for image in left)
        decode = sum(self._decode_seconds) / len(self._decode_seconds) if self._decode_seconds else 0.0
        return steps / abreast / self._pace + decode * ceil(len(left) / abreast)
