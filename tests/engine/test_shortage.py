"""Memory that runs out in the middle of work: the next memory mode is tried, and no step is lost or made twice."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.core.job import Completed, MemoryMode, Notice
from modules.engine.estimate import Work
from modules.engine.placement import Choice, next_mode
from modules.engine.room import Fit
from tests.engine.small import SmallBackbone, SmallManager, bench, plan


def short(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def stepping_down(model: SmallBackbone, most: MemoryMode) -> str:
    """What the manager does on a small device: the next memory mode, as far as `most`."""
    mode = next_mode(model.placement.vram)
    if mode is None or (mode == "low" and most != "low"):
        return ""
    model.change(mode)
    return f"Memory ran out: {mode}."


def test_a_pass_that_runs_out_of_memory_goes_on_in_the_next_mode_from_the_same_latent() -> None:
    """At the third of five steps one row no longer fits, whatever the mode but the last."""
    manager, passes = SmallManager(on_relieve=stepping_down), 0

    def on_pass(x: Tensor, sigmas: Tensor, text: Tensor) -> None:
        nonlocal passes
        (model,) = manager.models.values()
        if len(model.passes) >= 2 and model.placement.vram != "low":
            short()
        passes += 1

    manager.on_pass = on_pass
    plain, tight = bench(), bench(manager)
    for b in (plain, tight):
        b.engine.submit("j", plan())
        b.run()
    assert tight.picture("j") == plain.picture("j")
    assert passes == 5  # no step was made twice
    notices = [event.text for event in tight.events if isinstance(event, Notice)]
    assert notices == ["Memory ran out: medium.", "Memory ran out: low."]


def test_a_strict_picture_goes_to_the_next_mode_before_its_rows_are_parted() -> None:
    manager = SmallManager(on_relieve=stepping_down)
    manager.on_pass = lambda x, *_: short() if next(iter(manager.models.values())).placement.vram == "normal" else None
    b = bench(manager)
    b.engine.submit("j", plan(strict=True))
    b.run()
    (model,) = manager.models.values()
    assert set(model.passes) == {2}
    assert model.placement.vram == "medium"


def test_decoding_goes_to_parts_by_turns_then_to_tiles_and_only_then_to_layers() -> None:
    tried: list[tuple[str, bool]] = []
    manager = SmallManager(on_relieve=stepping_down)

    def on_decode(latent: Tensor, tiled: bool) -> None:
        mode = next(iter(manager.models.values())).placement.vram
        tried.append((mode, tiled))
        if mode != "low":
            short()

    manager.on_decode = on_decode
    b = bench(manager)
    b.engine.submit("j", plan())
    b.run()
    assert tried == [("normal", False), ("medium", False), ("medium", True), ("low", True)]
    assert isinstance(b.of("j")[-1], Completed)


def test_what_will_not_fit_is_decoded_in_tiles_from_the_start() -> None:
    tried: list[bool] = []
    fit = Fit(choice=Choice(mode="normal", tiled=True, needed=9, whole=12, room=10), notice="Little room.")
    b = bench(SmallManager(on_decode=lambda latent, tiled: tried.append(tiled), on_fit=lambda *_: fit))
    b.engine.submit("j", plan())
    b.run()
    assert tried == [True]
    texts = [event.text for event in b.of("j", Notice) if isinstance(event, Notice)]
    assert texts[0] == "Little room."
    assert "tiles" in texts[1]


def test_tiles_that_the_person_wants_are_no_news() -> None:
    tried: list[bool] = []
    b = bench(SmallManager(on_decode=lambda latent, tiled: tried.append(tiled)), tiled_vae=True)
    b.engine.submit("j", plan())
    b.run()
    assert tried == [True]
    assert b.of("j", Notice) == []


def test_room_is_made_for_a_larger_picture_that_joins() -> None:
    asked: list[tuple[int, int, int]] = []

    def on_fit(model: SmallBackbone, work: Work | None) -> Fit:
        assert work is not None
        asked.append((work.width, work.height, work.rows))
        return Fit(choice=Choice(mode="normal", tiled=False, needed=1, whole=1, room=2))

    b = bench(SmallManager(on_fit=on_fit))
    b.engine.submit("small", plan(steps=9))
    b.engine.tick()
    b.engine.tick()
    b.engine.submit("wide", plan(width=128, cfg_scale=1.0))
    b.run()
    assert asked == [(64, 64, 2), (128, 64, 1)]
