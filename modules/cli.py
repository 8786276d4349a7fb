"""The command line: `python webui.py` serves the page, `python webui.py COMMAND` does one thing and ends.

Exit codes: 0 done, 1 it failed, 2 the flags or the input are wrong, 3 a replay gave another picture, 130 stopped by
Ctrl+C. docs/command-line.md documents every flag.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from modules.app import program_version
from modules.commands import convert, generate, models, rebuild, replay, serve, settings, strip
from modules.commands.console import BAD_INPUT, STOPPED, Console
from modules.commands.unknown_flags import needless, refusal
from modules.core.errors import InferenzError


@dataclass(frozen=True, kw_only=True)
class Command:
    """What stands after `python webui.py`."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Console], int]


SERVE = Command(help="serve the page", add_arguments=serve.add_arguments, run=serve.run)
COMMANDS: Mapping[str, Command] = {
    "generate": Command(help="make pictures", add_arguments=generate.add_arguments, run=generate.run),
    "replay": Command(help="make pictures again and compare", add_arguments=replay.add_arguments, run=replay.run),
    "strip": Command(help="copies that say nothing", add_arguments=strip.add_arguments, run=strip.run),
    "models": Command(help="list the checkpoints", add_arguments=models.add_arguments, run=models.run),
    "settings": Command(help="show and change settings", add_arguments=settings.add_arguments, run=settings.run),
    "rebuild": Command(help="read the gallery anew", add_arguments=rebuild.add_arguments, run=rebuild.run),
    "convert": Command(help="make a safetensors file of a .ckpt", add_arguments=convert.add_arguments, run=convert.run),
}


def main(argv: Sequence[str], console: Console | None = None) -> int:
    """Run what the arguments ask for; returns the exit code and never raises what a person can cause."""
    console = console or Console()
    name = argv[0] if argv and argv[0] in COMMANDS else ""
    if not name and argv and not argv[0].startswith("-"):
        near = get_close_matches(argv[0], COMMANDS, n=1)
        console.say(
            f"Error: there is no command {argv[0]!r}. "
            + (f"Did you mean {near[0]}?" if near else f"There are: {', '.join(COMMANDS)}.")
        )
        return BAD_INPUT
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    reader = parser(name)
    try:
        flags, left_over = reader.parse_known_args(argv[1:] if name else argv)
    except SystemExit as end:  # argparse has said why
        return int(end.code or 0)
    try:
        _refuse_unknown(left_over, reader, name, console)
        return COMMANDS.get(name, SERVE).run(flags, console)
    except InferenzError as error:
        return console.complain(error)
    except KeyboardInterrupt:
        console.say("Stopped.")
        return STOPPED
    except BrokenPipeError:  # `| head`: nobody reads the rest
        return STOPPED


def _refuse_unknown(left_over: list[str], reader: argparse.ArgumentParser, name: str, console: Console) -> None:
    """Raises RequestError for what no flag takes, except for what AUTOMATIC1111's users give its server."""
    surplus, wrong = ([], left_over) if name else needless(left_over)
    if wrong:
        raise refusal(wrong[0], re.findall(r"--[\w-]+", reader.format_usage()), COMMANDS)
    if surplus:
        console.say(f"Left out, as there is no need of it here: {' '.join(surplus)}")


def parser(name: str = "") -> argparse.ArgumentParser:
    """The parser of a command, or of the server."""
    command = COMMANDS.get(name, SERVE)
    listed = "\n".join(f"  {each:<10} {COMMANDS[each].help}" for each in COMMANDS)
    built = argparse.ArgumentParser(
        prog=f"webui.py {name}".strip(),
        description=None if name else "Serve Inferenz's page, or run a command.",
        epilog=None if name else f"commands (each with --help of its own):\n{listed}\n  test       run every check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if not name:
        built.add_argument("--version", action="version", version=f"Inferenz {program_version()}")
    command.add_arguments(built)
    return built
