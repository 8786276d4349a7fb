"""The pictures behind the starter: emoji art from npm packages under open licences, rendered to transparent sprites.

Nothing of it is part of this project: the packages are installed into the work folder with npm when the data are built.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SPRITE = 256  # pixels of a sprite's side
PACKAGES = {
    "@iconify-json/fluent-emoji": "1.2.7",  # Fluent Emoji, Microsoft, MIT
    "@iconify-json/fluent-emoji-flat": "1.2.6",  # the same, flat, MIT
    "@iconify-json/fluent-emoji-high-contrast": "1.2.6",  # the same, black and white, MIT
    "emojibase-data": "17.0.0",  # which label is which emoji, MIT
}
# Style word -> package. All three share their shapes, so what is learnt of a thing in one style serves the others.
STYLES = {
    "3d": "@iconify-json/fluent-emoji",
    "sticker": "@iconify-json/fluent-emoji-flat",
    "ink": "@iconify-json/fluent-emoji-high-contrast",
}


@dataclass(frozen=True)
class Concept:
    """Something the starter can draw. label: emojibase's; name: the word in prompts; others: further words for it."""

    label: str
    name: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Sprite:
    """One concept in one style: (SPRITE, SPRITE, 4) uint8, cut to its outline and centred. Two are never equal."""

    concept: int
    style: str
    pixels: NDArray[np.uint8]


def concepts() -> tuple[Concept, ...]:
    """All of concepts.txt, in its order."""
    found = []
    for line in Path(__file__).with_name("concepts.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            named, _, others = line.partition(":")
            label, _, name = named.partition("=")
            words = tuple(word.strip() for word in others.split(",") if word.strip())
            found.append(Concept(label.strip(), (name or label).strip().lower(), words))
    return tuple(found)


def install(work: Path) -> Path:
    """The folder of the installed packages below `work`; npm brings what is not there in the wanted version yet."""
    modules = work / "node_modules"
    missing = [f"{name}@{version}" for name, version in PACKAGES.items() if _version(modules / name) != version]
    if missing:
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("The art comes from npm packages: install Node.js, which brings npm, and try again.")
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(work), *missing], check=True)
    return modules


def sprites(work: Path) -> list[Sprite]:
    """Every concept in every style that has it. Rendered once (half a minute), then kept in `work`."""
    kept = work / "sprites.npz"
    chosen = concepts()
    key = json.dumps([[each.label for each in chosen], STYLES, PACKAGES])
    if kept.is_file():
        with np.load(kept) as file:
            if str(file["key"]) == key:
                rows = zip(file["concept"], file["style"], file["pixels"], strict=True)
                return [Sprite(int(concept), str(style), pixels) for concept, style, pixels in rows]
    modules = install(work)
    codes = _codes(modules)
    found = []
    for style, package in STYLES.items():
        icons = json.loads((modules / package / "icons.json").read_text(encoding="utf-8"))
        names = json.loads((modules / _characters(package) / "chars.json").read_text(encoding="utf-8"))
        for number, concept in enumerate(chosen):
            icon = _icon(codes.get(concept.label), names, icons)
            if icon is not None:
                found.append(Sprite(number, style, _drawn(icon, icons)))
    missing = [concept.label for number, concept in enumerate(chosen) if all(each.concept != number for each in found)]
    if missing:
        raise SystemExit(f"There is no picture of: {', '.join(missing)}.")
    with kept.open("wb") as file:
        np.savez(
            file, key=key, concept=[each.concept for each in found], style=[each.style for each in found],
            pixels=np.stack([each.pixels for each in found]),
        )  # fmt: skip
    return found


def _version(package: Path) -> str:
    file = package / "package.json"
    return str(json.loads(file.read_text(encoding="utf-8"))["version"]) if file.is_file() else ""


def _characters(package: str) -> str:
    """The package that says which icon is which character: the 3-D Fluent one is silent, and names its icons alike."""
    return "@iconify-json/fluent-emoji-flat" if package == "@iconify-json/fluent-emoji" else package


def _codes(modules: Path) -> dict[str, str]:
    entries = json.loads((modules / "emojibase-data" / "en" / "data.json").read_text(encoding="utf-8"))
    return {entry["label"]: entry["hexcode"].lower() for entry in entries}


def _icon(code: str | None, names: Mapping[str, str], icons: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if code is None:
        return None
    for spelling in (code, code.replace("-fe0f", "")):
        icon = icons["icons"].get(names.get(spelling, ""))
        if icon is not None:
            return dict(icon)
    return None


def _drawn(icon: Mapping[str, Any], icons: Mapping[str, Any]) -> NDArray[np.uint8]:
    import resvg_py

    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{SPRITE}" '
        f'height="{SPRITE}" viewBox="0 0 {width} {height}" color="#141416">{icon["body"]}</svg>'
    )
    picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    picture = picture.crop(picture.getchannel("A").getbbox())
    scale = SPRITE / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    sheet = Image.new("RGBA", (SPRITE, SPRITE))
    sheet.paste(picture, ((SPRITE - size[0]) // 2, (SPRITE - size[1]) // 2))
    return np.asarray(sheet)
