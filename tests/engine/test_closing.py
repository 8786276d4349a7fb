"""Ending an engine, whatever it is doing and whoever asks for it first."""

from __future__ import annotations

import threading

import pytest

from modules.core.job import Failed
from modules.engine.engine import Engine
from tests.engine.small import Bench, SmallManager, bench, plan


def started(b: Bench) -> threading.Thread:
    thread = threading.Thread(target=b.engine.run)
    thread.start()
    return thread


def closed_in_time(engine: Engine, thread: threading.Thread) -> None:
    """`close` returns, and the loop is over by then: it did not have to give up waiting."""
    closing = threading.Thread(target=engine.close)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()
    assert engine.status().state == "gone"
    thread.join(60)
    assert not thread.is_alive()


def test_closing_with_jobs_running_and_waiting_ends_all_of_them_in_one_pass() -> None:
    running = threading.Event()
    passes: list[bool] = []

    def on_pass(*_: object) -> None:
        passes.append(closing.is_set())
        running.set()

    closing = threading.Event()
    b = bench(SmallManager(on_pass=on_pass), trace=True, preview_ms=1)
    thread = started(b)
    for job in range(12):
        b.engine.submit(f"{job}", plan(steps=150, seeds=(1, 2), batch_size=2))
    assert running.wait(60)
    closing.set()
    closed_in_time(b.engine, thread)
    assert sum(passes) <= 2  # the one it was in, and one that had begun when it was asked
    ends = [event for event in b.events if isinstance(event, Failed)]
    assert sorted(event.job for event in ends) == sorted(f"{job}" for job in range(12))


@pytest.mark.parametrize("jobs", [0, 3])
def test_closing_at_any_moment_of_the_start(jobs: int) -> None:
    """The thread that closes and the loop that begins at the same time never undo the same lists together."""
    for _ in range(30):
        b = bench()
        for job in range(jobs):
            b.engine.submit(f"{job}", plan())
        thread = started(b)
        closed_in_time(b.engine, thread)
        assert len([event for event in b.events if isinstance(event, Failed)]) <= jobs
