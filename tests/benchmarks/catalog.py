"""How long the catalog takes for a thousand files.

    python -m tests.benchmarks.catalog [--files 1000] [--runs 5]

Headers are those of a real Stable Diffusion 1 checkpoint in size (1131 tensors), read by the installed families.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from modules.services.catalog import Catalog
from modules.services.state import StateDatabase
from tests.benchmarks import harness
from tests.benchmarks.tables import against

TENSORS = 1131
LIMIT_SECONDS = 1.0


def write_header(path: Path) -> None:
    """A sparse file: the header of a checkpoint, and room for its tensors."""
    entries = {
        f"model.diffusion_model.input_blocks.{n // 100}.{n % 100}.transformer_blocks.0.attn1.to_q.weight": {
            "dtype": "F16", "shape": [320, 320], "data_offsets": [n * 204800, (n + 1) * 204800],
        }
        for n in range(TENSORS)
    }  # fmt: skip
    raw = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + TENSORS * 204800)


def seconds(models: Path, state: StateDatabase) -> tuple[float, float, int]:
    """Of opening the catalog until all is listed, and of a second look; and the number of files."""
    start = time.perf_counter()
    catalog = Catalog((models,), (), (), state, hashing=lambda: False)
    catalog.checkpoints()
    while catalog.unread():
        time.sleep(0.05)
    opened = time.perf_counter() - start
    count = len(catalog.checkpoints())
    start = time.perf_counter()
    catalog.refresh()
    again = time.perf_counter() - start
    catalog.close()
    return opened, again, count


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=5)
    parser.add_argument("--files", type=int, default=1000, help="checkpoints (default %(default)s)")
    options = parser.parse_args()
    facts = harness.machine()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        (models / "Stable-diffusion").mkdir(parents=True)
        for number in range(options.files):
            write_header(models / "Stable-diffusion" / f"model {number:05}.safetensors")
        state = StateDatabase(Path(folder) / "state.sqlite3")
        first, _, count = seconds(models, state)
        runs = [seconds(models, state) for _ in range(options.runs)]
        state.close()
    opened, again = (statistics.median(run[which] for run in runs) for which in (0, 1))
    rows = [
        against("never seen", first, unit="s"),
        against("indexed, a fresh start", opened, unit="s", at_most=LIMIT_SECONDS),
        against("another look", again, unit="s", at_most=LIMIT_SECONDS),
    ]
    harness.report(f"Catalog of {count} files, median of {options.runs}", rows, facts=facts, output=options.json)


if __name__ == "__main__":
    main()
