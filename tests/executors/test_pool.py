"""Several devices as one, with real worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from modules.core import job as events
from modules.core.generation import FileRef, GenerationPlan
from modules.core.job import EngineOptions, EngineStatus
from modules.executors.patience import Patience
from modules.executors.pool import PoolExecutor, together, worker_pool
from modules.executors.worker import GiveAway, WorkerExecutor
from tests.executors.conftest import Heard
from tests.fakes.plans import plan

TINY = "tests.fakes.engines:TinyEngine"
PATIENT = Patience(first_wait=600, longest_wait=600)  # a dead worker stays dead for as long as a test looks


class Pool:
    """A pool of fake engines in real processes, and the executors behind it by device."""

    def __init__(self, heard: Heard, *devices: str, engines: dict[str, str] | None = None) -> None:
        self.members: dict[str, WorkerExecutor] = {}
        self._engines = engines or {}
        self.executor = PoolExecutor(EngineOptions(), devices, self._make)
        self.executor.start(heard)

    def _make(self, options: EngineOptions, give_away: GiveAway) -> WorkerExecutor:
        engine = self._engines.get(options.device, TINY)
        member = WorkerExecutor(options, engine=engine, patience=PATIENT, give_away=give_away)
        self.members[options.device] = member
        return member

    def ready(self) -> Pool:
        until(lambda: all(member.status().state == "idle" for member in self.members.values()))
        return self

    def kill(self, device: str) -> None:
        process = self.members[device].process_id
        assert process is not None
        psutil.Process(process).kill()


Make = Callable[..., Pool]


@pytest.fixture
def make(heard: Heard) -> Iterator[Make]:
    made: list[Pool] = []

    def start(*devices: str, **more: dict[str, str]) -> Pool:
        made.append(Pool(heard, *devices, **more))
        return made[-1]

    yield start
    for pool in made:
        pool.executor.close()
        assert pool.executor.status().state == "gone"
        assert all(member.process_id is None for member in pool.members.values())


def until(wanted: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.01)


def of(model: str, prompt: str = "a red apple", **more: int) -> GenerationPlan:
    return plan(prompt, checkpoint=FileRef(name=model, path=f"/models/{model}.safetensors"), **more)


def device_of(heard: Heard, job: str) -> str:
    ready = heard.wait(lambda event: event.job == job and isinstance(event, events.ModelReady))
    assert isinstance(ready, events.ModelReady)
    return ready.device


def test_jobs_go_to_the_device_with_the_least_to_do(make: Make, heard: Heard) -> None:
    pool = make("cuda:0", "cuda:1").ready()
    pool.executor.submit("a", of("one", "endless", steps=100))
    pool.executor.submit("b", of("one", "endless", steps=100))
    assert {device_of(heard, "a"), device_of(heard, "b")} == {"cuda:0", "cuda:1"}
    for job in "ab":
        pool.executor.interrupt(job)
        assert isinstance(heard.end(job), events.Interrupted)


def test_a_device_that_has_the_checkpoint_is_ahead_by_a_picture(make: Make, heard: Heard) -> None:
    pool = make("cuda:0", "cuda:1").ready()
    for job, model in (("a", "one"), ("b", "two"), ("c", "two"), ("d", "one")):
        pool.executor.submit(job, of(model, "slow", steps=10))
    assert isinstance(heard.end("d"), events.Completed)
    assert [device_of(heard, job) for job in "abcd"] == ["cuda:0", "cuda:1", "cuda:1", "cuda:0"]
    heard.end("c")
    until(lambda: [member.status().loaded for member in pool.members.values()] == [("one",), ("two",)])
    pool.executor.submit("e", of("two"))
    assert device_of(heard, "e") == "cuda:1"
    assert [event.seq for event in heard.of("a")] == list(range(1, len(heard.of("a")) + 1))


def test_a_dead_workers_queue_goes_on_with_the_others(make: Make, heard: Heard) -> None:
    pool = make("cuda:0", "cuda:1").ready()
    pool.executor.submit("a", of("one", "endless", steps=150))
    pool.executor.submit("b", of("two", "endless", steps=150))
    assert (device_of(heard, "a"), device_of(heard, "b")) == ("cuda:0", "cuda:1")
    pool.executor.submit("waits", of("one", pictures=2))
    pool.executor.submit("unwanted", of("one"))
    heard.wait(lambda event: event.job == "unwanted")
    pool.executor.interrupt("unwanted")
    pool.kill("cuda:0")
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert ended.code == "worker_gone"
    assert isinstance(heard.end("unwanted"), events.Interrupted)
    pool.executor.interrupt("b")
    assert isinstance(heard.end("waits"), events.Completed)
    assert device_of(heard, "waits") == "cuda:1"
    assert [event.seq for event in heard.of("waits")] == list(range(1, len(heard.of("waits")) + 1))
    assert pool.executor.status().state == "idle"
    pool.executor.submit("next", of("one"))  # though the dead one had its checkpoint
    assert isinstance(heard.end("next"), events.Completed)


def test_a_device_that_cannot_be_used_leaves_its_jobs_to_the_others(make: Make, heard: Heard) -> None:
    pool = make("cuda:7", "cuda:0", engines={"cuda:7": "tests.fakes.nowhere:Engine"})
    for job in "abcd":
        pool.executor.submit(job, of("one"))
    for job in "abcd":
        assert isinstance(heard.end(job), events.Completed)
        assert device_of(heard, job) == "cuda:0"
    until(lambda: pool.members["cuda:7"].status().state == "gone")
    assert [each.state for each in pool.executor.status().devices] == ["gone", "idle"]


def test_where_no_device_is_left_the_job_fails(make: Make, heard: Heard) -> None:
    pool = make("a", "b", engines=dict.fromkeys("ab", "tests.fakes.nowhere:Engine"))
    pool.executor.submit("a", of("one"))
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert ended.code == "setup"


def test_options_skips_and_double_submissions(make: Make, heard: Heard) -> None:
    pool = make("cuda:0", "cuda:1").ready()
    pool.executor.configure(EngineOptions(preview_ms=77))
    pool.executor.submit("a", of("one", "endless", pictures=2))
    heard.step("a")
    with pytest.raises(ValueError, match="already"):
        pool.executor.submit("a", of("one"))
    pool.executor.skip("a")
    heard.wait(lambda event: isinstance(event, events.Started) and event.index == 1)
    pool.executor.unload()
    pool.executor.interrupt("a")
    assert isinstance(heard.end("a"), events.Interrupted)
    pool.executor.submit("b", of("one"))
    heard.end("b")
    assert [event.dtype for event in heard.of("b") if isinstance(event, events.ImageReady)] == ["77"]
    pool.executor.interrupt("b")  # ended: ignored
    pool.executor.skip("b")
    status = pool.members["cuda:1"].status()
    assert status.options.device == "cuda:1"


def test_closing_fails_what_is_left(make: Make, heard: Heard) -> None:
    pool = make("cuda:0", "cuda:1").ready()
    for job in "abc":
        pool.executor.submit(job, of("one", "endless"))
    heard.step("a")
    pool.executor.close()
    assert all(isinstance(heard.end(job), events.Failed | events.Interrupted) for job in "abc")


def test_one_status_of_several() -> None:
    h100 = EngineStatus(
        state="idle", device="cuda:0", device_name="H100", dtype="float16", memory_used=1, memory_total=80,
        loaded=("one",), restarts=1,
    )  # fmt: skip
    other = EngineStatus(
        state="busy", device="cuda:1", device_name="H100", dtype="float16", memory_used=2, memory_total=80,
        loaded=("two", "one"), restarts=1,
    )  # fmt: skip
    status = together([h100, other])
    assert (status.state, status.device, status.device_name) == ("busy", "cuda:0, cuda:1", "2 × H100")
    assert (status.memory_used, status.memory_total, status.restarts) == (3, 160, 2)
    assert status.loaded == ("one", "two")
    assert [each.device for each in status.devices] == ["cuda:0", "cuda:1"]
    assert together([h100, EngineStatus(state="gone")]).device_name == "H100"
    assert together([EngineStatus(state="gone")]).state == "gone"


def test_each_worker_has_a_log_of_its_own(tmp_path: Path) -> None:
    pool = worker_pool(EngineOptions(), ("cuda:0", "cuda:1"), tmp_path / "logs" / "worker.log")
    paths = [getattr(member.executor, "_log").path.name for member in pool._members]  # noqa: B009
    assert paths == ["worker.log", "worker-cuda1.log"]
