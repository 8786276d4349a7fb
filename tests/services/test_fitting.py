"""Infotexts against what an installation has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from modules import samplers, schedules
from modules.core.checkpoint import ModelInfo
from modules.core.errors import CheckpointMissing
from modules.core.infotext import read_infotext
from modules.services.fitting import Fitted, Fitting
from tests.fakes.models import FLUX

SHA = "abcdef0123" + "0" * 54


@dataclass(frozen=True)
class Shelf:
    """One checkpoint and one VAE."""

    supported: bool = True

    def find(self, text: str) -> ModelInfo:
        if text in ("flux1-dev", "f1f1f1f1f1"):
            return FLUX
        return self._found(text, "folder/v1-5", ("v1-5", "abcdef0123"))

    def find_text_encoder(self, text: str) -> ModelInfo:
        return self._found(text, f"sub/{text}", ("clip_l", "t5xxl_fp16"))

    def find_vae(self, text: str) -> ModelInfo:
        return self._found(text, "mse", ("mse.pt", "mse"))

    def _found(self, text: str, name: str, names: tuple[str, ...]) -> ModelInfo:
        if text not in names:
            raise CheckpointMissing(f"There is no {text}.")
        path = str(Path("/models") / name)
        return ModelInfo(
            name=name, path=path, family="sd1", label="SD1", supported=self.supported, problem="", dtype="F16",
            components=(), size=1, mtime_ns=1, sha256=SHA,
        )  # fmt: skip


def fit(line: str, *, prompt: str = "a cat", supported: bool = True) -> Fitted:
    fitting = Fitting(models=Shelf(supported), samplers=samplers.registry(), schedules=schedules.registry())
    return fitting.fit(read_infotext(f"{prompt}\n{line}"))


GOOD = "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 5, Size: 512x768, Model hash: abcdef0123, Model: other"


def test_names_become_those_of_this_installation() -> None:
    found = fit(GOOD + ", VAE: mse.pt, Clip skip: 2, Version: v1.6.0")
    assert found.missed == ()
    assert found.values == {
        "prompt": "a cat", "negative_prompt": "", "steps": 20, "sampler": "dpmpp_2m", "schedule": "karras",
        "cfg_scale": 7.0, "seed": 5, "width": 512, "height": 768, "checkpoint": "folder/v1-5", "vae": "mse",
        "text_encoder": "Automatic",
        "clip_skip": 2, "emphasis": "Original", "options": {}, "schedule_options": {}, "discard_penultimate": None,
        "noise_source": "NV",
            "variation_seed": -1, "variation_strength": 0.0, "seed_resize_width": 0, "seed_resize_height": 0, "ensd": 0,
            "tiling": False, "guidance": {},
    }  # fmt: skip


def test_guidance_that_is_not_here_is_told_of() -> None:
    found = fit(GOOD + ", NGMS: 2.5, PAG scale: 99, APG Eta: 0, Guidance theirs strength: 3")
    assert found.values["guidance"] == {"skip": {"sigma": 2.5}, "apg": {"eta": 0.0}}
    assert [(one.name, one.value) for one in found.missed] == [("PAG scale", "99"), ("Guidance theirs strength", "3")]
    assert [(one.name, one.value) for one in fit(GOOD + ", CFG Rescale φ: 5").missed] == [("CFG Rescale φ", "5")]


def test_it_is_known_which_field_says_what() -> None:
    found = fit(GOOD + ", VAE hash: mse, VAE: mse.pt, Emphasis: No norm")
    assert found.said == {
        "steps": "Steps", "sampler": "Sampler", "schedule": "Sampler", "cfg_scale": "CFG scale", "seed": "Seed",
        "width": "Size", "height": "Size", "checkpoint": "Model", "vae": "VAE", "emphasis": "Emphasis",
    }  # fmt: skip
    assert "clip_skip" not in found.said


def test_the_name_stands_in_for_a_hash_that_is_not_known() -> None:
    line = GOOD.replace("abcdef0123", "9999999999").replace("Model: other", "Model: v1-5")
    assert fit(line).values["checkpoint"] == "folder/v1-5"
    assert fit(GOOD.replace("abcdef0123", "9999999999")).missed[0].value == "other"


@pytest.mark.parametrize(
    ("change", "field", "missed"),
    [
        (("DPM++ 2M Karras", "DPM++ 9M"), "sampler", ("Sampler", "DPM++ 9M")),
        (("CFG scale: 7", "Schedule type: Wavy, CFG scale: 7"), "schedule", ("Schedule type", "Wavy")),
        (("Steps: 20", "Steps: 500"), "steps", ("Steps", "500")),
        (("512x768", "513x768"), "width", ("Size", "513x768")),
        (("Seed: 5", "Seed: 5, VAE: unknown.pt"), "vae", ("VAE", "unknown.pt")),
        (("Seed: 5", "Seed: 5, Hires upscale: 2"), "hires", ("Hires upscale", "2")),
    ],
)
def test_what_is_not_here_is_left_out_and_told(change: tuple[str, str], field: str, missed: tuple[str, str]) -> None:
    found = fit(GOOD.replace(*change))
    assert field not in found.values
    assert [(each.name, each.value) for each in found.missed] == [missed]
    assert found.values["seed"] == 5


def test_a_model_that_cannot_be_loaded_is_not_taken() -> None:
    found = fit(GOOD, supported=False)
    assert "checkpoint" not in found.values
    assert found.missed[0].name == "Model"


def test_a_flood_of_fields_is_cut() -> None:
    line = ", ".join(f"Field {number}: {'x' * 5000}" for number in range(500))
    found = fit(line)
    assert len(found.missed) == 40
    assert all(len(each.value) <= 200 for each in found.missed)


def test_a_prompt_alone_changes_nothing_else() -> None:
    assert fit("", prompt="just a prompt").values == {"prompt": "just a prompt", "negative_prompt": ""}
    long = fit("", prompt="x" * 100_001)
    assert "prompt" not in long.values
    assert long.missed[0].name == "prompt"


def test_options_are_taken_where_sampler_and_schedule_have_them() -> None:
    found = fit("a\nSteps: 20, Sampler: Euler a, Schedule type: Karras, Eta: 0.5, Sigma churn: 3, Schedule rho: 5, "
                "Beta schedule alpha: 0.5, Sigma noise: 90")  # fmt: skip
    assert found.values["options"] == {"eta": 0.5}
    assert found.values["schedule_options"] == {"rho": 5.0}
    assert {each.name for each in found.missed} == {"s_churn", "s_noise", "alpha"}


FORGE = ("Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Shift: 1.15, "
         "Seed: 1, Size: 896x1152, Model hash: f1f1f1f1f1, Model: flux1-dev, Module 1: mse, Module 2: clip_l, "
         "Module 3: t5xxl_fp16, Version: f2.0.1v1.10.1")  # fmt: skip


def test_forges_modules_go_where_they_belong_and_a_flow_models_inputs_are_taken() -> None:
    found = fit(FORGE)
    assert found.missed == ()
    assert found.values["vae"] == "mse"
    assert found.values["text_encoder"] == ("sub/clip_l", "sub/t5xxl_fp16")
    assert (found.values["distilled_cfg_scale"], found.values["shift"]) == (3.5, 1.15)
    lost = fit(FORGE.replace("clip_l", "clip_x"))
    assert lost.values["text_encoder"] == ("sub/t5xxl_fp16",)
    assert [(each.name, each.value) for each in lost.missed] == [("Module 2", "clip_x")]


def test_inputs_that_the_model_here_has_not_are_told_of() -> None:
    found = fit(GOOD + ", Distilled CFG Scale: 3.5, Shift: 3")
    assert [each.name for each in found.missed] == ["Distilled CFG Scale", "Shift"]
    assert "shift" not in found.values
