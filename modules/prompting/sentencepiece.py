"""SentencePiece's model files (`spiece.model`), read without its package and turned into a `tokenizers.Tokenizer`.

The file is one protobuf message; of its fields these are read (source: sentencepiece_model.proto):
1 pieces (1 text, 2 score, 3 type), 2 trainer (3 kind of model), 3 normaliser (2 table of replaced characters).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import Unigram

_UNIGRAM = 1
_UNKNOWN, _CONTROL = 2, 3
_WORD_START = "▁"


@dataclass(frozen=True)
class SentencePieces:
    """A unigram vocabulary. pieces: (text, log probability), a piece's number is its place. controls: those that no
    text becomes ("</s>"). unknown: the number of what is not in it. table: compiled replacements of characters."""

    pieces: tuple[tuple[str, float], ...]
    controls: tuple[str, ...]
    unknown: int
    table: bytes


def read_pieces(raw: bytes) -> SentencePieces:
    """Read a spiece.model. Raises ValueError where it is none, or no unigram model."""
    pieces: list[tuple[str, float]] = []
    controls: list[str] = []
    unknown, table, kind = 0, b"", _UNIGRAM
    for number, value in _fields(raw):
        if number == 1 and isinstance(value, bytes):
            text, score, sort = _piece(value)
            if sort in (_UNKNOWN, _CONTROL):
                controls.append(text)
            if sort == _UNKNOWN:
                unknown = len(pieces)
            pieces.append((text, score))
        elif number == 2 and isinstance(value, bytes):
            kind = next((found for field, found in _fields(value) if field == 3 and isinstance(found, int)), _UNIGRAM)
        elif number == 3 and isinstance(value, bytes):
            table = next((found for field, found in _fields(value) if field == 2 and isinstance(found, bytes)), b"")
    if not pieces or kind != _UNIGRAM:
        raise ValueError("no unigram model of SentencePiece")
    return SentencePieces(pieces=tuple(pieces), controls=tuple(controls), unknown=unknown, table=table)


def unigram(model: SentencePieces, extra: tuple[str, ...] = ()) -> Tokenizer:
    """A tokenizer that reads text as SentencePiece does. extra: special tokens with the numbers after the last piece.

    Unlike SentencePiece, control pieces and `extra` are recognised where they are written out in a text, as
    transformers does.
    """
    vocabulary = [*model.pieces, *((text, 0.0) for text in extra)]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=model.unknown, byte_fallback=False))
    if model.table:
        tokenizer.normalizer = normalizers.Precompiled(model.table)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement=_WORD_START, prepend_scheme="always")]
    )
    special = (*model.controls, *extra)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer


def _piece(raw: bytes) -> tuple[str, float, int]:
    text, score, sort = "", 0.0, 1
    for number, value in _fields(raw):
        if number == 1 and isinstance(value, bytes):
            text = value.decode("utf-8")
        elif number == 2 and isinstance(value, bytes):
            (score,) = struct.unpack("<f", value)
        elif number == 3 and isinstance(value, int):
            sort = value
    return text, score, sort


def _fields(raw: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field of a protobuf message: a whole number, or bytes. Raises ValueError."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(raw, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(raw, at)
        else:
            size = {1: 8, 5: 4}.get(wire, -1)
        if size < 0 or at + size > len(raw):
            raise ValueError("no protobuf message")
        yield number, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where the next thing begins."""
    value = shift = 0
    while at < len(raw):
        byte = raw[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
    raise ValueError("no protobuf message")
