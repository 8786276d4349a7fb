"""The engine in a process of its own: what happens to it, a crash of a driver included, never happens to the page.

One thread looks after the process: starts it, reads its frames, and when it ends settles its jobs and starts the next
one. Jobs that the dead engine had worked on fail, the others are handed to its successor. A worker that dies again
and again without finishing anything is given up, and every job says so, until a later job tries once more.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Any, Literal

from modules.core import job as events
from modules.core.generation import GenerationPlan, plan_json
from modules.core.job import EngineOptions, EngineStatus, OnEvent, parse_event
from modules.executors.engine import ENGINE, options_json, parse_status
from modules.executors.environment import worker_environment
from modules.executors.frames import FrameError, read_frame, write_frame
from modules.executors.ledger import Entry, Ledger
from modules.executors.log_file import WorkerLog
from modules.executors.patience import Patience, Pulse

MODULE = "modules.executors.worker_main"
ROOT = Path(__file__).resolve().parents[2]  # what the worker imports `modules` from
MOST_TRIES = 2  # workers that may die with a job in their queue before the job is held to be the reason

log = logging.getLogger(__name__)
State = Literal["starting", "idle", "busy", "gone"]
GiveAway = Callable[[str, GenerationPlan], bool]  # job, plan -> whether another executor has taken it


@dataclass
class _Run:
    """One life of the worker."""

    process: subprocess.Popen[bytes]
    began: float
    pulse: Pulse
    outgoing: SimpleQueue[dict[str, Any] | None] = field(default_factory=SimpleQueue)
    fatal: tuple[str, str, str] | None = None
    finished: bool = False  # a job ended in it as it should
    ready: bool = False  # its engine is made
    over: threading.Event = field(default_factory=threading.Event)
    hung: bool = False  # ended because it did not answer


class WorkerExecutor:
    """An `Executor`. python: the interpreter; environment: added to this process's own, for the worker.

    give_away: asked to take each job that a worker which died had not begun; by default the next worker gets it.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        engine: str = ENGINE,
        log_path: Path | None = None,
        python: Sequence[str] = (sys.executable,),
        environment: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        on_status: Callable[[EngineStatus], None] | None = None,
        give_away: GiveAway = lambda job, plan: False,
    ) -> None:
        self._options = options
        self._dotted = engine
        self._log = WorkerLog(log_path)
        self._command = [*python, "-X", "utf8", "-m", MODULE]
        self._environment = dict(environment or {})
        self._patience = patience or Patience()
        self._on_status = on_status
        self._give_away = give_away
        self._ledger = Ledger()
        self._wake = threading.Condition()  # guards what follows; never held while calling out
        self._run: _Run | None = None
        self._status = EngineStatus(state="starting", options=options)
        self._wanted = True  # False once given up, until a job asks again
        self._closing = False
        self._thread: threading.Thread | None = None

    # -- Executor --------------------------------------------------------------------------------------------------

    def start(self, on_event: OnEvent) -> None:
        self._thread = threading.Thread(target=self._look_after, args=(on_event,), name="worker", daemon=True)
        self._thread.start()

    def submit(self, job: str, plan: GenerationPlan) -> None:
        entry = self._ledger.add(job, plan)
        with self._wake:
            self._wanted = True
            run = self._run
            self._wake.notify_all()
        if run is not None:
            self._hand(run, entry)

    def interrupt(self, job: str) -> None:
        entry = self._ledger.get(job)
        if entry is not None:
            entry.asked = entry.asked or monotonic()
            entry.interrupted = True
            if not self._send(kind="interrupt", job=job):
                with self._wake:
                    self._wake.notify_all()

    def skip(self, job: str) -> None:
        self._send(kind="skip", job=job)

    def configure(self, options: EngineOptions) -> None:
        with self._wake:
            self._options = options
        self._send(kind="configure", options=options_json(options))

    def unload(self) -> None:
        self._send(kind="unload")

    def status(self) -> EngineStatus:
        return self._status

    def close(self) -> None:
        with self._wake:
            self._closing = True
            run = self._run
            self._wake.notify_all()
        if run is not None:
            run.outgoing.put({"kind": "close"})
            self._end(run.process)
        if self._thread is not None:
            self._thread.join(self._patience.close)
        self._log.close()

    @property
    def process_id(self) -> int | None:
        """The worker's, for a person who looks for it; None while there is none."""
        run = self._run
        return run.process.pid if run else None

    def log_tail(self) -> tuple[str, ...]:
        """What the worker printed last."""
        return self._log.tail()

    # -- lives of the worker ---------------------------------------------------------------------------------------

    def _look_after(self, on_event: OnEvent) -> None:
        deaths = starts = 0
        while self._rest(on_event, self._patience.wait(deaths)):
            run = self._launch(prewarm=starts == 0, restarts=starts)
            starts += 1
            if run is not None:
                self._serve(run, on_event)
                lived = monotonic() - run.began
                deaths = 1 if run.finished or lived > self._patience.steady else deaths + 1
            else:
                deaths += 1
            if self._closing:
                break
            unusable = run is not None and run.fatal is not None and run.fatal[0] == "setup"
            given_up = unusable or deaths >= self._patience.most_deaths
            self._tell_status("starting", restarts=starts)  # it is no longer what it last told of itself
            self._bury(run, on_event, given_up=given_up)
            if given_up:
                # The next job has one more try: what kept the worker from living may be gone by then.
                deaths = self._patience.most_deaths - 1
                with self._wake:
                    self._wanted = any(not entry.begun for entry in self._ledger.entries())
                    if not self._wanted:
                        self._tell_status("gone", restarts=starts)
        for entry in self._ledger.entries():
            self._tell(
                on_event, _failed(entry.job, "worker_gone", "The server was closed before the job was finished.")
            )
        self._tell_status("gone", restarts=max(starts - 1, 0))

    def _rest(self, on_event: OnEvent, seconds: float) -> bool:
        """Wait before the next life; meanwhile interrupted jobs end. False when there is to be none."""
        until = monotonic() + seconds
        while True:
            for entry in self._ledger.entries():
                if entry.interrupted:
                    self._tell(on_event, events.Interrupted(job=entry.job))
            with self._wake:
                if self._closing:
                    return False
                left = until - monotonic()
                if self._wanted and left <= 0:
                    return True
                if not any(entry.interrupted for entry in self._ledger.entries()):
                    self._wake.wait(left if self._wanted else None)

    def _launch(self, *, prewarm: bool, restarts: int) -> _Run | None:
        self._log.begin()
        self._tell_status("starting", restarts=restarts)
        environment = {**os.environ, **self._environment, "PYTHONUNBUFFERED": "1"}
        environment |= worker_environment(environment)
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (str(ROOT), environment.get("PYTHONPATH", "")) if part
        )
        # A group of its own: Ctrl+C in the terminal reaches the server alone, which then closes the worker.
        group: dict[str, Any] = {"process_group": 0}
        if sys.platform == "win32":
            group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=environment, **group,
            )  # fmt: skip
        except OSError as error:
            self._log.note(f"The worker process cannot be started: {error}")
            return None
        run = _Run(process, monotonic(), Pulse(self._patience))
        run.outgoing.put(
            {"kind": "start", "engine": self._dotted, "options": options_json(self._options), "prewarm": prewarm}
        )
        with self._wake:
            self._run = run
            closing = self._closing
        for entry in self._ledger.entries():
            self._hand(run, entry)
        if closing:
            run.outgoing.put({"kind": "close"})
        return run

    def _serve(self, run: _Run, on_event: OnEvent) -> None:
        """Read what the worker sends until it ends, whatever the reason."""
        process = run.process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        follower = threading.Thread(target=self._log.follow, args=(process.stderr,), name="worker-log", daemon=True)
        writer = threading.Thread(target=_write, args=(run,), name="worker-frames", daemon=True)
        watch = threading.Thread(target=self._watch, args=(run,), name="worker-watch", daemon=True)
        follower.start()
        writer.start()
        watch.start()
        try:
            while (frame := read_frame(process.stdout)) is not None:
                self._take_in(run, *frame, on_event)
        except (OSError, FrameError) as error:
            self._log.note(f"The worker's frames cannot be read: {error}")
        run.over.set()
        with self._wake:
            self._run = None
        run.outgoing.put(None)
        self._end(process)
        writer.join()
        follower.join(1.0)  # a grandchild that inherited it may hold the pipe open
        for stream in (process.stdin, process.stdout):
            try:
                stream.close()
            except OSError:
                continue  # bytes for the dead were still in the buffer
        if not follower.is_alive():
            process.stderr.close()

    def _take_in(self, run: _Run, header: dict[str, Any], payload: bytes, on_event: OnEvent) -> None:
        """Receive a frame; one that cannot be used costs at most the job that it is about, never this thread."""
        try:
            self._receive(run, dict(header), payload, on_event)
        except Exception as error:
            log.exception("A frame of the worker cannot be used.")
            if isinstance(job := header.get("job"), str):
                message = f"The worker told something that cannot be used: {type(error).__name__}: {error}"
                self._tell(on_event, _failed(job, "engine", message, "The log has the details."))
                self._send(kind="interrupt", job=job)

    def _receive(self, run: _Run, header: dict[str, Any], payload: bytes, on_event: OnEvent) -> None:
        kind = header.pop("kind")
        run.pulse.frame()
        if kind == "event":
            event = parse_event(header, payload)
            run.pulse.told(event)
            run.finished = run.finished or isinstance(event, events.Completed | events.Interrupted)
            self._tell(on_event, event)
        elif kind == "fatal":
            run.fatal = (header["code"], header["message"], header["hint"])
        else:  # "ready", "status"
            run.ready = True
            self._take_status(replace(parse_status(header["status"]), restarts=self._status.restarts))

    def _watch(self, run: _Run) -> None:
        """End a worker that hangs; whoever reads its frames then settles its jobs and starts the next one."""
        while not run.over.wait(self._patience.tick):
            entries = [entry for entry in self._ledger.entries() if entry.handed]
            if not entries or not run.ready:
                run.pulse.rest()
            elif why := run.pulse.hangs(entries):
                self._log.note(why)
                run.hung = True
                run.process.kill()
                return

    def _bury(self, run: _Run | None, on_event: OnEvent, *, given_up: bool) -> None:
        """Settle the jobs of a worker that ended by itself."""
        code, message, hint = self._cause(run, given_up=given_up)
        log.error("%s %s", message, hint)
        for entry in self._ledger.entries():
            if not entry.begun and not entry.interrupted and self._given_away(entry):
                self._ledger.release(entry)
            elif entry.interrupted and not given_up:
                self._tell(on_event, events.Interrupted(job=entry.job))  # it has ended, as was asked
            elif entry.begun or given_up or entry.tries >= MOST_TRIES:
                self._tell(on_event, _failed(entry.job, code, message, hint))
            else:
                self._ledger.take_back(entry)

    def _given_away(self, entry: Entry) -> bool:
        try:
            return self._give_away(entry.job, entry.plan)
        except Exception:
            log.exception("Job %s could not be given to another executor.", entry.job)
            return False

    def _cause(self, run: _Run | None, *, given_up: bool) -> tuple[str, str, str]:
        if run is not None and run.fatal is not None:
            return run.fatal
        where = f" Its log: {self._log.path}." if self._log.path else ""
        last = self._log.last_line()
        hint = f'It said last: "{last}".{where}' if last else where.strip()
        if run is None:
            return "worker_gone", "The worker process cannot be started.", hint
        then = (
            "it has ended too often and is not started again before the next job" if given_up else "it is started again"
        )
        how = "had stopped answering and was ended" if run.hung else _exit_words(run.process.returncode)
        return "worker_gone", f"The worker process {how}; {then}.", hint

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(self._patience.close)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    # -- small things ----------------------------------------------------------------------------------------------

    def _hand(self, run: _Run, entry: Entry) -> None:
        if self._ledger.hand(entry):
            run.outgoing.put({"kind": "submit", "job": entry.job, "plan": plan_json(entry.plan)})
            if entry.interrupted:
                run.outgoing.put({"kind": "interrupt", "job": entry.job})

    def _send(self, **header: Any) -> bool:
        run = self._run
        if run is not None:
            run.outgoing.put(header)
        return run is not None

    def _tell(self, on_event: OnEvent, event: events.Event) -> None:
        if not self._ledger.tell(on_event, event):
            self._send(kind="interrupt", job=event.job)

    def _tell_status(self, state: State, *, restarts: int) -> None:
        self._take_status(
            EngineStatus(
                state=state, restarts=restarts, options=self._options,
                device=self._status.device, device_name=self._status.device_name, dtype=self._status.dtype,
            )
        )  # fmt: skip

    def _take_status(self, status: EngineStatus) -> None:
        self._status = status
        if self._on_status is not None:
            try:
                self._on_status(status)
            except Exception:
                log.exception("What the worker told of its state could not be taken in.")


def _write(run: _Run) -> None:
    assert run.process.stdin is not None
    try:
        while (frame := run.outgoing.get()) is not None:
            write_frame(run.process.stdin, frame)
    except OSError:
        pass  # it is dead: whoever reads its frames notices, too
    except Exception:
        log.exception("A frame for the worker cannot be written.")
        run.process.kill()  # it would wait for ever


def _failed(job: str, code: str, message: str, hint: str = "") -> events.Failed:
    return events.Failed(job=job, code=code, message=message, hint=hint)


def _exit_words(status: int | None) -> str:
    if status is None:
        return "stopped answering"
    if status in (-9, 137):
        return "was killed (by someone, or because the system ran out of memory)"
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
