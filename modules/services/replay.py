"""Pictures made once more from what they say, and compared with what they were.

A picture of ours carries its plan, and that is run again. Of another program's text a request is made as far as it
goes: a reconstruction, which need not give the same picture.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from modules.core.errors import CheckpointMissing, RequestError
from modules.core.generation import GenerationPlan, parse_plan, plan_json
from modules.imaging.compare import Difference, difference, picture_size
from modules.imaging.formats import KINDS, SaveFormat, recompressed
from modules.imaging.pictures import picture_facts
from modules.services.inspection import Inspection, Inspector, own_chunk
from modules.services.provenance import CHUNK
from modules.services.saving import Pictures, Record
from modules.services.views import JobView

# What another order of sums gives: of 255, measured between pictures made alone, side by side and by other processors
ROUNDING_LARGEST, ROUNDING_MEAN = 4, 0.25
MOST_WAITING = 16  # replays whose pictures are remembered at once
LOSSY = frozenset({"JPEG", "WEBP", "AVIF"})

Verdict = Literal["identical", "rounding", "different"]


class Queue(Protocol):
    """What is asked of the jobs."""

    def resolve(self, values: Mapping[str, Any]) -> GenerationPlan: ...
    def submit_plan(self, plan: GenerationPlan, owner: str = "") -> JobView: ...


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a picture may differ. code: "version", "device", "dtype", "reconstructed", "missed", "compression", "size",
    "partial", "model". there, here: what the picture says, and what holds now."""

    code: str
    there: str = ""
    here: str = ""

    def __str__(self) -> str:
        return _SENTENCES[self.code].format(there=self.there, here=self.here)


_SENTENCES: Mapping[str, str] = {
    "version": "It was made by version {there}, and this is {here}.",
    "device": "It was made on {there}, and now on {here}.",
    "dtype": "It was computed in {there}, and now in {here}.",
    "reconstructed": "This is a reconstruction from the text of {there}: not everything that made it is known.",
    "missed": "Not taken over: {there}.",
    "compression": "The file is a {there}: what its compression changed is part of the difference.",
    "size": "It has {there} pixels, and what its plan makes has {here}.",
    "partial": "It was interrupted before its last step.",
    "model": "It does not name its checkpoint; it was made with {here}.",
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A picture and its replay. difference: None where they have different sizes. reasons: why they may differ."""

    verdict: Verdict
    difference: Difference | None
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A picture that is to be made again. values: of its plan or request. saved: how its file was compressed.

    version, device, dtype: what made it, "" where that is not known.
    """

    picture: Path | bytes
    values: Mapping[str, Any]
    format: str
    version: str = ""
    device: str = ""
    dtype: str = ""
    saved: SaveFormat | None = None
    reasons: tuple[Reason, ...] = ()


@dataclass
class _Waiting:
    recorded: Recorded
    plan: GenerationPlan
    outcome: Outcome | None = None


@dataclass
class Replays:
    """Wraps `pictures`: those that replays make are compared on their way into it, before any compression."""

    inspector: Inspector
    pictures: Pictures
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: OrderedDict[str, _Waiting] = field(default_factory=OrderedDict)

    def start(self, jobs: Queue, picture: Path | bytes, owner: str = "") -> JobView:
        """Queue the job that makes a picture again.

        Raises StorageError for what is no picture, RequestError for one that does not say how it was made,
        CheckpointError where its models are not here.
        """
        recorded = self.recorded(picture)
        plan = jobs.resolve(recorded.values)
        with self._lock:  # the picture may be finished before its job's id is known here
            view = jobs.submit_plan(plan, owner)
            self._waiting[view.id] = _Waiting(recorded, plan)
            while len(self._waiting) > MOST_WAITING:
                self._waiting.popitem(last=False)
        return view

    def outcome(self, job: str) -> Outcome | None:
        """How job `job` compares; None until its picture is made, or where it is no replay that is remembered."""
        with self._lock:
            waiting = self._waiting.get(job)
            return waiting.outcome if waiting else None

    def recorded(self, picture: Path | bytes) -> Recorded:
        """What a picture says of itself, as something to run. Raises as `start` does."""
        found = self.inspector.picture(picture)
        if found.made.plan is not None:
            return _of_plan(picture, found)
        if not found.info.fields:
            raise RequestError(
                "picture", "says nothing of how it was made", accepted="a picture with parameters inside it"
            )
        return _of_text(picture, found)

    def save(
        self, png: bytes, plan: GenerationPlan, index: int, job: str, *, model_hash: str | None, facts: Any
    ) -> Record:
        record = self.pictures.save(png, plan, index, job, model_hash=model_hash, facts=facts)
        with self._lock:
            waiting = self._waiting.get(job)
        if waiting is not None and waiting.outcome is None:
            waiting.outcome = compared(waiting.recorded, waiting.plan, png, facts)
        return record

    def of_job(self, job: str) -> Sequence[Record]:
        return self.pictures.of_job(job)


def compared(recorded: Recorded, plan: GenerationPlan, png: bytes, facts: Any) -> Outcome:
    """The recorded picture against its replay. facts: `EngineFacts` of the replay."""
    reasons = list(recorded.reasons)
    for code in ("version", "device", "dtype"):
        there, here = getattr(recorded, code), getattr(facts, code)
        if there and here and there != here:
            reasons.append(Reason(code=code, there=there, here=here))
    if "checkpoint" not in recorded.values:
        reasons.append(Reason(code="model", here=plan.checkpoint.name))
    (width, height), (wide, high) = picture_size(recorded.picture), picture_size(png)
    if (width, height) != (wide, high):
        reasons.append(Reason(code="size", there=f"{width} x {height}", here=f"{wide} x {high}"))
        return Outcome(verdict="different", difference=None, reasons=tuple(reasons))
    made = recompressed(png, recorded.saved) if recorded.saved else png
    apart = difference(recorded.picture, made)
    if recorded.saved is None and recorded.format in LOSSY:
        reasons.append(Reason(code="compression", there=recorded.format))
    return Outcome(verdict=verdict(apart), difference=apart, reasons=tuple(reasons))


def verdict(apart: Difference) -> Verdict:
    """What a difference means."""
    if apart.largest == 0:
        return "identical"
    return "rounding" if apart.largest <= ROUNDING_LARGEST and apart.mean <= ROUNDING_MEAN else "different"


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """For scripts and browsers."""
    return {
        "verdict": outcome.verdict,
        "difference": asdict(outcome.difference) if outcome.difference else None,
        "reasons": [{**asdict(reason), "text": str(reason)} for reason in outcome.reasons],
    }


def _of_plan(picture: Path | bytes, found: Inspection) -> Recorded:
    chunk = own_chunk(picture_facts(picture).texts.get(CHUNK, ""))
    engine = chunk.get("engine") if isinstance(chunk.get("engine"), dict) else {}
    said = _texts(engine)
    partial = isinstance(engine, dict) and engine.get("partial") is True
    return Recorded(
        picture=picture,
        values={**plan_json(parse_plan(found.made.plan or {})), "strict": True},
        format=found.format,
        version=said("version"),
        device=said("device"),
        dtype=said("dtype"),
        saved=_saved(chunk.get("file"), found.format),
        reasons=(Reason(code="partial"),) if partial else (),
    )


def _of_text(picture: Path | bytes, found: Inspection) -> Recorded:
    values, fields = found.fitted.values, found.info.fields
    if "checkpoint" not in values and (named := fields.get("Model") or fields.get("Model hash")):
        raise CheckpointMissing(f"The checkpoint {named[:200]!r} that it was made with is not here.")
    if "seed" not in values:
        raise RequestError("seed", "is not among the picture's parameters", accepted="a picture that says its seed")
    reasons = [Reason(code="reconstructed", there=found.program or "its program")]
    if missed := ", ".join(each.name for each in found.fitted.missed):
        reasons.append(Reason(code="missed", there=missed))
    return Recorded(picture=picture, values={**values, "strict": True}, format=found.format, reasons=tuple(reasons))


def _texts(values: Any) -> Callable[[str], str]:
    """Reads texts out of a chunk's part; "" for what is none."""

    def read(name: str) -> str:
        value = values.get(name) if isinstance(values, dict) else None
        return value[:100] if isinstance(value, str) else ""

    return read


def _saved(values: Any, format: str) -> SaveFormat | None:
    """How a file was compressed, where its chunk says so and it is still such a file."""
    if not isinstance(values, dict):
        return None
    kind, quality = values.get("kind"), values.get("quality")
    names = {"jpg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
    if kind not in KINDS or names.get(kind) != format or not isinstance(quality, int) or not 1 <= quality <= 100:
        return None
    return SaveFormat(kind=kind, quality=quality)
