"""Interrupt, skip, errors and a lost device: who is stopped, and who goes on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from modules.core.errors import EngineError
from modules.core.job import (
    END_EVENTS,
    Completed,
    Failed,
    ImageReady,
    Interrupted,
    Queued,
    Step,
)  # fmt: skip
from modules.diffusion.noise import PictureNoise
from tests.engine.small import SmallManager, bench, plan
from tests.engine.watching import kinds


def test_interrupt_acts_within_one_step_and_keeps_finished_pictures() -> None:
    b = bench()
    b.engine.submit("j", plan(seeds=(1, 2, 3), steps=4))
    while len([e for e in b.events if isinstance(e, Step)]) < 6:
        b.engine.tick()
    b.engine.interrupt("j")
    b.run()
    assert len(b.of("j", Step)) == 6
    assert len(b.of("j", ImageReady)) == 1
    assert kinds(b.of("j"))[-1] == "Interrupted"
    assert b.manager.pins == []


def test_an_interrupted_picture_is_decoded_where_the_setting_asks_for_it() -> None:
    b = bench(keep_partial=True)
    b.engine.submit("j", plan(seeds=(1, 2), steps=8, batch_size=2))
    for _ in range(4):
        b.engine.tick()
    b.engine.interrupt("j")
    b.run()
    kept = [e for e in b.events if isinstance(e, ImageReady)]
    assert [e.partial for e in kept] == [True, True]
    assert kinds(b.of("j"))[-1] == "Interrupted"


def test_interrupting_a_waiting_or_unknown_job() -> None:
    b = bench()
    for number in range(9):
        b.engine.submit(str(number), plan(seeds=(number,)))
    queued = [e.ahead for e in b.events if isinstance(e, Queued)]
    assert queued == [0] * 8 + [1]
    b.engine.tick()
    b.engine.interrupt("8")
    b.engine.interrupt("nobody")
    b.run()
    assert kinds(b.of("8")) == ["Queued", "Interrupted"]
    assert all(isinstance(b.of(str(number))[-1], Completed) for number in range(8))


def test_skip_goes_on_with_the_next_pictures() -> None:
    b = bench()
    b.engine.submit("j", plan(seeds=(1, 2, 3, 4), batch_size=2, steps=4))
    for _ in range(3):
        b.engine.tick()
    b.engine.skip("j")
    b.run()
    assert [e.index for e in b.events if isinstance(e, ImageReady)] == [2, 3]
    assert kinds(b.of("j"))[-1] == "Completed"


def test_an_error_in_one_request_leaves_the_others_running() -> None:
    marked = PictureNoise(13, (1, 4, 8, 8), (14.0, 0.0)).initial()

    def on_pass(x: Tensor, sigmas: Tensor, text: Tensor) -> None:
        for row in x / sigmas.reshape(-1, 1, 1, 1):
            if torch.allclose(row, marked[0], atol=1e-4):
                raise RuntimeError("the thirteenth")

    b = bench(SmallManager(on_pass=on_pass))
    b.engine.submit("bad", plan(seeds=(13,)))
    b.engine.submit("good", plan(seeds=(1, 2), batch_size=2))
    b.run()
    (failed,) = (e for e in b.of("bad") if isinstance(e, END_EVENTS))
    assert isinstance(failed, Failed)
    assert "the thirteenth" in failed.message
    assert len(b.of("good", ImageReady)) == 2
    assert isinstance(b.of("good")[-1], Completed)


def test_a_missing_checkpoint_fails_its_job_alone() -> None:
    b = bench()
    b.engine.submit("bad", plan(model="missing"))
    b.engine.submit("good", plan())
    b.run()
    failed = b.of("bad")[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "checkpoint_missing"
    assert isinstance(b.of("good")[-1], Completed)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"sampler": "nope"}, "sampler"),
        ({"schedule": "nope"}, "schedule"),
        ({"options": {"nope": 1.0}}, "options.nope"),
        ({"options": {"s_churn": -5.0}}, "options.s_churn"),
    ],
)
def test_a_plan_that_this_engine_does_not_know_fails_clearly(values: dict[str, Any], named: str) -> None:
    b = bench()
    b.engine.submit("j", plan(**values))
    b.run()
    failed = b.of("j")[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "bad_request"
    assert failed.message.startswith(named)


def test_a_lost_device_ends_the_engine_so_that_another_takes_its_place() -> None:
    def on_pass(x: Tensor, sigmas: Tensor, text: Tensor) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    b = bench(SmallManager(on_pass=on_pass))
    b.engine.submit("j", plan())
    b.engine.submit("k", plan())
    with pytest.raises(EngineError, match="illegal memory access"):
        b.engine.run()
    assert [kinds(b.of(job))[-1] for job in "jk"] == ["Failed", "Failed"]
    assert b.engine.status().state == "gone"


def test_closing_fails_what_is_in_progress() -> None:
    b = bench()
    b.engine.submit("running", plan())
    b.engine.tick()
    b.engine.submit("waiting", plan())
    b.engine.close()
    b.engine.submit("late", plan())
    for job in ("running", "waiting", "late"):
        (end,) = (e for e in b.of(job) if isinstance(e, END_EVENTS))
        assert isinstance(end, Failed)
        assert end.code == "worker_gone"
    assert b.engine.status().state == "gone"


def test_interrupted_after_the_end_is_ignored() -> None:
    b = bench()
    b.engine.submit("j", plan())
    b.run()
    b.engine.interrupt("j")
    b.run()
    assert b.of("j", Interrupted) == []
