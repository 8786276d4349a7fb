"""What is seen of pictures in the making, too large for their jobs' snapshots: previews, starting noise, filmstrips."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from modules.core import job as events
from modules.core.job import Event
from modules.services.views import TraceFrameView

KEPT_INSPECTIONS = 20  # pictures whose starting noise and filmstrip are kept


@dataclass
class _Inspection:
    noise: bytes | None = None
    trace: tuple[TraceFrameView, ...] | None = None


class Glimpses:
    """Images by job and picture. Written under the lock of `services.jobs`, read by anyone."""

    def __init__(self) -> None:
        self._previews: dict[tuple[str, int], bytes] = {}
        self._inspections: OrderedDict[tuple[str, int], _Inspection] = OrderedDict()

    def preview(self, job: str, index: int) -> bytes | None:
        """The latest preview of a picture as JPEG; None before the first and once the job is over."""
        return self._previews.get((job, index))

    def noise(self, job: str, index: int) -> bytes | None:
        """The starting noise as JPEG, of the last pictures begun."""
        inspection = self._inspections.get((job, index))
        return inspection.noise if inspection else None

    def trace(self, job: str, index: int) -> tuple[TraceFrameView, ...] | None:
        """The filmstrip of a finished picture, of the last pictures begun."""
        inspection = self._inspections.get((job, index))
        return inspection.trace if inspection else None

    def keep(self, event: Event, todo: tuple[int, ...]) -> None:
        """Put aside what an event brings. todo: the executor's indices to the plan's, see `Progress`."""
        match event:
            case events.Started():
                self._inspections[event.job, todo[event.index]] = _Inspection(noise=event.payload or None)
                while len(self._inspections) > KEPT_INSPECTIONS:
                    self._inspections.popitem(last=False)
            case events.Preview():
                self._previews[event.job, todo[event.index]] = event.payload
            case events.Trace():
                inspection = self._inspections.get((event.job, todo[event.index]))
                if inspection is not None:
                    inspection.trace = _frames(event)
            case _:
                pass

    def over(self, job: str, pictures: int) -> None:
        """Forget the previews of a job that is over."""
        for index in range(pictures):
            self._previews.pop((job, index), None)


def _frames(event: events.Trace) -> tuple[TraceFrameView, ...]:
    frames, start = [], 0
    for frame in event.frames:
        jpeg = event.payload[start : start + frame.jpeg_bytes]
        start += frame.jpeg_bytes
        frames.append(TraceFrameView(step=frame.step, sigma=frame.sigma, seconds=frame.seconds, jpeg=jpeg))
    return tuple(frames)
