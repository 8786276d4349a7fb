"""Several devices as one: an executor for each, and every job goes to the one that will be through with it first.

A job stays on its device, for its pictures share forward passes with others there. Only what a worker that died had
not begun moves on, to a device that lives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from modules.core import job as events
from modules.core.generation import GenerationPlan
from modules.core.job import DeviceStatus, EngineOptions, EngineStatus, Event, Executor, OnEvent
from modules.executors.worker import GiveAway, WorkerExecutor

SWITCH_STEPS = 20  # what bringing a checkpoint costs, in sampling steps: a second or two, as one picture takes
STARTING_STEPS = 200  # what waiting for a worker that is still starting costs
MOST_MOVES = 2  # workers that may die with a job in their queue before it stays with the next
CLOSE_SECONDS = 15.0  # how long `close` waits for its members, which give up before that

Make = Callable[[EngineOptions, GiveAway], Executor]
State = Literal["starting", "idle", "busy", "gone"]


@dataclass(eq=False)
class _Member:
    """One device's executor. device: as the command line names it."""

    device: str
    executor: Executor = field(init=False)


@dataclass
class _Entry:
    """A job that has not ended. left: pictures still to be made; moves: members that died with it."""

    plan: GenerationPlan
    member: _Member
    left: int
    seq: int = 0
    moves: int = 0
    interrupted: bool = False

    @property
    def steps(self) -> int:
        return self.left * self.plan.steps


class PoolExecutor:
    """An `Executor` over several. devices: as `EngineOptions.device`, one member each.

    make(options, give_away) makes a member; it calls give_away(job, plan) for what it cannot do itself any more.
    """

    def __init__(self, options: EngineOptions, devices: Sequence[str], make: Make) -> None:
        self._lock = threading.Lock()  # guards the entries; never held while calling out
        self._telling = threading.RLock()  # one event at a time, from whichever member
        self._entries: dict[str, _Entry] = {}
        self._closing = False
        self._on_event: OnEvent = lambda event: None
        self._members = tuple(_Member(device) for device in devices)
        for member in self._members:
            member.executor = make(replace(options, device=member.device), self._take_over)

    def start(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        for member in self._members:
            member.executor.start(self._heard)

    def submit(self, job: str, plan: GenerationPlan) -> None:
        statuses = self._statuses()
        with self._lock:
            if job in self._entries:
                raise ValueError(f"Job {job} is in the executor already.")
            entry = _Entry(plan, self._best(plan, statuses), left=len(plan.seeds))
            self._entries[job] = entry
            member = entry.member
        self._hand(job, entry, member)

    def interrupt(self, job: str) -> None:
        with self._lock:
            entry = self._entries.get(job)
            if entry is None:
                return
            entry.interrupted = True
            member = entry.member
        member.executor.interrupt(job)

    def skip(self, job: str) -> None:
        with self._lock:
            entry = self._entries.get(job)
        if entry is not None:
            entry.member.executor.skip(job)

    def configure(self, options: EngineOptions) -> None:
        for member in self._members:
            member.executor.configure(replace(options, device=member.device))

    def unload(self) -> None:
        for member in self._members:
            member.executor.unload()

    def status(self) -> EngineStatus:
        return together([status for _, status in self._statuses()])

    def close(self) -> None:
        with self._lock:
            self._closing = True
        # Side by side: each may have to wait for a worker that does not listen
        closing = [threading.Thread(target=member.executor.close, daemon=True) for member in self._members]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(CLOSE_SECONDS)

    # -- whose job it is -------------------------------------------------------------------------------------------

    def _statuses(self) -> list[tuple[_Member, EngineStatus]]:
        return [(member, member.executor.status()) for member in self._members]

    def _best(self, plan: GenerationPlan, statuses: Sequence[tuple[_Member, EngineStatus]]) -> _Member:
        """The member that would be through with the plan first; of equals the one with less to do. Call with lock."""

        def wait(member: _Member, status: EngineStatus) -> tuple[bool, int, int]:
            mine = [entry for entry in self._entries.values() if entry.member is member]
            steps = sum(entry.steps for entry in mine)
            name = plan.checkpoint.name
            known = name in status.loaded or any(entry.plan.checkpoint.name == name for entry in mine)
            extra = (0 if known else SWITCH_STEPS) + (STARTING_STEPS if status.state == "starting" else 0)
            return status.state == "gone", steps + extra, steps

        return min(statuses, key=lambda each: wait(*each))[0]

    def _hand(self, job: str, entry: _Entry, member: _Member) -> None:
        member.executor.submit(job, entry.plan)
        if entry.interrupted:  # asked for before the member knew the job
            member.executor.interrupt(job)

    def _take_over(self, job: str, plan: GenerationPlan) -> bool:
        """Give a job that its member had not begun to another one that lives; False where there is none."""
        statuses = [each for each in self._statuses() if each[1].state != "gone"]
        with self._lock:
            entry = self._entries.get(job)
            if entry is None or self._closing or entry.interrupted or entry.moves >= MOST_MOVES:
                return False
            others = [each for each in statuses if each[0] is not entry.member]
            if not others:
                return False
            entry.moves += 1
            member = entry.member = self._best(plan, others)
        self._hand(job, entry, member)
        return True

    def _heard(self, event: Event) -> None:
        with self._telling:
            with self._lock:
                entry = self._entries.get(event.job)
                if entry is None:
                    return
                entry.seq += 1
                if isinstance(event, events.ImageReady):
                    entry.left -= 1
                if isinstance(event, events.END_EVENTS):
                    del self._entries[event.job]
                event = replace(event, seq=entry.seq)
            try:
                self._on_event(event)
            except Exception:
                with self._lock:
                    self._entries.setdefault(event.job, entry)  # its member is about to end it with another event
                raise


def worker_pool(options: EngineOptions, devices: Sequence[str], log_path: Path) -> PoolExecutor:
    """A worker process per device. log_path: of the first; the others' stand beside it, named after their device."""

    def make(own: EngineOptions, give_away: GiveAway) -> Executor:
        first = own.device == devices[0]
        name = log_path if first else log_path.with_stem(f"{log_path.stem}-{own.device.replace(':', '')}")
        return WorkerExecutor(own, log_path=name, give_away=give_away)

    return PoolExecutor(options, devices, make)


def together(statuses: Sequence[EngineStatus]) -> EngineStatus:
    """One status of several: the liveliest state, the most frugal memory mode, memory in all.

    Each device's own stands under `devices`.
    """
    lively: tuple[State, ...] = ("busy", "idle", "starting", "gone")
    first = statuses[0]
    return EngineStatus(
        state=min((status.state for status in statuses), key=lively.index),
        device=", ".join(status.device for status in statuses if status.device),
        device_name=_named([status.device_name or status.device for status in statuses]),
        dtype=", ".join(dict.fromkeys(status.dtype for status in statuses if status.dtype)),
        memory_used=sum(status.memory_used for status in statuses),
        memory_total=sum(status.memory_total for status in statuses),
        loaded=tuple(dict.fromkeys(name for status in statuses for name in status.loaded)),
        restarts=sum(status.restarts for status in statuses),
        memory_mode=max((each.memory_mode for each in statuses), key=("", "normal", "medium", "low").index),
        memory_needed=sum(status.memory_needed for status in statuses),
        options=first.options,
        devices=tuple(_alone(status) for status in statuses),
    )


def _alone(status: EngineStatus) -> DeviceStatus:
    """One device as it stands beside others; until its engine knows how torch names it, as the options do."""
    own = {each.name: getattr(status, each.name) for each in fields(DeviceStatus)}
    return DeviceStatus(**{**own, "device": status.device or status.options.device})


def _named(names: Sequence[str]) -> str:
    """Equal devices are counted: "2 x NVIDIA H100"."""
    counted = {name: names.count(name) for name in names if name}
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counted.items())
