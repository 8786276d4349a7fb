"""What a picture's file says, there and back, and from files that others or nobody sensible wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.core.generation import FileRef, GenerationPlan, parse_plan
from modules.imaging.formats import KINDS, Kind, SaveFormat, finished
from modules.imaging.pictures import picture_facts
from modules.imaging.png import png_with_text, read_png_text
from modules.services.provenance import CHUNK, contents, picture_texts
from tests.services.samples import FACTS, make_plan, make_png

PNG = make_png()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(prompt=TEXT, negative=TEXT, seed=st.integers(0, 2**64 - 1), scale=st.floats(1, 30))
def test_any_plan_comes_back_from_the_file_without_loss(prompt: str, negative: str, seed: int, scale: float) -> None:
    plan = make_plan(prompt=prompt, negative_prompt=negative, seeds=(5, seed), cfg_scale=scale, options={"eta": 0.1})
    texts = picture_texts(plan, 1, "job", model_hash=None, facts=FACTS, created=12.5)
    read = contents(64, 64, read_png_text(png_with_text(PNG, texts)))
    assert read.plan is not None
    assert parse_plan(read.plan) == plan.only(1)
    assert (read.prompt, read.negative_prompt, read.seed) == (prompt, negative, seed)
    assert (read.job, read.index, read.created, read.sampler) == ("job", 1, 12.5, "Euler a")


# Lines as nobody sensible writes them, all of which somebody will
ODD = st.lists(
    st.one_of(
        st.sampled_from(
            ["", " ", "Negative prompt: x", "Negative prompt:", " Negative prompt: y ", "a, b: \"c\"", "\"quoted\"",
             "Steps: 1, Sampler: Euler, Seed: 2, Size: 8x8", "\\", "trailing  ", "\tindented", "<lora:x:1>", "{a|b}"]
        ),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    ),
    max_size=6,
).map("\n".join)  # fmt: skip
PLANS = st.builds(
    make_plan,
    prompt=ODD,
    negative_prompt=ODD,
    steps=st.integers(1, 150),
    width=st.integers(8, 512).map(lambda side: side * 8),
    height=st.integers(8, 512).map(lambda side: side * 8),
    cfg_scale=st.floats(1, 30),
    clip_skip=st.integers(1, 12),
    emphasis=st.sampled_from(["Original", "No norm", "Ignore", "None"]),
    strict=st.booleans(),
    seeds=st.tuples(st.integers(0, 2**64 - 1)),
    options=st.dictionaries(st.sampled_from(["eta", "s_noise", "other"]), st.floats(-10, 10)),
    schedule_options=st.dictionaries(st.sampled_from(["rho", "sigma_min"]), st.floats(0, 10)),
    discard_penultimate=st.sampled_from([None, True, False]),
    noise_source=st.sampled_from(["CPU", "GPU", "NV"]),
    variation_seeds=st.sampled_from([(), (3,), (2**64 - 1,)]),
    variation_strength=st.floats(0, 1),
    seed_resize=st.sampled_from([None, (64, 4096), (512, 768)]),
    ensd=st.integers(-(2**31), 2**31),
    tiling=st.booleans(),
    guidance=st.dictionaries(
        st.sampled_from(["rescale", "mine"]), st.dictionaries(st.just("phi"), st.floats(-1, 1), min_size=1)
    ),
    template=ODD,
    negative_template=ODD,
)


@settings(max_examples=60, deadline=None)
@given(plan=PLANS, kind=st.sampled_from(KINDS))
def test_reading_what_was_written_gives_the_plan_in_every_format(plan: GenerationPlan, kind: Kind) -> None:
    facts = replace(FACTS, device="cuda:0")
    texts = picture_texts(plan, 0, "j", model_hash=None, facts=facts, created=1)
    data, made = finished(PNG, texts, SaveFormat(kind=kind))
    assert made == kind
    read = contents(64, 64, picture_facts(data).texts)
    assert read.plan is not None
    assert parse_plan(read.plan) == plan


@pytest.mark.parametrize(("device", "source"), [("cpu", "CPU"), ("mps", "CPU"), ("cuda:0", "GPU"), ("xpu:1", "GPU")])
def test_a_picture_names_the_source_that_it_really_drew_from(device: str, source: str) -> None:
    facts = replace(FACTS, device=device)
    texts = picture_texts(make_plan(noise_source="GPU"), 0, "j", model_hash=None, facts=facts, created=1)
    assert json.loads(texts[CHUNK])["plan"]["noise_source"] == source
    assert ("RNG: CPU" in texts["parameters"]) is (source == "CPU")
    texts = picture_texts(make_plan(noise_source="NV"), 0, "j", model_hash=None, facts=facts, created=1)
    assert "RNG: NV" in texts["parameters"]


def test_a_picture_that_is_shared_does_not_tell_where_the_models_lie() -> None:
    plan = make_plan(
        checkpoint=FileRef(name="art/m", path="/home/ada/models/art/m.safetensors"),
        vae=FileRef(name="v", path="/home/ada/models/VAE/v.safetensors"),
        text_encoder=FileRef(name="t", path="/home/ada/models/text_encoder/t.safetensors"),
    )
    texts = picture_texts(plan, 0, "j", model_hash="ef" * 32, facts=FACTS, created=1)
    assert "ada" not in "".join(texts.values())
    checkpoint = json.loads(texts[CHUNK])["plan"]["checkpoint"]
    assert checkpoint == {"name": "art/m", "path": "m.safetensors", "sha256": "ef" * 32}


def test_prompts_that_look_like_parameters_come_back() -> None:
    prompt = "one\nNegative prompt: two\nSteps: 1, Sampler: x, Seed: 3, Size: 8x8"
    texts = picture_texts(make_plan(prompt=prompt), 0, "j", model_hash=None, facts=FACTS, created=1)
    assert contents(1, 1, texts).prompt == prompt


def test_hashes_are_written_short() -> None:
    plan = make_plan(
        checkpoint=FileRef(name="m", path="/m", sha256="ab" * 32),
        vae=FileRef(name="v", path="/x/v.pt", sha256="cd" * 32),
    )
    text = picture_texts(plan, 0, "j", model_hash=None, facts=FACTS, created=1)["parameters"]
    assert "Model hash: ababababab, Model: m, VAE hash: cdcdcdcdcd, VAE: v.pt" in text
    text = picture_texts(plan, 0, "j", model_hash="ef" * 32, facts=FACTS, created=1)["parameters"]
    assert "Model hash: efefefefef," in text


GOOD = json.loads(picture_texts(make_plan(), 0, "j", model_hash=None, facts=FACTS, created=1)[CHUNK])


@pytest.mark.parametrize(
    "chunk",
    [
        "", "{", "[]", "null", "1", '{"plan": {}}', "[" * 100_000,
        json.dumps({**GOOD, "plan": {**GOOD["plan"], "steps": -1}}),
        json.dumps({**GOOD, "plan": {**GOOD["plan"], "unknown": 1}}),
        json.dumps({**GOOD, "index": "many"}),
        json.dumps({**GOOD, "created": None}),
        json.dumps({key: value for key, value in GOOD.items() if key != "job"}),
    ],
    ids=range(12),
)  # fmt: skip
def test_a_chunk_that_is_not_ours_leaves_the_classic_text(chunk: str) -> None:
    read = contents(8, 9, {"parameters": "a cat\nSteps: 9, Sampler: Euler, Seed: 5, Model: m", CHUNK: chunk})
    assert (read.prompt, read.steps, read.seed, read.sampler, read.checkpoint) == ("a cat", 9, 5, "Euler", "m")
    assert (read.plan, read.job, read.width, read.height) == (None, "", 8, 9)


@pytest.mark.parametrize("values", [{"index": -5}, {"index": 10**30}, {"created": 1e300}, {"job": "x" * 100_000}])
def test_impossible_numbers_are_bounded(values: dict[str, Any]) -> None:
    read = contents(8, 9, {CHUNK: json.dumps({**GOOD, **values})})
    assert 0 <= read.index <= 2**31
    assert read.created is None or read.created < 1e11
    assert len(read.job) <= 200


def test_a_flood_of_text_is_cut() -> None:
    read = contents(8, 9, {"parameters": "x" * 5_000_000})
    assert (len(read.prompt), len(read.infotext)) == (100_000, 300_000)
