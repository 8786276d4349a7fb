"""The fields of a parameters line, one by one: there and back, what is meant by leaving one out, what is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.core.generation import FileRef
from modules.core.infotext import Infotext, form_values, lost_fields, read_infotext, write_infotext
from modules.core.infotext_fields import FIELDS, InfotextLabels, request_values, split_sampler
from tests.core.test_infotext import LABELS, plan

AUTOMATIC1111 = (
    "Steps", "Sampler", "Schedule type", "CFG scale", "Distilled CFG Scale", "Image CFG scale", "Seed",
    "Face restoration", "Size", "Model hash", "Model", "VAE hash", "VAE", "Variation seed", "Variation seed strength",
    "Seed resize from", "Denoising strength", "Clip skip", "ENSD", "Token merging ratio", "Init image hash", "RNG",
    "Tiling", "Emphasis", "Eta", "Sigma churn", "Sigma tmin", "Sigma tmax", "Sigma noise", "Version",
)  # fmt: skip


def test_fields_stand_in_automatic1111s_order() -> None:
    names = [each.name for each in FIELDS]
    assert len(set(names)) == len(names)
    known = [name for name in names if name in AUTOMATIC1111]
    assert known == sorted(known, key=AUTOMATIC1111.index)
    assert names[-1] == "Version"


@given(
    steps=st.integers(1, 150), cfg_scale=st.floats(1, 30), clip_skip=st.integers(1, 12), seed=st.integers(0, 2**63 - 1),
    width=st.integers(8, 512), height=st.integers(8, 512),
    emphasis=st.sampled_from(["Original", "No norm", "Ignore", "None"]),
    schedule=st.sampled_from(["Automatic", "Karras", "SGM Uniform"]),
)  # fmt: skip
def test_every_value_of_a_plan_comes_back(**values: Any) -> None:
    seed, schedule = values.pop("seed"), values.pop("schedule")
    values |= {"width": values["width"] * 8, "height": values["height"] * 8}
    labels = InfotextLabels(sampler="DPM++ 2M SDE", schedule=schedule, model="m", model_hash="0123456789", version="1")
    info = read_infotext(write_infotext(plan(**values), labels, seed=seed))
    wanted = values | {"seed": seed, "schedule": schedule, "sampler": "DPM++ 2M SDE", "checkpoint": "0123456789"}
    assert form_values(info).items() >= wanted.items()
    assert lost_fields(info) == ()


def test_what_is_left_out_has_its_usual_value() -> None:
    values, lost = request_values({"Steps": "20", "Sampler": "Euler a", "Seed": "1"})
    assert (values["clip_skip"], values["emphasis"], values["schedule"], values["vae"]) == (
        1, "Original", "Automatic", "Automatic",
    )  # fmt: skip
    assert "checkpoint" not in values
    assert lost == ()
    assert form_values(Infotext(prompt="words alone")) == {"prompt": "words alone", "negative_prompt": ""}


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("DPM++ 2M Karras", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M SDE Exponential", ("DPM++ 2M SDE", "Exponential")),
        ("DPM++ 2M SGM Uniform", ("DPM++ 2M", "SGM Uniform")),
        ("Euler a", ("Euler a", "")),
        ("DDIM", ("DDIM", "")),
        ("Karras", ("Karras", "")),
    ],
)
def test_old_sampler_names(label: str, parts: tuple[str, str]) -> None:
    assert split_sampler(label) == parts


def test_the_schedule_of_its_own_field_wins() -> None:
    values, _ = request_values({"Sampler": "DPM++ 2M Karras", "Schedule type": "Exponential"})
    assert (values["sampler"], values["schedule"]) == ("DPM++ 2M", "Exponential")


def test_the_hash_names_the_model_and_the_name_stands_in() -> None:
    both, _ = request_values({"Model hash": "6ce0161689", "Model": "v1-5"})
    assert both["checkpoint"] == "6ce0161689"
    name, _ = request_values({"Model": "v1-5"})
    assert name["checkpoint"] == "v1-5"
    vae, _ = request_values({"VAE hash": "0123456789", "VAE": "v.pt"})
    assert vae["vae"] == "v.pt"


def test_what_cannot_be_used_is_told() -> None:
    fields = {"Steps": "many", "Sampler": "Euler a", "Size": "512 by 512", "RNG": "other", "Hires upscale": "2",
              "Emphasis": "no norm", "Version": "v1", "Clip skip": "-1"}  # fmt: skip
    values, lost = request_values(fields)
    assert lost == ("Steps", "Size", "RNG", "Hires upscale", "Clip skip")
    assert values["emphasis"] == "No norm"
    assert values.keys().isdisjoint({"steps", "width", "clip_skip"})


def test_options_without_a_field_of_their_own_come_before_the_version() -> None:
    text = write_infotext(plan(options={"eta": 0.5, "order": 3.0}), LABELS, seed=1)
    assert text.endswith("RNG: CPU, Eta: 0.5, Sampler option order: 3, Version: v1")


@pytest.mark.parametrize(
    ("values", "text", "read"),
    [
        ({"options": {"eta": 0.5, "s_noise": 1.02}}, "Eta: 0.5, Sigma noise: 1.02", {"eta": 0.5, "s_noise": 1.02}),
        ({"sampler": "ddim", "options": {"eta": 1.0}}, "Eta DDIM: 1", {"eta": 1.0}),
        ({"options": {"s_churn": 4.0, "s_tmin": 0.1, "s_tmax": 9.0}}, "Sigma churn: 4, Sigma tmin: 0.1, Sigma tmax: 9",
         {"s_churn": 4.0, "s_tmin": 0.1, "s_tmax": 9.0}),
        ({"sampler": "unipc", "options": {"bh": 3.0, "lower_order_final": 0.0}},
         "UniPC variant: vary_coeff, UniPC lower order final: False", {"bh": 3.0, "lower_order_final": 0.0}),
        ({"sampler": "unipc", "options": {"bh": 2.0, "order": 2.0}}, "UniPC variant: bh2, UniPC order: 2",
         {"bh": 2.0, "order": 2.0}),
        ({"sampler": "lms", "options": {"order": 3.0}}, "Sampler option order: 3", {"order": 3.0}),
    ],
)  # fmt: skip
def test_options_of_the_sampler_are_written_as_automatic1111_does_and_read(
    values: dict[str, Any], text: str, read: dict[str, float]
) -> None:
    written = write_infotext(plan(**values), LABELS, seed=1)
    assert f"RNG: CPU, {text}, Version" in written
    assert form_values(read_infotext(written))["options"] == read


@pytest.mark.parametrize(
    ("skip_type", "schedule", "lost"),
    [
        ("logSNR", "Exponential", ()),
        ("time_uniform", "Automatic", ()),
        ("time_quadratic", "Automatic", ("UniPC skip type",)),
    ],
)
def test_unipcs_skip_type_is_a_schedule_here(skip_type: str, schedule: str, lost: tuple[str, ...]) -> None:
    values, missed = request_values(
        {"Sampler": "UniPC", "Schedule type": "Automatic", "UniPC skip type": skip_type, "UniPC variant": "vary_coeff"}
    )
    assert (values["schedule"], values["options"], missed) == (schedule, {"bh": 3.0}, lost)


def test_options_of_the_schedule_are_written_as_automatic1111_does_and_read() -> None:
    options = {"sigma_min": 0.05, "sigma_max": 12.0, "rho": 5.0, "alpha": 0.7, "beta": 0.8}
    written = write_infotext(plan(schedule_options=options, discard_penultimate=True), LABELS, seed=1)
    assert (
        "Discard penultimate sigma: True, Schedule max sigma: 12, Schedule min sigma: 0.05, Schedule rho: 5, "
        "Beta schedule alpha: 0.7, Beta schedule beta: 0.8, Version"
    ) in written
    values = form_values(read_infotext(written))
    assert values["schedule_options"] == options
    assert values["discard_penultimate"] is True


def test_seeds_and_noise_are_written_as_automatic1111_does_and_read() -> None:
    made = plan(
        variation_seeds=(77,),
        variation_strength=0.35,
        seed_resize=(768, 512),
        ensd=31337,
        noise_source="NV",
        tiling=True,
    )
    text = write_infotext(made, LABELS, seed=1)
    assert "Variation seed: 77, Variation seed strength: 0.35, Seed resize from: 768x512, " in text
    assert "ENSD: 31337, RNG: NV, Tiling: True, Version" in text
    values = form_values(read_infotext(text))
    wanted = {
        "variation_seed": 77, "variation_strength": 0.35, "seed_resize_width": 768, "seed_resize_height": 512,
        "ensd": 31337, "noise_source": "NV", "tiling": True,
    }  # fmt: skip
    assert {name: values[name] for name in wanted} == wanted


def test_a_gpus_noise_is_not_written_and_its_absence_means_cudas_numbers() -> None:
    text = write_infotext(plan(noise_source="GPU"), LABELS, seed=1)
    assert "RNG" not in text
    assert form_values(read_infotext(text))["noise_source"] == "NV"


def test_files_beside_the_checkpoint_and_a_flow_models_inputs_are_written_as_forge_does_and_read() -> None:
    files = {name: FileRef(name=stem, path=f"/{stem}.safetensors") for name, stem in (
        ("vae", "ae"), ("text_encoder", "clip_l"), ("text_encoder_2", "t5xxl, fp16"))}  # fmt: skip
    made = plan(distilled_cfg_scale=3.5, shift=3.0, **files)
    text = write_infotext(made, replace(LABELS, vae="ae.safetensors"), seed=1)
    info = read_infotext(text)
    assert [name for name in info.fields if name.startswith("Module")] == ["Module 1", "Module 2", "Module 3"]
    assert "Distilled CFG Scale: 3.5, Shift: 3, Seed: 1" in text
    assert 'VAE: ae.safetensors, Module 1: ae, Module 2: clip_l, Module 3: "t5xxl, fp16"' in text
    values = form_values(info)
    assert values["text_encoder"] == ("ae", "clip_l", "t5xxl, fp16")
    assert (values["distilled_cfg_scale"], values["shift"], values["vae"]) == (3.5, 3.0, "ae.safetensors")
    alone = read_infotext(write_infotext(plan(vae=files["vae"]), replace(LABELS, vae="ae.safetensors"), seed=1))
    assert "Module 1" not in alone.fields
    assert form_values(alone)["text_encoder"] == "Automatic"
    assert lost_fields(info) == ()
