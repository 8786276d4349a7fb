"""Tokenizers that a folder in diffusers' layout brings along, in `tokenizer`, `tokenizer_2` and so on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from modules.core.errors import CheckpointMissing, CorruptCheckpoint

WHOLE = "tokenizer.json"
Build = Callable[[Path], Tokenizer]


def folder_of(model: Path, component: str) -> Path | None:
    """The tokenizer's folder of text encoder `component` ("text_encoder_2"), or None where there is none.

    model: a folder's model_index.json; a single file has none beside it.
    """
    if model.name != "model_index.json":
        return None
    folder = model.parent / component.replace("text_encoder", "tokenizer")
    return folder if folder.is_dir() else None


def read_tokenizer(
    folder: Path, kind: str, *, required: Sequence[str], older: Mapping[tuple[str, ...], Build]
) -> Tokenizer:
    """The tokenizer of a folder: its tokenizer.json, or else what it has of an older form.

    kind: whose tokenizer is wanted ("T5"). required: tokens that it must have. older: files -> what builds a tokenizer
    of them in that folder. Raises CheckpointMissing or CorruptCheckpoint.
    """
    forms: dict[tuple[str, ...], Build] = {(WHOLE,): _whole, **older}
    form = next((names for names in forms if all((folder / name).is_file() for name in names)), None)
    if form is None:
        fitting = " or ".join(" with ".join(names) for names in forms)
        raise CheckpointMissing(f"{_shown(folder)} holds no vocabulary of {kind}.", hint=f"Accepted: {fitting}.")
    named = f"{' and '.join(form)} in {_shown(folder)}"
    try:
        tokenizer = forms[form](folder)
    except Exception as error:  # the package raises plain Exception for files that it cannot read
        raise CorruptCheckpoint(f"{named} cannot be read: {error}.", hint="Download the folder again.") from error
    missing = [token for token in required if tokenizer.token_to_id(token) is None]
    if missing:
        raise CorruptCheckpoint(f"{named} is no vocabulary of {kind}: it has no {', '.join(missing)}.")
    return tokenizer


def read_pairs(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-pair tokenizer in the older form: vocab.json and merges.txt.

    Raises ValueError or OSError.
    """
    numbers = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    if not isinstance(numbers, dict):
        raise ValueError("vocab.json is no table of tokens")
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    return {str(token): int(number) for token, number in numbers.items()}, [(pair[0], pair[1]) for pair in pairs]


def _whole(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / WHOLE))
    tokenizer.no_padding()
    tokenizer.no_truncation()  # how long a text may be is the family's to say
    return tokenizer


def _shown(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"
