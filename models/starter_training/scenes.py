"""From sprites to training pictures: re-coloured, on a background, a little shifted; and the words for them."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.starter_training.art import SPRITE, Concept, Sprite

# Hue in degrees, and factors for saturation and value, that make most things be called by this colour
TINTS = {
    "red": (0, 1.0, 1.0), "orange": (28, 1.0, 1.0), "yellow": (50, 1.0, 1.05), "green": (125, 0.85, 0.9),
    "teal": (178, 0.9, 0.9), "blue": (218, 1.0, 1.0), "purple": (275, 0.85, 0.95), "pink": (332, 0.62, 1.1),
}  # fmt: skip
BACKGROUNDS = {
    "white": (255, 255, 255), "black": (18, 18, 20), "gray": (140, 142, 146), "red": (214, 40, 40),
    "orange": (245, 140, 30), "yellow": (250, 215, 60), "green": (60, 165, 75), "teal": (30, 160, 160),
    "blue": (45, 100, 215), "purple": (130, 60, 180), "pink": (250, 165, 200), "brown": (125, 80, 50),
}  # fmt: skip
EXACT = ("white", "black")  # backgrounds without a shade of their own
# Pictures of many colours, or of a scene, that no one colour describes
COLOURFUL = frozenset({"rainbow", "palette", "mountain", "musical note", "lightning", "dice"})
PALE, FLOOR = 0.98, 0.62  # what is nearly white takes a colour, too; and so does what is grey all over
# Of a picture's side: how large a thing is, usually and at random; how far it may stand from the middle
SHARE, SHARES, FURTHEST = 0.83, (0.66, 0.93), 0.09
TILT = 7.0  # degrees, to either side
# Factors by which a thing is darker or lighter, and paler or stronger. It is never mirrored: of what looks both ways
# a small model draws both halves alike
LIGHT, STRENGTH = (0.93, 1.06), (0.88, 1.08)
PAPER, RIM, SHADE = 15, 4, (150, 152, 158)  # pixels of a sticker's white edge and of the line around it; its colour
STYLE_WORDS = {
    "3d": ("3d style",), "sticker": ("sticker style", "sticker style", "sticker"),
    "ink": ("ink style", "ink style", "black and white"),
}  # fmt: skip
SAID = {"3d": 0.5, "sticker": 1.0, "ink": 1.0}  # how often a caption names the style: without a name it is 3d
OPENINGS = ("", "", "", "", "a ", "a ", "a ", "a picture of a ", "an icon of a ", "an emoji of a ", "emoji, ")


@dataclass(frozen=True)
class Scene:
    """What is to be seen. concept: its number. tint: a colour's name, "" for the sprite's own."""

    concept: int
    style: str
    background: str
    tint: str = ""


def drawn(sprite: Sprite, scene: Scene, size: int, chance: random.Random | None = None) -> NDArray[np.uint8]:
    """(size, size, 3): the sprite as `scene` says. chance: varies place, size, tilt and shades; None: plain."""
    pixels = tinted(sprite.pixels, scene.tint) if scene.tint else sprite.pixels
    if chance is not None:
        pixels = lit(pixels, chance.uniform(*LIGHT), chance.uniform(*STRENGTH))
    if sprite.style == "ink" and scene.background == "black" and not scene.tint:
        pixels = np.dstack([255 - pixels[..., :3], pixels[..., 3]])  # white ink on black
    picture = cut_out(pixels, edge_of(sprite)) if sprite.style == "sticker" else Image.fromarray(pixels)
    colour = BACKGROUNDS[scene.background]
    picture = picture.convert(
        "RGBa"
    )  # premultiplied: else the colour of what is fully transparent bleeds into the edge
    side, shift = round(size * SHARE), (0, 0)
    if chance is not None:
        picture = picture.rotate(chance.uniform(-TILT, TILT), Image.Resampling.BICUBIC, expand=True)
        picture = picture.crop(_square(picture.getbbox() or (0, 0, *picture.size)))
        side = round(size * chance.uniform(*SHARES))
        room = min(size * FURTHEST, (size - side) / 2)
        shift = round(chance.uniform(-room, room)), round(chance.uniform(-room, room))
        if scene.background not in EXACT:
            colour = _shade(colour, chance)
    small = picture.resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
    sheet = Image.new("RGBA", (size, size), (*colour, 255))
    sheet.alpha_composite(small, ((size - side) // 2 + shift[0], (size - side) // 2 + shift[1]))
    return np.asarray(sheet)[..., :3].copy()


def _square(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The square around a box, its middle in the middle."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    left, top = (left + right - side) // 2, (top + bottom - side) // 2
    return left, top, left + side, top + side


def tinted(pixels: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """An RGBA sprite in one hue; lights and shades stay."""
    hue, more, brighter = TINTS[name]
    rgb = pixels[..., :3].astype(np.float32) / 255
    visible = pixels[..., 3] > 128
    value, low = rgb.max(-1), rgb.min(-1)
    saturation = np.where(value > 0, (value - low) / np.maximum(value, 1e-6), 0)
    dark_ink = visible & (value < 0.2)
    if dark_ink.sum() > 0.9 * visible.sum():  # ink: the drawing itself becomes coloured
        value = np.maximum(value, 0.85)
    saturation = np.maximum(saturation, np.clip((PALE - value) / 0.16, 0, 1) * 0.68)
    if (saturation[visible] * value[visible] > 0.35).mean() < 0.35:
        saturation = np.maximum(saturation, FLOOR)
    saturation, value = np.clip(saturation * more, 0, 1), np.clip(value * brighter, 0, 1)
    found = pixels.copy()
    found[..., :3] = (_rgb(hue, saturation, value) * 255).clip(0, 255).astype(np.uint8)
    return found


def lit(pixels: NDArray[np.uint8], light: float, strength: float) -> NDArray[np.uint8]:
    """An RGBA sprite that much lighter, its colours that much further from grey."""
    rgb = pixels[..., :3].astype(np.float32)
    grey = rgb.mean(-1, keepdims=True)
    found = pixels.copy()
    found[..., :3] = ((grey + (rgb - grey) * strength) * light).clip(0, 255).astype(np.uint8)
    return found


def cut_out(pixels: NDArray[np.uint8], edge: Image.Image) -> Image.Image:
    """A drawing as a sticker: smaller by what its edge takes, on the edge."""
    sheet = edge.copy()
    sheet.alpha_composite(_within(pixels))
    return sheet


@functools.lru_cache(maxsize=1024)
def edge_of(sprite: Sprite) -> Image.Image:
    """What lies around and below a sticker's drawing: white paper, and a line around it."""
    shape = np.asarray(_within(sprite.pixels).getchannel("A"))
    sheet = Image.new("RGBA", (SPRITE, SPRITE))
    for colour, radius in ((SHADE, PAPER + RIM), ((255, 255, 255), PAPER)):
        layer = Image.new("RGBA", (SPRITE, SPRITE), (*colour, 255))
        layer.putalpha(Image.fromarray(_wider(shape, radius)))
        sheet.alpha_composite(layer)
    return sheet


def _within(pixels: NDArray[np.uint8]) -> Image.Image:
    margin = PAPER + RIM
    small = Image.fromarray(pixels).convert("RGBa").resize((SPRITE - 2 * margin,) * 2, Image.Resampling.LANCZOS)
    sheet = Image.new("RGBA", (SPRITE, SPRITE))
    sheet.paste(small.convert("RGBA"), (margin, margin))
    return sheet


def _wider(shape: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """A shape and everything up to `radius` pixels from it; it ends as far from the square's edge."""
    found = shape
    for distance in (radius / 3, radius * 2 / 3, radius):
        for angle in np.linspace(0, 2 * np.pi, 48, endpoint=False):
            moved = round(distance * np.sin(angle)), round(distance * np.cos(angle))
            found = np.maximum(found, np.roll(shape, moved, (0, 1)))
    return found


def planned(
    sprites: Sequence[Sprite], concepts: Sequence[Concept], variants: int, seed: int
) -> list[tuple[int, Scene]]:
    """(number of the sprite, scene): `variants` of each sprite. A third on white, a third re-coloured."""
    chance = random.Random(seed)
    found = []
    for number, sprite in enumerate(sprites):
        for variant in range(variants):
            white = variant % 3 == 0
            background = "white" if white else chance.choice([name for name in BACKGROUNDS if name != "white"])
            tint = ""
            recoloured = variant % 3 == 1 or (white and variant % 2)
            if recoloured and concepts[sprite.concept].name not in COLOURFUL:
                tint = chance.choice([name for name in TINTS if name != background])
            found.append((number, Scene(sprite.concept, sprite.style, background, tint)))
    return found


def caption(scene: Scene, concept: Concept, chance: random.Random) -> str:
    """Words for a scene, now these and now those; in one of ten cases none, for classifier-free guidance."""
    if chance.random() < 0.1:
        return ""
    name = chance.choice(concept.others) if concept.others and chance.random() < 0.2 else concept.name
    text = chance.choice(OPENINGS) + (f"{scene.tint} " if scene.tint else "") + name
    if chance.random() < (0.4 if scene.background == "white" else 0.7):
        pattern = chance.choice((" on a {} background", " on a {} background", ", {} background", " on {}"))
        text += pattern.format(scene.background)
    if chance.random() < SAID[scene.style]:
        text += ", " + chance.choice(STYLE_WORDS[scene.style])
    return with_articles(text)


def with_articles(text: str) -> str:
    """ "a apple" as people write it."""
    words = text.split(" ")
    return " ".join(
        "an" if word == "a" and follower[:1] in "aeiou" else word
        for word, follower in zip(words, [*words[1:], "x"], strict=True)
    )


def _shade(colour: tuple[int, int, int], chance: random.Random) -> tuple[int, int, int]:
    red, green, blue = (
        int(min(255, max(0, part * (1 + chance.uniform(-0.06, 0.06)) + chance.uniform(-6, 6)))) for part in colour
    )
    return red, green, blue


def _rgb(hue: float, saturation: NDArray[np.float32], value: NDArray[np.float32]) -> NDArray[np.float32]:
    sector, part = divmod(hue / 60, 1)
    low, falling, rising = (
        value * (1 - saturation), value * (1 - saturation * part), value * (1 - saturation * (1 - part)),
    )  # fmt: skip
    order = [
        (value, rising, low), (falling, value, low), (low, value, rising),
        (low, falling, value), (rising, low, value), (value, low, falling),
    ][int(sector) % 6]  # fmt: skip
    return np.stack(order, -1)


assert SPRITE >= 256, "training pictures may be that large"
