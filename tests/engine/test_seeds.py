"""Noise sources, variations and tiling through the engine: a batch is its pictures made one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from modules.core.job import Notice
from modules.core.operations import Predict
from modules.engine.batcher import Turn
from modules.engine.task import picture_noise
from tests.engine.small import SmallManager, bench, plan
from tests.engine.watching import latents_of

CHOICES: dict[str, dict[str, Any]] = {
    "cpu": {},
    "nv": {"noise_source": "NV"},
    "gpu": {"noise_source": "GPU"},
    "variation": {"seeds": (5, 5, 5), "variation_seeds": (7, 8, 9), "variation_strength": 0.3},
    "resized": {"seed_resize": (96, 64), "noise_source": "NV"},
    "ensd": {"ensd": 31337, "sampler": "euler_a"},
    "tiling": {"tiling": True},
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_2m_sde"])
def test_a_strict_batch_is_its_pictures_made_one_by_one_to_the_last_bit(name: str, sampler: str) -> None:
    whole = plan(**{"seeds": (5, 6, 7), "batch_size": 3, "sampler": sampler, "strict": True, **CHOICES[name]})
    together = bench()
    together.engine.submit("j", whole)
    together.run()
    found = []
    for index in range(3):
        alone = bench()
        alone.engine.submit("j", whole.only(index))
        alone.run()
        assert alone.picture("j") == together.picture("j", index)
        found.append(alone.picture("j"))
    assert len(set(found)) == 3


@pytest.mark.parametrize("name", [name for name in CHOICES if name not in ("cpu", "gpu")])
def test_each_choice_changes_the_picture(name: str) -> None:
    latents = []
    for choice in ({}, CHOICES[name]):
        b = bench()
        found = latents_of(b)
        whole = plan(**{"seeds": (5, 6, 7), "sampler": "euler_a", **choice})
        b.engine.submit("j", whole.only(0))
        b.run()
        latents.append(found["j", 0])
    assert not torch.equal(*latents)


def test_seamless_and_other_pictures_share_the_engine_and_no_pass() -> None:
    """In company each is what it is alone, so no pass took both."""
    both = bench()
    latents = latents_of(both)
    both.engine.submit("a", plan(tiling=True, seeds=(3,)))
    both.engine.submit("b", plan(seeds=(3,)))
    both.run()
    for job, tiling in (("a", True), ("b", False)):
        alone = bench()
        single = latents_of(alone)
        alone.engine.submit(job, plan(tiling=tiling, seeds=(3,)))
        alone.run()
        torch.testing.assert_close(latents[job, 0], single[job, 0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(latents["a", 0], latents["b", 0], atol=1e-2)


def test_without_a_gpu_the_person_is_told() -> None:
    b = bench()
    b.engine.submit("j", plan(noise_source="GPU"))
    b.run()
    (notice,) = b.of("j", Notice)
    assert "CPU" in notice.text  # type: ignore[attr-defined]


def test_seamless_pictures_share_passes_with_their_like_alone() -> None:
    manager = SmallManager()
    b = bench(manager)
    b.engine.submit("a", plan(seeds=(1, 2), batch_size=2, tiling=True))
    b.run()
    (model,) = manager.models.values()
    assert model.passes == [4] * 5
    turns: list[set[bool]] = []
    asked = b.engine._batcher.next

    def noted() -> Turn | None:
        turn = asked()
        if turn is not None:
            predicts = [t.operation for t in turn.trajectories if isinstance(t.operation, Predict)]
            turns.append({row.seamless for predict in predicts for row in predict.rows})
        return turn

    b.engine._batcher.next = noted  # type: ignore[method-assign]
    b.engine.submit("b", plan(seeds=(1, 2), batch_size=2, tiling=True))
    b.engine.submit("c", plan(seeds=(1, 2), batch_size=2))
    b.run()
    assert {frozenset(kinds) for kinds in turns if kinds} == {frozenset({True}), frozenset({False})}


def test_a_seed_of_another_size_lies_in_the_middle_the_right_way_round() -> None:
    """A seed's picture that is not square, so that its width and height cannot be taken for each other."""
    tall = plan(width=64, height=96, seed_resize=(96, 64))
    noise = picture_noise(tall, 5, (1, 4, 12, 8), (1.0, 0.0), torch.device("cpu")).initial()
    whole = torch.randn((1, 4, 8, 12), generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(noise[:, :, 2:10], whole[..., 2:10], rtol=0, atol=0)
