"""What each program writes, as it writes it, becomes AUTOMATIC1111's words; damage becomes a sentence."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from modules.core.infotext import form_values
from modules.core.metadata import Reading, sampler_label
from modules.metadata import read_texts, registry

READERS = registry()
CLASSIC = "a cat, (detailed:1.2)\nNegative prompt: bad\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x96"


def read(**texts: str) -> Reading:
    found = read_texts({name.replace("__", "-"): text for name, text in texts.items()}, READERS)
    assert found is not None
    return found


def test_no_text_is_nobodys() -> None:
    assert read_texts({}, READERS) is None
    assert read_texts({"Software": "a camera", "Comment": "hello", "parameters": "  "}, READERS) is None


@pytest.mark.parametrize(
    ("end", "program"),
    [
        (", Version: v1.10.1", "AUTOMATIC1111 v1.10.1"),
        ("", "AUTOMATIC1111's format"),
        (", Version: ComfyUI", "AUTOMATIC1111's format"),
        (", Version: f2.0.1v1.10.1-previous-123-gabcdef", "Forge f2.0.1v1.10.1-previous-123-gabcdef"),
        (", App: SD.Next, Version: 1234abc, Backend: Diffusers, Operations: txt2img", "SD.Next 1234abc"),
        (", Version: Fooocus v2.5.5", "Fooocus v2.5.5"),
    ],
)
def test_who_writes_the_classic_text(end: str, program: str) -> None:
    found = read(parameters=CLASSIC + end, fooocus_scheme="a1111")
    assert (found.program, found.text) == (program, CLASSIC + end)
    assert (found.info.prompt, found.info.negative_prompt) == ("a cat, (detailed:1.2)", "bad")
    assert form_values(found.info)["width"] == 64


def test_a_prompt_in_braces_is_no_json() -> None:
    assert read(parameters="{red|blue} cat\nSteps: 1, Sampler: Euler, Seed: 1").info.prompt == "{red|blue} cat"


def test_our_own_chunk_names_us() -> None:
    chunk = json.dumps({"schema": 1, "engine": {"version": "0.1.0"}})
    assert read(parameters=CLASSIC, inferenz=chunk).program == "Inferenz 0.1.0"
    assert read(parameters=CLASSIC, inferenz="{").program == "AUTOMATIC1111's format"


def test_fooocus() -> None:
    values = {
        "prompt": "a cat", "negative_prompt": "", "prompt_expansion": "", "styles": "['Fooocus V2', 'Sharp']",
        "performance": "Speed", "steps": 30, "resolution": "(1152, 896)", "guidance_scale": 4.0, "sharpness": 2.0,
        "base_model": "juggernautXL_v8Rundiffusion", "base_model_hash": "aeb7e9e689", "refiner_model": "None",
        "clip_skip": 2, "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "123", "vae": "Default (model)",
        "lora_combined_1": "sd_xl_offset_example-lora_1.0.safetensors : 0.1", "metadata_scheme": False,
        "version": "Fooocus v2.5.5",
    }  # fmt: skip
    found = read(parameters=json.dumps(values), fooocus_scheme="fooocus")
    assert found.program == "Fooocus v2.5.5"
    assert found.text == (
        "a cat <lora:sd_xl_offset_example-lora_1.0:0.1>\nSteps: 30, Sampler: DPM++ 2M SDE, Schedule type: Karras, "
        "CFG scale: 4, Seed: 123, Size: 1152x896, Model hash: aeb7e9e689, Model: juggernautXL_v8Rundiffusion, "
        "Clip skip: 2"
    )
    assert "Fooocus V2" in found.notes[0]
    full = read(parameters=json.dumps({**values, "full_prompt": ["a cat", "sharp"], "loras": [["l", 0.5, "hash"]]}))
    assert full.info.prompt.startswith("a cat, sharp <lora:l:0.5>")
    assert full.notes == ()


def test_swarmui() -> None:
    values = {
        "sui_image_params": {
            "prompt": "a cat", "negativeprompt": "bad", "model": "OfficialStableDiffusion/sd_xl_base_1.0", "seed": 7,
            "steps": 20, "cfgscale": 7.5, "aspectratio": "1:1", "width": 1024, "height": 1024, "clipstopatlayer": -2,
            "sampler": "dpmpp_3m_sde", "scheduler": "exponential", "automaticvae": True, "swarm_version": "0.9.3.1",
        },
        "sui_extra_data": {"date": "2024-01-01"},
    }  # fmt: skip
    found = read(parameters=json.dumps(values))
    assert found.program == "SwarmUI 0.9.3.1"
    assert found.text == (
        "a cat\nNegative prompt: bad\nSteps: 20, Sampler: DPM++ 3M SDE, Schedule type: Exponential, CFG scale: 7.5, "
        "Seed: 7, Size: 1024x1024, Model: sd_xl_base_1.0, Clip skip: 2"
    )


def test_novelai() -> None:
    comment = {"prompt": "1girl, {{smile}}", "steps": 28, "height": 1216, "width": 832, "scale": 5.0, "seed": 3,
               "noise_schedule": "native", "sampler": "k_euler_ancestral", "uc": "lowres",
               "strength": 0.69}  # fmt: skip
    texts = {"Software": "NovelAI", "Source": "Stable Diffusion XL C1E1DE52", "Description": "1girl",
             "Comment": json.dumps(comment)}  # fmt: skip
    found = read(**texts)
    assert found.text == (
        "1girl, {{smile}}\nNegative prompt: lowres\nSteps: 28, Sampler: Euler a, CFG scale: 5, Seed: 3, "
        "Size: 832x1216, Model: Stable Diffusion XL C1E1DE52, Denoising strength: 0.69"
    )
    assert "braces" in found.notes[0]
    newer = {"v4_prompt": {"caption": {"base_caption": "a cat"}}, "v4_negative_prompt": {"caption": {}}, "seed": 1}
    assert read(Software="NovelAI", Comment=json.dumps(newer)).info.prompt == "a cat"


def test_invokeai_of_three_ages() -> None:
    current = {
        "generation_mode": "txt2img", "positive_prompt": "a cat", "negative_prompt": "bad", "width": 512,
        "height": 640, "seed": 9, "rand_device": "cpu", "cfg_scale": 7.5, "steps": 30, "scheduler": "dpmpp_2m_k",
        "clip_skip": 1, "model": {"key": "1", "name": "dreamshaper", "hash": "blake3:0"}, "app_version": "5.0.0",
    }  # fmt: skip
    found = read(invokeai_metadata=json.dumps(current))
    assert found.program == "InvokeAI 5.0.0"
    assert found.text == (
        "a cat\nNegative prompt: bad\nSteps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 9, "
        "Size: 512x640, Model: dreamshaper, Clip skip: 2"
    )
    former = {
        "model_weights": "stable-diffusion-1.5", "app_id": "invoke-ai/InvokeAI", "app_version": "2.3.5",
        "image": {"prompt": [{"prompt": "a cat [ugly, wet] in the sun", "weight": 1.0}], "steps": 50,
                  "cfg_scale": 7.5, "seed": 4, "width": 512, "height": 512, "sampler": "k_lms"},
    }  # fmt: skip
    found = read(sd__metadata=json.dumps(former), Dream='"never" -s 1')
    assert (found.info.prompt, found.info.negative_prompt) == ("a cat in the sun", "ugly, wet")
    assert found.info.fields["Sampler"] == "LMS"
    found = read(Dream='"a cat, \\"black\\" [bad]" -s 50 -S 42 -W 512 -H 704 -C 7.5 -A k_euler_a')
    assert found.text == (
        'a cat, "black"\nNegative prompt: bad\nSteps: 50, Sampler: Euler a, CFG scale: 7.5, Seed: 42, Size: 512x704'
    )


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("euler_ancestral", ("Euler a", "")),
        ("k_dpmpp_2m", ("DPM++ 2M", "")),
        ("dpmpp_2m_sde_gpu", ("DPM++ 2M SDE", "")),
        ("dpmpp_sde_k", ("DPM++ SDE", "Karras")),
        ("uni_pc", ("UniPC", "")),
        ("Euler a", ("Euler a", "")),
        ("something_new", ("something_new", "")),
    ],
)
def test_names_of_samplers(name: str, label: tuple[str, str]) -> None:
    assert sampler_label(name) == label


@pytest.mark.parametrize(
    "texts",
    [
        {"parameters": '{"sui_image_params": {', "program": "SwarmUI"},
        {"parameters": "{" * 100_000 + "}", "fooocus_scheme": "x", "program": "Fooocus"},
        {"invokeai_metadata": "[]", "program": "InvokeAI"},
        {"sd-metadata": "{}", "program": "InvokeAI"},
        {"Dream": '"unclosed', "program": "InvokeAI"},
        {"Software": "NovelAI", "Comment": '{"seed": ' + "9" * 5000 + "}", "program": "NovelAI"},
        {"inferenz": "null", "program": "Inferenz"},
    ],
    ids=range(7),
)
def test_broken_texts_say_whose_they_are_and_what_is_wrong(texts: dict[str, str]) -> None:
    program = texts.pop("program")
    found = read_texts(texts, READERS)
    assert found is not None
    assert found.program == program
    assert found.notes[0].endswith(".")
    beside = read_texts({"parameters": CLASSIC, **texts}, READERS)
    assert beside is not None
    assert beside.text in ("", CLASSIC)


def test_a_text_that_is_too_long_is_not_taken_apart() -> None:
    found = read(parameters="a b: c, " * 300_000)
    assert (found.text, dict(found.info.fields)) == ("", {})
    assert "longer than 2 million" in found.notes[0]


def test_values_of_any_kind_raise_nothing() -> None:
    chance = random.Random(0)
    oddities: list[Any] = [None, [], {}, [[]], True, -1, 1e999, "x", 10**400, {"caption": 1}, [{"prompt": []}], "\0"]
    keys = ["prompt", "uc", "steps", "seed", "sampler", "scheduler", "width", "height", "model", "image", "vae",
            "loras", "clip_skip", "resolution", "styles", "full_prompt", "v4_prompt", "strength", "lora_combined_1",
            "clipstopatlayer", "base_model", "guidance_scale", "performance", "model_weights"]  # fmt: skip
    for _ in range(300):
        values = {key: chance.choice(oddities) for key in keys if chance.random() < 0.7}
        text = json.dumps({name: value for name, value in values.items() if value != 10**400})
        for texts in (
            {"Software": "NovelAI", "Comment": text},
            {"parameters": json.dumps({"sui_image_params": json.loads(text)})},
            {"parameters": text, "fooocus_scheme": "fooocus"},
            {"invokeai_metadata": text},
            {"sd-metadata": text},
            {"inferenz": text},
        ):
            read_texts(texts, READERS)
