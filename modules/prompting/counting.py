"""How long a prompt is, for a counter beside it: in the tokens of whatever reads it (`modules.core.family.Reads`)."""

from __future__ import annotations

from functools import cache

from modules.prompting.clip import ClipTokenizer
from modules.prompting.qwen import QWEN_IMAGE, Z_IMAGE, QwenTokenizer
from modules.prompting.stages import parts_of, stages_of
from modules.prompting.t5 import T5Tokenizer

_clip, _t5, _qwen = cache(ClipTokenizer.load), cache(T5Tokenizer.load), cache(QwenTokenizer.load)
_TEMPLATES = {"qwen_image": QWEN_IMAGE, "z_image": Z_IMAGE}


def count_tokens(text: str, by: str, length: int, *, evaluations: int = 1, joined: bool = True) -> tuple[int, int]:
    """(tokens, room): (18, 75), (80, 150) by CLIP, whose chunks grow in number; (600, 511) by those that cut the end.

    by, length: see `Reads`. evaluations: of the model in a pass, for prompts that change on their way; joined: AND
    joins prompts, as it does in all but a negative one. The longest of a prompt's texts counts. (0, 0) where nobody
    knows how the model reads. The tables are read at the first question (up to 0.2 s).
    """
    if by not in ("clip", "t5", *_TEMPLATES):
        return 0, 0
    parts = [part.stages for part in parts_of(text, evaluations)] if joined else [stages_of(text, evaluations)]
    texts = {each for stages in parts for each in stages.texts}
    if by == "clip":
        return max(_clip().count_display(each) for each in texts)
    if by == "t5":
        return max(len(_t5().tokens(each)) for each in texts), length - 1
    template = _TEMPLATES[by]
    around = len(_qwen().ids(template.before)) + len(_qwen().ids(template.after)) - template.dropped
    return max(len(_qwen().tokens(each)) for each in texts), length - around
