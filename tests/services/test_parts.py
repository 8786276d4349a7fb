"""Which VAE and text encoder a checkpoint is used with, by real small files in real folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modules.core.checkpoint import ModelInfo
from modules.core.errors import CheckpointMissing, RequestError, UnsupportedCheckpoint
from modules.core.family import Part
from modules.core.generation import GenerationPlan, parse_plan, plan_json
from modules.families.sd1 import PARTS as SD1_PARTS
from modules.services.catalog import Catalog
from modules.services.parts import choose_parts
from modules.services.resolve import Resolver
from modules.services.state import StateDatabase
from tests.fakes.models import SAMPLERS, SCHEDULES, FakeSettings, words
from tests.tiny import write_part, write_tiny_sd1, write_without

TEXT_MODEL = "cond_stage_model.transformer.text_model."
VAE = "first_stage_model."


class Place:
    """A models folder with a catalog, a resolver over both, and a whole checkpoint outside to take parts from."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.checkpoints = self.models / "Stable-diffusion"
        self.checkpoints.mkdir(parents=True)
        self.whole = write_tiny_sd1(folder / "whole.safetensors", seed=1)
        self.state = StateDatabase(folder / "state.sqlite3")
        self.catalog = Catalog(
            (self.models,), (), (), self.state, text_encoder_dirs=(folder / "more",), hashing=lambda: False
        )

    def checkpoint(self, name: str, *without: str) -> None:
        write_without(self.whole, self.checkpoints / f"{name}.safetensors", *without or ("nothing",))

    def vae(self, path: str) -> None:
        write_part(self.whole, self.models / f"{path}.safetensors", prefix=VAE)

    def text_encoder(self, path: str) -> None:
        write_part(self.whole, self.models / f"{path}.safetensors", prefix=TEXT_MODEL, to="text_model.")

    def plan(self, **values: str) -> GenerationPlan:
        self.catalog.refresh()
        settings = FakeSettings()
        return Resolver(
            models=self.catalog,
            settings=settings,
            known_samplers=SAMPLERS,
            known_schedules=SCHEDULES,
            words=words(),
        ).resolve({"sampler": "euler", **values})

    def close(self) -> None:
        self.catalog.close()
        self.state.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def names(plan: GenerationPlan) -> tuple[str | None, str | None]:
    """Of VAE and text encoder."""
    vae, text = (part.name if part else None for part in (plan.vae, plan.text_encoder))
    return vae, text


def unhashed(plan: GenerationPlan) -> GenerationPlan:
    """Without its files' hashes, which a thread may have computed since."""
    parts = (plan.checkpoint, plan.vae, plan.text_encoder)
    checkpoint, vae, text = (part and replace(part, sha256=None) for part in parts)
    assert checkpoint is not None
    return replace(plan, checkpoint=checkpoint, vae=vae, text_encoder=text)


def test_a_whole_checkpoint_uses_its_own_parts(place: Place) -> None:
    place.checkpoint("whole")
    place.vae("VAE/mse")
    place.text_encoder("text_encoder/clip_l")
    plan = place.plan()
    assert names(plan) == (None, None)
    values = plan_json(plan)
    assert values.pop("text_encoder") is None
    assert parse_plan(values) == plan  # as plans were before the field existed
    assert names(place.plan(vae="mse", text_encoder="clip_l.safetensors")) == ("mse", "clip_l")


def test_a_vae_named_after_its_checkpoint_comes_first(place: Place) -> None:
    place.checkpoint("whole")
    place.checkpoint("bare", VAE)
    place.vae("VAE/a-first")
    place.vae("VAE/whole.vae")
    assert names(place.plan(checkpoint="whole")) == ("whole.vae", None)
    place.vae("Stable-diffusion/whole.vae")
    plan = place.plan(checkpoint="whole")
    assert plan.vae is not None
    assert plan.vae.path == str(place.checkpoints / "whole.vae.safetensors")
    assert names(place.plan(checkpoint="whole", vae="None")) == (None, None)
    assert names(place.plan(checkpoint="bare")) == ("a-first", None)


def test_a_missing_vae_is_taken_from_the_folder_or_named(place: Place) -> None:
    place.checkpoint("bare", VAE)
    place.vae("VAE/sdxl_vae")
    with pytest.raises(RequestError, match=r"bare has no VAE of its own, and there is no file that fits.*models/VAE"):
        place.plan()
    assert names(place.plan(vae="sdxl_vae")) == ("sdxl_vae", None)
    place.vae("Stable-diffusion/another.vae")
    place.vae("VAE/vae-ft-mse")
    assert names(place.plan()) == ("vae-ft-mse", None)
    with pytest.raises(RequestError, match=r"^vae: bare has no VAE of its own\. Accepted: a VAE file in models/VAE"):
        place.plan(vae="None")


@pytest.mark.parametrize("folder", ["text_encoder", "CLIP", "../more"])
def test_a_missing_text_encoder_is_taken_from_the_folders_or_named(folder: str, place: Place) -> None:
    place.checkpoint("bare", "cond_stage_model.")
    with pytest.raises(RequestError) as refused:
        place.plan()
    assert refused.value.field == "text_encoder"
    assert "bare has no CLIP-L text encoder of its own" in str(refused.value)
    assert "of width 8 in models/text_encoder" in refused.value.accepted
    place.text_encoder(f"{folder}/other")
    assert names(place.plan()) == (None, "other")
    place.text_encoder(f"{folder}/tiny_clip_l")
    plan = place.plan()
    assert names(plan) == (None, "tiny_clip_l")
    values = plan_json(plan)
    assert values["text_encoder"]["name"] == "tiny_clip_l"
    values["text_encoder"]["path"] = "/etc/passwd"
    assert unhashed(place.plan(**values)) == unhashed(plan)
    assert names(place.plan(text_encoder="Other")) == (None, "other")
    with pytest.raises(CheckpointMissing, match="no text encoder 'nothing'"):
        place.plan(text_encoder="nothing")


def test_a_start_opens_on_a_checkpoint_that_can_be_used(place: Place) -> None:
    place.checkpoint("a-bare", "cond_stage_model.")
    place.checkpoint("b-whole")
    assert place.plan().checkpoint.name == "b-whole"
    place.text_encoder("text_encoder/clip_l")
    assert place.plan().checkpoint.name == "a-bare"


def encoder(name: str, width: int = 768, layers: int = 12, tokens: int = 77) -> ModelInfo:
    config = {"hidden_size": width, "num_hidden_layers": layers, "max_position_embeddings": tokens}
    return ModelInfo(
        name=name,
        path=f"/{name}",
        family="text_encoder",
        label="",
        supported=True,
        variant="clip_g" if width == 1280 else "clip_l",
        config={"text_encoder": config},
    )


class Shelf:
    """Files of which only the dimensions are known."""

    def __init__(self, *encoders: ModelInfo) -> None:
        self.encoders = encoders

    def vaes(self) -> tuple[ModelInfo, ...]:
        return ()

    def text_encoders(self) -> tuple[ModelInfo, ...]:
        return self.encoders

    def needs(self, info: ModelInfo) -> tuple[Part, ...]:
        return SD1_PARTS

    def find_vae(self, text: str) -> ModelInfo:
        raise CheckpointMissing(text)

    def find_text_encoder(self, text: str) -> ModelInfo:
        return next(info for info in self.encoders if info.name == text)


FULL_SIZE = ModelInfo(
    name="photo", path="/photo.safetensors", family="sd1", label="", supported=True, components=("unet", "vae"),
    config={"unet": {"cross_attention_dim": 768}},
)  # fmt: skip


def test_only_clip_l_fits_a_full_size_checkpoint_and_the_plain_one_comes_first() -> None:
    short, wide = encoder("a", layers=11), encoder("b", width=1280)
    with pytest.raises(RequestError, match=r"a CLIP-L file in models/text_encoder, such as clip_l\.safetensors"):
        choose_parts(FULL_SIZE, vae="Automatic", text_encoder="Automatic", files=Shelf(short, wide))
    files = Shelf(short, wide, encoder("a-long", tokens=248), encoder("b-tuned"), encoder("c/clip_l"))
    chosen = choose_parts(FULL_SIZE, vae="Automatic", text_encoder="automatic", files=files)
    assert chosen.text_encoder is not None
    assert chosen.text_encoder.name == "c/clip_l"
    with pytest.raises(RequestError, match="b is CLIP-G, and photo needs CLIP-L"):
        choose_parts(FULL_SIZE, vae="Automatic", text_encoder="b", files=files)


def test_a_file_that_is_no_text_encoder_is_refused_with_its_reason(place: Place) -> None:
    place.checkpoint("bare", "cond_stage_model.")
    place.vae("text_encoder/wrong")
    with pytest.raises(UnsupportedCheckpoint, match=r"wrong\.safetensors is no text encoder"):
        place.plan(text_encoder="wrong")
    with pytest.raises(RequestError, match="no file that fits"):
        place.plan()
