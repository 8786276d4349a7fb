"""The engine in a thread of this process: for the command line and for tests."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import replace
from queue import SimpleQueue

from modules.core import job as events
from modules.core.generation import GenerationPlan
from modules.core.job import EngineOptions, EngineStatus, Event, OnEvent
from modules.executors.engine import ENGINE, Engine, engine_factory, told
from modules.executors.environment import worker_environment
from modules.executors.ledger import Entry, Ledger

CLOSE_SECONDS = 10.0  # how long `close` waits for each of its threads

log = logging.getLogger(__name__)


class LocalExecutor:
    """An `Executor`. The engine is imported when the first job comes; an engine that fails is replaced at the next.

    Events pass through a queue to a thread of their own, so that neither the engine's hot loop nor a caller of
    `submit` ever runs the callback.
    """

    def __init__(self, options: EngineOptions, *, engine: str = ENGINE) -> None:
        self._options = options
        self._dotted = engine
        self._ledger = Ledger()
        self._lock = threading.Lock()  # guards the engine and its thread; never held while calling out
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None
        self._teller: threading.Thread | None = None
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._starts = 0
        self._closed = False

    def start(self, on_event: OnEvent) -> None:
        self._teller = threading.Thread(target=self._tell, args=(on_event,), name="engine-events", daemon=True)
        self._teller.start()

    def submit(self, job: str, plan: GenerationPlan) -> None:
        entry = self._ledger.add(job, plan)
        with self._lock:
            closed, engine = self._closed, self._engine
            if not closed and self._thread is None:
                self._starts += 1
                self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
                self._thread.start()
        if closed:
            self._fail((entry,), "engine", "The engine is closed.")
        elif engine is not None and self._ledger.hand(entry):
            engine.submit(job, plan)

    def interrupt(self, job: str) -> None:
        entry = self._ledger.get(job)
        if entry is not None:
            entry.interrupted = True
            if (engine := self._running()) is not None:
                engine.interrupt(job)

    def skip(self, job: str) -> None:
        if (engine := self._running()) is not None:
            engine.skip(job)

    def configure(self, options: EngineOptions) -> None:
        self._options = options
        if (engine := self._running()) is not None:
            engine.configure(options)

    def unload(self) -> None:
        if (engine := self._running()) is not None:
            engine.unload()

    def status(self) -> EngineStatus:
        if (engine := self._running()) is not None:
            return engine.status()
        waiting = EngineStatus(state="idle", options=self._options, restarts=max(self._starts - 1, 0))
        if self._closed:
            return replace(waiting, state="gone")
        return replace(waiting, state="starting") if self._thread is not None else waiting

    def close(self) -> None:
        with self._lock:
            self._closed = True
            engine, thread = self._engine, self._thread
        if engine is not None:
            engine.close()
        if thread is not None:
            thread.join(CLOSE_SECONDS)
        self._fail(self._ledger.entries(), "engine", "The program was closed before the job was finished.")
        self._events.put(None)
        if self._teller is not None:
            self._teller.join(CLOSE_SECONDS)

    def _running(self) -> Engine | None:
        with self._lock:
            return self._engine

    def _work(self) -> None:
        code, message, hint = "engine", "The engine was closed before the job was finished.", ""
        try:
            if "torch" not in sys.modules:
                # This whole process's environment: OpenMP knows no other way, and reads it while torch is imported
                os.environ.update(worker_environment(os.environ))
            engine = engine_factory(self._dotted)(self._options, self._events.put)
            with self._lock:
                self._engine = engine
                closed = self._closed
            for entry in self._ledger.entries():
                if self._ledger.hand(entry):
                    engine.submit(entry.job, entry.plan)
                if entry.interrupted:
                    engine.interrupt(entry.job)
            if closed:
                engine.close()
            engine.run()
        except Exception as error:
            log.exception("The engine stopped.")
            code, message, hint = told(error)
        with self._lock:
            self._engine = self._thread = None
            left = self._ledger.entries()
        self._fail(left, code, message, hint)

    def _fail(self, entries: tuple[Entry, ...], code: str, message: str, hint: str = "") -> None:
        for entry in entries:
            self._events.put(events.Failed(job=entry.job, code=code, message=message, hint=hint))

    def _tell(self, on_event: OnEvent) -> None:
        while (event := self._events.get()) is not None:
            if not self._ledger.tell(on_event, event) and (engine := self._running()) is not None:
                engine.interrupt(event.job)
