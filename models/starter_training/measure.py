"""How good a starter is: forty prompts, four seeds each, told by numbers, and a sheet to look at.

Concept: of all concepts, drawn in every style with the tint that was asked for and the background that is there, which
is nearest in the autoencoder's feature space (`judge.py`)? Colours: what most pixels of border and object look like.
Pictures are made by diffusers' own pipeline, so nothing of this project judges itself.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from numpy.typing import NDArray

from models.starter_training import networks
from models.starter_training.art import concepts, sprites
from models.starter_training.finished import finished
from models.starter_training.judge import Judge, border_of
from models.starter_training.latents import plan_of
from models.starter_training.scenes import BACKGROUNDS, TINTS, Scene, with_articles
from models.starter_training.sheets import save_sheet
from models.starter_training.train_drawer import NOISE
from models.starter_training.words import Words

SEEDS = 4
CFG, STEPS = 4.0, 25
SAME = 2  # pixels: two pictures are nearly one if they differ by less than one of them does from itself moved by that
PLAIN = (
    "cat", "panda", "penguin", "frog", "butterfly", "octopus", "apple", "banana", "strawberry", "pizza", "donut",
    "cactus", "mushroom", "rose", "car", "rocket", "house", "umbrella", "guitar", "robot",
)  # fmt: skip
COLOURED = (
    ("green", "car", "white"), ("red", "heart", "yellow"), ("blue", "butterfly", "pink"),
    ("purple", "dragon", "yellow"),
    ("pink", "pig", "blue"), ("orange", "fish", "teal"), ("yellow", "star", "purple"), ("red", "balloon", "gray"),
    ("blue", "robot", "orange"), ("green", "bell", "black"),
)  # fmt: skip
STYLED = (("fox", "3d"), ("strawberry", "sticker"), ("rocket", "ink"), ("owl", "ink"), ("tree", "sticker"))


@dataclass(frozen=True)
class Asked:
    """A prompt and what it asks for."""

    text: str
    concept: int
    kind: str
    tint: str = ""
    background: str = ""
    style: str = ""


def prompts(trained: Sequence[Scene]) -> list[Asked]:
    """The forty: 20 plain, 10 of colour and background, 5 of a style, 5 never seen together in training."""
    number = {concept.name: place for place, concept in enumerate(concepts())}
    found = [Asked(with_articles(f"a {name}"), number[name], "plain") for name in PLAIN]
    for tint, name, background in COLOURED:
        text = with_articles(f"a {tint} {name} on a {background} background")
        found.append(Asked(text, number[name], "colour", tint, background))
    for name, style in STYLED:
        found.append(Asked(with_articles(f"a {name}, {style} style"), number[name], "style", style=style))
    seen = {(scene.concept, scene.tint, scene.background) for scene in trained}
    chance = random.Random(11)
    while len(found) < len(PLAIN) + len(COLOURED) + len(STYLED) + 5:
        name = chance.choice(PLAIN)
        tint, background = chance.choice([*TINTS]), chance.choice([*BACKGROUNDS])
        if tint != background and (number[name], tint, background) not in seen:
            text = with_articles(f"a {tint} {name} on a {background} background")
            found.append(Asked(text, number[name], "unseen", tint, background))
    return found


def pipeline(file: Path) -> StableDiffusionPipeline:
    """diffusers' own pipeline around a finished file; texts are handed in encoded."""
    found = finished(file)
    pipe = StableDiffusionPipeline(
        vae=found.vae, text_encoder=found.text, tokenizer=None, unet=found.unet, scheduler=DDIMScheduler(**NOISE),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def made(
    pipe: StableDiffusionPipeline,
    words: Words,
    texts: Sequence[str],
    seeds: Sequence[int],
    *,
    cfg: float = CFG,
    negative: str = "",
) -> list[NDArray[np.uint8]]:
    """A (S, S, 3) picture of each text with each seed."""
    found = []
    empty = pipe.text_encoder(input_ids=words.numbers([negative])).last_hidden_state
    for text in texts:
        asked = pipe.text_encoder(input_ids=words.numbers([text])).last_hidden_state
        answer = pipe(
            prompt_embeds=asked.repeat(len(seeds), 1, 1), negative_prompt_embeds=empty.repeat(len(seeds), 1, 1),
            num_inference_steps=STEPS, guidance_scale=cfg, height=networks.SIZE, width=networks.SIZE,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds], output_type="np",
        )  # fmt: skip
        found += [(picture * 255).round().astype(np.uint8) for picture in answer.images]
    return found


def known(work: Path, file: Path) -> None:
    """A sheet of everything that a finished file knows, one seed each on white: known.png, to be looked at."""
    pipe, words, names = pipeline(file), Words(), [concept.name for concept in concepts()]
    texts = [with_articles(f"a {name} on a white background") for name in names]
    pictures = [made(pipe, words, [text], [seed])[0] for seed, text in enumerate(texts)]
    save_sheet(pictures, work / "known.png", columns=18, captions=names)


def background_of(picture: NDArray[np.uint8]) -> str:
    """The name of the border's middle colour."""
    return nearest_name(border_of(picture), BACKGROUNDS)


def nearly_one(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two pictures differ by less than the first does from itself, moved by SAME pixels down and right."""
    moved = np.roll(one, (SAME, SAME), (0, 1))
    return bool(np.abs(one.astype(float) - other).mean() < np.abs(one.astype(float) - moved).mean())


def nearest_name(colour: NDArray[np.float64], names: dict[str, tuple[int, int, int]]) -> str:
    """The nearest of named colours."""
    return min(names, key=lambda name: float(np.square(colour - np.array(names[name])).sum()))


def object_colour(picture: NDArray[np.uint8], background: str) -> str:
    """The tint that most of the object's coloured pixels have."""
    pixels = picture.reshape(-1, 3).astype(np.float64)
    away = np.sqrt(np.square(pixels - np.array(BACKGROUNDS[background])).sum(1)) > 70
    low, high = pixels.min(1), pixels.max(1)
    coloured = away & (high - low > 45) & (high > 60)
    if coloured.sum() < 40:
        return "none"
    hues = [_hue(*pixel) for pixel in pixels[coloured][::3]]
    centres = {name: values[0] for name, values in TINTS.items()}
    votes = Counter(min(centres, key=lambda name: abs((hue - centres[name] + 180) % 360 - 180)) for hue in hues)
    return votes.most_common(1)[0][0]


def _hue(red: float, green: float, blue: float) -> float:
    import colorsys

    return colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)[0] * 360


def measured(work: Path, file: Path, sheet: Path, *, cfg: float = CFG) -> dict[str, object]:
    """All figures of a finished file, and the sheet."""
    pipe, words = pipeline(file), Words()
    found = sprites(work)
    known, asked = concepts(), prompts([scene for _, scene in plan_of(found)])
    judge = Judge(pipe.vae, found)
    right, colours, backgrounds, styles, twins, wrong = [], [], [], [], [], []
    pictures = []
    for place, each in enumerate(asked):
        own = made(pipe, words, [each.text], [1000 * place + seed for seed in range(SEEDS)], cfg=cfg)
        pictures += own
        for picture in own:
            seen = background_of(picture)
            concept, style = judge.nearest(picture, each.tint, seen)
            right.append(concept == each.concept)
            if concept != each.concept:
                wrong.append(f"{each.text}: {known[concept].name}")
            if each.background:
                backgrounds.append(seen == each.background)
                colours.append(object_colour(picture, seen) == each.tint)
            if each.style:
                styles.append(style == each.style)
        twins += [nearly_one(one, other) for index, one in enumerate(own) for other in own[index + 1 :]]
    save_sheet(pictures, sheet, columns=4 * SEEDS, captions=[each.text for each in asked for _ in range(SEEDS)])
    return {
        "concept": float(np.mean(right)), "object colour": float(np.mean(colours)),
        "background": float(np.mean(backgrounds)), "style": float(np.mean(styles)),
        "nearly the same": sum(twins), "pairs": len(twins), "confused": sorted(wrong),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--file", type=Path, help="a finished starter (default: the one in the work folder)")
    parser.add_argument("--cfg", type=float, default=CFG, help="the CFG scale (default: %(default)s)")
    options = parser.parse_args()
    file = options.file or options.work / "inferenz-starter.safetensors"
    found = measured(options.work, file, options.work / "measured.png", cfg=options.cfg)
    (options.work / "measured.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found, indent=1))
    known(options.work, file)


if __name__ == "__main__":
    main()
