"""The engine: events, company, fairness, and what it keeps."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from modules.core.job import (
    END_EVENTS,
    Completed,
    Encoded,
    Event,
    ImageReady,
    ModelLoading,
    ModelReady,
    Started,
    Step,
    Trace,
)  # fmt: skip
from modules.diffusion.noise import PictureNoise
from tests.engine.small import FakeClock, SmallManager, bench, plan
from tests.engine.watching import kinds, latents_of, pixels, psnr
from tests.passes import denoise

SAMPLERS = ["euler", "euler_a", "heun", "lms", "dpm2_a", "dpmpp_2m", "dpmpp_sde", "dpmpp_2m_sde", "ddim", "unipc"]


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


def test_nothing_of_a_job_is_kept_after_its_end() -> None:
    b = bench(preview_ms=1, trace=True)
    engine: Any = b.engine
    refs: list[weakref.ref[Any]] = []
    b.engine.submit("j", plan(seeds=(1, 2), batch_size=2))
    b.engine.tick()
    refs += [weakref.ref(task) for task in engine._seats]
    refs += [weakref.ref(t) for task in engine._seats for t in task.live]
    refs += [weakref.ref(w) for task in engine._seats for w in task.live.values()]
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
