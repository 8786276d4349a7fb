"""Jobs as the two halves speak of them: events that come back, and the executor that runs plans.

Events are JSON plus at most one byte frame (`payload`), never a pickle: the same over a pipe, a socket and Ray.
Within one job `seq` rises by one per event; the last event of a job is Completed, Interrupted or Failed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from modules.core.generation import GenerationPlan


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base. job: id of the job; seq: its running number, set by whoever sends. payload: bytes beside the JSON."""

    job: str
    seq: int = 0
    payload: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Queued(Event):
    """The executor has the job; `ahead` jobs stand before it."""

    ahead: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelLoading(Event):
    """The checkpoint is being brought to the device."""

    checkpoint: str


@dataclass(frozen=True, kw_only=True)
class ModelReady(Event):
    """The checkpoint is ready. source: "resident" (was loaded already), "memory" or "file". device as "cpu", "cuda:0".

    dtype: of the UNet ("float32", "bfloat16", "float16").
    """

    checkpoint: str
    seconds: float
    source: Literal["resident", "memory", "file"]
    device: str
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Encoded(Event):
    """The prompts are encoded. tokens, negative_tokens: token texts in order, one list per chunk of 75."""

    seconds: float
    tokens: tuple[tuple[str, ...], ...]
    negative_tokens: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """Picture `index` has begun; sigmas: its noise levels, steps + 1 of them. payload: JPEG of the starting noise."""

    index: int
    seed: int
    sigmas: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """Picture `index` finished `step` (1-based) of `steps`. seconds: since the picture began."""

    index: int
    step: int
    steps: int
    sigma: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Preview(Event):
    """The predicted picture after `step`. payload: JPEG of width x height pixels."""

    index: int
    step: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class TraceFrame:
    """One step of the filmstrip. jpeg_bytes: length of its frame inside the Trace's payload, in order."""

    step: int
    sigma: float
    seconds: float
    jpeg_bytes: int


@dataclass(frozen=True, kw_only=True)
class Trace(Event):
    """The filmstrip of a finished picture: the predicted picture per step. payload: the JPEGs, one after another."""

    index: int
    frames: tuple[TraceFrame, ...]


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something the person should know though the job goes on ("picture 2 was repeated in float32")."""

    text: str
    index: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageReady(Event):
    """A finished picture. payload: PNG without text chunks. seconds: from Started to decoded.

    partial: interrupted before its last step (kept only where the setting asks for it).
    """

    index: int
    seed: int
    width: int
    height: int
    seconds: float
    device: str
    dtype: str
    partial: bool = False


@dataclass(frozen=True, kw_only=True)
class Completed(Event):
    """All pictures were made. seconds: from the job's first event."""

    seconds: float
    model_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Interrupted(Event):
    """The person stopped the job; pictures already sent stay."""


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The job could not be finished; pictures already sent stay. code: an `InferenzError.code`."""

    code: str
    message: str
    hint: str = ""


END_EVENTS = (Completed, Interrupted, Failed)
EVENTS: Mapping[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        Queued, ModelLoading, ModelReady, Encoded, Started, Step, Preview, Trace, Notice, ImageReady, Completed,
        Interrupted, Failed,
    )
}  # fmt: skip


def event_json(event: Event) -> dict[str, Any]:
    """The event without its payload, JSON-ready, its kind under "event"."""
    values = dataclasses.asdict(event)
    del values["payload"]
    return {"event": type(event).__name__, **values}


def parse_event(values: Mapping[str, Any], payload: bytes = b"") -> Event:
    """The inverse of `event_json`. Trusted input: it comes from our own worker."""
    fields = {name: _frozen(value) for name, value in values.items() if name != "event"}
    if values["event"] == "Trace":
        fields["frames"] = tuple(TraceFrame(**frame) for frame in values["frames"])
    return EVENTS[values["event"]](**fields, payload=payload)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


MemoryMode = Literal["normal", "medium", "low"]
"""How much of a model is on the device, fastest first: all of it; one part (text encoder, denoiser, VAE) at a time; one
layer after another, the next ones on their way."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How an engine is to run: command-line flags and settings that are not part of a plan. JSON-ready.

    device: "auto", "cpu", "cuda", "cuda:1", "mps", "xpu". vram: the least that is to be saved of the device's memory;
    "auto" leaves that to each request. storage: how weights are kept, see `Placement`. tiled_vae: pictures are always
    decoded in tiles; else where memory is too short. use_cpu: parts kept on the CPU, of "unet", "text_encoder", "vae",
    "all".
    dtype: "auto", "float32", "bfloat16", "float16". vae_dtype: the same. cache_bytes: budget for loaded checkpoints,
    None for automatic. preview_ms: least milliseconds between previews of one picture, 0 for none. keep_partial: an
    interrupted picture is decoded and kept. max_batch_rows: most rows of one forward pass.
    taesd: folder that may hold TAESD files (VAE-approx). trace: collect the filmstrip.
    """

    device: str = "auto"
    vram: Literal["auto", "normal", "medium", "low"] = "auto"
    storage: Literal["file", "compute", "fp8"] = "file"
    tiled_vae: bool = False
    use_cpu: tuple[str, ...] = ()
    dtype: str = "auto"
    vae_dtype: str = "auto"
    cache_bytes: int | None = None
    preview_ms: int = 250
    preview_size: int = 512
    keep_partial: bool = False
    max_batch_rows: int = 16
    taesd: str = ""
    trace: bool = True
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceStatus:
    """What an engine tells of its device. memory in bytes; loaded: checkpoint names, most recently used first.

    state: "starting", "idle", "busy" or "gone". device as torch names it, device_name as people know it. memory_mode:
    a `MemoryMode`, of the model in place, "" where none is; memory_needed: bytes that its present work needs at once,
    by the estimate.
    """

    state: Literal["starting", "idle", "busy", "gone"] = "starting"
    device: str = ""
    device_name: str = ""
    dtype: str = ""
    memory_used: int = 0
    memory_total: int = 0
    loaded: tuple[str, ...] = ()
    restarts: int = 0
    memory_mode: str = ""
    memory_needed: int = 0


@dataclass(frozen=True, kw_only=True)
class EngineStatus(DeviceStatus):
    """What an engine tells of itself.

    devices: each one's own status where there are several; the rest then speaks of all of them together.
    """

    options: EngineOptions = field(default_factory=EngineOptions)
    devices: tuple[DeviceStatus, ...] = ()


OnEvent = Callable[[Event], None]


class Executor(Protocol):
    """Runs plans somewhere and reports through one callback, from a thread of its own.

    Every method may be called from any thread and returns at once. A job that was submitted always ends in exactly one
    of END_EVENTS, whatever happens to the place it ran in.
    """

    def start(self, on_event: OnEvent) -> None:
        """Begin; `on_event` is called for each event, one at a time, in order within a job."""

    def submit(self, job: str, plan: GenerationPlan) -> None:
        """Take a job. Several may be in progress at once: their pictures share forward passes."""

    def interrupt(self, job: str) -> None:
        """End the job within one step; it answers Interrupted. Unknown or ended jobs are ignored."""

    def skip(self, job: str) -> None:
        """Leave out the job's pictures now in progress and go on with its next."""

    def configure(self, options: EngineOptions) -> None:
        """Change options of a running engine; what cannot change while running applies to the next load."""

    def unload(self) -> None:
        """Give back the memory of checkpoints that no job is using."""

    def status(self) -> EngineStatus:
        """The last known status, without asking the worker."""

    def close(self) -> None:
        """End the worker; jobs still running end in Failed. Waits at most a few seconds."""
