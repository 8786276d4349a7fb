"""What is to be seen in a picture, told by a VAE: the nearest of all concepts, drawn in every style.

Nearest is by the angle, seen from the middle of all candidates: by plain distance whatever is pale or soft would be
taken for the palest of them. How many drawings it knows again, spoiled as badly as an eye still forgives, is told by

    python -m models.starter_training.judge --work FOLDER --file STARTER
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

from models.starter_training import networks
from models.starter_training.art import Sprite, sprites
from models.starter_training.finished import finished
from models.starter_training.latents import moments
from models.starter_training.precision import computing
from models.starter_training.scenes import SHARE, Scene, drawn
from models.starter_training.train_autoencoder import as_tensor

SHIFTS = ((0, 0), (-3, 0), (3, 0), (0, -3), (0, 3))  # pixels around the place of candidates
TILTS = (-6, 0, 6)  # degrees
# How drawings are spoiled to see how good the judge is: pixels of bending and of blur, and what is left of the contrast
SPOILT = {"as drawn": (0.0, 0.0, 1.0), "soft": (2.0, 1.5, 0.9), "bent, blurred and pale": (5.0, 2.5, 0.75)}
JUDGED = 70  # drawings


class Candidates(NamedTuple):
    """All drawings that a picture may show. middle: (F,); directions: (N, F) from there, of length 1."""

    middle: Tensor
    directions: Tensor
    meaning: Sequence[tuple[int, str]]

    @classmethod
    def of(cls, features: Tensor, meaning: Sequence[tuple[int, str]]) -> Candidates:
        """Those of (N, F) features. meaning: (concept, style) of each."""
        middle = features.mean(0)
        return cls(middle, functional.normalize(features - middle, dim=1), meaning)

    def nearest(self, views: Tensor) -> tuple[int, str]:
        """The meaning of the candidate that any of (V, F) views of one picture is nearest to."""
        likeness, place = (functional.normalize(views - self.middle, dim=1) @ self.directions.T).max(1)
        return self.meaning[int(place[likeness.argmax()])]


class Judge:
    """Tells what is to be seen in a picture."""

    def __init__(self, vae: AutoencoderKL, found: Sequence[Sprite]) -> None:
        self._vae, self._sprites = vae, found
        self._kept: dict[tuple[str, str], Candidates] = {}

    def nearest(self, picture: NDArray[np.uint8], tint: str, background: str) -> tuple[int, str]:
        """(concept, style) of the nearest of all candidates, wherever it stands, tilted and mirrored as it likes.

        tint, background: of the candidates.
        """
        return self._candidates(tint, background).nearest(self._features(views_of(picture)))

    def _candidates(self, tint: str, background: str) -> Candidates:
        if (tint, background) not in self._kept:
            scenes = [Scene(sprite.concept, sprite.style, background, tint) for sprite in self._sprites]
            pictures = [
                drawn(sprite, scene, networks.SIZE) for sprite, scene in zip(self._sprites, scenes, strict=True)
            ]
            parts = [self._features(pictures[n : n + 64]) for n in range(0, len(pictures), 64)]
            meaning = [(scene.concept, scene.style) for scene in scenes]
            self._kept[tint, background] = Candidates.of(torch.cat(parts), meaning)
        return self._kept[tint, background]

    def _features(self, pictures: list[NDArray[np.uint8]]) -> Tensor:
        with computing(torch.device("cpu")):
            return moments(self._vae, as_tensor(pictures))[0].flatten(1)


def views_of(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The thing in a picture where candidates have it, a little to each side of that, tilted and mirrored."""
    colour = border_of(picture)
    away = np.sqrt(np.square(picture.astype(float) - colour).sum(-1)) > 60
    box = [_reach(away.any(axis)) for axis in (0, 1)]
    size = picture.shape[0]
    found = Image.fromarray(picture)
    fill = (int(colour[0]), int(colour[1]), int(colour[2]))
    (left, right), (top, bottom) = box
    side = max(right - left, bottom - top)
    corner = (left + right - side) / 2, (top + bottom - side) / 2
    scale = side / round(size * SHARE)  # what is outside the picture has the background's colour
    views = []
    for tilt in TILTS:
        turned = found.rotate(
            tilt, Image.Resampling.BICUBIC, center=(corner[0] + side / 2, corner[1] + side / 2), fillcolor=fill
        )
        for down, across in SHIFTS:
            start = (size - size * SHARE) / 2
            shift = corner[0] - scale * (start + across), corner[1] - scale * (start + down)
            matrix = (scale, 0, shift[0], 0, scale, shift[1])
            view = turned.transform(
                (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=fill
            )
            views += [np.asarray(view), np.asarray(view)[:, ::-1].copy()]
    return views


def _reach(hit: NDArray[np.bool_]) -> tuple[int, int]:
    """From the first to behind the last; everything where there is none."""
    places = np.flatnonzero(hit)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, len(hit))


def border_of(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(3,): the middle colour of the border."""
    border = np.concatenate([picture[:4].reshape(-1, 3), picture[-4:].reshape(-1, 3), picture[:, :4].reshape(-1, 3)])
    middle: NDArray[np.float64] = np.median(border, 0)
    return middle


def spoiled(
    picture: NDArray[np.uint8], bent: float, blur: float, contrast: float, chance: np.random.Generator
) -> NDArray[np.uint8]:
    """A picture bent by some `bent` pixels here and there, blurred, and with its contrast to the border lessened."""
    size = picture.shape[0]
    rows, columns = np.mgrid[:size, :size]
    moved = []
    for place in (rows, columns):
        coarse = Image.fromarray(chance.normal(size=(6, 6)).astype(np.float32))
        field = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) * bent
        moved.append((place + field).round().astype(int).clip(0, size - 1))
    soft = Image.fromarray(picture[moved[0], moved[1]]).filter(ImageFilter.GaussianBlur(blur))
    colour = border_of(picture)
    pale: NDArray[np.uint8] = (colour + (np.asarray(soft) - colour) * contrast).clip(0, 255).astype(np.uint8)
    return pale


def known_again(vae: AutoencoderKL, found: Sequence[Sprite]) -> dict[str, float]:
    """The share of drawings whose concept the judge knows, by how they were spoiled: how far it is to be trusted."""
    judge, chance = Judge(vae, found), random.Random(5)
    chosen = chance.sample([sprite for sprite in found if sprite.style == "3d"], JUDGED)
    shares = {}
    for name, (bent, blur, contrast) in SPOILT.items():
        numbers = np.random.default_rng(5)
        hits = []
        for sprite in chosen:
            scene = Scene(sprite.concept, sprite.style, "white")
            picture = drawn(sprite, scene, networks.SIZE, random.Random(sprite.concept))
            seen = judge.nearest(spoiled(picture, bent, blur, contrast, numbers), "", "white")
            hits.append(seen[0] == sprite.concept)
        shares[name] = float(np.mean(hits))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description="How many drawings the judge knows again, by how they were spoiled.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--file", type=Path, help="a finished starter, whose VAE judges (default: that in the folder)")
    options = parser.parse_args()
    file = options.file or options.work / "inferenz-starter.safetensors"
    print(json.dumps(known_again(finished(file).vae, sprites(options.work)), indent=1))


if __name__ == "__main__":
    main()
