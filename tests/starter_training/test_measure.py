"""What tells how good a starter is, on pictures of which that is known."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from models.starter_training import networks
from models.starter_training.art import Sprite
from models.starter_training.measure import Asked, Judge, background_of, nearly_one, object_colour, views_of
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
        asked = Asked("", concept, "plain")
        for seed in range(4):
            assert judge.nearest(picture(Scene(concept, "3d", "blue"), seed), asked, "blue") == (concept, "3d")


def test_pictures_are_nearly_one_if_they_hardly_moved() -> None:
    here = drawn(bar(), Scene(1, "3d", "white"), SIDE)
    assert nearly_one(here, here)
    assert nearly_one(here, np.roll(here, 1, 0))
    assert not nearly_one(here, np.roll(here, 8, 0))
    assert not nearly_one(here, drawn(disc((200, 40, 40)), Scene(0, "3d", "white"), SIDE))
