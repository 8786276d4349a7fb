"""How a model is called: one name for each, and every way to ask for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from unicodedata import normalize

from modules.core.checkpoint import MODEL_INDEXES, ModelInfo

STARTER = "inferenz-starter"  # listed last, so that whoever has a model of their own starts with that
_NEAR = 5  # names that an error offers


def uniquely_named(infos: Iterable[ModelInfo]) -> Iterator[ModelInfo]:
    """By name, the starter last. Of several with one name the loadable one keeps it, then that of the first folder."""
    taken: set[str] = set()
    ordered = sorted(
        infos, key=lambda info: (info.name == STARTER, info.name.casefold(), info.name, not info.supported)
    )
    for info in ordered:
        name, number = info.name, 2
        while name in taken:
            name, number = f"{info.name} ({number})", number + 1
        taken.add(name)
        yield info if name == info.name else replace(info, name=name)


def match(text: str, infos: Sequence[ModelInfo]) -> ModelInfo | None:
    """The one that `text` names: by name, title, file name, path or hash (at least 8 digits).

    macOS may write an accent apart from its letter, which looks the same and is another name elsewhere.
    """
    if not text:
        return None
    for fold in (str, _folded):
        wanted = fold(text.replace("\\", "/"))
        for names in (_names, _file_names):
            for info in infos:
                if wanted in {fold(name.replace("\\", "/")) for name in names(info)}:
                    return info
    title = re.fullmatch(r"(.+?) \[([0-9a-fA-F]{8,64})\]", text)
    if title:  # a title whose hash is of another copy, or not known here yet
        return match(title[2], infos) or match(title[1], infos)
    if re.fullmatch(r"[0-9a-fA-F]{8,64}", text):
        return next((info for info in infos if info.sha256 and info.sha256.startswith(text.lower())), None)
    return None


def _folded(text: str) -> str:
    return normalize("NFC", text).casefold()


def _names(info: ModelInfo) -> tuple[str, ...]:
    return info.name, info.title, info.path


def _file_names(info: ModelInfo) -> tuple[str, ...]:
    path = Path(info.path)
    if path.name in MODEL_INDEXES:
        return path.parent.name, str(path.parent)
    return f"{info.name}{path.suffix}", path.name, path.stem


def hint(text: str, infos: Sequence[ModelInfo]) -> str:
    """What to say where `text` names none of them: near names, else some of those that there are."""
    if not infos:
        return "There are none at all."
    names = {info.name.casefold(): info.name for info in infos if info.supported} or {"": infos[0].name}
    near = get_close_matches(text.casefold()[:200], names, n=_NEAR, cutoff=0.4)
    if near:
        return f"Did you mean {' or '.join(names[name] for name in near)}?"
    shown = list(names.values())[:_NEAR]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"There are: {', '.join(shown)}{more}."
