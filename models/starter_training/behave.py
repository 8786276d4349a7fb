"""How a starter behaves beyond a prompt: CFG scales, a negative prompt, img2img and a second pass at twice the size.

By diffusers' own pipelines; figures, and a sheet of each to look at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from numpy.typing import NDArray
from PIL import Image

from models.starter_training import networks
from models.starter_training.art import sprites
from models.starter_training.judge import Judge
from models.starter_training.latents import plan_of
from models.starter_training.measure import (
    CFG,
    STEPS,
    Asked,
    background_of,
    made,
    object_colour,
    pipeline,
    prompts,
)
from models.starter_training.sheets import save_sheet
from models.starter_training.words import Words

Picture = NDArray[np.uint8]
SCALES = (1.0, 2.0, 3.0, 5.0, 7.0, 9.0, 12.0)
STRENGTHS = (0.2, 0.4, 0.6, 0.8)
SECOND = 0.4  # strength of the second pass
SEEDS = range(50, 54)


class Bench:
    """A finished file in diffusers' pipelines, and what tells how it does."""

    def __init__(self, work: Path, file: Path) -> None:
        found = sprites(work)
        self.pipe, self.words = pipeline(file), Words()
        self.judge = Judge(self.pipe.vae, found)
        self.asked = [each for each in prompts([scene for _, scene in plan_of(found)]) if each.kind == "colour"]
        self.again = StableDiffusionImg2ImgPipeline(**self.pipe.components, requires_safety_checker=False)
        self.again.set_progress_bar_config(disable=True)

    def right(self, picture: Picture, asked: Asked) -> tuple[bool, bool, bool]:
        """Whether concept, object colour and background are those asked for."""
        seen = background_of(picture)
        concept = self.judge.nearest(picture, asked.tint, seen)[0]
        return concept == asked.concept, object_colour(picture, seen) == asked.tint, seen == asked.background

    @torch.no_grad()
    def redrawn(self, pictures: Sequence[Picture], text: str, strength: float, seeds: Sequence[int]) -> list[Picture]:
        """img2img of (S, S, 3) pictures."""
        encode = self.pipe.text_encoder
        asked, empty = (encode(input_ids=self.words.numbers([each])).last_hidden_state for each in (text, ""))
        answer = self.again(
            image=[Image.fromarray(picture) for picture in pictures], strength=strength,
            prompt_embeds=asked.repeat(len(pictures), 1, 1), negative_prompt_embeds=empty.repeat(len(pictures), 1, 1),
            num_inference_steps=STEPS, guidance_scale=CFG, output_type="np",
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )  # fmt: skip
        return [(picture * 255).round().astype(np.uint8) for picture in answer.images]


def scales(bench: Bench, sheet: Path) -> dict[str, dict[str, float]]:
    """Per CFG scale: the share of pictures with the right concept, object colour and background."""
    found, pictures = {}, []
    for scale in SCALES:
        own = [
            (each, picture)
            for each in bench.asked
            for picture in made(bench.pipe, bench.words, [each.text], [50, 51], cfg=scale)
        ]
        pictures += [picture for _, picture in own[::2]]
        shares = np.mean([bench.right(picture, each) for each, picture in own], 0)
        found[f"{scale:g}"] = dict(zip(("concept", "object colour", "background"), map(float, shares), strict=True))
    save_sheet(pictures, sheet, columns=len(bench.asked))
    return found


def negative(bench: Bench, sheet: Path) -> dict[str, float]:
    """How often a balloon is red, and a fox on white, without and with that in the negative prompt."""
    found, pictures = {}, []
    for text, unwanted, told in (("a balloon", "red", "object"), ("a fox", "white background", "background")):
        for words in ("", unwanted):
            own = made(bench.pipe, bench.words, [text], range(60, 76), negative=words)
            pictures += own
            seen = [background_of(picture) for picture in own]
            if told == "object":
                hits = [object_colour(picture, place) == "red" for picture, place in zip(own, seen, strict=True)]
            else:
                hits = [place == "white" for place in seen]
            found[f"{text}, negative: {words or 'nothing'}"] = float(np.mean(hits))
    save_sheet(pictures, sheet, columns=16)
    return found


def redrawn(bench: Bench, sheet: Path) -> dict[str, dict[str, float]]:
    """img2img of red apples on blue into green ones, per strength: how far it moves, and what has its colour."""
    before = made(bench.pipe, bench.words, ["a red apple on a blue background"], SEEDS)
    found, pictures = {}, [*before]
    for strength in STRENGTHS:
        own = bench.redrawn(before, "a green apple on a blue background", strength, SEEDS)
        pictures += own
        pairs = zip(own, before, strict=True)
        seen = [background_of(picture) for picture in own]
        found[f"{strength:g}"] = {
            "moved": float(np.mean([np.abs(new.astype(float) - old).mean() / 255 for new, old in pairs])),
            "blue background": float(np.mean([place == "blue" for place in seen])),
            "green object": float(np.mean([object_colour(p, b) == "green" for p, b in zip(own, seen, strict=True)])),
        }
    save_sheet(pictures, sheet, columns=len(SEEDS))
    return found


def second(bench: Bench, sheet: Path) -> dict[str, float]:
    """A second pass at twice the size: what is right before and after it, and how much sharper than Lanczos it is."""
    before, after, sharper, pictures = [], [], [], []
    side = 2 * networks.SIZE
    for each in bench.asked:
        small = made(bench.pipe, bench.words, [each.text], [50, 51])
        large = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.LANCZOS)) for one in small]
        own = bench.redrawn(large, each.text, SECOND, [50, 51])
        pictures += [large[0], own[0]]
        shrunk = [np.asarray(Image.fromarray(one).resize((networks.SIZE,) * 2, Image.Resampling.BOX)) for one in own]
        before += [bench.right(picture, each) for picture in small]
        after += [bench.right(picture, each) for picture in shrunk]
        sharper += [_edges(new) / _edges(old) for new, old in zip(own, large, strict=True)]
    save_sheet(pictures, sheet, columns=6)
    names = ("concept", "object colour", "background")
    shares: dict[str, float] = {}
    for when, rows in (("before", before), ("after", after)):
        shares |= {f"{name} {when}": float(share) for name, share in zip(names, np.mean(rows, 0), strict=True)}
    return shares | {"edges to Lanczos'": float(np.median(sharper))}


def _edges(picture: Picture) -> float:
    """The mean of the steepest hundredth of differences between neighbours."""
    steps = np.abs(np.diff(picture.astype(float), axis=1)).ravel()
    return float(np.sort(steps)[-len(steps) // 100 :].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--file", type=Path, help="a finished starter (default: the one in the work folder)")
    options = parser.parse_args()
    work: Path = options.work
    bench = Bench(work, options.file or work / "inferenz-starter.safetensors")
    found: dict[str, Any] = {}
    for name, told in (("scales", scales), ("negative", negative), ("img2img", redrawn), ("second", second)):
        found[name] = told(bench, work / f"behave-{name}.png")
        print(json.dumps({name: found[name]}, indent=1), flush=True)
    (work / "behave.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
