"""What tells how good a starter is, on pictures of which that is known."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.starter_training import networks
from models.starter_training.art import Sprite
from models.starter_training.judge import Candidates, Judge, spoiled, views_of
from models.starter_training.measure import background_of, nearly_one, object_colour
from models.starter_training.scenes import BACKGROUNDS, TINTS, Scene, drawn
from tests.starter_training.test_parts import disc

SIDE = networks.SIZE


def bar() -> Sprite:
    """A wide bar of dots: nothing like a disc."""
    pixels = np.zeros((256, 256, 4), np.uint8)
    pixels[90:166, 4:252] = (40, 160, 60, 255)
    pixels[110:146, 30:220:24] = (250, 240, 90, 255)
    return Sprite(1, "3d", pixels)


def picture(scene: Scene, seed: int) -> NDArray[np.uint8]:
    return drawn(disc((200, 40, 40)) if scene.concept == 0 else bar(), scene, SIDE, random.Random(seed))


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_the_background_is_what_the_border_shows(background: str) -> None:
    assert background_of(picture(Scene(0, "3d", background), 1)) == background


@pytest.mark.parametrize("tint", TINTS)
def test_the_objects_colour_is_that_of_most_of_it(tint: str) -> None:
    assert object_colour(picture(Scene(0, "3d", "white", tint), 2), "white") == tint


def test_a_small_tilted_thing_aside_is_brought_to_where_candidates_stand() -> None:
    plain = drawn(bar(), Scene(1, "3d", "gray"), SIDE).astype(float)
    for seed in range(5):
        views = views_of(picture(Scene(1, "3d", "gray"), seed))
        assert min(np.abs(view - plain).mean() for view in views) < 10


def test_the_judge_knows_what_was_drawn() -> None:
    """Features of a VAE that was never trained tell a disc from a bar."""
    judge = Judge(networks.autoencoder().eval(), [disc((200, 40, 40)), bar()])
    for concept in (0, 1):
        for seed in range(4):
            assert judge.nearest(picture(Scene(concept, "3d", "blue"), seed), "", "blue") == (concept, "3d")


def test_what_is_pale_is_not_taken_for_the_palest() -> None:
    features = torch.tensor([[10.0, 0, 0], [0, 10, 0], [-11, -11, 0], [1, 1, 1]])
    meaning = [(number, "3d") for number in range(4)]
    pale, middle = 0.2 * features[0], features.mean(0)
    assert int(torch.cdist(pale[None], features).argmin()) == 3  # by plain distance
    known = Candidates.of(features, meaning)
    assert known.nearest(pale[None] + 0.8 * middle) == (0, "3d")
    assert known.nearest(torch.stack([middle + 0.01, features[1]])) == (1, "3d")  # whichever view is most like one


def test_pictures_are_spoiled_as_much_as_was_asked() -> None:
    plain = picture(Scene(1, "3d", "gray"), 1)
    assert np.array_equal(spoiled(plain, 0, 0, 1, np.random.default_rng(1)), plain)
    pale = spoiled(plain, 0, 0, 0.5, np.random.default_rng(1)).astype(float)
    border = np.median(plain[0], 0)
    assert np.abs(pale - border).mean() == pytest.approx(np.abs(plain - border).mean() / 2, rel=0.02)
    bent = spoiled(plain, 4, 0, 1, np.random.default_rng(1))
    assert not np.array_equal(bent, plain)
    assert {tuple(pixel) for pixel in bent.reshape(-1, 3)} <= {tuple(pixel) for pixel in plain.reshape(-1, 3)}


def test_pictures_are_nearly_one_if_they_hardly_moved() -> None:
    here = drawn(bar(), Scene(1, "3d", "white"), SIDE)
    assert nearly_one(here, here)
    assert nearly_one(here, np.roll(here, 1, 0))
    assert not nearly_one(here, np.roll(here, 8, 0))
    assert not nearly_one(here, drawn(disc((200, 40, 40)), Scene(0, "3d", "white"), SIDE))
