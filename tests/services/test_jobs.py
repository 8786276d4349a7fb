from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from modules.core import job as events
from modules.core.errors import InferenzError, RequestError
from modules.services.glimpses import KEPT_INSPECTIONS
from modules.services.jobs import Jobs
from modules.services.queue import JobStore, MemoryStore, SqliteStore
from modules.services.state import StateDatabase
from modules.services.views import JobView
from tests.fakes.executor import ScriptedExecutor
from tests.fakes.models import FULL, FakePictures, resolver
from tests.fakes.plans import plan


@dataclass
class Bench:
    """Jobs between a scripted executor and pictures in memory."""

    store: JobStore = field(default_factory=MemoryStore)
    pictures: FakePictures = field(default_factory=FakePictures)
    window: int = 2
    executor: ScriptedExecutor = field(default_factory=ScriptedExecutor)

    def __post_init__(self) -> None:
        self.jobs = Jobs(
            executor=self.executor,
            resolver=resolver(),
            pictures=self.pictures,
            store=self.store,
            describe=lambda plan, event: event.dtype,
            model_hash=lambda plan: "c0ffee1234" + "0" * 54,
            window=self.window,
            clock=lambda: 1000.0,
        )
        self.jobs.start()

    def settled(self, job: str) -> JobView:
        """The job once it is over."""
        return until(lambda: view if (view := self.look(job)).over else None)

    def look(self, job: str) -> JobView:
        view = self.jobs.get(job)
        assert view is not None
        return view


T = TypeVar("T")


def until(look: Callable[[], T | None], seconds: float = 20) -> T:
    """What `look` gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < end
        time.sleep(0.002)
    return found


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.jobs.close()


def test_a_job_from_request_to_picture(bench: Bench) -> None:
    queued = bench.jobs.submit({"prompt": "a red apple", "batch_count": 2, "seed": 5}, owner="ada")
    assert (queued.state, queued.ahead, len(queued.images)) == ("queued", 0, 2)
    job = queued.id
    bench.executor.begin(job)
    view = bench.look(job)
    assert (view.state, view.device, view.model_source, view.started) == ("running", "cpu", "file", 1000.0)
    assert view.images[0].sigmas == (14.0, 1.0, 0.0)
    bench.executor.emit(
        events.Encoded(job=job, seconds=0.1, tokens=(("a</w>",),), negative_tokens=((),)),
        events.Step(job=job, index=0, step=2, steps=12, sigma=1.0, seconds=1.0),
        events.Preview(job=job, index=0, step=2, width=8, height=8, payload=b"jpeg"),
        events.Notice(job=job, text="repeated in float32"),
        events.Trace(
            job=job, index=0, payload=b"onetwo",
            frames=(
                events.TraceFrame(step=1, sigma=2.0, seconds=0.5, jpeg_bytes=3),
                events.TraceFrame(step=2, sigma=1.0, seconds=1.0, jpeg_bytes=3),
            ),
        ),
    )  # fmt: skip
    view = bench.look(job)
    assert (view.images[0].step, view.images[0].preview_seq, view.steps_per_second) == (2, 1, 2.0)
    assert view.eta == pytest.approx((10 + 12) / 2.0)
    assert view.notices == ("repeated in float32",)
    assert bench.jobs.preview(job, 0) == b"jpeg"
    assert bench.jobs.noise(job, 0) == b"noise"
    trace = bench.jobs.trace(job, 0)
    assert trace is not None
    assert [frame.jpeg for frame in trace] == [b"one", b"two"]
    bench.executor.picture(job, 0)
    bench.executor.begin(job, 1)
    bench.executor.picture(job, 1)
    bench.executor.emit(events.Completed(job=job, seconds=2.0))
    view = bench.settled(job)
    assert (view.state, view.eta, view.ended) == ("completed", None, 1000.0)
    assert [(image.state, image.picture, image.seed) for image in view.images] == [("done", 1, 5), ("done", 2, 6)]
    assert [(record.index, record.model_hash) for record in bench.pictures.records] == [
        (0, "c0ffee1234"),
        (1, "c0ffee1234"),
    ]
    assert bench.jobs.preview(job, 0) is None
    assert bench.jobs.noise(job, 0) == b"noise"


def test_json_for_browsers(bench: Bench) -> None:
    view = bench.jobs.submit({"seed": 2**60}, owner="ada")
    values = bench.jobs.view_json(view)
    assert values["plan"]["checkpoint"]["path"] == "starter.safetensors"
    assert values["images"][0]["seed"] == values["plan"]["seeds"][0] == str(2**60)
    brief = bench.jobs.view_json(view, brief=True)
    assert "plan" not in brief
    assert "sigmas" not in brief["images"][0]


def test_a_picture_is_done_only_when_it_is_saved(bench: Bench) -> None:
    gate, inside = threading.Event(), threading.Event()
    save = bench.pictures.save

    class Slow(FakePictures):
        def save(self, *arguments: object, **more: object) -> object:  # type: ignore[override]
            inside.set()
            assert gate.wait(20)
            return save(*arguments, **more)  # type: ignore[arg-type]

    slow = Bench(pictures=Slow())
    job = slow.jobs.submit({}).id
    slow.executor.begin(job)
    slow.executor.picture(job)
    slow.executor.emit(events.Completed(job=job, seconds=1.0))
    assert inside.wait(20)
    assert slow.look(job).images[0].picture is None
    assert not slow.look(job).over
    gate.set()
    assert slow.settled(job).images[0].picture == 1
    slow.jobs.close()


def test_bad_requests_are_not_queued(bench: Bench) -> None:
    with pytest.raises(RequestError):
        bench.jobs.submit({"steps": 0})
    with pytest.raises(InferenzError):
        bench.jobs.submit({"checkpoint": "sdxl"})
    assert bench.jobs.active() == ()


def test_owners_take_turns_and_each_has_a_job_in_the_executor(bench: Bench) -> None:
    ada = [bench.jobs.submit_plan(plan(), "ada").id for _ in range(4)]
    assert bench.executor.submitted == ada[:2]
    bob = [bench.jobs.submit_plan(plan(), "bob").id for _ in range(2)]
    assert bench.executor.submitted == [*ada[:2], bob[0]]
    assert [view.ahead for view in bench.jobs.active("ada")] == [0, 0, 3, 5]
    assert [view.ahead for view in bench.jobs.active("bob")] == [0, 4]
    bench.executor.complete(ada[0])
    bench.executor.complete(ada[1])
    assert bench.executor.submitted[3:] == [ada[2]]
    for job in (bob[0], ada[2], bob[1], ada[3]):
        bench.executor.complete(job)
    assert {bench.settled(job).state for job in (*ada, *bob)} == {"completed"}


def test_interrupting_what_waits_and_what_runs(bench: Bench) -> None:
    first, second, third = (bench.jobs.submit_plan(plan(pictures=2)).id for _ in range(3))
    bench.jobs.interrupt(third)
    assert bench.look(third).state == "interrupted"
    bench.executor.begin(first)
    bench.executor.picture(first)
    bench.jobs.interrupt(first)
    assert bench.executor.interrupted == [first]
    bench.executor.emit(events.Interrupted(job=first))
    assert [image.state for image in bench.settled(first).images] == ["done", "skipped"]
    bench.jobs.interrupt(first)
    bench.jobs.interrupt("unknown")
    bench.jobs.interrupt_all()
    assert bench.executor.interrupted == [first, second]


def test_skipping_the_picture_in_progress(bench: Bench) -> None:
    job = bench.jobs.submit_plan(plan(pictures=2)).id
    bench.executor.begin(job)
    bench.jobs.skip(job)
    assert bench.executor.skipped == [job]
    assert bench.look(job).images[0].state == "skipped"
    bench.executor.begin(job, 1)
    bench.executor.picture(job, 1)
    bench.executor.emit(events.Completed(job=job, seconds=1.0))
    view = bench.settled(job)
    assert (view.state, [image.state for image in view.images]) == ("completed", ["skipped", "done"])


def test_a_dead_worker_is_told_and_the_queue_goes_on(bench: Bench) -> None:
    jobs = [bench.jobs.submit_plan(plan()).id for _ in range(3)]
    bench.executor.begin(jobs[0])
    bench.executor.emit(events.Failed(job=jobs[0], code="worker_gone", message="It was killed.", hint="Look here."))
    view = bench.settled(jobs[0])
    assert view.state == "failed"
    assert view.error is not None
    assert (view.error.code, view.error.message, view.error.hint) == ("worker_gone", "It was killed.", "Look here.")
    assert bench.executor.submitted == jobs


@pytest.mark.parametrize("error", [FULL, OSError(errno.ENOSPC, "No space left on device")])
def test_a_full_disk_fails_the_job_and_loses_nothing(bench: Bench, error: Exception) -> None:
    job = bench.jobs.submit_plan(plan(pictures=3)).id
    bench.pictures.full = error
    bench.executor.begin(job)
    bench.executor.picture(job, 0)
    until(lambda: bench.executor.interrupted or None)
    bench.executor.picture(job, 1)
    bench.executor.emit(events.Interrupted(job=job))
    view = bench.settled(job)
    assert (view.state, view.unsaved) == ("failed", 2)
    assert view.error is not None
    assert view.error.code == "storage"
    assert "2 finished pictures wait in memory" in view.error.hint
    with pytest.raises(InferenzError):
        bench.jobs.retry_saves(job)
    bench.pictures.full = None
    assert bench.jobs.retry_saves() == 2
    view = bench.look(job)
    assert (view.state, view.unsaved, view.error) == ("interrupted", 0, None)
    assert [image.state for image in view.images] == ["done", "done", "skipped"]


def test_pictures_that_wait_are_saved_when_the_app_closes() -> None:
    bench = Bench()
    job = bench.jobs.submit_plan(plan()).id
    bench.pictures.full = FULL
    bench.executor.complete(job)
    assert bench.settled(job).unsaved == 1
    bench.pictures.full = None
    bench.jobs.close()
    assert [record.job for record in bench.pictures.records] == [job]


def test_what_a_person_watches_is_the_latest_and_never_delays_the_sender(bench: Bench) -> None:
    job = bench.jobs.submit_plan(plan(steps=100), "ada").id
    wakes: list[int] = []
    with bench.jobs.subscribe() as watched, bench.jobs.subscribe(owner="bob", wake=lambda: wakes.append(1)) as other:
        assert watched.drain()[0].id == job
        bench.executor.begin(job)
        for step in range(1, 101):
            bench.executor.emit(events.Step(job=job, index=0, step=step, steps=100, sigma=1.0, seconds=step * 0.1))
        view = watched.get(timeout=0)
        assert view is not None
        assert view.images[0].step == 100
        assert watched.get(timeout=0) is None
        assert other.get(timeout=0) is None
        assert not wakes
        bench.jobs.submit_plan(plan(), "bob")
        assert wakes
        assert [view.owner for view in other.drain()] == ["bob"]
    assert watched.get() is None
    assert list(watched) == []


def test_a_waiting_reader_is_woken(bench: Bench) -> None:
    subscription = bench.jobs.subscribe()
    seen: list[JobView] = []
    reader = threading.Thread(target=lambda: seen.extend(subscription))
    reader.start()
    job = bench.jobs.submit_plan(plan()).id
    until(lambda: seen or None)
    subscription.close()
    reader.join(20)
    assert not reader.is_alive()
    assert seen[0].id == job


def test_only_the_last_pictures_keep_noise_and_filmstrip(bench: Bench) -> None:
    count = KEPT_INSPECTIONS + 1
    job = bench.jobs.submit_plan(plan(pictures=count)).id
    bench.executor.complete(job)
    assert bench.jobs.noise(job, 0) is None
    assert bench.jobs.noise(job, 1) == b"noise"
    assert bench.jobs.trace(job, 1) is None
    assert bench.jobs.trace("unknown", 0) is None


def test_the_queue_outlives_the_process(state: StateDatabase) -> None:
    first = Bench(SqliteStore(state))
    done = first.jobs.submit_plan(plan("done")).id
    first.executor.complete(done)
    first.settled(done)
    half = first.jobs.submit_plan(plan("half", pictures=4), "ada").id
    waiting = [first.jobs.submit_plan(plan(f"waiting {n}")).id for n in range(3)]
    first.executor.begin(half)
    first.executor.picture(half, 0, b"zero")
    first.executor.picture(half, 2, b"two")
    until(lambda: True if len(first.pictures.records) == 3 else None)
    # The process dies here: nothing is closed.

    second = Bench(SqliteStore(state), first.pictures, window=8)
    assert set(second.executor.submitted) == {half, *waiting}
    assert second.executor.plans[half].seeds == (2, 4)
    assert second.look(half).owner == "ada"
    assert [image.state for image in second.look(half).images] == ["done", "waiting", "done", "waiting"]
    assert second.look(done).state == "completed"
    assert second.look(done).images[0].picture == 1
    for index in (0, 1):
        second.executor.begin(half, index)
        second.executor.picture(half, index, b"again")
    second.executor.emit(events.Completed(job=half, seconds=1.0))
    view = second.settled(half)
    assert [image.state for image in view.images] == ["done"] * 4
    assert sorted(record.index for record in second.pictures.of_job(half)) == [0, 1, 2, 3]
    first.jobs.close()
    second.jobs.close()


def test_an_orderly_end_keeps_the_queue_too(state: StateDatabase) -> None:
    first = Bench(SqliteStore(state), window=1)
    jobs = [first.jobs.submit_plan(plan(str(n))).id for n in range(3)]
    first.executor.begin(jobs[0])
    first.jobs.close()
    with pytest.raises(RequestError, match="shutting down"):
        first.jobs.submit_plan(plan())
    second = Bench(SqliteStore(state))
    assert second.executor.submitted == jobs[:2]
    assert [view.id for view in second.jobs.active()] == jobs
    second.jobs.close()


def test_a_job_of_another_version_fails_once(state: StateDatabase, caplog: pytest.LogCaptureFixture) -> None:
    with state.write() as connection:
        connection.execute(
            "INSERT INTO jobs (id, state, plan, created) VALUES ('old', 'queued', '{\"schema\": 0}', 1.0)"
        )
    for _ in range(2):
        bench = Bench(store=SqliteStore(state))
        assert bench.jobs.recent() == ()
        bench.jobs.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert "queued by another version" in said
    assert [tuple(row) for row in state.rows("SELECT state, ended FROM jobs")] == [("failed", 1000.0)]


def test_a_job_whose_pictures_were_all_saved_is_not_run_again(state: StateDatabase) -> None:
    first = Bench(SqliteStore(state))
    job = first.jobs.submit_plan(plan(pictures=2)).id
    for index in (0, 1):
        first.executor.begin(job, index)
        first.executor.picture(job, index)
    until(lambda: True if len(first.pictures.records) == 2 else None)
    second = Bench(SqliteStore(state), first.pictures)
    assert second.settled(job).state == "completed"
    assert second.executor.submitted == []
    assert SqliteStore(state).unfinished() == ()
    first.jobs.close()
    second.jobs.close()


@pytest.mark.parametrize("index", [-1, 1])
def test_an_event_of_a_picture_that_the_job_does_not_have_fails_it_alone(bench: Bench, index: int) -> None:
    job, other = (bench.jobs.submit({"prompt": word}).id for word in ("one", "two"))
    bench.executor.begin(job)
    bench.executor.emit(events.Step(job=job, index=index, step=1, steps=12, sigma=1.0, seconds=1.0))
    assert job in bench.executor.interrupted
    bench.executor.emit(events.Interrupted(job=job))
    view = bench.settled(job)
    assert view.state == "failed"
    assert view.error is not None
    assert "picture" in view.error.message
    bench.executor.complete(other)
    assert bench.settled(other).state == "completed"
    assert bench.look(job).state == "failed"
