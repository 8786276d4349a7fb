from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from modules.core import job as events
from modules.core.job import EngineOptions
from modules.executors.log_file import WorkerLog
from modules.executors.patience import Patience
from modules.executors.worker import ROOT, WorkerExecutor
from tests.executors.conftest import Fussy, Heard
from tests.fakes.engines import LARGE
from tests.fakes.plans import plan

TINY = "tests.fakes.engines:TinyEngine"
QUICK = Patience(first_wait=0.01, longest_wait=0.05, most_deaths=3)
Make = Callable[..., WorkerExecutor]


@pytest.fixture
def make(heard: Heard, tmp_path: Path) -> Iterator[Make]:
    made: list[WorkerExecutor] = []

    def start(engine: str = TINY, patience: Patience = QUICK) -> WorkerExecutor:
        executor = WorkerExecutor(
            EngineOptions(), engine=engine, log_path=tmp_path / "logs" / "worker.log", patience=patience
        )
        executor.start(heard)
        made.append(executor)
        return executor

    yield start
    for executor in made:
        executor.close()
        assert executor.process_id is None
        assert executor.status().state == "gone"


def kill(executor: WorkerExecutor) -> None:
    process = executor.process_id
    assert process is not None
    psutil.Process(process).kill()


def until(wanted: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_job_in_the_worker_with_large_pictures_and_stray_prints(make: Make, heard: Heard) -> None:
    executor = make()
    executor.submit("a", plan("print large", pictures=2))
    assert isinstance(heard.end("a"), events.Completed)
    pictures = [event for event in heard.of("a") if isinstance(event, events.ImageReady)]
    assert [len(event.payload) for event in pictures] == [LARGE, LARGE]
    assert [event.seq for event in heard.of("a")] == list(range(1, len(heard.of("a")) + 1))
    assert {"INF1 this is not a frame", "nor is this"} <= set(executor.log_tail())


def test_a_long_prompt_reaches_the_worker(make: Make, heard: Heard) -> None:
    executor = make()
    executor.submit("a", plan("\N{RED APPLE}\U0001f34f " * 33_000))
    assert isinstance(heard.end("a"), events.Completed)


def test_a_killed_worker_fails_the_running_job_and_goes_on_with_the_queue(make: Make, heard: Heard) -> None:
    executor = make()
    executor.submit("a", plan("endless"))
    executor.submit("b", plan(pictures=2))
    heard.step("a")
    kill(executor)
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert ended.code == "worker_gone"
    assert "started again" in ended.message
    assert isinstance(heard.end("b"), events.Completed)
    assert executor.status().restarts == 1


def test_last_words_and_the_log_are_in_the_error(make: Make, heard: Heard, tmp_path: Path) -> None:
    executor = make()
    executor.submit("a", plan("die"))
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert "ended with status 3" in ended.message
    assert "last words" in ended.hint
    assert "worker.log" in ended.hint
    assert "last words" in (tmp_path / "logs" / "worker.log").read_text()


def test_a_worker_leaves_the_keys_of_the_terminal_to_the_server() -> None:
    program = (
        "import signal; signal.SIGBREAK = signal.SIGTERM\n"  # stands for the one that only Windows has
        "from modules.executors.worker_main import leave_console\n"
        "leave_console()\n"
        "print(all(signal.getsignal(each) == signal.SIG_IGN for each in (signal.SIGINT, signal.SIGBREAK)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_log_that_cannot_be_renamed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(*_: object) -> None:
        raise PermissionError(13, "in use")  # Windows, while another program reads the file

    monkeypatch.setattr("logging.handlers.os.rename", held)
    monkeypatch.setattr("modules.executors.log_file.MAX_BYTES", 100)
    log = WorkerLog(tmp_path / "worker.log")
    for number in range(9):
        log.note(f"line {number} of some length that fills the file")
    log.close()
    assert len((tmp_path / "worker.log").read_text(encoding="utf-8").splitlines()) == 9


def test_a_worker_that_always_dies_is_given_up_and_tried_again_by_the_next_job(make: Make, heard: Heard) -> None:
    executor = make("tests.fakes.engines:DyingEngine")
    until(lambda: executor.status().state == "gone")
    executor.submit("a", plan())
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert ended.code == "worker_gone"
    assert "too often" in ended.message
    until(lambda: executor.status().state == "gone")


def test_an_engine_that_cannot_be_made_says_why(make: Make, heard: Heard) -> None:
    executor = make("tests.fakes.engines:BrokenEngine")
    executor.submit("a", plan())
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert "the driver is too old" in ended.message


def test_an_engine_that_is_not_installed_is_not_tried_again_and_again(make: Make, heard: Heard) -> None:
    executor = make("tests.fakes.nowhere:Engine", Patience())
    executor.submit("a", plan())
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert ended.code == "setup"


def test_an_interrupt_while_there_is_no_worker(make: Make, heard: Heard) -> None:
    executor = make(patience=Patience(first_wait=600, longest_wait=600))
    executor.submit("a", plan("endless"))
    heard.step("a")
    kill(executor)
    heard.end("a")
    executor.submit("b", plan())
    executor.interrupt("b")
    assert isinstance(heard.end("b"), events.Interrupted)


def test_options_reach_a_running_worker(make: Make, heard: Heard) -> None:
    executor = make()
    executor.configure(EngineOptions(preview_ms=77))
    executor.submit("a", plan())
    heard.end("a")
    assert [event.dtype for event in heard.of("a") if isinstance(event, events.ImageReady)] == ["77"]


def test_closing_ends_a_worker_that_does_not_listen(make: Make, heard: Heard) -> None:
    executor = make(patience=Patience(close=0.3))
    executor.submit("a", plan("spin"))
    heard.wait(lambda event: isinstance(event, events.ModelLoading))
    process = executor.process_id
    executor.close()
    assert process is not None
    assert not psutil.pid_exists(process)
    assert isinstance(heard.end("a"), events.Failed)


SERVER = f"""
import sys, time
from modules.core.job import EngineOptions, ModelLoading
from modules.executors.worker import WorkerExecutor
from tests.fakes.plans import plan

def heard(event):
    if isinstance(event, ModelLoading):
        print(executor.process_id, flush=True)

executor = WorkerExecutor(EngineOptions(), engine="{TINY}")
executor.start(heard)
executor.submit("a", plan("spin"))
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL; its pipes close the same way")
def test_a_killed_server_takes_its_worker_with_it_even_in_the_middle_of_a_computation() -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, cwd=ROOT)
    assert server.stdout is not None
    worker = int(server.stdout.readline())
    assert psutil.pid_exists(worker)
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    server.stdout.close()
    until(lambda: not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE)


def test_the_server_process_imports_no_torch() -> None:
    code = (
        "import sys, modules.executors.worker, modules.executors.local, modules.executors.worker_main, "
        "modules.services.jobs; sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("kind", [events.Step, events.Completed])
def test_an_event_that_the_server_fails_on_costs_its_job_alone(kind: type[events.Event]) -> None:
    heard = Fussy("a", kind)
    executor = WorkerExecutor(EngineOptions(), engine=TINY, patience=QUICK)
    executor.start(heard)
    executor.submit("a", plan("endless" if kind is events.Step else "slow"))
    executor.submit("b", plan())
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert "no such picture" in ended.message
    assert isinstance(heard.end("b"), events.Completed)
    assert sum(isinstance(event, events.END_EVENTS) for event in heard.of("a")) == 1
    assert executor.status().restarts == 0
    executor.close()


def test_a_frame_that_means_nothing_costs_its_job_alone(make: Make, heard: Heard) -> None:
    executor = make()
    executor.submit("a", plan("odd endless"))
    executor.submit("b", plan())
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert "Odd" in ended.message
    assert isinstance(heard.end("b"), events.Completed)
    assert executor.status().restarts == 0


def test_a_worker_that_cannot_write_a_frame_ends_instead_of_falling_silent(make: Make, heard: Heard) -> None:
    executor = make()
    executor.submit("a", plan("mute endless"))
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert ended.code == "worker_gone"
    assert "not JSON serializable" in ended.hint
    executor.submit("b", plan())
    assert isinstance(heard.end("b"), events.Completed)


def test_a_worker_that_does_not_answer_an_interrupt_is_replaced(make: Make, heard: Heard) -> None:
    executor = make(patience=Patience(first_wait=0.01, unanswered=0.5))
    executor.submit("a", plan("stuck"))
    executor.submit("b", plan())
    heard.wait(lambda event: isinstance(event, events.Step) and event.step == 2)
    process = executor.process_id
    executor.interrupt("a")
    assert isinstance(heard.end("a"), events.Interrupted)
    assert isinstance(heard.end("b"), events.Completed)
    assert executor.process_id != process
    assert executor.status().restarts == 1
    assert process is not None
    assert not psutil.pid_exists(process)


def test_a_worker_that_was_asked_for_nothing_may_take_its_time(make: Make, heard: Heard) -> None:
    executor = make(patience=Patience(first_wait=0.01, unanswered=0.05))
    executor.submit("a", plan("stuck"))
    executor.submit("b", plan())
    heard.wait(lambda event: isinstance(event, events.Step) and event.step == 2)
    time.sleep(0.5)
    assert executor.status().restarts == 0
    executor.interrupt("b")
    assert isinstance(heard.end("b"), events.Interrupted)
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert "stopped answering" in ended.message


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process and leave it")
def test_a_worker_that_sends_nothing_at_all_is_replaced(make: Make, heard: Heard) -> None:
    executor = make(patience=Patience(first_wait=0.01, silent=1.0))
    executor.submit("a", plan("endless"))
    heard.step("a")
    process = executor.process_id
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    ended = heard.end("a")
    assert isinstance(ended, events.Failed)
    assert ended.code == "worker_gone"
    assert "stopped answering" in ended.message
