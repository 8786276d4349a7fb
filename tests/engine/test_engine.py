from __future__ import annotations

import gc
import io
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from modules.core.errors import EngineError
from modules.core.job import (
    END_EVENTS,
    Completed,
    Encoded,
    EngineOptions,
    Event,
    Failed,
    ImageReady,
    Interrupted,
    ModelLoading,
    ModelReady,
    Notice,
    Preview,
    Queued,
    Started,
    Step,
    Trace,
)  # fmt: skip
from modules.diffusion.noise import PictureNoise
from modules.engine.batcher import Trajectory
from modules.engine.resident import MOST_LOOKS
from modules.engine.watch import Snapshot
from tests.engine.small import Bench, FakeClock, SmallManager, bench, plan
from tests.passes import denoise

SAMPLERS = ["euler", "euler_a", "heun", "lms", "dpm2_a", "dpmpp_2m", "dpmpp_sde", "dpmpp_2m_sde", "ddim", "unipc"]


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def pixels(png: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.float64)


def latents_of(b: Bench) -> dict[tuple[str, int], Tensor]:
    """Watch what is decoded, by job and picture."""
    found: dict[tuple[str, int], Tensor] = {}
    engine: Any = b.engine
    desk = engine._desk
    decode = desk._decode

    def spy(trajectory: Trajectory, operation: Any) -> None:
        task = trajectory.owner
        found[task.job, task.live[trajectory]._index] = operation.latent.clone()
        decode(trajectory, operation)

    desk._decode = spy
    return found


def psnr(a: Tensor, b: Tensor) -> float:
    """Of latents, against their own range; a lower bound for any smooth decoder's pictures."""
    peak = float(a.max() - a.min())
    return 10 * float(np.log10(peak**2 / max(float(((a - b) ** 2).mean()), 1e-30)))


def test_a_job_sends_its_events_in_order() -> None:
    b = bench(preview_ms=1, trace=True)
    b.engine.submit("j", plan(seeds=(1, 2, 3), batch_size=2))
    b.run()
    assert [event.seq for event in b.events] == list(range(len(b.events)))
    names = kinds(b.events)
    assert names[:5] == ["Queued", "ModelLoading", "ModelReady", "Encoded", "Started"]
    assert names[-1] == "Completed"
    assert [e.index for e in b.events if isinstance(e, ImageReady)] == [0, 1, 2]
    for index in range(3):
        mine = [e for e in b.events if getattr(e, "index", None) == index]
        assert isinstance(mine[0], Started)
        assert isinstance(mine[-1], ImageReady)
        assert [e.step for e in mine if isinstance(e, Step)] == [1, 2, 3, 4, 5]
        assert len([e for e in mine if isinstance(e, Trace)]) == 1


def test_events_tell_of_model_prompt_and_time() -> None:
    b = bench()
    b.engine.submit("j", plan(prompt="a cat", negative_prompt="dog"))
    b.run()
    (ready,) = (e for e in b.events if isinstance(e, ModelReady))
    assert (ready.source, ready.device, ready.dtype) == ("file", "cpu", "float32")
    (encoded,) = (e for e in b.events if isinstance(e, Encoded))
    assert (encoded.tokens, encoded.negative_tokens) == ((("a", "cat"),), (("dog",),))
    (started,) = (e for e in b.events if isinstance(e, Started))
    assert len(started.sigmas) == 6
    assert started.sigmas[-1] == 0
    (done,) = (e for e in b.events if isinstance(e, Completed))
    assert 0 < done.model_seconds <= done.seconds


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_in_company_is_the_picture_made_alone(sampler: str) -> None:
    mine = plan(sampler=sampler, seeds=(7,), steps=6)
    alone = bench()
    single = latents_of(alone)
    alone.engine.submit("mine", mine)
    alone.run()

    company = bench()
    together = latents_of(company)
    company.engine.submit("other", plan(seeds=(1, 2), batch_size=2, steps=9, prompt=" ".join(["word"] * 100)))
    for _ in range(4):
        company.engine.tick()
    company.engine.submit("mine", mine)
    company.engine.submit("third", plan(sampler="euler_a", seeds=(3,), steps=3, cfg_scale=1.0))
    company.run()
    assert max(company.manager.models[next(iter(company.manager.models))].passes) == 7
    assert psnr(single["mine", 0], together["mine", 0]) >= 60
    assert np.abs(pixels(alone.picture("mine")) - pixels(company.picture("mine"))).max() <= 1


def test_strict_pictures_are_identical_to_the_last_bit_in_company() -> None:
    mine = plan(sampler="dpmpp_sde", seeds=(5, 6), batch_size=2, strict=True)
    alone, company = bench(), bench()
    single, together = latents_of(alone), latents_of(company)
    alone.engine.submit("mine", mine)
    alone.run()
    company.engine.submit("other", plan(seeds=(1, 2, 3), batch_size=3, steps=9))
    company.engine.tick()
    company.engine.submit("mine", mine)
    company.run()
    for index in range(2):
        assert torch.equal(single["mine", index], together["mine", index])
        assert alone.picture("mine", index) == company.picture("mine", index)


def test_same_seed_same_bytes_and_other_seed_other_bytes() -> None:
    b = bench()
    for job, seed in (("a", 4), ("b", 4), ("c", 5)):
        b.engine.submit(job, plan(sampler="euler_a", seeds=(seed,)))
        b.run()
    assert b.picture("a") == b.picture("b")
    assert b.picture("a") != b.picture("c")


def test_a_picture_of_a_batch_is_the_picture_of_its_seed() -> None:
    b = bench()
    b.engine.submit("batch", plan(seeds=(10, 11, 12), batch_size=3))
    b.run()
    b.engine.submit("single", plan(seeds=(11,)))
    b.run()
    assert np.abs(pixels(b.picture("batch", 1)) - pixels(b.picture("single"))).max() <= 1


def test_jobs_join_and_leave_between_steps() -> None:
    b = bench()
    b.engine.submit("long", plan(steps=10))
    for _ in range(4):
        b.engine.tick()
    b.engine.submit("short", plan(steps=2, seeds=(2,)))
    b.run()
    (model,) = b.manager.models.values()
    # alone, joined for two steps, alone again (the short one's decode stands between)
    assert model.passes == [2] * 3 + [4] * 2 + [2] * 5
    assert kinds(b.of("short"))[-1] == kinds(b.of("long"))[-1] == "Completed"


def test_no_pass_has_more_rows_than_allowed_and_everyone_moves_on() -> None:
    clock = FakeClock()
    b = bench(SmallManager(on_pass=lambda *_: clock.pass_by(1.0)), clock=clock, max_batch_rows=4)
    for job in "abc":
        b.engine.submit(job, plan(seeds=(1,), steps=6))
    b.run()
    (model,) = b.manager.models.values()
    assert max(model.passes) == 4
    steps = [e.job for e in b.events if isinstance(e, Step)]
    for cut in range(6, len(steps)):
        counts = [steps[:cut].count(job) for job in "abc"]
        assert max(counts) - min(counts) <= 4  # it is tried out at first what one costs, and two


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


def test_a_repeated_prompt_is_not_encoded_again() -> None:
    b = bench()
    for job in "abc":
        b.engine.submit(job, plan(prompt="a red apple", negative_prompt="blurry", seeds=(1, 2), batch_size=2))
        b.run()
    (model,) = b.manager.models.values()
    assert model.encoded == ["a red apple", "blurry"]
    b.engine.submit("d", plan(prompt="a red apple", negative_prompt="blurry", clip_skip=2))
    b.run()
    assert model.encoded == ["a red apple", "blurry"] * 2


def test_without_guidance_no_unconditional_row_is_computed() -> None:
    b = bench()
    b.engine.submit("j", plan(cfg_scale=1.0, steps=3))
    b.run()
    (model,) = b.manager.models.values()
    assert model.passes == [1, 1, 1]


def test_guidance_is_the_formula() -> None:
    b = bench()
    found = latents_of(b)
    b.engine.submit("j", plan(steps=1, cfg_scale=3.0, seeds=(9,)))
    b.run()
    (model,) = b.manager.models.values()
    (started,) = (e for e in b.events if isinstance(e, Started))
    sigma = started.sigmas[0]
    x = PictureNoise(9, (1, 4, 8, 8), started.sigmas).initial() * sigma
    cond, uncond = (denoise(model, x, torch.tensor([sigma]), model.encode([t], 1)[0]) for t in ("a red apple", ""))
    torch.testing.assert_close(found["j", 0], uncond + 3.0 * (cond - uncond), atol=1e-4, rtol=1e-4)


def test_two_models_share_the_engine_and_neither_starves() -> None:
    clock = FakeClock()
    manager = SmallManager(wait=clock.pass_by, load_seconds=1.0, on_pass=lambda *_: clock.pass_by(0.5))
    b = bench(manager, clock=clock)
    b.engine.submit("a", plan(model="one", steps=100))
    b.engine.submit("b", plan(model="two", steps=100))
    waits: dict[str, float] = {}
    worst = {"a": 0.0, "b": 0.0}
    while b.engine.tick():
        for job in "ab":
            steps = b.of(job, Step)
            if steps and not any(isinstance(e, END_EVENTS) for e in b.of(job)):
                key = f"{job}{len(steps)}"
                waits.setdefault(key, clock.now)
                worst[job] = max(worst[job], clock.now - waits[key])
    b.engine.settle(30)
    # A switch costs a second, so a group is left after ten; then the other one takes its own ten
    assert max(worst.values()) <= 13
    assert all(isinstance(b.of(job)[-1], Completed) for job in "ab")
    assert 4 <= len(manager.brought) <= 12


def test_two_sizes_both_see_progress_within_two_steps_and_the_lesser_work_is_done_first() -> None:
    clock = FakeClock()
    b = bench(SmallManager(on_pass=lambda x, *_: clock.pass_by(x.numel() / 1000)), clock=clock)
    b.engine.submit("small", plan(steps=10))
    b.engine.submit("large", plan(steps=10, width=128, height=96))
    b.run()
    steps = [e.job for e in b.events if isinstance(e, Step)]
    assert sorted(steps[:2]) == ["large", "small"]
    assert steps[2:] == ["small"] * 9 + ["large"] * 9


def test_more_jobs_than_seats_all_end_and_places_go_round() -> None:
    b = bench()
    b.engine.submit("endless", plan(seeds=tuple(range(12)), steps=2))
    for number in range(8):
        b.engine.submit(str(number), plan(seeds=(number, number), steps=2))
    b.run()
    order = [e.job for e in b.events if isinstance(e, Completed)]
    assert sorted(order) == sorted([*map(str, range(8)), "endless"])
    assert order[-1] == "endless"


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


def test_what_passes_cost_is_learnt_by_length_of_text() -> None:
    clock = FakeClock()
    b = bench(SmallManager(on_pass=lambda x, sigmas, text: clock.pass_by(text.shape[1] / 77)), clock=clock)
    for job, prompt in (("short", "word"), ("long", " ".join(["word"] * 100))):
        b.engine.submit(job, plan(prompt=prompt, negative_prompt=prompt))
        b.engine.tick()
        b.run()
    costs: Any = b.engine._costs
    ((_, records),) = costs._groups.items()
    assert {shape[-1]: record.figures[2].seconds for shape, record in records.items()} == {77: 1.0, 154: 2.0}


def test_previews_come_at_most_every_interval_and_after_the_first_step() -> None:
    clock = FakeClock()
    b = bench(SmallManager(on_pass=lambda *_: clock.pass_by(0.1)), clock=clock, preview_ms=250, preview_size=96)
    b.engine.submit("j", plan(steps=10, width=128))
    while b.engine.tick():
        b.engine.settle(30)
    previews = [e for e in b.events if isinstance(e, Preview)]
    assert [e.step for e in previews] == [1, 4, 7, 10]
    assert all((e.width, e.height) == (96, 48) for e in previews)
    assert Image.open(io.BytesIO(previews[0].payload)).size == (96, 48)


def test_a_preview_is_never_larger_than_its_picture() -> None:
    b = bench(preview_ms=1, preview_size=512)
    b.engine.submit("j", plan(width=128, height=64, steps=2))
    while b.engine.tick():
        b.engine.settle(30)
    assert {(e.width, e.height) for e in b.events if isinstance(e, Preview)} == {(128, 64)}


def test_a_slow_preview_is_dropped_and_never_waited_for() -> None:
    release = threading.Event()
    b = bench(preview_ms=1)
    engine: Any = b.engine
    engine._latest.put("slow", lambda: release.wait(30))
    b.engine.submit("j", plan(steps=30))
    while b.engine.tick():
        pass
    assert engine._latest.dropped > 0
    release.set()
    b.engine.settle(30)
    assert b.of("j", Preview) == []
    assert len(b.of("j", ImageReady)) == 1


def test_the_filmstrip_holds_a_jpeg_per_step() -> None:
    b = bench(trace=True)
    b.engine.submit("j", plan(sampler="heun", steps=4))
    b.run()
    (trace,) = (e for e in b.events if isinstance(e, Trace))
    assert [frame.step for frame in trace.frames] == [1, 2, 3, 4]
    assert [frame.sigma for frame in trace.frames] == sorted((f.sigma for f in trace.frames), reverse=True)
    start = 0
    for frame in trace.frames:
        assert Image.open(io.BytesIO(trace.payload[start : start + frame.jpeg_bytes])).size == (64, 64)
        start += frame.jpeg_bytes
    assert start == len(trace.payload)
    (started,) = (e for e in b.events if isinstance(e, Started))
    assert Image.open(io.BytesIO(started.payload)).format == "JPEG"


def test_changing_how_previews_are_made_keeps_the_filmstrip_and_the_previews() -> None:
    b = bench(trace=True, preview_ms=1, preview_size=96)
    b.engine.submit("j", plan(steps=6, seeds=(1, 2)))
    for _ in range(4):
        b.engine.tick()
    b.engine.settle(30)
    shown = len(b.of("j", Preview))
    b.engine.configure(EngineOptions(preview_ms=1, preview_size=64))
    while b.engine.tick():
        b.engine.settle(30)
    assert [[f.step for f in e.frames] for e in b.events if isinstance(e, Trace)] == [[1, 2, 3, 4, 5, 6]] * 2
    later = [e for e in b.events if isinstance(e, Preview)][shown:]
    assert [(e.index, e.width) for e in later][-1] == (1, 64)


def test_looks_are_kept_of_few_models_and_go_with_the_unloaded_ones() -> None:
    b = bench(trace=True)
    looks: Any = b.engine._resident._looks
    for number in range(MOST_LOOKS + 3):
        b.engine.submit(f"{number}", plan(model=f"m{number}", steps=1))
        b.run()
    assert len(looks) == MOST_LOOKS
    b.engine.unload()
    b.run()
    assert len(looks) == 0


def test_a_snapshot_that_is_put_off_holds_what_was_there_then() -> None:
    latent = torch.arange(4.0).reshape(1, 4, 1, 1)
    snapshot = Snapshot(latent, later=True)
    latent.zero_()
    snapshot.fetch()
    assert snapshot.latent().flatten().tolist() == [0, 1, 2, 3]


def test_nothing_of_a_job_is_kept_after_its_end() -> None:
    b = bench(preview_ms=1, trace=True)
    engine: Any = b.engine
    refs: list[weakref.ref[Any]] = []
    b.engine.submit("j", plan(seeds=(1, 2), batch_size=2))
    b.engine.tick()
    refs += [weakref.ref(task) for task in engine._tasks.values()]
    refs += [weakref.ref(t) for task in engine._tasks.values() for t in task.live]
    refs += [weakref.ref(w) for task in engine._tasks.values() for w in task.live.values()]
    b.run()
    gc.collect()
    assert len(refs) == 5
    assert [ref() for ref in refs] == [None] * 5
    assert b.manager.pins == []
    with pytest.raises(RuntimeError):
        _ = engine._resident.backbone


def test_the_loop_in_a_thread_of_its_own() -> None:
    b = bench()
    done = threading.Event()
    engine: Any = b.engine

    def on_event(event: Event) -> None:
        b.events.append(event)
        if isinstance(event, END_EVENTS):
            done.set()

    engine._outbox._on_event = on_event
    thread = threading.Thread(target=b.engine.run)
    thread.start()
    b.engine.submit("j", plan())
    assert done.wait(30)
    b.engine.close()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(b.events[-1], Completed)


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


def test_a_job_is_submitted_once() -> None:
    b = bench()
    b.engine.submit("j", plan())
    with pytest.raises(ValueError, match="in progress"):
        b.engine.submit("j", plan())
    b.run()
    b.engine.submit("j", plan())
    b.run()
    assert len(b.of("j", Completed)) == 2


def test_status_tells_what_is_loaded_and_whether_it_works() -> None:
    b = bench()
    assert b.engine.status().state == "starting"
    b.engine.submit("j", plan())
    b.engine.tick()
    assert b.engine.status().state == "busy"
    b.run()
    status = b.engine.status()
    assert (status.state, status.device, status.dtype, status.loaded) == ("idle", "cpu", "float32", ("one",))
    assert 0 < status.memory_used < status.memory_total
    b.engine.unload()
    b.run()
    assert b.manager.models == {}
    assert b.engine.status().loaded == ()


def test_a_second_job_finds_its_model_resident() -> None:
    b = bench()
    for job in "ab":
        b.engine.submit(job, plan())
        b.run()
    sources = [e.source for e in b.events if isinstance(e, ModelReady)]
    assert sources == ["file", "resident"]
    assert len(b.of("a", ModelLoading)) == 1


def test_interrupted_after_the_end_is_ignored() -> None:
    b = bench()
    b.engine.submit("j", plan())
    b.run()
    b.engine.interrupt("j")
    b.run()
    assert b.of("j", Interrupted) == []
