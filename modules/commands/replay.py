"""`python webui.py replay PICTURE...`: pictures made again from what they say of themselves, and compared."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.app import App, build_app
from modules.commands.console import BAD_INPUT, DIFFERENT, FAILED, FINE, STOPPED, Console, error_json
from modules.commands.flags import add_device_flags, add_folder_flags, app_config
from modules.commands.following import follow
from modules.core.errors import CheckpointError, EngineError, InferenzError, RequestError
from modules.core.generation import GenerationPlan
from modules.imaging.compare import Difference
from modules.services.replay import Outcome, outcome_json

WORDS = {"identical": "identical", "rounding": "equal to rounding", "different": "different"}


@dataclass(frozen=True, kw_only=True)
class _Made:
    id: int
    index: int


class _Unkept:
    """Takes pictures and keeps none: a replay is only looked at."""

    def save(self, png: bytes, plan: GenerationPlan, index: int, job: str, **_: Any) -> _Made:
        return _Made(id=1, index=index)

    def of_job(self, job: str) -> Sequence[_Made]:
        return ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="a PNG, JPEG, WebP or AVIF file")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--verbose", action="store_true", help="tell the progress in lines where there is no terminal")
    parser.add_argument("--quiet", action="store_true", help="tell no progress")
    add_folder_flags(parser)
    add_device_flags(parser)


def run(flags: argparse.Namespace, console: Console, *, build: Callable[..., App] = build_app) -> int:
    """Tell of each picture how far its replay is from it. build: in place of the real app (tests)."""
    results: list[dict[str, Any]] = []
    codes = [FINE]
    with build(app_config(flags, serving=False), pictures=_Unkept()) as app:
        for path in flags.pictures:
            try:
                outcome = _replayed(app, path, flags, console)
            except InferenzError as error:
                results.append({"path": str(path), "error": error_json(error)})
                codes.append(_code(error))
                if not flags.json:
                    console.say(f"{path}: {error}")
                continue
            if outcome is None:
                return STOPPED
            results.append({"path": str(path), **outcome_json(outcome), "error": None})
            codes.append(DIFFERENT if outcome.verdict == "different" else FINE)
            if not flags.json:
                _tell(path, outcome, console)
    if flags.json:
        console.print_json({"pictures": results})
    # What could not be compared weighs more than a difference
    return next((code for code in (FAILED, BAD_INPUT, DIFFERENT) if code in codes), FINE)


def _replayed(app: App, path: Path, flags: argparse.Namespace, console: Console) -> Outcome | None:
    """None where it was stopped. Raises InferenzError where the picture cannot be made again."""
    view = follow(app, app.replays.start(app.jobs, path), console, verbose=flags.verbose, quiet=flags.quiet)
    if view.error is not None:
        raise EngineError(view.error.message, hint=view.error.hint)
    return app.replays.outcome(view.id)


def _code(error: InferenzError) -> int:
    return BAD_INPUT if isinstance(error, RequestError | CheckpointError) else FAILED


def _tell(path: Path, outcome: Outcome, console: Console) -> None:
    numbers = f" ({_numbers(outcome.difference)})" if outcome.difference and outcome.difference.largest else ""
    console.print(f"{path}: {WORDS[outcome.verdict]}{numbers}")
    for reason in outcome.reasons:
        console.print(f"  {reason}")


def _numbers(apart: Difference) -> str:
    return f"largest difference {apart.largest} of 255, mean {apart.mean:.4f}, {apart.share:.2%} of the pixels"
