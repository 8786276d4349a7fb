"""T5's tokenizer and what a T5 text encoder reads of a prompt: T5 1.1 (Raffel et al. 2020), as SD3, Flux and Chroma.

A unigram model (Kudo 2018) from the bundled SentencePiece file, by the `tokenizers` package; no torch.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from tokenizers import Tokenizer

from modules.prompting.folders import Build, read_tokenizer
from modules.prompting.sentencepiece import read_pieces, unigram
from modules.prompting.whole import Reading, whole

END, PADDING = "</s>", "<pad>"
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(99, -1, -1))  # T5 fills gaps by these; in its vocabulary


def packed_pieces() -> bytes:
    """The bundled SentencePiece model as a gzip file."""
    return files("modules.prompting").joinpath("data", "t5_spiece.model.gz").read_bytes()


class T5Tokenizer:
    """Text -> T5 tokens. Immutable; any number of threads may use one at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        numbers = tokenizer.get_vocab()
        self.end = numbers[END]
        self.padding = numbers[PADDING]

    @classmethod
    def load(cls) -> T5Tokenizer:
        """Build it from the bundled vocabulary (about 0.2 s)."""
        return cls(_unigram(gzip.decompress(packed_pieces())))

    @classmethod
    def from_folder(cls, folder: Path) -> T5Tokenizer:
        """Read a diffusers folder's own. Raises CheckpointError."""
        older: Mapping[tuple[str, ...], Build] = {
            ("spiece.model",): lambda own: _unigram((own / "spiece.model").read_bytes())
        }
        return cls(read_tokenizer(folder, "T5", required=(END, PADDING), older=older))

    def ids(self, text: str) -> tuple[int, ...]:
        """The token numbers of plain text (brackets are text), without end and padding."""
        return tuple(self._tokenizer.encode(whole(text, brackets=False).text, add_special_tokens=False).ids)

    def tokens(self, text: str, *, brackets: bool = True) -> tuple[str, ...]:
        """The readable token texts of a prompt."""
        found = self._tokenizer.encode(whole(text, brackets=brackets).text, add_special_tokens=False)
        return tuple(_readable(token) for token in found.tokens)

    def read(self, text: str, length: int, *, brackets: bool = True) -> Reading:
        """What the encoder reads of a prompt: `length` tokens, the end and padding included; the rest is left out."""
        prompt = whole(text, brackets=brackets)
        found = self._tokenizer.encode(prompt.text, add_special_tokens=False)
        kept = found.ids[: length - 1]
        padding = length - 1 - len(kept)
        weights = (prompt.weight(*span) for span in found.offsets[: length - 1])
        return Reading(
            ids=(*kept, self.end, *(self.padding,) * padding),
            weights=(*weights, *(1.0,) * (padding + 1)),
            real=len(kept) + 1,
            tokens=tuple(_readable(token) for token in found.tokens[: length - 1]),
            left_out=len(found.ids) - len(kept),
        )


def _unigram(raw: bytes) -> Tokenizer:
    return unigram(read_pieces(raw), SENTINELS)


def _readable(token: str) -> str:
    """A token's text as people read it: "▁" begins a word, and is shown where it stands alone."""
    return token.removeprefix("▁") or token
