"""A real, very small model for the engine: convolutions, attention over the text, a linear decoder. No weights file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from modules.backbones.seamless import seamless as wrapping
from modules.core.checkpoint import ModelInfo
from modules.core.errors import CheckpointMissing
from modules.core.generation import Emphasis, FileRef, GenerationPlan, ModelChoice
from modules.core.job import EngineOptions, Event, MemoryMode
from modules.core.operations import ModelKey, Text
from modules.core.sampling import NoiseLevels
from modules.diffusion.backbone import Backbone, Batch, PartName, Placement
from modules.engine.engine import Engine
from modules.engine.estimate import Work
from modules.engine.placement import Choice
from modules.engine.room import Fit

CPU = torch.device("cpu")
WIDTH = 8  # of a text token

OnPass = Callable[[Tensor, Tensor, Tensor], None]
OnDecode = Callable[[Tensor, bool], None]


def placement(dtype: torch.dtype = torch.float32) -> Placement:
    """All parts on the CPU."""
    return Placement(device=CPU, dtype=dtype, vae_dtype=dtype, text_device=CPU, unet_device=CPU, vae_device=CPU)


class SmallNet(nn.Module):
    """Predicts x0 from a scaled latent, its noise level and a text: every part of a UNet, once."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4, WIDTH, 3, padding=1)
        self.level = nn.Linear(1, WIDTH)
        self.keys, self.values = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.leave = nn.Conv2d(WIDTH, 4, 3, padding=1)

    def forward(self, x: Tensor, sigmas: Tensor, text: Tensor) -> Tensor:
        scaled = x / (sigmas**2 + 1).sqrt().reshape(-1, 1, 1, 1)
        hidden = torch.tanh(self.enter(scaled) + self.level(sigmas.log().reshape(-1, 1))[:, :, None, None])
        flat = hidden.flatten(2).transpose(1, 2)
        weights = torch.softmax(flat @ self.keys(text).transpose(1, 2) / math.sqrt(WIDTH), dim=-1)
        attended = (weights @ self.values(text)).transpose(1, 2).reshape(hidden.shape)
        out: Tensor = self.leave(torch.tanh(hidden + attended))
        return out


class SmallBackbone:
    """Implements `Backbone`. on_pass(x, sigmas, text) is called before each forward pass and may raise.

    on_decode(latent, tiled): the same before each decode; on_encode(text): before each text.

    broken: parts that answer NaN unless computing in float32, of "denoise" and "decode"; "always" for both ever.
    """

    latent_channels = 4
    downscale = 8
    weight_bytes = 1000

    def __init__(
        self,
        key: ModelKey,
        *,
        on_pass: OnPass | None = None,
        on_decode: OnDecode | None = None,
        on_encode: Callable[[str], None] | None = None,
        broken: tuple[str, ...] = (),
    ) -> None:
        torch.manual_seed(sum(key.checkpoint.encode()))
        self.key = key
        self.placement = placement(getattr(torch, key.dtype))
        self._levels = NoiseLevels.scaled_linear()
        self.info = ModelInfo(name=key.checkpoint, path=key.checkpoint, family="small", label="Small", supported=True)
        self.on_pass, self.on_decode, self.on_encode, self.broken = on_pass, on_decode, on_encode, broken
        self.encoded: list[str] = []
        self.passes: list[int] = []
        self.closed = False
        self.part_bytes: Mapping[PartName, int] = {"denoiser": 600, "text": 100, "vae": 300}
        self._net = SmallNet().requires_grad_(False)
        self._colours = torch.randn(4, 3) * 0.1

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        words = text.split()
        return tuple(tuple(words[i : i + 75]) for i in range(0, max(1, len(words)), 75))

    def noise_levels(self, width: int, height: int, shift: float | None = None) -> NoiseLevels:
        return self._levels

    def encode(self, texts: Sequence[str], clip_skip: int, emphasis: Emphasis = "Original") -> list[Text]:
        self.encoded += texts
        found = []
        for text in texts:
            if self.on_encode is not None:
                self.on_encode(text)
            generator = torch.Generator().manual_seed(sum(text.encode()) + clip_skip)
            found.append(Text(torch.randn(1, 77 * len(self.tokens(text)), WIDTH, generator=generator)))
        return found

    def denoise(self, batch: Batch) -> Tensor:
        x, sigmas, text, perturbed = batch.x, batch.sigmas, batch.text.tokens, batch.perturbed
        assert len(x) == len(sigmas) == len(text)
        assert len(perturbed) in (0, len(x))
        if self.on_pass is not None:
            self.on_pass(x, sigmas, text)
        self.passes.append(len(x))
        with wrapping(self._net, batch.seamless):
            out: Tensor = self._net(x, sigmas, text)
        if perturbed:
            out = torch.where(torch.tensor(perturbed).reshape(-1, 1, 1, 1), out.flip(-1) * 0.5, out)
        return out * float("nan") if self._fails("denoise", self.key.dtype == "float32") else out

    def encode_picture(self, picture: Tensor) -> Tensor:
        raise NotImplementedError("nothing here starts from a picture")

    def decode(self, latent: Tensor, *, fp32: bool = False, tiled: bool = False, seamless: bool = False) -> Tensor:
        if self.on_decode is not None:
            self.on_decode(latent, tiled)
        rgb = torch.einsum("nchw,cr->nrhw", latent, self._colours) + 0.5
        image = rgb.clamp(0, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
        return image * float("nan") if self._fails("decode", fp32 or self.key.dtype == "float32") else image

    def upcast(self) -> Backbone:
        return SmallBackbone(
            replace(self.key, dtype="float32"), on_pass=self.on_pass, on_decode=self.on_decode,
            on_encode=self.on_encode, broken=self.broken,
        )  # fmt: skip

    def change(self, mode: MemoryMode) -> None:
        self.placement = replace(self.placement, vram=mode)

    @property
    def bytes_there(self) -> int:
        return 0

    def retreat(self) -> None:
        """All of it is on the CPU."""

    def close(self) -> None:
        self.closed = True

    def _fails(self, part: str, exact: bool) -> bool:
        return "always" in self.broken or (part in self.broken and not exact)


@dataclass(frozen=True, kw_only=True)
class Delivered:
    backbone: Backbone
    source: Literal["resident", "memory", "file"]
    seconds: float
    fit: Fit


@dataclass
class SmallManager:
    """Keeps every model it made. load_seconds: told to `wait` when a model is not there yet."""

    dtype: str = "float32"
    broken: tuple[str, ...] = ()
    on_pass: OnPass | None = None
    on_decode: OnDecode | None = None
    on_encode: Callable[[str], None] | None = None
    wait: Callable[[float], None] | None = None
    load_seconds: float = 0.0
    on_fit: Callable[[SmallBackbone, Work | None], Fit] | None = None
    on_relieve: Callable[[SmallBackbone, MemoryMode], str] | None = None
    models: dict[ModelKey, SmallBackbone] = field(default_factory=dict)
    brought: list[str] = field(default_factory=list)
    pins: list[ModelKey] = field(default_factory=list)

    @property
    def placement(self) -> Placement:
        return placement(getattr(torch, self.dtype))

    def key(self, choice: ModelChoice) -> ModelKey:
        vae = choice.separate.vae
        return ModelKey(choice.checkpoint.path, 1, vae=vae.path if vae else "", dtype=self.dtype)

    def bring(self, choice: ModelChoice, work: Work | None = None) -> Delivered:
        checkpoint = choice.checkpoint
        if checkpoint.name == "missing":
            raise CheckpointMissing("missing: there is no such file.")
        key = self.key(choice)
        self.brought.append(checkpoint.name)
        if self.wait is not None:
            self.wait(self.load_seconds)
        known = key in self.models
        if not known:
            self.models[key] = SmallBackbone(
                key, on_pass=self.on_pass, on_decode=self.on_decode, on_encode=self.on_encode, broken=self.broken
            )
        source: Literal["resident", "file"] = "resident" if known else "file"
        return Delivered(backbone=self.models[key], source=source, seconds=self.load_seconds, fit=self.fit(key, work))

    def fit(self, key: ModelKey, work: Work | None = None) -> Fit:
        if self.on_fit is not None:
            return self.on_fit(self.models[key], work)
        mode = self.models[key].placement.vram
        return Fit(choice=Choice(mode=mode, tiled=False, needed=1000, whole=1000, room=2000))

    def relieve(self, key: ModelKey, work: Work, most: MemoryMode = "low") -> str:
        return self.on_relieve(self.models[key], most) if self.on_relieve is not None else ""

    def pin(self, key: ModelKey) -> None:
        self.pins.append(key)

    def unpin(self, key: ModelKey) -> None:
        self.pins.remove(key)

    def unload(self) -> None:
        self.models.clear()

    def loaded(self) -> tuple[str, ...]:
        return tuple(key.checkpoint for key in self.models)

    def keys(self) -> frozenset[ModelKey]:
        return frozenset(self.models)

    def configure(self, options: EngineOptions) -> None:
        """Nothing here depends on options."""


@dataclass
class Bench:
    """An engine with its events, driven by hand."""

    manager: SmallManager
    engine: Engine
    events: list[Event]

    def run(self) -> None:
        """Work until nothing is left to do and all events are sent."""
        while self.engine.tick():
            pass
        assert self.engine.settle(30)

    def of(self, job: str, kind: type[Event] = Event) -> list[Event]:
        return [event for event in self.events if event.job == job and isinstance(event, kind)]

    def picture(self, job: str, index: int = 0) -> bytes:
        """The PNG of a finished picture."""
        return next(e.payload for e in self.of(job) if type(e).__name__ == "ImageReady" and e.index == index)  # type: ignore[attr-defined]


def bench(manager: SmallManager | None = None, *, clock: Callable[[], float] | None = None, **options: object) -> Bench:
    """An engine over small models."""
    manager = manager or SmallManager()
    events: list[Event] = []
    chosen = EngineOptions(**{"preview_ms": 0, "trace": False, **options})  # type: ignore[arg-type]
    return Bench(manager, Engine(chosen, events.append, manager=manager, clock=clock or time.perf_counter), events)


def plan(**values: object) -> GenerationPlan:
    """A small plan: 5 steps, 64 x 64 pixels."""
    name = str(values.pop("model", "one"))
    return GenerationPlan(
        **{  # type: ignore[arg-type]
            "checkpoint": FileRef(name=name, path=name), "family": "small", "prompt": "a red apple",
            "negative_prompt": "", "clip_skip": 1, "sampler": "euler", "schedule": "karras", "steps": 5, "width": 64,
            "height": 64, "cfg_scale": 5.0, "seeds": (1,), **values,
        }
    )  # fmt: skip


class FakeClock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
