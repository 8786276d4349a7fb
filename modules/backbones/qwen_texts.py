"""What Qwen-Image and Z-Image have in common: a Qwen language model reads the whole text, of whatever length."""

from __future__ import annotations

from abc import ABC

from modules.backbones.encoders.qwen import QwenEncoder
from modules.backbones.loaded import Built
from modules.backbones.transformer import FlowTransformer
from modules.core.generation import Emphasis
from modules.core.operations import Text


class ReadByQwen(FlowTransformer, ABC):
    """A loaded flow model under a Qwen language model."""

    def __init__(self, built: Built, *, text: QwenEncoder) -> None:
        super().__init__(built, (text.module,))
        self._text = text

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        """Qwen's tokens of a prompt, in one tuple."""
        return (self._text.tokens(text, emphasis),)

    def _read(self, text: str, clip_skip: int, emphasis: Emphasis) -> Text:
        read = self._text.encode(text, emphasis)
        return Text(read.hidden, joins="pad", notice=read.notice)
