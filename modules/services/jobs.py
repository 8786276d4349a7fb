"""Jobs: from a request to saved pictures, whoever watches and whatever dies in between.

A job is queued durably, handed to the executor in fair order, followed through its events, and its pictures are saved
in a thread of their own; a picture is shown as done only when the history has it. Several jobs are in the executor at
once, because their pictures share forward passes.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from modules.core import job as events
from modules.core.errors import InferenzError, RequestError, StorageError
from modules.core.generation import GenerationPlan
from modules.core.job import EngineStatus, Event, Executor
from modules.services.glimpses import Glimpses
from modules.services.progress import Progress
from modules.services.queue import FairQueue, JobStore, StoredJob
from modules.services.resolve import Resolver
from modules.services.saving import Pictures, Saving
from modules.services.views import ErrorView, JobState, JobView, TraceFrameView, view_json
from modules.services.watch import Subscription

WINDOW = 8  # jobs in the executor at once: enough to fill its batches, few enough that a newcomer is soon in
MOST_OWNERS = 64  # an owner with nothing in the executor may exceed the window up to here
MOST_WAITING = 1000  # jobs of one owner
KEPT_VIEWS = 200  # ended jobs in memory

log = logging.getLogger(__name__)


@dataclass
class _Live:
    """A job that is not forgotten yet. running: it is in the executor. stopping: by whom its end was asked for."""

    progress: Progress
    running: bool = False
    stopping: bool = False
    storage: StorageError | None = None
    unsaved: dict[int, events.ImageReady] = field(default_factory=dict)


class Jobs:
    """The queue and its jobs. Every method may be called from any thread; only `retry_saves` and `close` wait.

    describe, model_hash: see `Saving`. on_busy(True) is called when the executor is given a job, on_busy(False) when it
    has none left. window: jobs in the executor at once. clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        executor: Executor,
        resolver: Resolver,
        pictures: Pictures,
        store: JobStore,
        describe: Callable[[GenerationPlan, events.ImageReady], Any],
        model_hash: Callable[[GenerationPlan], str | None] = lambda plan: plan.checkpoint.sha256,
        on_busy: Callable[[bool], None] = lambda busy: None,
        window: int = WINDOW,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._executor = executor
        self._resolver = resolver
        self._saving = Saving(pictures=pictures, describe=describe, model_hash=model_hash)
        self._store = store
        self._on_busy = on_busy
        self._busy = False
        self._window = window
        self._clock = clock
        self._lock = threading.RLock()
        self._jobs: OrderedDict[str, _Live] = OrderedDict()
        self._queue = FairQueue()
        self._glimpses = Glimpses()
        self._subscriptions: set[Subscription] = set()
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="save-pictures")
        self._closing = False

    # -- beginning and end -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the executor and go on with the jobs that a former process left."""
        for view in self._store.ended(KEPT_VIEWS):
            self._jobs[view.id] = _Live(Progress.of_view(view))
        self._executor.start(self._on_event)
        for stored in self._store.unfinished():
            self._recover(stored)
        self._dispatch()

    def _recover(self, stored: StoredJob) -> None:
        if stored.plan is None:
            self._give_up(stored.id)
            return
        saved = self._saving.saved(stored.id)
        progress = Progress(job=stored.id, owner=stored.owner, plan=stored.plan, created=stored.created, saved=saved)
        with self._lock:
            self._jobs[stored.id] = _Live(progress)
            if progress.todo:
                self._queue.add(stored.id, stored.owner)
                return
        self._settle(stored.id, "completed", None)

    def _give_up(self, job: str) -> None:
        log.error("Job %s was queued by another version of Inferenz and cannot be read: it has failed.", job)
        try:
            self._store.give_up(job, self._clock())
        except (sqlite3.Error, StorageError):
            log.exception("That job %s has failed could not be remembered; the next start says so again.", job)

    def close(self) -> None:
        """End the executor, save what can be saved. Jobs that are not over stay queued for the next start.

        Raises StorageError where pictures are left that could not be saved; everything is ended all the same.
        """
        with self._lock:
            if self._closing:
                return
            self._closing = True
            subscriptions = tuple(self._subscriptions)
        self._executor.close()
        try:
            if any(live.unsaved for live in self._jobs.values()):
                self.retry_saves()
        finally:
            self._saver.shutdown(wait=True)
            for subscription in subscriptions:
                subscription.close()

    # -- what people do --------------------------------------------------------------------------------------------

    def resolve(self, values: Mapping[str, Any]) -> GenerationPlan:
        """What `submit` would run. Raises RequestError or CheckpointError."""
        return self._resolver.resolve(values)

    def submit(self, values: Mapping[str, Any], owner: str = "") -> JobView:
        """Queue a job from untrusted values (a request, or a plan with its "schema").

        Raises RequestError, CheckpointError or StorageError before anything is queued.
        """
        return self.submit_plan(self.resolve(values), owner)

    def submit_plan(self, plan: GenerationPlan, owner: str = "") -> JobView:
        """Queue a plan that `resolve` made."""
        job = secrets.token_hex(8)
        progress = Progress(job=job, owner=owner, plan=plan, created=self._clock())
        with self._lock:
            if self._closing:
                raise RequestError("request", "came while the server was shutting down", accepted="a running server")
            if self._queue.count(owner) >= MOST_WAITING:
                raise RequestError("request", f"{MOST_WAITING} of your jobs are waiting already", accepted="fewer jobs")
        try:
            self._store.add(progress.view())
        except sqlite3.Error as error:
            raise StorageError(f"The job could not be queued: {error}.", hint="Is the disk full?") from error
        with self._lock:
            self._jobs[job] = _Live(progress)
            self._queue.add(job, owner)
            self._count_ahead()
            view = progress.view()
            self._publish(progress)
        self._dispatch()
        return view

    def interrupt(self, job: str) -> None:
        """End a job within one step; its finished pictures stay. Unknown or ended jobs are ignored."""
        with self._lock:
            live = self._jobs.get(job)
            if live is None or live.progress.over:
                return
            live.stopping = True
            waiting = self._queue.remove(job)
            self._count_ahead()
        if waiting:
            self._settle(job, "interrupted", None)
            self._dispatch()
        else:
            self._executor.interrupt(job)

    def interrupt_all(self, owner: str | None = None) -> None:
        """End every job of `owner`, or of everyone."""
        for view in reversed(self.active(owner)):  # the waiting ones first, so that none of them begins
            self.interrupt(view.id)

    def skip(self, job: str) -> None:
        """Leave out the pictures now in progress and go on with the next."""
        with self._lock:
            live = self._jobs.get(job)
            if live is None or live.progress.over or not live.running:
                return
            live.progress.skip_running()
            self._publish(live.progress)
        self._executor.skip(job)

    def retry_saves(self, job: str | None = None) -> int:
        """Try again to save pictures that could not be written, of one job or all. Returns how many were saved.

        Raises StorageError where it still cannot be done; the pictures stay in memory.
        """
        return self._saver.submit(self._save_again, job).result()

    # -- what people see -------------------------------------------------------------------------------------------

    def get(self, job: str) -> JobView | None:
        """The snapshot of a job; None for one that is unknown or forgotten."""
        with self._lock:
            live = self._jobs.get(job)
            return live.progress.view() if live else None

    def active(self, owner: str | None = None) -> tuple[JobView, ...]:
        """Jobs that are not over, of one owner or all, oldest first."""
        with self._lock:
            lives = [live.progress for live in self._jobs.values() if not live.progress.over]
            return tuple(each.view() for each in lives if owner is None or each.owner == owner)

    def recent(self, limit: int = 20, owner: str | None = None) -> tuple[JobView, ...]:
        """The latest jobs, newest first, whether over or not."""
        with self._lock:
            lives = [live.progress for live in reversed(self._jobs.values())]
            chosen = [each for each in lives if owner is None or each.owner == owner][:limit]
            return tuple(each.view() for each in chosen)

    def subscribe(self, owner: str | None = None, wake: Callable[[], object] | None = None) -> Subscription:
        """Watch jobs of one owner or all; the active ones come first, as they stand."""
        subscription = Subscription(look=self.get, forget=self._forget, owner=owner, wake=wake)
        with self._lock:
            self._subscriptions.add(subscription)
            for live in self._jobs.values():
                if not live.progress.over:
                    subscription.notify(live.progress.job, live.progress.owner)
        return subscription

    def preview(self, job: str, index: int) -> bytes | None:
        """The latest preview of a picture as JPEG; None before the first and once the job is over."""
        return self._glimpses.preview(job, index)

    def noise(self, job: str, index: int) -> bytes | None:
        """The starting noise as JPEG, of the last pictures begun."""
        return self._glimpses.noise(job, index)

    def trace(self, job: str, index: int) -> tuple[TraceFrameView, ...] | None:
        """The filmstrip of a finished picture, of the last pictures begun."""
        return self._glimpses.trace(job, index)

    def view_json(self, view: JobView, *, brief: bool = False) -> dict[str, Any]:
        """See `services.views.view_json`."""
        return view_json(view, brief=brief)

    def status(self) -> EngineStatus:
        """What the executor last told of itself."""
        return self._executor.status()

    # -- queue to executor -----------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Hand jobs over while there is room. The executor is called without our lock: it may call back."""
        while (live := self._take()) is not None:
            job = live.progress.job
            self._executor.submit(job, live.progress.remaining_plan())
            if live.stopping:  # asked for between taking and handing over, when the executor did not know it yet
                self._executor.interrupt(job)

    def _take(self) -> _Live | None:
        with self._lock:
            if self._closing:
                return None
            owners = [live.progress.owner for live in self._jobs.values() if live.running]
            if len(owners) < self._window:
                job = self._queue.take()
            elif len(owners) < MOST_OWNERS:
                # Nobody waits behind another's long jobs: each has at least one job in the executor.
                job = self._queue.take(skip=set(owners))
            else:
                job = None
            if job is None:
                return None
            live = self._jobs[job]
            live.running = True
            self._tell_busy()
            live.progress.ahead = 0  # its engine may know better: see Queued
            live.progress.touch()
            self._publish(live.progress)
            self._count_ahead()
            return live

    def _tell_busy(self) -> None:
        busy = any(live.running for live in self._jobs.values())
        if busy != self._busy:
            self._busy = busy
            self._on_busy(busy)

    def _count_ahead(self) -> None:
        running = sum(live.running for live in self._jobs.values())
        for place, job in enumerate(self._queue.order()):
            progress = self._jobs[job].progress
            if progress.ahead != running + place:
                progress.ahead = running + place
                progress.touch()
                self._publish(progress)

    # -- events ----------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        with self._lock:
            live = self._jobs.get(event.job)
            if live is None or live.progress.over:
                return
            stray = _stray(event, len(live.progress.todo))
            event = stray or event
            over = isinstance(event, events.END_EVENTS)
            if over:
                live.running = False
                self._tell_busy()
                self._count_ahead()
            self._glimpses.keep(event, live.progress.todo)
            live.progress.apply(event, self._clock())
            self._publish(live.progress)
            if self._closing and over:
                return  # it goes on at the next start
        if stray is not None:
            log.error("Job %s: %s", stray.job, stray.message)
            self._executor.interrupt(stray.job)
        if isinstance(event, events.ImageReady):
            self._saver.submit(self._guarded, self._save, event.job, event)
        if over:
            self._saver.submit(self._guarded, self._finish, event.job, event)
            self._dispatch()

    # -- saving, in a thread of its own ----------------------------------------------------------------------------

    def _guarded(self, work: Callable[[str, Any], None], job: str, event: Event) -> None:
        try:
            work(job, event)
        except Exception as error:
            log.exception("Job %s could not be settled.", job)
            self._settle(job, "failed", ErrorView(code="error", message=f"An internal error: {error!r}."))

    def _save(self, job: str, event: events.ImageReady) -> None:
        live = self._jobs[job]
        try:
            self._write(live, event)
        except StorageError as error:
            with self._lock:
                first = live.storage is None
                live.storage = live.storage or error
                live.unsaved[event.index] = event
                live.progress.change(unsaved=len(live.unsaved))
                self._publish(live.progress)
            if first and not live.stopping:
                # Further pictures would only fill the memory: stop here, keep what is made.
                self._executor.interrupt(job)

    def _write(self, live: _Live, event: events.ImageReady) -> None:
        progress = live.progress
        index = progress.todo[event.index]
        record = self._saving.save(progress.plan, index, event)
        with self._lock:
            progress.saved(index, record)
            self._publish(progress)

    def _finish(self, job: str, event: Event) -> None:
        live = self._jobs[job]
        if live.progress.over:  # what was asked to stop after a stray event answers once more
            return
        if live.storage is not None:
            self._settle(job, "failed", _storage_view(live))
        elif isinstance(event, events.Failed):
            self._settle(job, "failed", ErrorView(code=event.code, message=event.message, hint=event.hint))
        else:
            self._settle(job, "completed" if isinstance(event, events.Completed) else "interrupted", None)

    def _save_again(self, job: str | None) -> int:
        saved = 0
        for live in list(self._jobs.values()):
            if not live.unsaved or (job is not None and live.progress.job != job):
                continue
            for index, event in list(live.unsaved.items()):
                self._write(live, event)
                saved += 1
                with self._lock:
                    del live.unsaved[index]
                    live.progress.change(unsaved=len(live.unsaved), error=_storage_view(live))
            live.storage = None
            if live.progress.over:
                complete = all(image.state == "done" for image in live.progress.view().images)
                self._settle(live.progress.job, "completed" if complete else "interrupted", None)
        return saved

    def _settle(self, job: str, state: JobState, error: ErrorView | None) -> None:
        """The job is over: remember it, forget what only its running needed, tell everyone."""
        with self._lock:
            live = self._jobs[job]
            live.running = False
            self._tell_busy()
            live.progress.end(state, self._clock(), error)
            view = live.progress.view()
            self._glimpses.over(job, len(view.images))
            self._forget_old()
        try:
            self._store.end(view)
        except (sqlite3.Error, InferenzError):
            log.exception("The end of job %s could not be remembered; it would run again after a restart.", job)
        with self._lock:
            self._publish(live.progress)

    def _forget_old(self) -> None:
        over = [job for job, live in self._jobs.items() if live.progress.over and not live.unsaved]
        for job in over[:-KEPT_VIEWS]:
            del self._jobs[job]

    # -- telling ---------------------------------------------------------------------------------------------------

    def _publish(self, progress: Progress) -> None:
        for subscription in tuple(self._subscriptions):
            subscription.notify(progress.job, progress.owner)

    def _forget(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)


def _stray(event: Event, pictures: int) -> events.Failed | None:
    """How a job ends whose engine tells of a picture that it does not have; None for an event that is in order."""
    index = getattr(event, "index", None)
    if index is None or 0 <= index < pictures:
        return None
    return events.Failed(
        job=event.job,
        code="engine",
        message=f"The engine told of picture {index + 1} of a job of {pictures}.",
        hint="This is a fault of the program: the log has the details.",
    )


def _storage_view(live: _Live) -> ErrorView | None:
    error = live.storage
    if error is None:
        return None
    count = len(live.unsaved)
    waiting = f"{count} finished picture{'' if count == 1 else 's'} wait in memory: make room and save again."
    return ErrorView(code=error.code, message=error.message, hint=f"{error.hint} {waiting}".strip())
