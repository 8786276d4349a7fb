"""Where commands are tried: a data folder, and a console whose texts can be read."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from modules.app import build_app
from modules.cli import main, parser
from modules.commands import generate, replay
from modules.commands.console import Console
from modules.core.job import EngineOptions
from modules.executors.local import LocalExecutor
from tests.tiny import write_tiny_sd1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass
class Desk:
    """A data folder with one model, and a console whose texts can be read."""

    data: Path
    out: io.StringIO = field(default_factory=io.StringIO)
    err: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        models = self.data / "models" / "Stable-diffusion"
        models.mkdir(parents=True)
        write_tiny_sd1(models / "tiny.safetensors")

    def console(self, source: str = "") -> Console:
        return Console(out=self.out, err=self.err, source=io.StringIO(source))

    def main(self, *arguments: str, source: str = "") -> int:
        return main([*arguments, "--data-dir", str(self.data)], self.console(source))

    def generate(self, *arguments: str, source: str = "") -> int:
        """The real command with an engine that needs no torch."""
        executor = LocalExecutor(EngineOptions(), engine="tests.fakes.engines:TinyEngine")
        flags = parser("generate").parse_args([*arguments, "--data-dir", str(self.data)])
        return generate.run(flags, self.console(source), build=partial(build_app, executor=executor))

    def replay(self, *arguments: str) -> int:
        executor = LocalExecutor(EngineOptions(), engine="tests.fakes.engines:TinyEngine")
        flags = parser("replay").parse_args([*arguments, "--data-dir", str(self.data)])
        return replay.run(flags, self.console(), build=partial(build_app, executor=executor))

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()
