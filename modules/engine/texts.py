"""Encoded prompts, kept: a repeated prompt costs nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from modules.core.generation import Emphasis
from modules.core.operations import Encode, ModelKey, Text
from modules.diffusion.backbone import Backbone

CAPACITY = 32 * 2**20  # bytes: 77 x 768 float32 are 0.24 MB, but the longest prompts 100 MB and more

Key = tuple[ModelKey, int, Emphasis, str]


class Texts:
    """The least recently used texts go first. capacity: bytes. Used from the engine's one thread."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[Key, Text] = OrderedDict()

    def answer(self, backbone: Backbone, operation: Encode) -> list[Text]:
        """One `Text` of one row per text.

        Each text is encoded by itself: in a batch its last bits would depend on which others were kept already.
        """
        found = []
        for text in operation.texts:
            key = (operation.model, operation.clip_skip, operation.emphasis, text)
            kept = self._kept.pop(key, None)
            if kept is None:
                (kept,) = backbone.encode([text], operation.clip_skip, operation.emphasis)
            self._kept[key] = kept
            found.append(kept)
        size = sum(text.nbytes for text in self._kept.values())
        while size > self._capacity:
            _, dropped = self._kept.popitem(last=False)
            size -= dropped.nbytes
        return found

    def keep(self, models: Collection[ModelKey]) -> None:
        """Drop the texts of all other models, so that swaps do not gather those of models that are gone."""
        for key in [key for key in self._kept if key[0] not in models]:
            del self._kept[key]
