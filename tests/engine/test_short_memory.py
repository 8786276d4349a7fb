"""Short memory: smaller passes, tiles, and what to do where neither helps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from modules.core.job import (
    Completed,
    Failed,
    ImageReady,
    Notice,
)  # fmt: skip
from modules.diffusion.noise import PictureNoise
from tests.engine.small import SmallManager, bench, plan
from tests.engine.watching import latents_of


def test_short_memory_halves_the_pass_and_goes_on() -> None:
    def on_pass(x: Tensor, sigmas: Tensor, text: Tensor) -> None:
        if len(x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    b = bench(SmallManager(on_pass=on_pass))
    b.engine.submit("j", plan(seeds=(1, 2, 3), batch_size=3, steps=2))
    b.run()
    (model,) = b.manager.models.values()
    assert model.passes == [3, 3, 3, 3]
    assert len(b.of("j", ImageReady)) == 3


def test_a_picture_that_does_not_fit_by_itself_fails_with_what_to_do() -> None:
    def on_pass(x: Tensor, sigmas: Tensor, text: Tensor) -> None:
        if x.shape[-1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")

    b = bench(SmallManager(on_pass=on_pass))
    b.engine.submit("large", plan(width=512))
    b.engine.submit("small", plan())
    b.run()
    failed = b.of("large")[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "out_of_memory"
    assert "--medvram" in failed.hint
    assert isinstance(b.of("small")[-1], Completed)


def short(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def short_unless_tiled(latent: Tensor, tiled: bool) -> None:
    if not tiled:
        short()


def test_a_picture_too_large_to_decode_whole_is_decoded_in_tiles_and_says_so() -> None:
    b = bench(SmallManager(on_decode=short_unless_tiled))
    b.engine.submit("j", plan(seeds=(1, 2)))
    b.run()
    notices = [e for e in b.events if isinstance(e, Notice)]
    assert [e.index for e in notices] == [0, 1]
    assert all("tiles" in e.text for e in notices)
    assert len(b.of("j", ImageReady)) == 2
    assert isinstance(b.of("j")[-1], Completed)


@pytest.mark.parametrize("values", [{"on_decode": short}, {"on_encode": short}, {"wait": short}])
def test_short_memory_anywhere_says_what_to_do(values: dict[str, Any]) -> None:
    b = bench(SmallManager(**values))
    b.engine.submit("j", plan())
    b.run()
    failed = b.of("j")[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "out_of_memory"
    assert "--medvram" in failed.hint
    assert b.manager.pins == []


def test_short_memory_beside_the_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PictureNoise, "initial", short)
    b = bench()
    b.engine.submit("j", plan())
    b.run()
    failed = b.of("j")[-1]
    assert isinstance(failed, Failed)
    assert (failed.code, "--medvram" in failed.hint) == ("out_of_memory", True)


def test_what_others_learnt_of_short_memory_does_not_change_a_strict_picture() -> None:
    mine = plan(seeds=(5,), strict=True)
    alone, after = bench(), bench(SmallManager(on_pass=lambda x, *_: short() if len(x) > 3 else None))
    single, later = latents_of(alone), latents_of(after)
    alone.engine.submit("mine", mine)
    alone.run()
    after.engine.submit("other", plan(seeds=(1, 2, 3), batch_size=3, steps=9))
    after.engine.tick()
    after.engine.submit("mine", mine)
    after.run()
    assert torch.equal(single["mine", 0], later["mine", 0])
    assert after.of("mine", Notice) == []


def test_a_strict_picture_that_does_not_fit_into_one_pass_says_so_once() -> None:
    b = bench(SmallManager(on_pass=lambda x, *_: short() if len(x) > 1 else None))
    b.engine.submit("j", plan(strict=True))
    b.engine.submit("k", plan())
    b.run()
    (notice,) = (e for e in b.of("j") if isinstance(e, Notice))
    assert "last bits" in notice.text
    assert b.of("k", Notice) == []
    assert isinstance(b.of("j")[-1], Completed)
