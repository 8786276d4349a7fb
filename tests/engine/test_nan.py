"""Numbers that are none: made again in float32, or an error, and never a black square."""

from __future__ import annotations

import pytest

from modules.core.job import (
    Completed,
    Failed,
    ImageReady,
    Notice,
    Started,
    Step,
)  # fmt: skip
from tests.engine.small import SmallManager, bench, plan
from tests.engine.watching import kinds, pixels


def test_nan_in_the_latent_is_made_again_in_float32() -> None:
    b = bench(SmallManager(dtype="bfloat16", broken=("denoise",)))
    b.engine.submit("j", plan(seeds=(1,)))
    b.run()
    (notice,) = (e for e in b.events if isinstance(e, Notice))
    assert "float32" in notice.text
    assert notice.index == 0
    exact = bench(SmallManager(dtype="float32"))
    exact.engine.submit("j", plan(seeds=(1,)))
    exact.run()
    assert b.picture("j") == exact.picture("j")
    assert len(b.of("j", Started)) == 1


def test_nan_is_noticed_at_the_first_step_and_not_at_the_last() -> None:
    b = bench(SmallManager(dtype="bfloat16", broken=("denoise",)))
    b.engine.submit("j", plan(steps=50))
    b.run()
    (model,) = b.manager.models.values()
    assert model.passes == [2]
    assert len(b.of("j", Step)) == 50
    assert isinstance(b.of("j")[-1], Completed)


def test_nan_that_comes_later_is_noticed_within_a_few_steps() -> None:
    b = bench(SmallManager(dtype="bfloat16"))
    b.engine.submit("j", plan(steps=50))
    for _ in range(8):
        b.engine.tick()
    (model,) = b.manager.models.values()
    model.broken = ("denoise",)
    b.run()
    assert 7 <= len(model.passes) <= 11
    assert isinstance(b.of("j")[-1], Completed)


@pytest.mark.parametrize("ticks", [4, 6])
def test_a_stopped_picture_with_nan_is_not_made_all_over_again(ticks: int) -> None:
    b = bench(SmallManager(dtype="bfloat16"), keep_partial=True)
    b.engine.submit("j", plan(seeds=(1,), steps=5))
    for tick in range(ticks):
        b.engine.tick()
        if tick == 1:  # after the first step, which is looked at
            next(iter(b.manager.models.values())).broken = ("denoise",)
    steps = len(b.of("j", Step))
    b.engine.interrupt("j")
    b.run()
    assert kinds(b.of("j"))[-1] == "Interrupted"
    assert len(b.of("j", Step)) == steps > 0
    assert b.of("j", ImageReady) == []


def test_nan_in_the_picture_is_decoded_again_in_float32() -> None:
    b = bench(SmallManager(dtype="bfloat16", broken=("decode",)))
    b.engine.submit("j", plan(seeds=(1,)))
    b.run()
    assert len(b.of("j", Notice)) == 1
    assert pixels(b.picture("j")).std() > 1
    assert len(b.of("j", Step)) == 5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nan_in_float32_too_fails_and_is_never_a_black_square(dtype: str) -> None:
    b = bench(SmallManager(dtype=dtype, broken=("always",)))
    b.engine.submit("j", plan())
    b.run()
    failed = b.of("j")[-1]
    assert isinstance(failed, Failed)
    assert "NaN" in failed.message
    assert b.of("j", ImageReady) == []
