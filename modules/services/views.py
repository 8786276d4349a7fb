"""Jobs as their watchers see them: frozen snapshots, and the same as JSON for browsers.

A snapshot is replaced, never changed; `seq` rises with every change of its job, so a watcher keeps the highest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from modules.core.generation import GenerationPlan, plan_json

JobState = Literal["queued", "loading", "running", "completed", "interrupted", "failed"]
ImageState = Literal["waiting", "running", "done", "skipped"]
ENDED: frozenset[str] = frozenset({"completed", "interrupted", "failed"})


@dataclass(frozen=True, kw_only=True)
class ErrorView:
    """Why a job failed. code: an `InferenzError.code`; hint: what to do about it, may be empty."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class ImageView:
    """One picture of a job.

    state "done": saved, and `picture` is its record in the history; never before that. "skipped": it was left out or
    its job ended without it. step: finished steps of `steps`. sigma: noise level after that step; sigmas: all of
    them, steps + 1, empty before it began. preview_seq: number of the latest preview, 0 for none yet. seconds: since
    the picture began, at its last step or when it was decoded.
    """

    index: int
    seed: int
    state: ImageState = "waiting"
    step: int = 0
    steps: int = 0
    sigma: float = 0.0
    sigmas: tuple[float, ...] = ()
    preview_seq: int = 0
    picture: int | None = None
    seconds: float = 0.0
    partial: bool = False


@dataclass(frozen=True, kw_only=True)
class TraceFrameView:
    """One frame of a picture's filmstrip. step: 1-based; seconds: since the picture began; jpeg: the prediction."""

    step: int
    sigma: float
    seconds: float
    jpeg: bytes


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job as it stands now.

    created, started, ended: seconds since 1970 (UTC), None for what has not happened. ahead: unfinished jobs that will
    begin before this one. device, dtype, model_seconds, model_source ("resident", "memory", "file"): of the loaded
    checkpoint, empty before it is. encode_seconds, tokens, negative_tokens: token texts per chunk of 75. eta: seconds
    until the job ends, None where not known yet. steps_per_second: pace of the pictures now running (it/s).
    unsaved: finished pictures that could not be written and wait in memory for `Jobs.retry_saves`.
    """

    __pydantic_config__ = ConfigDict(extra="ignore")

    id: str
    owner: str
    state: JobState
    plan: GenerationPlan
    created: float
    started: float | None = None
    ended: float | None = None
    ahead: int = 0
    images: tuple[ImageView, ...] = ()
    notices: tuple[str, ...] = ()
    error: ErrorView | None = None
    device: str = ""
    dtype: str = ""
    model_seconds: float = 0.0
    model_source: str = ""
    encode_seconds: float = 0.0
    tokens: tuple[tuple[str, ...], ...] = ()
    negative_tokens: tuple[tuple[str, ...], ...] = ()
    eta: float | None = None
    steps_per_second: float | None = None
    unsaved: int = 0
    seq: int = 0

    @property
    def over(self) -> bool:
        """True once the job is completed, interrupted or failed."""
        return self.state in ENDED

    @property
    def progress(self) -> float:
        """Finished share of all steps, 0..1; pictures left out count as finished."""
        total = len(self.images) * self.plan.steps
        done = sum(self.plan.steps if image.state in ("done", "skipped") else image.step for image in self.images)
        return min(done / total, 1.0) if total else 0.0


_STORED: TypeAdapter[JobView] = TypeAdapter(JobView)


def view_json(view: JobView, *, brief: bool = False) -> dict[str, Any]:
    """The snapshot for a browser: JSON-ready, without file paths.

    brief: without what does not change while a job runs (plan, tokens, sigmas), for streams of snapshots.
    """
    values = {name: getattr(view, name) for name in JobView.__dataclass_fields__}
    values["images"] = [_image_json(image, brief=brief) for image in view.images]
    values["error"] = asdict(view.error) if view.error else None
    values["progress"] = view.progress
    if brief:
        for name in ("plan", "tokens", "negative_tokens"):
            del values[name]
        return values
    values["plan"] = _plan_json(view.plan)
    return values


def stored_json(view: JobView) -> str:
    """The snapshot for the state database, without what only its moment needed."""
    return _STORED.dump_json(view, exclude={"eta", "steps_per_second", "ahead"}).decode()


def stored_view(text: str) -> JobView | None:
    """The inverse of `stored_json`; None for a snapshot that another version wrote differently."""
    try:
        return _STORED.validate_json(text)
    except ValidationError:
        return None


def _image_json(image: ImageView, *, brief: bool) -> dict[str, Any]:
    values = dict(vars(image))
    # A browser's numbers are doubles: seeds above 2**53 would be shown rounded.
    values["seed"] = str(image.seed)
    if brief:
        del values["sigmas"]
    return values


def _plan_json(plan: GenerationPlan) -> Mapping[str, Any]:
    values = plan_json(plan)
    for part in ("checkpoint", "vae", "text_encoder"):
        if values[part]:
            values[part] = {**values[part], "path": PurePath(values[part]["path"]).name}
    values["seeds"] = [str(seed) for seed in plan.seeds]
    values["variation_seeds"] = [str(seed) for seed in plan.variation_seeds]
    return values
