"""From what a person asks to the file in outputs/, through the real worker and the starter checkpoint."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from modules.core.generation import parse_plan
from modules.core.infotext import form_values, read_infotext
from modules.imaging.png import read_png_text
from modules.services.views import JobView
from tests.app.conftest import STARTER, Whole, until
from tests.tiny import write_tiny_sd1

COLOURS = {"red": 0, "green": 1, "blue": 2}


def test_a_picture_is_saved_with_everything_that_makes_it_again(whole: Whole) -> None:
    view = whole.make(seed=7, batch_size=2, sampler="Euler a", schedule="Karras", negative_prompt="a cat")
    files = whole.files(view)
    assert [path.name.partition("-")[2] for path in files] == ["7.png", "8.png"]
    texts = read_png_text(files[1])
    sha256 = hashlib.sha256((STARTER / "inferenz-starter.safetensors").read_bytes()).hexdigest()
    info = read_infotext(texts["parameters"])
    assert info.fields["Model hash"] == sha256[:10]  # computed while the worker started and sampled
    assert "Eta" not in info.fields
    assert info.fields["CFG scale"] == "4"
    assert form_values(info)["seed"] == 8
    plan = parse_plan(json.loads(texts["inferenz"])["plan"])
    assert (plan.seeds, plan.sampler, plan.schedule) == ((8,), "euler_a", "karras")
    assert (plan.width, plan.height, plan.checkpoint.sha256) == (128, 128, sha256)

    again = whole.over(whole.app.jobs.submit(json.loads(texts["inferenz"])["plan"]))
    assert _apart(whole.pixels(again)[0], whole.pixels(view)[1]) <= 1  # alone, and side by side: to rounding
    record = whole.app.history.get(view.images[0].picture or 0)
    assert record is not None
    assert (record.seed, record.prompt) == (7, "a red apple on a blue background")
    assert (view.device, view.dtype) == ("cpu", "float32")
    assert view.tokens == (("a", "red", "apple", "on", "a", "blue", "background"),)


@pytest.mark.parametrize(
    ("sampler", "said"), [("Euler a", True), ("Euler", False), ("DPM++ 2M SDE", False), ("LCM", False)]
)
def test_the_eta_noise_seed_delta_is_named_where_automatic1111_names_it(whole: Whole, sampler: str, said: bool) -> None:
    (path,) = whole.files(whole.make(sampler=sampler, steps=2, ensd=31337))
    texts = read_png_text(path)
    assert (", ENSD: 31337, RNG: " in texts["parameters"]) is said
    assert parse_plan(json.loads(texts["inferenz"])["plan"]).ensd == 31337


def test_a_varied_seamless_picture_is_made_again_from_its_file(whole: Whole) -> None:
    asked: dict[str, Any] = {
        "seed": 7, "batch_size": 2, "sampler": "Euler a", "strict": True, "steps": 3, "noise_source": "GPU",
        "ensd": 31337, "variation_seed": 3, "variation_strength": 0.3, "tiling": True, "seed_resize_width": 64,
        "seed_resize_height": 192,
    }  # fmt: skip
    view = whole.make(**asked)
    texts = [read_png_text(path) for path in whole.files(view)]
    assert ", Variation seed: 4, Variation seed strength: 0.3, Seed resize from: 64x192, " in texts[1]["parameters"]
    # The processor's numbers were drawn, and the file says so: elsewhere a GPU's would be others
    assert ", ENSD: 31337, RNG: CPU, Tiling: True, " in texts[1]["parameters"]
    again = whole.over(whole.app.jobs.submit(json.loads(texts[1]["inferenz"])["plan"]))
    assert np.array_equal(whole.pixels(again)[0], whole.pixels(view)[1])
    pasted = whole.make(**{**form_values(read_infotext(texts[1]["parameters"])), "strict": True})
    assert np.array_equal(whole.pixels(pasted)[0], whole.pixels(view)[1])


def test_the_same_seed_gives_the_same_bytes_alone_and_strict_in_company(whole: Whole) -> None:
    alone = whole.pixels(whole.make(seed=3))[0]
    assert np.array_equal(alone, whole.pixels(whole.make(seed=3))[0])
    company = [whole.submit(seed=30 + place, batch_size=2) for place in range(2)]
    strict = whole.make(seed=3, strict=True)
    assert np.array_equal(alone, whole.pixels(strict)[0])
    assert [whole.over(view).state for view in company] == ["completed"] * 2
    assert not np.array_equal(alone, whole.pixels(whole.make(seed=4))[0])


@pytest.fixture(scope="module")
def drawn(whole: Whole) -> dict[str, JobView]:
    prompts = (
        "a red apple on a blue background", "a green frog on a white background",
        "a yellow banana on a purple background", "a blue fish on a yellow background",
    )  # fmt: skip
    jobs = {prompt: whole.submit(prompt, seed=1) for prompt in prompts}
    return {prompt: whole.over(view) for prompt, view in jobs.items()}


@pytest.mark.parametrize(
    ("prompt", "middle", "corners"),
    [
        ("a red apple on a blue background", (246, 77, 77), (45, 100, 215)),
        ("a green frog on a white background", (103, 214, 112), (255, 255, 255)),
        ("a yellow banana on a purple background", (244, 212, 83), (130, 60, 180)),
        ("a blue fish on a yellow background", (75, 139, 251), (250, 215, 60)),
    ],
)
def test_colours_are_what_the_prompt_says(
    prompt: str, middle: tuple[int, ...], corners: tuple[int, ...], drawn: dict[str, JobView], whole: Whole
) -> None:
    """As they are in the drawings that the starter was trained on."""
    (rgb,) = whole.pixels(drawn[prompt])
    edge = np.concatenate([rgb[:12, :12], rgb[:12, -12:], rgb[-12:, :12], rgb[-12:, -12:]])
    found = rgb[48:80, 48:80].mean(axis=(0, 1)), edge.mean(axis=(0, 1))
    for part, wanted in zip(found, (middle, corners), strict=True):
        assert np.abs(part - np.array(wanted)).max() < 60, (prompt, [each.round() for each in found])


def test_a_new_file_appears_without_a_restart(whole: Whole) -> None:
    name = "folder/arrived"
    path = whole.folder / "models" / "Stable-diffusion" / f"{name}.safetensors"
    path.parent.mkdir()
    write_tiny_sd1(path, seed=5)
    until(lambda: name in [info.name for info in whole.app.catalog.checkpoints()] or None, 10)
    view = whole.make(checkpoint=name, steps=2)
    assert read_infotext(read_png_text(whole.files(view)[0])["parameters"]).fields["Model"] == "arrived"
    assert (view.plan.width, view.model_source) == (64, "file")


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other).max())
