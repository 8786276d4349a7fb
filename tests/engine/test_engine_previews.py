"""Previews and filmstrips: when they come, how large they are, and that nobody waits for them."""

from __future__ import annotations

import io
import threading
from typing import Any

import torch
from PIL import Image

from modules.core.job import (
    EngineOptions,
    ImageReady,
    Preview,
    Started,
    Trace,
)  # fmt: skip
from modules.engine.resident import MOST_LOOKS
from modules.engine.watch import Snapshot
from tests.engine.small import FakeClock, SmallManager, bench, plan


def test_previews_come_at_most_every_interval_and_after_the_first_step() -> None:
    clock = FakeClock()
    b = bench(SmallManager(on_pass=lambda *_: clock.pass_by(0.1)), clock=clock, preview_ms=250, preview_size=96)
    b.engine.submit("j", plan(steps=10, width=128))
    while b.engine.tick():
        b.engine.settle(30)
    previews = [e for e in b.events if isinstance(e, Preview)]
    assert [e.step for e in previews] == [1, 4, 7, 10]
    assert all((e.width, e.height) == (96, 48) for e in previews)
    assert Image.open(io.BytesIO(previews[0].payload)).size == (96, 48)


def test_a_preview_is_never_larger_than_its_picture() -> None:
    b = bench(preview_ms=1, preview_size=512)
    b.engine.submit("j", plan(width=128, height=64, steps=2))
    while b.engine.tick():
        b.engine.settle(30)
    assert {(e.width, e.height) for e in b.events if isinstance(e, Preview)} == {(128, 64)}


def test_a_slow_preview_is_dropped_and_never_waited_for() -> None:
    release = threading.Event()
    b = bench(preview_ms=1)
    engine: Any = b.engine
    engine._latest.put("slow", lambda: release.wait(30))
    b.engine.submit("j", plan(steps=30))
    while b.engine.tick():
        pass
    assert engine._latest.dropped > 0
    release.set()
    b.engine.settle(30)
    assert b.of("j", Preview) == []
    assert len(b.of("j", ImageReady)) == 1


def test_the_filmstrip_holds_a_jpeg_per_step() -> None:
    b = bench(trace=True)
    b.engine.submit("j", plan(sampler="heun", steps=4))
    b.run()
    (trace,) = (e for e in b.events if isinstance(e, Trace))
    assert [frame.step for frame in trace.frames] == [1, 2, 3, 4]
    assert [frame.sigma for frame in trace.frames] == sorted((f.sigma for f in trace.frames), reverse=True)
    start = 0
    for frame in trace.frames:
        assert Image.open(io.BytesIO(trace.payload[start : start + frame.jpeg_bytes])).size == (64, 64)
        start += frame.jpeg_bytes
    assert start == len(trace.payload)
    (started,) = (e for e in b.events if isinstance(e, Started))
    assert Image.open(io.BytesIO(started.payload)).format == "JPEG"


def test_changing_how_previews_are_made_keeps_the_filmstrip_and_the_previews() -> None:
    b = bench(trace=True, preview_ms=1, preview_size=96)
    b.engine.submit("j", plan(steps=6, seeds=(1, 2)))
    for _ in range(4):
        b.engine.tick()
    b.engine.settle(30)
    shown = len(b.of("j", Preview))
    b.engine.configure(EngineOptions(preview_ms=1, preview_size=64))
    while b.engine.tick():
        b.engine.settle(30)
    assert [[f.step for f in e.frames] for e in b.events if isinstance(e, Trace)] == [[1, 2, 3, 4, 5, 6]] * 2
    later = [e for e in b.events if isinstance(e, Preview)][shown:]
    assert [(e.index, e.width) for e in later][-1] == (1, 64)


def test_looks_are_kept_of_few_models_and_go_with_the_unloaded_ones() -> None:
    b = bench(trace=True)
    looks: Any = b.engine._resident._looks
    for number in range(MOST_LOOKS + 3):
        b.engine.submit(f"{number}", plan(model=f"m{number}", steps=1))
        b.run()
    assert len(looks) == MOST_LOOKS
    b.engine.unload()
    b.run()
    assert len(looks) == 0


def test_a_snapshot_that_is_put_off_holds_what_was_there_then() -> None:
    latent = torch.arange(4.0).reshape(1, 4, 1, 1)
    snapshot = Snapshot(latent, later=True)
    latent.zero_()
    snapshot.fetch()
    assert snapshot.latent().flatten().tolist() == [0, 1, 2, 3]
