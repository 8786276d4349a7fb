"""`python webui.py generate "a red apple"`: a picture without a page, in this process."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any

from modules.app import App, build_app
from modules.commands.console import BAD_INPUT, FAILED, FINE, STOPPED, Console, error_json
from modules.commands.flags import add_device_flags, add_folder_flags, app_config
from modules.commands.following import follow
from modules.commands.guidance_flag import guidance_values
from modules.commands.targets import OutputTarget
from modules.core.errors import CheckpointError, InferenzError, RequestError
from modules.core.generation import GenerationPlan, plan_json
from modules.services.views import JobView

# Flag (as argparse stores it) -> field of the request
FIELDS: Mapping[str, str] = {
    "prompt": "prompt", "negative": "negative_prompt", "model": "checkpoint", "vae": "vae",
    "text_encoder": "text_encoder", "sampler": "sampler",
    "schedule": "schedule", "steps": "steps", "cfg": "cfg_scale", "seed": "seed", "clip_skip": "clip_skip",
    "batch_size": "batch_size", "strict": "strict", "emphasis": "emphasis", "style": "styles",
    "noise_source": "noise_source", "variation_seed": "variation_seed", "variation_strength": "variation_strength",
    "ensd": "ensd", "tiling": "tiling", "distilled_cfg": "distilled_cfg_scale", "shift": "shift",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", help="what the picture shows")
    parser.add_argument("--negative", metavar="TEXT", help="what it must not show")
    parser.add_argument("-n", "--number", type=int, metavar="N", help="how many pictures (seed, seed + 1, ...)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="how many of them side by side (default: 1)")
    parser.add_argument("--size", metavar="WxH", help="pixels, multiples of 8, such as 512x768")
    parser.add_argument("--steps", metavar="N", help="sampling steps, 1 to 150")
    parser.add_argument("--seed", metavar="N", help="of the first picture; -1 for a random one (default)")
    parser.add_argument("--cfg", metavar="X", help="guidance scale, 1 to 30")
    parser.add_argument("--distilled-cfg", metavar="X", help="guidance that Flux.1 dev and its like take as an input")
    parser.add_argument("--shift", metavar="X", help="of flow models: how far noise levels lean to the noisy side")
    parser.add_argument("--sampler", metavar="NAME", help='such as "Euler a" or "DPM++ 2M Karras"')
    parser.add_argument("--schedule", metavar="NAME", help="such as Karras (default: Automatic)")
    parser.add_argument("--model", metavar="NAME", help="checkpoint: name, file name or short hash")
    parser.add_argument("--vae", metavar="NAME", help="VAE file, Automatic or None")
    parser.add_argument(
        "--text-encoder", metavar="NAME", action="append",
        help="text encoder file; may be given several times (default: the checkpoint's own)",
    )  # fmt: skip
    parser.add_argument("--clip-skip", metavar="N", help="1 is the text encoder's last layer")
    parser.add_argument("--emphasis", metavar="MODE", help="what (word:1.2) does: Original, No norm, Ignore or None")
    parser.add_argument("--noise-source", metavar="NAME", help="CPU, GPU or NV (default: as the settings say)")
    parser.add_argument("--variation-seed", metavar="N", help="second seed; -1 for a random one (default)")
    parser.add_argument("--variation-strength", metavar="X", help="how far towards it, 0 to 1 (default: 0)")
    parser.add_argument("--seed-resize", metavar="WxH", help="size that the seed's picture had")
    parser.add_argument("--ensd", metavar="N", help="eta noise seed delta (default: as the settings say)")
    parser.add_argument("--tiling", action="store_true", default=None, help="the picture continues over its edges")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="a number of the sampler, such as eta=0.5; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--schedule-option", action="append", default=[], metavar="NAME=VALUE",
        help="a number of the schedule, such as rho=5; may be given several times",
    )  # fmt: skip
    parser.add_argument("--discard-penultimate", choices=("yes", "no"), help="leave out the last noise level but one")
    parser.add_argument(
        "--style", action="append", metavar="NAME", help="a style of styles.csv; may be given several times"
    )
    parser.add_argument(
        "--guidance", metavar="KIND.OPTION=X", action="append", default=[],
        help="what is added to CFG, such as rescale.phi=0.7 or pag.scale=3; may be given several times",
    )  # fmt: skip
    parser.add_argument("--strict", action="store_true", default=None, help="identical to the last bit at every run")
    parser.add_argument(
        "-o", "--output", metavar="PATH",
        help="a file name, which may hold {seed} and {index}, or a folder (default: outputs/, as on the page)",
    )  # fmt: skip
    parser.add_argument(
        "--json",
        action="store_true",
        help="read a request or plan as JSON from standard input, print the result as JSON",
    )
    parser.add_argument("--verbose", action="store_true", help="tell the progress in lines where there is no terminal")
    parser.add_argument("--quiet", action="store_true", help="tell no progress")
    add_folder_flags(parser)
    add_device_flags(parser)


def run(flags: argparse.Namespace, console: Console, *, build: Callable[..., App] = build_app) -> int:
    """Make pictures; prints the path of each that was saved. build: in place of the real app (tests)."""
    try:
        values = _values(flags, console)
        target = OutputTarget(flags.output) if flags.output is not None else None
        with build(app_config(flags, serving=False), pictures=target) as app:
            if target is not None:
                target.metadata, target.quality = app.settings.get("save_metadata"), app.settings.get("image_quality")
            plan = _only(app.jobs.resolve(values), flags.number)
            job = app.jobs.submit_plan(plan)
            view = follow(app, job, console, verbose=flags.verbose, quiet=flags.quiet)
            paths = _paths(app, view, target)
    except InferenzError as error:
        if flags.json:
            console.print_json({"state": "failed", "pictures": [], "error": error_json(error)})
        code = console.complain(error)
        return BAD_INPUT if isinstance(error, CheckpointError) else code
    return _report(view, paths, console, as_json=flags.json)


def _values(flags: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The request: what came as JSON, and over it what the flags say."""
    asked = {field: getattr(flags, flag) for flag, field in FIELDS.items() if getattr(flags, flag) is not None}
    if flags.size is not None:
        asked["width"], asked["height"] = _size(flags.size)
    if flags.seed_resize is not None:
        asked["seed_resize_width"], asked["seed_resize_height"] = _size(flags.seed_resize, "--seed-resize")
    if flags.guidance:
        asked["guidance"] = guidance_values(flags.guidance)
    if flags.number is not None:
        if flags.number < 1:
            raise RequestError("--number", f"{flags.number} is not accepted", accepted="a number of at least 1")
        asked["batch_count"] = ceil(flags.number / max(flags.batch_size or 1, 1))
    for flag, given in (("options", flags.option), ("schedule_options", flags.schedule_option)):
        if given:
            asked[flag] = dict(_number(text) for text in given)
    if flags.discard_penultimate:
        asked["discard_penultimate"] = flags.discard_penultimate == "yes"
    if not flags.json:
        if flags.prompt is None:
            raise RequestError("prompt", "is missing", accepted='text, such as "a red apple", or --json')
        return asked
    read = _read_json(console)
    if asked and "schema" in read:
        raise RequestError(
            "--json", "a plan leaves nothing to choose", accepted="a plan alone, or a request with flags"
        )
    return {**read, **asked}


def _read_json(console: Console) -> dict[str, Any]:
    try:
        read = console.read_json()
    except (ValueError, RecursionError) as error:
        raise RequestError("--json", f"standard input is not JSON: {error}", accepted="a request or a plan") from error
    if not isinstance(read, dict):
        raise RequestError("--json", "standard input is not a JSON object", accepted="a request or a plan")
    return read


def _number(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if equals:
            return name.strip(), float(value)
    except ValueError:
        pass
    raise RequestError("--option", f"{text[:40]!r} is not accepted", accepted="NAME=NUMBER, such as eta=0.5")


def _size(text: str, flag: str = "--size") -> tuple[int, int]:
    width, cross, height = text.lower().replace("×", "x").partition("x")
    if not (cross and width.strip().isdecimal() and height.strip().isdecimal() and len(text) < 20):
        raise RequestError(flag, f"{text[:40]!r} is not accepted", accepted="WIDTHxHEIGHT, such as 512x768")
    return int(width), int(height)


def _only(plan: GenerationPlan, number: int | None) -> GenerationPlan:
    """Whole batches were resolved; -n may ask for fewer."""
    return plan if number is None else plan.picked(range(min(number, len(plan.seeds))))


def _paths(app: App, view: JobView, target: OutputTarget | None) -> dict[int, Path]:
    """Index of each saved picture -> its file."""
    saved = {image.index: image.picture for image in view.images if image.picture is not None}
    if target is not None:
        return {written.index: written.path for written in target.written if written.index in saved}
    return {index: app.history.file(picture) for index, picture in saved.items()}


def _report(view: JobView, paths: Mapping[int, Path], console: Console, *, as_json: bool) -> int:
    if as_json:
        pictures = [
            {"path": str(path), "seed": view.plan.seeds[index], "index": index} for index, path in paths.items()
        ]
        error = None
        if view.error is not None:
            error = {"code": view.error.code, "message": view.error.message, "hint": view.error.hint, "field": None}
        console.print_json({"state": view.state, "pictures": pictures, "error": error, "plan": plan_json(view.plan)})
    else:
        for path in paths.values():
            console.print(str(path))
    if view.error is not None:
        console.say(f"Error: {view.error.message} {view.error.hint}".rstrip())
    return {"completed": FINE, "interrupted": STOPPED}.get(view.state, FAILED)
