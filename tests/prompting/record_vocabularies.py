"""Make the bundled vocabularies of T5 and Qwen again, and record how independent tokenizers read some texts.

    pip download --no-deps diffsynth==1.1.9 dashscope==2.0.2
    pip install --target NEW sentencepiece tiktoken
    PYTHONPATH=.:NEW python tests/prompting/record_vocabularies.py diffsynth-1.1.9-*.whl dashscope-2.0.2-*.whl

T5's model is Google's file as the first package carries it; Qwen's merges follow from the ranks of tokens that Alibaba
publishes in the second. The recorded numbers are SentencePiece's and tiktoken's, neither of which Inferenz uses.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
from base64 import b64decode
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from modules.prompting.clip import byte_letters
from modules.prompting.qwen import SPECIAL
from tests.prompting.texts import TEXTS

DATA = Path("modules/prompting/data")
RECORDED = Path(__file__).with_name("recorded_tokens.json")


def packed(raw: bytes) -> bytes:
    """gzip without a time stamp: the same bytes every time."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0, filename="") as file:
        file.write(raw)
    return out.getvalue()


def ranks(raw: bytes) -> dict[bytes, int]:
    """Token -> rank, of a .tiktoken file: base64 and a number a line."""
    return {b64decode(token): int(rank) for token, rank in (line.split() for line in raw.splitlines())}


def merged_from(token: bytes, numbers: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The pair that `token` is merged from: what is left of it when only earlier merges are made."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        pairs = ((numbers.get(a + b, len(numbers)), at) for at, (a, b) in enumerate(pairwise(parts)))
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def qwen_merges(numbers: dict[bytes, int]) -> bytes:
    """One pair a line in GPT-2's letters, in the order of rank."""
    letters = byte_letters()
    pairs = (merged_from(token, numbers) for token, _ in sorted(numbers.items(), key=lambda each: each[1])[256:])
    return "\n".join(" ".join("".join(letters[byte] for byte in part) for part in pair) for pair in pairs).encode()


def record(pieces: bytes, numbers: dict[bytes, int]) -> dict[str, Any]:
    """Text -> what SentencePiece and tiktoken make of it."""
    import sentencepiece  # type: ignore[import-not-found,unused-ignore]  # only here
    import tiktoken  # type: ignore[import-not-found,unused-ignore]

    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    t5 = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    special = {text: len(numbers) + place for place, text in enumerate(SPECIAL)}
    qwen = tiktoken.Encoding("qwen", pat_str=pattern, mergeable_ranks=numbers, special_tokens=special)
    return {text: {"t5": t5.encode(text), "qwen": qwen.encode(text, allowed_special="all")} for text in TEXTS}


def main(diffsynth: str, dashscope: str) -> None:
    """Write the two data files and the record."""
    with ZipFile(diffsynth) as wheel:
        pieces = wheel.read("diffsynth/tokenizer_configs/flux/tokenizer_2/spiece.model")
    with ZipFile(dashscope) as wheel:
        numbers = ranks(wheel.read("dashscope/resources/qwen.tiktoken"))
    (DATA / "t5_spiece.model.gz").write_bytes(packed(pieces))
    (DATA / "qwen_merges.txt.gz").write_bytes(packed(qwen_merges(numbers)))
    RECORDED.write_text(json.dumps(record(pieces, numbers), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
