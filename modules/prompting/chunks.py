"""Tokens into chunks of 75, by AUTOMATIC1111's rules. Knows token numbers only, no text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

CHUNK_TOKENS = 75  # CLIP reads 77: these between a begin and an end token
COMMA_BACKTRACK = 20  # tokens: AUTOMATIC1111's default of "Prompt word wrap length limit"


@dataclass(frozen=True)
class Token:
    """One token and its weight."""

    id: int
    weight: float = 1.0


def split_chunks(
    tokens: Iterable[Token | None], comma: int, *, backtrack: int = COMMA_BACKTRACK
) -> Iterator[list[Token]]:
    """Split into lists of at most 75 tokens; at least one list, possibly empty. None begins a new one.

    Where a chunk is full and a comma stands among its last `backtrack` tokens, what follows the comma goes to the
    next chunk, so that a phrase is not cut in two. backtrack 0: never.
    """
    chunk: list[Token] = []
    comma_at: int | None = None
    none_yet = True
    for token in tokens:
        if token is None:
            yield chunk
            chunk, comma_at, none_yet = [], None, False
            continue
        if token.id == comma:
            comma_at = len(chunk)
        elif len(chunk) == CHUNK_TOKENS and comma_at is not None and len(chunk) - comma_at <= backtrack:
            yield chunk[: comma_at + 1]
            chunk, comma_at, none_yet = chunk[comma_at + 1 :], None, False
        if len(chunk) == CHUNK_TOKENS:
            yield chunk
            chunk, comma_at, none_yet = [], None, False
        chunk.append(token)
    if chunk or none_yet:
        yield chunk
