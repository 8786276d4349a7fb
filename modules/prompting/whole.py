"""A prompt for encoders that read a whole text at once (T5, language models): its text, and how much each part weighs.

CLIP is given the pieces between brackets one by one, as AUTOMATIC1111 does. The tokens of these encoders depend on
what stands around a word: they are given the text without its brackets, and its tokens get their weights afterwards.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from modules.prompting.attention import Break, Piece, parse_attention

_SURROGATES = re.compile("[\ud800-\udfff]")  # halves of characters: no UTF-8, so no bytes to encode


@dataclass(frozen=True)
class Whole:
    """A prompt without its brackets. ends: where each run of one weight ends, in characters; weights: of each run."""

    text: str
    ends: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def weighted(self) -> bool:
        """Whether anything weighs more or less than the rest."""
        return any(weight != 1.0 for weight in self.weights)

    def weight(self, start: int, end: int) -> float:
        """The weight of a token that stands for the characters from `start` to before `end`: of its last one."""
        run = bisect_right(self.ends, max(start, end - 1))
        return self.weights[run] if run < len(self.weights) else 1.0


@dataclass(frozen=True)
class Reading:
    """What such an encoder reads. ids: token numbers, padding included; weights: as many. real: how many of them come
    before the padding. tokens: the texts of the prompt's own tokens. left_out: how many of them found no room."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    real: int
    tokens: tuple[str, ...]
    left_out: int = 0


def whole(text: str, *, brackets: bool = True) -> Whole:
    """Take the brackets off. A BREAK becomes a space: there are no chunks. brackets False: they and BREAK are text."""
    pieces = parse_attention(text) if brackets else (Piece(text),)
    runs = [Piece(" ") if isinstance(piece, Break) else piece for piece in pieces]
    return Whole(
        text="".join(_SURROGATES.sub("\ufffd", run.text) for run in runs),
        ends=tuple(accumulate(len(run.text) for run in runs)),
        weights=tuple(run.weight for run in runs),
    )
