from __future__ import annotations

from collections.abc import Iterator

import pytest

from modules.core import job as events
from modules.core.job import EngineOptions
from modules.executors.local import LocalExecutor
from tests.executors.conftest import Fussy, Heard
from tests.fakes.plans import plan

TINY = "tests.fakes.engines:TinyEngine"


@pytest.fixture
def executor(heard: Heard) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(EngineOptions(), engine=TINY)
    executor.start(heard)
    yield executor
    executor.close()
    assert executor.status().state == "gone"


def test_a_job_runs_and_its_events_are_numbered(executor: LocalExecutor, heard: Heard) -> None:
    assert executor.status().state == "idle"
    executor.submit("a", plan(pictures=2))
    assert isinstance(heard.end("a"), events.Completed)
    told = heard.of("a")
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert [event.payload for event in told if isinstance(event, events.ImageReady)] == [b"1", b"2"]


def test_an_engine_that_raises_fails_its_jobs_and_is_replaced(executor: LocalExecutor, heard: Heard) -> None:
    executor.submit("a", plan("raise"))
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert "an engine that gives up" in ended.message
    executor.submit("b", plan())
    assert isinstance(heard.end("b"), events.Completed)


def test_interrupt_and_skip(executor: LocalExecutor, heard: Heard) -> None:
    executor.submit("a", plan("endless", pictures=2))
    executor.submit("b", plan("endless"))
    heard.step("a")
    executor.skip("a")
    heard.wait(lambda event: isinstance(event, events.Started) and event.index == 1)
    executor.interrupt("b")
    executor.interrupt("a")
    executor.interrupt("unknown")
    assert isinstance(heard.end("a"), events.Interrupted)
    assert isinstance(heard.end("b"), events.Interrupted)


def test_closing_ends_what_runs(heard: Heard) -> None:
    executor = LocalExecutor(EngineOptions(), engine=TINY)
    executor.start(heard)
    executor.submit("a", plan("endless"))
    heard.step("a")
    executor.close()
    heard.end("a")


def test_an_engine_that_is_not_there(heard: Heard) -> None:
    executor = LocalExecutor(EngineOptions(), engine="tests.fakes.nowhere:Engine")
    executor.start(heard)
    executor.submit("a", plan())
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert ended.code == "setup"
    executor.close()


@pytest.mark.parametrize("kind", [events.Step, events.Completed])
def test_an_event_that_the_callback_fails_on_costs_its_job_alone(kind: type[events.Event]) -> None:
    heard = Fussy("a", kind)
    executor = LocalExecutor(EngineOptions(), engine=TINY)
    executor.start(heard)
    executor.submit("a", plan("endless" if kind is events.Step else "slow"))
    executor.submit("b", plan())
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert "no such picture" in ended.message
    assert isinstance(heard.end("b"), events.Completed)
    executor.close()
