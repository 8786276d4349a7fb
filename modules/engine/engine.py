"""The engine: plans in, events out. One thread does all the torch work and answers many pictures at once.

submit, interrupt ... -> commands -> run(): tick, tick, tick -> events
                                           |- seats: jobs begin batch_size pictures each
                                           |- batcher: whose operations are answered now
                                           `- answer: Encode, Predict or Decode, one pass at a time
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Lock

import torch

from modules import guidance as guidance_folder
from modules import samplers as samplers_folder
from modules import schedules as schedules_folder
from modules.core.errors import EngineError, InferenzError, WorkerGone
from modules.core.generation import GenerationPlan
from modules.core.guidance import GuidanceKind, compose
from modules.core.job import (
    Completed,
    EngineOptions,
    EngineStatus,
    Interrupted,
    ModelLoading,
    ModelReady,
    Notice,
    OnEvent,
    Queued,
)  # fmt: skip
from modules.core.sampling import Sampler, Schedule
from modules.engine.batcher import Batcher, Trajectory, Turn, group_of
from modules.engine.costs import PassCosts
from modules.engine.desk import Desk, tasks_of
from modules.engine.forward import Forward, shortage
from modules.engine.memory import empty_cache, is_lost
from modules.engine.outbox import Outbox
from modules.engine.picture import Finished, Stopped
from modules.engine.placement import use
from modules.engine.resident import Arrival, Manager, Resident
from modules.engine.seats import SEATS, Seats
from modules.engine.sidework import Latest, Line
from modules.engine.survey import Survey
from modules.engine.task import Task, chosen_sampler, failed
from modules.engine.watch import PictureWatch, Studio

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0  # how long `close` waits for each of the threads beside: they may be encoding a large picture


class Engine:
    """Runs plans. Every method but `run` and `tick` may be called from any thread and returns at once.

    on_event: called for each event, one at a time, from several threads. manager: injected in tests. clock: seconds.
    """

    def __init__(
        self,
        options: EngineOptions,
        on_event: OnEvent,
        *,
        manager: Manager | None = None,
        clock: Callable[[], float] = time.perf_counter,
        samplers: Mapping[str, Sampler] | None = None,
        schedules: Mapping[str, Schedule] | None = None,
        guidance: Mapping[str, GuidanceKind] | None = None,
    ) -> None:
        if manager is None:
            from modules.engine.manager import ModelManager

            manager = ModelManager(options)
        self._options = options
        self._clock = clock
        self._samplers = samplers_folder.registry() if samplers is None else samplers
        self._schedules = schedules_folder.registry() if schedules is None else schedules
        self._guidance = guidance_folder.registry() if guidance is None else guidance
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closing = False
        self._running = False
        self._lost: Exception | None = None  # what the device failed on for good
        self._stopped = Flag()
        self._ending = Lock()  # held once, by whoever ends the engine: its thread, or who closes one that never ran
        self._outbox = Outbox(on_event)
        self._line = Line("inferenz-pictures")
        self._latest = Latest("inferenz-previews")
        self._resident = Resident(manager, clock)
        self._costs = PassCosts()
        self._batcher = Batcher(clock, options.max_batch_rows, self._costs)
        self._forward = Forward(options.max_batch_rows)
        self._desk = Desk(
            resident=self._resident, forward=self._forward, outbox=self._outbox, line=self._line,
            costs=self._costs, clock=clock, listen=self._between,
        )  # fmt: skip
        self._survey = Survey(options, clock)
        self._seats = Seats()

    # -- from any thread

    def submit(self, job: str, plan: GenerationPlan) -> None:
        """Take a job; it ends in exactly one of END_EVENTS. Raises ValueError where it is in progress already."""
        ahead = max(0, len(self._outbox.jobs()) - SEATS + 1)
        if not self._outbox.open(job):
            raise ValueError(f"job {job} is in progress already")
        self._outbox.send(Queued(job=job, ahead=ahead))
        if self._closing:
            self._outbox.send(failed(job, WorkerGone("The engine is closed.")))
            return
        self._commands.put(partial(self._begin, job, plan, self._clock()))

    def interrupt(self, job: str) -> None:
        """End a job within one step; what is finished stays. Unknown and ended jobs are ignored."""
        self._commands.put(partial(self._interrupt, job))

    def skip(self, job: str) -> None:
        """Leave out the pictures now in progress and go on with the job's next."""
        self._commands.put(partial(self._skip, job))

    def configure(self, options: EngineOptions) -> None:
        """Change options; what cannot change while running applies to the next load."""
        self._commands.put(partial(self._configure, options))

    def unload(self) -> None:
        """Give back the memory of checkpoints that no job is using."""
        self._commands.put(self._unload)

    def status(self) -> EngineStatus:
        """The last known status."""
        return self._survey.status

    def close(self) -> None:
        """End the loop after the pass it is in; jobs in progress end in Failed. Waits at most a few seconds."""
        self._closing = True
        self._commands.put(lambda: None)
        if not self._running:
            self._shut()
        elif not self._stopped.wait(5.0):
            self._fail_all("The engine was closed while the job was in it.")

    # -- the engine's thread

    def run(self) -> None:
        """Work until `close`. Blocks: give it a thread of its own."""
        self._running = True
        try:
            self._set_up_thread()
            while not self._closing:
                # Looked at once more: the tick may have taken the command with which `close` wakes this thread
                if not self.tick() and not self._closing:
                    self._commands.get()()
        except BaseException as error:
            self._fail_all(f"The engine ended on {type(error).__name__}: {error}")
            raise
        finally:
            self._shut()
            self._stopped.set()

    @torch.inference_mode()
    def tick(self) -> bool:
        """Take commands and answer one group of operations. False where nothing is left to do."""
        self._listen()
        while (task := self._seats.take()) is not None:
            self._start_batch(task)
        turn = self._batcher.next()
        if turn is None:
            self._rest()
            return False
        if turn.entering and not self._enter(turn):
            return True
        self._tell_ready(turn, Arrival(source="resident", seconds=0.0))
        self._survey.look(self._resident, busy=True)  # before: a model that is not stepped answers after minutes
        self._desk.answer(turn)
        if self._lost is not None:
            raise EngineError(f"The device stopped working: {self._lost}") from self._lost
        self._survey.look(self._resident, busy=True)
        return True

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until the threads beside this one have sent all they have; False after `timeout` seconds."""
        return self._latest.settle(timeout) and self._line.settle(timeout)

    def _rest(self) -> None:
        if self._batcher.current is not None:
            self._desk.stopwatch.settle()
            self._resident.leave()
            self._batcher.left()
            self._forward.forget()
        self._survey.look(self._resident, busy=False)

    def _set_up_thread(self) -> None:
        use(self._resident.manager.placement.device)
        if self._options.threads:
            torch.set_num_threads(self._options.threads)

    # -- commands

    def _listen(self) -> bool:
        """Take the commands that came. False where the engine is to end."""
        while True:
            try:
                self._commands.get_nowait()()
            except Empty:
                return not self._closing

    def _between(self) -> bool:
        """What is done in the middle of an operation that takes long. False where the engine is to end."""
        self._survey.look(self._resident, busy=True)
        return self._listen()

    def _begin(self, job: str, plan: GenerationPlan, submitted: float) -> None:
        try:
            sampler, schedule = chosen_sampler(plan, self._samplers, self._schedules)
            guide = compose(plan.guidance, self._guidance)
            model = self._resident.manager.key(plan.model)
        except Exception as error:  # noqa: BLE001  it goes to the job that it concerns
            _log(error)
            self._outbox.send(failed(job, error))
            return
        task = Task(
            job=job, plan=plan, model=model, sampler=sampler, schedule=schedule, submitted=submitted, guide=guide
        )
        self._seats.add(task)

    def _interrupt(self, job: str) -> None:
        task = self._seats.get(job)
        if task is None:
            return
        task.interrupted = True
        if not task.live:
            self._batch_over(task)
        self._stop(task, keep=self._options.keep_partial)

    def _skip(self, job: str) -> None:
        task = self._seats.get(job)
        if task is not None:
            self._stop(task, keep=False)

    def _stop(self, task: Task, *, keep: bool) -> None:
        for trajectory in tuple(task.live):
            # What waits for another model would have to be waited for: only the model in place may still decode
            here = trajectory.operation is not None and group_of(trajectory.operation) == self._batcher.current
            trajectory.throw(Stopped(keep=keep and here), self._clock())

    def _configure(self, options: EngineOptions) -> None:
        try:
            self._resident.manager.configure(options)
        except InferenzError as error:
            logger.warning("The engine keeps its options: %s", error)
            return
        before, self._options = self._options, options
        self._batcher.max_rows = self._forward.max_rows = options.max_batch_rows
        self._forward.forget()
        self._costs.forget()
        if _looks_of(before) != _looks_of(options):
            self._resident.change_looks(options)
        if self._running:
            self._set_up_thread()
        self._survey.configure(options)

    def _unload(self) -> None:
        if not len(self._batcher):
            self._rest()
        self._resident.manager.unload()
        self._resident.forget_looks()
        self._desk.texts.keep(())

    # -- jobs

    def _start_batch(self, task: Task) -> None:
        now = self._clock()
        fresh = task.next_index == 0
        for index in task.batch():
            watch = PictureWatch(
                self._studio(task), task.job, index=index, seed=task.plan.seeds[index],
                preview_ms=self._options.preview_ms, preview_size=self._options.preview_size,
                trace=self._options.trace,
            )  # fmt: skip
            trajectory = Trajectory(
                task.picture(index, watch), task, self._ended,
                arrived=task.submitted, fresh=fresh, rounds=task.rounds,
            )  # fmt: skip
            task.live[trajectory] = watch
            trajectory.start(now)
            self._batcher.add(trajectory)

    def _studio(self, task: Task) -> Studio:
        return Studio(
            outbox=self._outbox, line=self._line, latest=self._latest, clock=self._clock,
            canvas=self._resident.canvas, looks=partial(self._resident.looks, task.model),
            broken=self._broken,
        )  # fmt: skip

    def _ended(self, trajectory: Trajectory, result: Finished | None, error: Exception | None) -> None:
        task: Task = trajectory.owner
        watch = task.live.pop(trajectory)
        if result is not None:
            placement = self._resident.backbone.placement
            watch.finished(result, device=str(placement.unet_device), dtype=str(placement.dtype).removeprefix("torch."))
        else:
            watch.ended()
            if error is not None and not isinstance(error, Stopped):
                self._lost = error if is_lost(error) else self._lost
                error = shortage(error, "the sampler's own steps")  # the model's have been told apart by now
                _log(error)
                task.failure = task.failure or error
        if not task.live:
            self._batch_over(task)

    def _batch_over(self, task: Task) -> None:
        if task.interrupted:
            self._line.put(partial(self._outbox.send, Interrupted(job=task.job)))
        elif task.failure is not None:
            self._line.put(partial(self._outbox.send, failed(task.job, task.failure)))
        elif task.exhausted:
            self._desk.stopwatch.settle()
            self._line.put(partial(self._complete, task.job, task.submitted, task.model_seconds))
        else:
            if not self._seats.goes_round(task):
                self._start_batch(task)
            return
        task.failure = None  # its traceback holds the picture's tensors
        self._seats.leave(task)

    def _complete(self, job: str, submitted: float, model_seconds: float) -> None:
        self._outbox.send(Completed(job=job, seconds=self._clock() - submitted, model_seconds=model_seconds))

    def _broken(self, job: str, error: Exception) -> None:
        self._outbox.send(failed(job, error))
        self.interrupt(job)

    # -- answers

    def _enter(self, turn: Turn) -> bool:
        members = self._batcher.members(turn.group)
        fresh = tasks_of(tuple(t for t in members if not t.owner.ready))
        for task in fresh:
            self._outbox.send(ModelLoading(job=task.job, checkpoint=task.plan.checkpoint.name))
        began = self._clock()
        self._batcher.left()
        self._forward.forget()
        task = turn.trajectories[0].owner
        failure: Exception | None
        try:
            arrival = self._resident.enter(turn.group.model, task, self._options)
            self._desk.texts.keep({turn.group.model, *self._resident.manager.keys()})
        except Exception as error:  # noqa: BLE001  it goes to the jobs that it concerns
            failure = shortage(error, f"the checkpoint {task.plan.checkpoint.name}")
            _log(failure)
        else:
            failure = None
        if failure is not None:
            self._resident.leave()
            empty_cache(self._resident.manager.placement.device)  # only here has the attempt let go of its tensors
            for trajectory in members:
                trajectory.throw(failure, self._clock())
            return False
        self._batcher.entered(turn.group, self._clock() - began)
        if arrival.notice:
            for task in fresh:
                self._outbox.send(Notice(job=task.job, text=arrival.notice))
        self._tell_ready(turn, arrival)
        return True

    def _tell_ready(self, turn: Turn, arrival: Arrival) -> None:
        for task in tasks_of(turn.trajectories):
            if task.ready:
                continue
            task.ready = True
            placement = self._resident.backbone.placement
            self._outbox.send(
                ModelReady(
                    job=task.job, checkpoint=task.plan.checkpoint.name, seconds=arrival.seconds,
                    source=arrival.source, device=str(placement.unet_device),
                    dtype=str(placement.dtype).removeprefix("torch."),
                )
            )  # fmt: skip

    # -- the end

    def _shut(self) -> None:
        if not self._ending.acquire(blocking=False):
            return
        for task in self._seats:
            for watch in task.live.values():
                watch.ended()
        self._line.settle(CLOSE_SECONDS)
        self._fail_all("The engine was closed while the job was in it.")
        self._latest.close(CLOSE_SECONDS)
        self._line.close(CLOSE_SECONDS)
        self._survey.gone()
        self._seats.clear()

    def _fail_all(self, message: str) -> None:
        self._closing = True
        for job in self._outbox.jobs():
            self._outbox.send(failed(job, WorkerGone(message, hint="Start the job again.")))


def _looks_of(options: EngineOptions) -> tuple[object, ...]:
    """What decides how previews are made, and whether."""
    return options.taesd, options.preview_size, bool(options.preview_ms or options.trace)


def _log(error: Exception) -> None:
    """Errors made for people go to them; any other is a fault of ours or of a library, and its trace is wanted."""
    if not isinstance(error, InferenzError):
        logger.error("A job failed.", exc_info=error)
