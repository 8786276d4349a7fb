"""Captions as the text encoder reads them: CLIP's tokens, in a table that holds only those that occur."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from models.starter_training.art import concepts
from models.starter_training.scenes import BACKGROUNDS, STYLE_WORDS, TINTS, Scene, caption
from modules.prompting.clip import ClipTokenizer

LENGTH = 77
UNKNOWN_SHARE = 0.04  # of the tokens are made unknown in training, so that unknown words do no harm


class Words:
    """The tokens of all captions. order: CLIP's number of each row: begin, end, then those that occur, rising."""

    def __init__(self) -> None:
        self._tokenizer = ClipTokenizer.load()
        texts = [name for concept in concepts() for name in (concept.name, *concept.others)]
        texts += [*BACKGROUNDS, *TINTS, *(word for words in STYLE_WORDS.values() for word in words)]
        texts += ["a picture of an icon of an emoji, on a background"]
        # A word has other tokens in the middle of a text than alone only in spelling: CLIP's end with the word
        seen = {number for text in texts for number in self._tokenizer.ids(text)}
        chance = random.Random(0)
        for number, concept in enumerate(concepts()):
            for _ in range(40):
                scene = Scene(number, chance.choice([*STYLE_WORDS]), chance.choice([*BACKGROUNDS]), "red")
                seen |= set(self._tokenizer.ids(caption(scene, concept, chance)))
        self.order = [self._tokenizer.begin, self._tokenizer.end, *sorted(seen)]
        self.unknown = len(self.order)
        self.never = min(set(range(self._tokenizer.begin)) - seen)  # a number of CLIP's that occurs in no caption
        self._rows = {number: row for row, number in enumerate(self.order)}

    def __len__(self) -> int:
        """Rows of the table, the one for unknown words included."""
        return self.unknown + 1

    def rows(self, texts: Sequence[str]) -> Tensor:
        """(N, 77) rows of the table."""
        found = []
        for text in texts:
            known = [self._rows.get(number, self.unknown) for number in self._tokenizer.ids(text)][: LENGTH - 2]
            found.append([0, *known, *[1] * (LENGTH - 1 - len(known))])
        return torch.tensor(found)

    def numbers(self, texts: Sequence[str]) -> Tensor:
        """(N, 77) of CLIP's own numbers, for a whole table."""
        begin, end = self._tokenizer.begin, self._tokenizer.end
        found = [[begin, *self._tokenizer.ids(text)[: LENGTH - 2], *[end] * LENGTH][:LENGTH] for text in texts]
        return torch.tensor(found)

    def blurred(self, rows: Tensor) -> Tensor:
        """The rows with some words made unknown."""
        lost = (torch.rand(rows.shape) < UNKNOWN_SHARE) & (rows > 1)
        return torch.where(lost, torch.full_like(rows, self.unknown), rows)
