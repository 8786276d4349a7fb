from __future__ import annotations

from time import monotonic

from modules.core import job as events
from modules.executors.ledger import Entry
from modules.executors.patience import LOADING, Patience, Pulse
from tests.fakes.plans import plan

PATIENCE = Patience(unanswered=2.0, silent=6.0)
TICKS = round(PATIENCE.unanswered / PATIENCE.tick)


def interrupted() -> Entry:
    """A job that was to end long ago."""
    return Entry("a", plan(), interrupted=True, asked=monotonic() - 1000)


def ticks(pulse: Pulse, entry: Entry, most: int = 100) -> int:
    """After how many ticks it is held to hang, while it goes on to tell of its state."""
    for tick in range(1, most + 1):
        pulse.frame()
        if pulse.hangs([entry]):
            return tick
    return 0


def test_an_interrupt_is_to_be_answered() -> None:
    pulse, entry = Pulse(PATIENCE), interrupted()
    assert ticks(pulse, entry) == TICKS + 1
    pulse.told(events.Interrupted(job="a"))
    entry.interrupted = False
    assert ticks(pulse, entry) == 0


def test_loading_and_long_steps_take_their_time() -> None:
    pulse, entry = Pulse(PATIENCE), interrupted()
    pulse.told(events.ModelLoading(job="a", checkpoint="big"))
    assert ticks(pulse, entry, LOADING * TICKS) == 0
    pulse.told(events.Notice(job="a", text="loaded"))  # after so long a silence, three times that is waited for
    assert ticks(pulse, entry, 3 * LOADING * TICKS) == 0
    assert ticks(pulse, entry) == 1


def test_a_worker_with_jobs_is_not_silent() -> None:
    pulse = Pulse(PATIENCE)
    entry = Entry("a", plan())
    count = round(PATIENCE.silent / PATIENCE.tick)
    for _ in range(2):
        assert not any(pulse.hangs([entry]) for _ in range(count))
        pulse.rest()
    assert not any(pulse.hangs([entry]) for _ in range(count))
    assert "sent nothing for 6 seconds" in pulse.hangs([entry])


def test_starts_after_deaths_are_further_and_further_apart() -> None:
    assert [Patience().wait(deaths) for deaths in (0, 1, 2, 3, 9)] == [0.0, 0.25, 0.5, 1.0, 8.0]
