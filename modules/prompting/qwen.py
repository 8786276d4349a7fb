"""Qwen's tokenizer and what a Qwen language model reads of a prompt, as Qwen-Image (Qwen2.5-VL) and Z-Image (Qwen3).

Byte-pair encoding of UTF-8 bytes by the `tokenizers` package from the bundled merges; no torch. Qwen2, Qwen2.5 and
Qwen3 share them; Qwen3 has four special tokens more.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from modules.prompting.clip import byte_letters
from modules.prompting.folders import Build, read_pairs, read_tokenizer
from modules.prompting.whole import Reading, whole

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip
SPECIAL_QWEN3 = (*SPECIAL, "<tool_response>", "</tool_response>", "<think>", "</think>")

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Template:
    """What stands around a prompt, so that the model takes it for a conversation.

    dropped: how many tokens at the start the picture model does not see. length: how many it may see after them.
    """

    before: str
    after: str
    dropped: int
    length: int


# The words are those the models were trained with; source of both: their pipelines in diffusers
QWEN_IMAGE = Template(
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
    dropped=34,
    length=512,
)
Z_IMAGE = Template("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", dropped=0, length=512)


def packed_merges() -> bytes:
    """The bundled merges as a gzip file: one pair a line, most frequent first."""
    return files("modules.prompting").joinpath("data", "qwen_merges.txt.gz").read_bytes()


def merges() -> tuple[tuple[str, str], ...]:
    """The 151,387 bundled merges."""
    lines = gzip.decompress(packed_merges()).decode("utf-8").splitlines()
    pairs = (line.split(" ") for line in lines)
    return tuple((left, right) for left, right in pairs)


def vocabulary(pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Token -> number: the 256 bytes and what each merge makes (151,643); special tokens follow."""
    texts = (*byte_letters().values(), *(left + right for left, right in pairs))
    return {text: number for number, text in enumerate(texts)}


class QwenTokenizer:
    """Text -> Qwen tokens. Immutable; any number of threads may use one at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = {letter: byte for byte, letter in byte_letters().items()}

    @classmethod
    def load(cls, special: Sequence[str] = SPECIAL) -> QwenTokenizer:
        """Build it from the bundled merges (about half a second). special: SPECIAL or SPECIAL_QWEN3."""
        pairs = merges()
        return cls(_byte_pairs(vocabulary(pairs), pairs, special))

    @classmethod
    def from_folder(cls, folder: Path, special: Sequence[str] = SPECIAL) -> QwenTokenizer:
        """Read a diffusers folder's own. special: where it lists none. Raises CheckpointError."""

        def build(own: Path) -> Tokenizer:
            return _byte_pairs(*read_pairs(own), special)

        older: Mapping[tuple[str, ...], Build] = {("vocab.json", "merges.txt"): build}
        return cls(read_tokenizer(folder, "Qwen", required=("<|im_start|>", "<|im_end|>"), older=older))

    def ids(self, text: str) -> tuple[int, ...]:
        """The token numbers of plain text (brackets are text)."""
        return tuple(self._tokenizer.encode(whole(text, brackets=False).text, add_special_tokens=False).ids)

    def tokens(self, text: str, *, brackets: bool = True) -> tuple[str, ...]:
        """The readable token texts of a prompt, its template aside."""
        found = self._tokenizer.encode(whole(text, brackets=brackets).text, add_special_tokens=False)
        return tuple(self._readable(token) for token in found.tokens)

    def read(self, text: str, template: Template, *, brackets: bool = True) -> Reading:
        """What the model reads of a prompt within its template; whatever is too long is cut off at the end.

        Weights are all 1, whatever the brackets say: these models were never shown scaled states, and answer badly.
        """
        plain = whole(text, brackets=brackets).text
        ids = self.ids(f"{template.before}{plain}{template.after}")
        kept = ids[: template.dropped + template.length]
        return Reading(
            ids=kept,
            weights=(1.0,) * len(kept),
            real=len(kept),
            tokens=self.tokens(plain, brackets=False),
            left_out=len(ids) - len(kept),
        )

    def _readable(self, token: str) -> str:
        """A token's text as people read it; half and invisible characters as `\\xf0\\x9f`, `\\n`."""
        if any(letter not in self._bytes for letter in token):
            return token  # a special token
        letters = bytes(self._bytes[letter] for letter in token).decode("utf-8", errors="backslashreplace")
        shown = "".join(a if a.isprintable() else a.encode("unicode_escape").decode("ascii") for a in letters)
        return shown.removeprefix(" ") or shown


def _byte_pairs(numbers: dict[str, int], pairs: Sequence[tuple[str, str]], special: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(BPE(vocab=numbers, merges=list(pairs), continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer
