"""Models, settings and pictures as services see them, without files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modules.core.checkpoint import Defaults, ModelInfo
from modules.core.errors import CheckpointMissing, StorageError
from modules.core.family import Family, Part
from modules.core.generation import GenerationPlan
from modules.core.plugin import Registry
from modules.core.sampling import Option, Sampler, Schedule
from modules.prompting.dynamic import Wildcards
from modules.services.model_notes import NOTHING, Note
from modules.services.resolve import Resolver
from modules.services.styles import Styles
from modules.services.words import Words

NOWHERE = Path("nowhere")  # no such folder

STARTER = ModelInfo(
    name="starter", path="/models/starter.safetensors", family="sd1", label="Stable Diffusion 1", supported=True,
    defaults=Defaults(width=128, height=128, steps=12, cfg_scale=5.0, sampler="euler", schedule="automatic"),
)  # fmt: skip
OTHER = ModelInfo(
    name="people/photo", path="/models/people/photo.safetensors", family="sd1", label="Stable Diffusion 1",
    supported=True, sha256="c0ffee1234" + "0" * 54, components=("unet", "text_encoder"),
)  # fmt: skip
FLUX = ModelInfo(
    name="flux1-dev", path="/models/flux1-dev.safetensors", family="flux", label="Flux.1", supported=True,
    prediction="flow", variant="dev", components=("transformer", "text_encoder", "text_encoder_2", "vae"),
    defaults=Defaults(
        width=1024, height=1024, cfg_scale=1.0, sampler="euler", schedule="simple", distilled_cfg_scale=3.5
    ),
)  # fmt: skip
SCHNELL = replace(
    FLUX, name="schnell", variant="schnell", path="/models/schnell.safetensors",
    defaults=replace(FLUX.defaults, steps=4, distilled_cfg_scale=None, shift=1.0),
)  # fmt: skip
LARGE = ModelInfo(
    name="sdxl", path="/models/sdxl.safetensors", family="sdxl", label="Stable Diffusion XL", supported=False,
    problem="sdxl.safetensors is Stable Diffusion XL, which is not supported yet.",
)  # fmt: skip
VAE = ModelInfo(
    name="mse",
    path="/models/mse.safetensors",
    family="vae",
    label="VAE",
    supported=True,
    variant="kl4",
    components=("vae",),
)
PARTS = (
    Part(name="text_encoder", kind="clip_l", usual="clip_l.safetensors"),
    Part(name="vae", kind="kl4", usual="vae-ft-mse.safetensors"),
)


def _nothing(*_: object, **__: object) -> Any:
    raise AssertionError("Nothing is sampled here.")


SAMPLERS = Registry(
    {
        each.name: each
        for each in (
            Sampler(name="euler", label="Euler", run=_nothing, order=1, aliases=("k_euler",), rank=1),
            Sampler(
                name="euler_a", label="Euler a", run=_nothing, order=None, rank=2,
                options={"eta": Option(default=1.0, low=0.0, high=2.0)},
            ),
            Sampler(name="tcd", label="TCD", run=_nothing, order=None, flow="never", rank=4),
            Sampler(name="dpmpp_2m", label="DPM++ 2M", run=_nothing, order=2, schedule="karras", rank=3),
        )
    }
)  # fmt: skip
SCHEDULES = Registry(
    {
        name: Schedule(
            name=name, label=label, run=_nothing, options=options, flow=name != "align_your_steps"
        )
        for name, label, options in (
            ("automatic", "Automatic", {}), ("normal", "Normal", {}), ("sgm_uniform", "SGM Uniform", {}),
            ("simple", "Simple", {}), ("align_your_steps", "Align Your Steps", {}),
            ("karras", "Karras", {"rho": Option(default=7.0, low=1.0, high=100.0)}),
        )
    }
)  # fmt: skip


class FakeModels:
    """A catalog of three checkpoints and a VAE."""

    def __init__(self, *infos: ModelInfo) -> None:
        self.infos = infos or (STARTER, OTHER, LARGE)
        self.notes: dict[str, Note] = {}

    def checkpoints(self) -> tuple[ModelInfo, ...]:
        return self.infos

    def find(self, text: str) -> ModelInfo:
        return self._find(text, self.infos)

    def vaes(self) -> tuple[ModelInfo, ...]:
        return (VAE,)

    def text_encoders(self) -> tuple[ModelInfo, ...]:
        return ()

    def find_text_encoder(self, text: str) -> ModelInfo:
        return self._find(text, ())

    def find_vae(self, text: str) -> ModelInfo:
        return self._find(text, (VAE,))

    def needs(self, info: ModelInfo) -> tuple[Part, ...]:
        return PARTS

    def families(self) -> dict[str, Family]:
        return {name: Family(name=name, label=name, detect=_nothing) for name in ("sd1", "sdxl", "flux")}

    def note(self, info: ModelInfo) -> Note:
        return self.notes.get(info.name, NOTHING)

    def hash_of(self, info: ModelInfo) -> str | None:
        return info.sha256

    def _find(self, text: str, infos: tuple[ModelInfo, ...]) -> ModelInfo:
        for info in infos:
            if text in (info.name, info.title, info.short_hash, info.name.rpartition("/")[2]):
                return info
        raise CheckpointMissing(f"There is no model {text[:60]!r}.")


class FakeSettings:
    """Settings that hold what they are given."""

    def __init__(self, **values: Any) -> None:
        self.values: Mapping[str, Any] = {
            "checkpoint": "", "vae": "Automatic", "clip_skip": 1, "strict": False,
            "emphasis": "Original", "noise_source": "CPU", "ensd": 0, **values
        }  # fmt: skip

    def get(self, name: str) -> Any:
        return self.values[name]


def words(folder: Path = NOWHERE, *, dynamic: bool = True) -> Words:
    """Styles and wildcards of a folder; of none that is there unless it is given."""
    return Words(
        styles=Styles(folder / "styles.csv"), wildcards=Wildcards((folder / "wildcards",)), dynamic=lambda: dynamic
    )


def resolver(
    models: FakeModels | None = None, *, folder: Path | None = None, dynamic: bool = True, **settings: Any
) -> Resolver:
    """A resolver whose random seed is 4711. folder: of styles and wildcards."""
    return Resolver(
        models=models or FakeModels(),
        settings=FakeSettings(**settings),
        known_samplers=SAMPLERS,
        known_schedules=SCHEDULES,
        words=words(folder or NOWHERE, dynamic=dynamic),
        draw_seed=lambda: 4711,
    )


@dataclass(frozen=True, kw_only=True)
class FakeRecord:
    id: int
    index: int
    job: str
    png: bytes
    plan: GenerationPlan
    model_hash: str | None
    facts: Any


class FakePictures:
    """A history in memory, whose disk can be full."""

    def __init__(self) -> None:
        self.records: list[FakeRecord] = []
        self.full: Exception | None = None

    def save(
        self, png: bytes, plan: GenerationPlan, index: int, job: str, *, model_hash: str | None, facts: Any
    ) -> FakeRecord:
        if self.full is not None:
            raise self.full
        record = FakeRecord(
            id=len(self.records) + 1, index=index, job=job, png=png, plan=plan, model_hash=model_hash, facts=facts
        )
        self.records.append(record)
        return record

    def of_job(self, job: str) -> tuple[FakeRecord, ...]:
        return tuple(record for record in self.records if record.job == job)


FULL = StorageError("The disk is full.", hint="Make room.")
