"""Events cross a pipe as JSON and one byte frame and come out equal."""

from __future__ import annotations

import json

import pytest

from modules.core.job import (
    EVENTS,
    Completed,
    Encoded,
    Event,
    Failed,
    ImageReady,
    Interrupted,
    ModelLoading,
    ModelReady,
    Notice,
    Preview,
    Queued,
    Started,
    Step,
    Trace,
    TraceFrame,
    event_json,
    parse_event,
)

EXAMPLES: tuple[Event, ...] = (
    Queued(job="a", ahead=3),
    ModelLoading(job="a", checkpoint="starter"),
    ModelReady(job="a", checkpoint="starter", seconds=0.25, source="file", device="cpu", dtype="float32"),
    Encoded(job="a", seconds=0.1, tokens=(("an", "apple"), ("on",)), negative_tokens=((),)),
    Started(job="a", index=0, seed=2**63 - 1, sigmas=(14.6, 1.0, 0.0), payload=b"\xff\xd8noise"),
    Step(job="a", index=0, step=1, steps=20, sigma=14.6, seconds=0.5),
    Preview(job="a", index=0, step=1, width=64, height=64, payload=bytes(range(256))),
    Trace(
        job="a",
        index=0,
        frames=(TraceFrame(step=1, sigma=14.6, seconds=0.5, jpeg_bytes=3),),
        payload=b"abc",
    ),
    Notice(job="a", text="Bild 1 wurde wiederholt", index=1),
    ImageReady(job="a", index=0, seed=1, width=64, height=64, seconds=2.0, device="cpu", dtype="float32", payload=b"P"),
    Completed(job="a", seconds=3.0, model_seconds=2.5),
    Interrupted(job="a"),
    Failed(job="a", code="worker_gone", message="gone", hint="again"),
)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_survives_json_and_its_frame(event: Event) -> None:
    assert parse_event(json.loads(json.dumps(event_json(event))), event.payload) == event


def test_every_kind_of_event_is_tried_here() -> None:
    assert {type(event).__name__ for event in EXAMPLES} == set(EVENTS)
