"""Every benchmark, one after another in a process of its own; their tables go into docs/benchmarks.md.

    python -m tests.benchmarks.all [--quick] [--only NAME ...]

A table stands between `<!-- NAME -->` and `<!-- /NAME -->` there; the text around it is kept. --quick: small settings
that end in minutes and say whether everything runs; their figures are printed and not written.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.tables import markdown

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Benchmark:
    """A module of this folder. quick: its arguments for a first look."""

    name: str
    quick: tuple[str, ...] = ("--runs", "1")

    @property
    def module(self) -> str:
        return f"tests.benchmarks.{self.name}"


BENCHMARKS = (
    Benchmark("start", ("--runs", "1")),
    Benchmark("overhead", ("--runs", "1", "--size", "64", "--steps", "1")),
    Benchmark("cpu_engine", ("--runs", "1", "--size", "64", "--steps", "1")),
    Benchmark("threads", ("--runs", "1", "--sizes", "128")),
    Benchmark("swap", ("--runs", "2", "--swaps", "4")),
    Benchmark("families", ("--families", "sd1", "--size", "64")),
    Benchmark("four_people", ("--runs", "1", "--steps", "4")),
    Benchmark("preview", ("--runs", "1", "--steps", "4")),
    Benchmark("gpu", ("--runs", "1", "--steps", "4")),
    Benchmark("flux", ("--double", "1", "--single", "1")),
    Benchmark("gpu_memory", ("--runs", "1", "--steps", "2", "--caps", "4")),
    Benchmark("catalog", ("--runs", "1", "--files", "100")),
    Benchmark("history", ("--runs", "20", "--pictures", "200")),
    Benchmark("png", ("--runs", "2", "--size", "512")),
)


def measure(benchmark: Benchmark, *, quick: bool) -> str | None:
    """The benchmark's table; None where it failed, which its own output explains."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [sys.executable, "-m", benchmark.module, "--json", str(found), *(benchmark.quick if quick else ())]
        print(f"\n$ python -m {' '.join(command[2:3] + command[5:])}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode or not found.exists():
            return None
        values = json.loads(found.read_text(encoding="utf-8"))
    return markdown(values["title"], values["rows"], values["facts"])


def replaced(document: str, name: str, table: str) -> str:
    """The document with the table between a benchmark's marks. Raises LookupError where they are missing."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(document):
        raise LookupError(f"the document has no {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n{table}\n{end}", document, count=1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small settings; nothing is written")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[each.name for each in BENCHMARKS], default=None)
    options = parser.parse_args(arguments)
    chosen = [each for each in BENCHMARKS if find_spec(each.module) and each.name in (options.only or [each.name])]
    failed = []
    for benchmark in chosen:
        table = measure(benchmark, quick=options.quick)
        if table is None:
            failed.append(benchmark.name)
        elif not options.quick:
            # Written at once: what was measured stays when a later one fails or is stopped
            text = DOCUMENT.read_text(encoding="utf-8")
            DOCUMENT.write_text(replaced(text, benchmark.name, table), encoding="utf-8")
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
