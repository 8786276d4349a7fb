"""Saving, paging, searching and rebuilding the history.

python -m tests.benchmarks.history [--pictures 10000] [--runs 300]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from modules.services.history import History
from modules.services.state import StateDatabase
from tests.benchmarks import harness
from tests.services.samples import FACTS, make_plan, make_png


def row(what: str, work: Callable[[int], object], repeats: int) -> dict[str, object]:
    """Median and 99th percentile of a repeated call."""
    times = []
    for number in range(repeats):
        start = time.perf_counter()
        work(number)
        times.append((time.perf_counter() - start) * 1000)
    slow = statistics.quantiles(times, n=100, method="inclusive")[98]
    return {"": what, "median ms": statistics.median(times), "99 % ms": slow}


def once(what: str, work: Callable[[], object]) -> dict[str, object]:
    """A call that is made once."""
    start = time.perf_counter()
    work()
    return {"": what, "median ms": (time.perf_counter() - start) * 1000, "99 % ms": ""}


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=300)
    parser.add_argument("--pictures", type=int, default=10_000, help="of the history (default %(default)s)")
    options = parser.parse_args()
    facts, pictures, runs = harness.machine(), options.pictures, options.runs
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder) / "outputs"
        state = StateDatabase(Path(folder) / "state.sqlite3")
        history = History(outputs, state)
        png = make_png(7)
        plans = [make_plan(prompt=f"a {colour} apple number {n}") for n in range(50) for colour in ("red", "green")]

        def save(n: int) -> None:
            history.save(png, plans[n % 100], 0, f"job{n}", model_hash=None, facts=FACTS)

        rows = [row("save", save, pictures)]
        history.close()
        for path in (outputs / ".inferenz").glob("pictures*"):
            path.unlink()
        history = History(outputs, state)
        rows.append(once("recover the newest folders", history.recover))
        history.wait()

        def rebuild() -> None:
            history.rebuild()
            history.wait()

        rows.append(once("rebuild from the files", rebuild))
        ids = [record.id for record in history.page(limit=500)]
        rows.append(row("page of 60", lambda n: history.page(ids[n % len(ids)], 60), runs))
        rows.append(row("search of two words", lambda n: history.page(query=f"green {n % 50}"), runs))
        history.close()
        state.close()
    harness.report(f"History of {pictures} pictures", rows, facts=facts, output=options.json)


if __name__ == "__main__":
    main()
