"""What a replay runs, and what it says of the difference; the whole way stands in tests/api and tests/app."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modules.core.errors import CheckpointMissing, RequestError, StorageError
from modules.core.generation import parse_plan
from modules.imaging.encode import encode_png
from modules.imaging.formats import Kind, SaveFormat, finished
from modules.services.fitting import Fitting
from modules.services.inspection import Inspector
from modules.services.provenance import picture_texts
from modules.services.replay import Outcome, Replays, compared, outcome_json
from tests.services.samples import FACTS, make_plan, make_png
from tests.services.test_fitting import Shelf

CHANCE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


class Nowhere:
    """Keeps no picture."""

    def save(self, *_: Any, **__: Any) -> Any:
        return None

    def of_job(self, job: str) -> Any:
        return ()


@pytest.fixture(scope="module")
def replays() -> Replays:
    from modules import samplers, schedules

    fitting = Fitting(models=Shelf(), samplers=samplers.registry(), schedules=schedules.registry())
    return Replays(Inspector(fitting), Nowhere())


def ours(pixels: Any = CHANCE, kind: Kind = "png", **facts: Any) -> bytes:
    saved = SaveFormat(kind=kind, quality=70)
    texts = picture_texts(make_plan(), 1, "j", model_hash=None, facts=replace(FACTS, **facts), created=1, saved=saved)
    return finished(encode_png(pixels), texts, saved)[0]


def outcome(replays: Replays, picture: bytes, made: Any = CHANCE, **facts: Any) -> Outcome:
    return compared(replays.recorded(picture), make_plan(), encode_png(made), replace(FACTS, **facts))


def test_our_picture_runs_its_own_plan_alone(replays: Replays) -> None:
    values = dict(replays.recorded(ours()).values)
    assert parse_plan(values) == replace(make_plan().only(1), strict=True)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "avif"])
def test_the_same_pixels_are_identical_in_every_format(replays: Replays, kind: Kind) -> None:
    found = outcome(replays, ours(kind=kind))
    assert (found.verdict, found.reasons) == ("identical", ())
    assert found.difference is not None
    assert found.difference.largest == 0


def test_verdicts_and_their_numbers(replays: Replays) -> None:
    near = CHANCE.copy()
    near[0, 0] = np.where(near[0, 0] < 250, near[0, 0] + 2, near[0, 0] - 2)
    found = outcome(replays, ours(), near)
    assert found.verdict == "rounding"
    assert found.difference is not None
    assert found.difference.largest == 2
    assert found.difference.mean == pytest.approx(2 / (64 * 64))
    assert found.difference.share == pytest.approx(1 / (64 * 64))
    assert outcome(replays, ours(), 255 - CHANCE).verdict == "different"
    far = CHANCE.copy()
    far[0, 0, 0] ^= 64
    assert outcome(replays, ours(), far).verdict == "different"
    smaller = outcome(replays, ours(), CHANCE[:32])
    assert (smaller.verdict, smaller.difference) == ("different", None)
    assert str(smaller.reasons[0]) == "It has 64 x 64 pixels, and what its plan makes has 64 x 32."


def test_what_may_be_behind_a_difference_is_told(replays: Replays) -> None:
    picture = ours(device="cuda:0", dtype="float16", version="0.0.9", partial=True)
    found = outcome(replays, picture)
    assert [reason.code for reason in found.reasons] == ["partial", "version", "device", "dtype"]
    assert str(found.reasons[2]) == "It was made on cuda:0, and now on cpu."
    values = json.loads(json.dumps(outcome_json(found)))
    assert values["verdict"] == "identical"
    assert values["difference"]["largest"] == 0
    assert values["reasons"][1] == {
        "code": "version", "there": "0.0.9", "here": "test", "text": "It was made by version 0.0.9, and this is test."
    }  # fmt: skip


def classic(line: str, kind: Kind = "png") -> bytes:
    return finished(encode_png(CHANCE), {"parameters": f"a cat\n{line}"}, SaveFormat(kind=kind))[0]


def test_a_classic_text_is_reconstructed_as_far_as_it_goes(replays: Replays) -> None:
    line = "Steps: 20, Sampler: Euler a, Seed: 5, Size: 64x64, Model: v1-5, Hires upscale: 2, Version: v1.6.0"
    recorded = replays.recorded(classic(line, "jpg"))
    assert recorded.values["sampler"] == "euler_a"
    assert recorded.values["strict"] is True
    found = compared(recorded, make_plan(), encode_png(CHANCE), FACTS)
    assert [reason.code for reason in found.reasons] == ["reconstructed", "missed", "compression"]
    assert "AUTOMATIC1111 v1.6.0" in str(found.reasons[0])
    unnamed = compared(replays.recorded(classic("Steps: 20, Sampler: Euler a, Seed: 5")), make_plan(),
                       encode_png(CHANCE), FACTS)  # fmt: skip
    assert unnamed.reasons[-1].here == "starter"


def test_what_cannot_be_made_again_says_why(replays: Replays, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nothing of how"):
        replays.recorded(make_png())
    with pytest.raises(CheckpointMissing, match="gone-model"):
        replays.recorded(classic("Steps: 20, Sampler: Euler a, Seed: 5, Model: gone-model"))
    with pytest.raises(RequestError, match="seed"):
        replays.recorded(classic("Steps: 20, Sampler: Euler a, Size: 64x64"))
    with pytest.raises(StorageError):
        replays.recorded(b"no picture")
    with pytest.raises(StorageError):
        replays.recorded(tmp_path / "none.png")


@pytest.mark.parametrize("file", ["x", [], {"kind": "gif", "quality": 5}, {"kind": "jpg", "quality": 0},
                                  {"kind": "webp", "quality": 50}, {"kind": [], "quality": 5}])  # fmt: skip
def test_a_chunk_that_lies_about_its_file_is_not_believed(replays: Replays, file: Any) -> None:
    texts = picture_texts(make_plan(), 1, "j", model_hash=None, facts=FACTS, created=1)
    chunk = {**json.loads(texts["inferenz"]), "file": file, "engine": file}
    picture, _ = finished(encode_png(CHANCE), {**texts, "inferenz": json.dumps(chunk)}, SaveFormat(kind="jpg"))
    recorded = replays.recorded(picture)
    assert (recorded.saved, recorded.device) == (None, "")
