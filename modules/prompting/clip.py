"""CLIP's tokenizer and what a CLIP text encoder reads of a prompt.

Byte-pair encoding over lower-cased text (Radford et al. 2021; Sennrich et al. 2016), by the `tokenizers` package from
the bundled merges; no torch and no transformers. SD1, SD2, SDXL, SD3 and Flux share the vocabulary.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from modules.prompting.attention import Break, parse_attention
from modules.prompting.chunks import CHUNK_TOKENS, Token, split_chunks
from modules.prompting.folders import Build, read_pairs, read_tokenizer

BEGIN = "<|startoftext|>"
END = "<|endoftext|>"
WORD_END = "</w>"

_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_SURROGATES = re.compile("[\ud800-\udfff]")  # halves of characters: no UTF-8, so no bytes to encode


@dataclass(frozen=True)
class Chunk:
    """What the text encoder reads at once.

    ids: 77 token numbers: begin, up to 75 tokens, end, and padding. weights: 77 attention weights, 1.0 but for
    weighted tokens. tokens: the texts of the real tokens alone, at most 75.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    tokens: tuple[str, ...]


def packed_merges() -> bytes:
    """The bundled merges as a gzip file: a line of version, then one pair a line."""
    return files("modules.prompting").joinpath("data", "clip_merges.txt.gz").read_bytes()


def merges() -> tuple[tuple[str, str], ...]:
    """The 48,894 bundled merges, most frequent first."""
    lines = gzip.decompress(packed_merges()).decode("utf-8").splitlines()
    pairs = (line.split(" ") for line in lines[1:])  # the first line is a version
    return tuple((left, right) for left, right in pairs)


def vocabulary(pairs: tuple[tuple[str, str], ...]) -> Mapping[str, int]:
    """Token -> number: the 256 bytes, the same ending a word, what each merge makes, begin and end (49,408)."""
    letters = tuple(byte_letters().values())
    texts = (*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in pairs), BEGIN, END)
    return MappingProxyType({text: number for number, text in enumerate(texts)})


def byte_letters() -> Mapping[int, str]:
    """The visible character that stands for each byte in the vocabulary, in the vocabulary's order (GPT-2's rule).

    A byte that is a visible Latin-1 character stands for itself; the others take the characters from U+0100 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    letters = {byte: chr(byte) for byte in visible}
    letters.update({byte: chr(256 + index) for index, byte in enumerate(hidden)})
    return MappingProxyType(letters)


class ClipTokenizer:
    """Text -> CLIP tokens. Immutable; any number of threads may use one at once."""

    def __init__(self, tokenizer: Tokenizer, *, padding: int | None = None) -> None:
        """padding: the token that fills a chunk; the end token by default (SD1), 0 for OpenCLIP's encoders."""
        self._tokenizer = tokenizer
        numbers = tokenizer.get_vocab()
        self.begin = numbers[BEGIN]
        self.end = numbers[END]
        self.comma = numbers["," + WORD_END]
        self.padding = self.end if padding is None else padding
        self._bytes = {letter: byte for byte, letter in byte_letters().items()}

    @classmethod
    def load(cls, *, padding: int | None = None) -> ClipTokenizer:
        """Build it from the bundled merges (about 0.2 s)."""
        pairs = merges()
        return cls(_byte_pairs(vocabulary(pairs), pairs), padding=padding)

    @classmethod
    def from_folder(cls, folder: Path, *, padding: int | None = None) -> ClipTokenizer:
        """Read a diffusers folder's own. Raises CheckpointError."""
        older: Mapping[tuple[str, ...], Build] = {
            ("vocab.json", "merges.txt"): lambda own: _byte_pairs(*read_pairs(own))
        }
        required = (BEGIN, END, "," + WORD_END)
        return cls(read_tokenizer(folder, "CLIP", required=required, older=older), padding=padding)

    def ids(self, text: str) -> tuple[int, ...]:
        """The token numbers of plain text (brackets are text), without begin, end and padding."""
        readable = _SURROGATES.sub("\ufffd", text)
        return tuple(self._tokenizer.encode(readable, add_special_tokens=False).ids)

    def tokens(self, text: str) -> tuple[str, ...]:
        """The readable token texts of plain text (brackets are text)."""
        return tuple(self.readable(number) for number in self.ids(text))

    def count(self, text: str) -> int:
        """How many tokens a prompt takes, weights and brackets aside; a chunk that is left early counts as full."""
        return self.count_display(text)[0]

    def count_display(self, text: str) -> tuple[int, int]:
        """(tokens, room) for a token counter: (18, 75), (80, 150), counted as AUTOMATIC1111 counts."""
        tokens_and_breaks = tuple(self._weighted(text))
        *full, last = split_chunks(tokens_and_breaks, self.comma)
        left_early = tokens_and_breaks[-1:] == (None,)
        tokens = len(full) * CHUNK_TOKENS + (CHUNK_TOKENS if left_early else len(last))
        return tokens, max(1, -(-tokens // CHUNK_TOKENS)) * CHUNK_TOKENS

    def chunks(self, text: str, *, brackets: bool = True) -> tuple[Chunk, ...]:
        """What the text encoder reads of a prompt in AUTOMATIC1111's attention grammar; at least one chunk.

        brackets False: they are text, and so is BREAK.
        """
        tokens = self._weighted(text) if brackets else (Token(number) for number in self.ids(text))
        return tuple(self._chunk(found) for found in split_chunks(tokens, self.comma))

    def readable(self, number: int) -> str:
        """A token's text as people read it; half and invisible characters as `\\xf0\\x9f`, `\\u200d`."""
        text = self._tokenizer.id_to_token(number)
        if text is None:
            raise ValueError(f"There is no token {number}: the vocabulary has {self._tokenizer.get_vocab_size()}.")
        if text in {BEGIN, END}:
            return text
        raw = bytes(self._bytes[letter] for letter in text.removesuffix(WORD_END))
        letters = raw.decode("utf-8", errors="backslashreplace")
        return "".join(a if a.isprintable() else a.encode("unicode_escape").decode("ascii") for a in letters)

    def _weighted(self, text: str) -> Iterator[Token | None]:
        for piece in parse_attention(text):
            if isinstance(piece, Break):
                yield None
            else:
                yield from (Token(number, piece.weight) for number in self.ids(piece.text))

    def _chunk(self, tokens: list[Token]) -> Chunk:
        room = CHUNK_TOKENS - len(tokens)
        return Chunk(
            ids=(self.begin, *(token.id for token in tokens), *self._tail(room)),
            weights=(1.0, *(token.weight for token in tokens), *(1.0,) * (room + 1)),
            tokens=tuple(self.readable(token.id) for token in tokens),
        )

    def _tail(self, room: int) -> tuple[int, ...]:
        return (self.end, *(self.padding,) * room)


def _byte_pairs(numbers: Mapping[str, int], pairs: Sequence[tuple[str, str]]) -> Tokenizer:
    model = BPE(
        vocab=dict(numbers),
        merges=list(pairs),
        continuing_subword_prefix="",
        end_of_word_suffix=WORD_END,
        unk_token=END,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(BEGIN, special=True), AddedToken(END, special=True)])
    return tokenizer
