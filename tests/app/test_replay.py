"""Replays by the real engine: of pictures made alone and side by side, and of a text without a plan."""

from __future__ import annotations

from typing import Any

from modules.core.infotext import Infotext, join_infotext, read_infotext
from modules.imaging.png import png_with_text, read_png_text
from modules.imaging.strip import stripped
from modules.services.replay import Outcome
from tests.app.conftest import Whole, until


def replayed(whole: Whole, picture: Any) -> Outcome:
    view = whole.app.replays.start(whole.app.jobs, picture)
    assert whole.over(view).state == "completed"
    return until(lambda: whole.app.replays.outcome(view.id))


def test_a_picture_made_alone_comes_again_to_the_last_bit(whole: Whole) -> None:
    (path,) = whole.files(whole.make(seed=21, strict=True, sampler="Euler a"))
    found = replayed(whole, path)
    assert (found.verdict, found.reasons) == ("identical", ())


def test_pictures_made_side_by_side_come_again_to_rounding(whole: Whole) -> None:
    for path in whole.files(whole.make(seed=31, batch_size=2)):
        found = replayed(whole, path)
        assert found.verdict in ("identical", "rounding")
        assert found.reasons == ()


def test_another_seed_is_another_picture_and_a_text_alone_is_enough(whole: Whole) -> None:
    (path,) = whole.files(whole.make(seed=41, strict=True))
    info = read_infotext(read_png_text(path)["parameters"])
    bare = stripped(path.read_bytes())
    same = replayed(whole, png_with_text(bare, {"parameters": join_infotext(info)}))
    assert same.verdict == "identical"
    assert [reason.code for reason in same.reasons] == ["reconstructed"]
    other = Infotext(prompt=info.prompt, fields={**info.fields, "Seed": "42"})
    found = replayed(whole, png_with_text(bare, {"parameters": join_infotext(other)}))
    assert found.verdict == "different"
    assert found.difference is not None
    assert found.difference.largest > 4
