"""Several pictures as one ZIP, made while it is sent: nothing is compressed twice and nothing waits in memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import APIRouter, Form
from fastapi.responses import StreamingResponse

from modules.core.errors import PictureMissing, RequestError

if TYPE_CHECKING:
    from modules.app import App

MOST = 10_000  # pictures of one archive
CHUNK = 1 << 20  # bytes read at a time


def archive_router(app: App) -> APIRouter:
    """POST /gallery/archive: a form, so that the browser saves the answer by itself."""
    routes = APIRouter()

    @routes.post("/gallery/archive")
    def archive(ids: Annotated[str, Form(max_length=20 * MOST)]) -> StreamingResponse:
        name = f"inferenz-{datetime.now():%Y-%m-%d-%H%M%S}.zip"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return StreamingResponse(zipped(files(app, ids)), media_type="application/zip", headers=headers)

    return routes


def files(app: App, ids: str) -> tuple[Path, ...]:
    """The files of the pictures whose ids are given between blanks; those that are gone are left out.

    Raises RequestError for anything else, and PictureMissing where none of them is left.
    """
    words = ids.split()
    if (
        not words
        or len(words) > MOST
        or not all(word.isascii() and word.isdigit() and len(word) < 19 for word in words)
    ):
        raise RequestError("ids", "no list of pictures", accepted=f"1 to {MOST} ids between blanks")
    found = []
    for word in dict.fromkeys(words):
        try:
            found.append(app.history.file(int(word)))
        except PictureMissing:
            continue
    if not found:
        raise PictureMissing("None of these pictures is there any more.")
    return tuple(found)


def zipped(paths: Sequence[Path]) -> Iterator[bytes]:
    """A ZIP of these files without compression, piece by piece; equal names get a number."""
    pipe = _Pipe()
    taken: set[str] = set()
    with zipfile.ZipFile(cast("io.BufferedWriter", pipe), "w", zipfile.ZIP_STORED) as archive:
        for path in paths:
            name = _free(path, taken)
            about = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)  # ZIP's years are 1980 to 2107
            with path.open("rb") as source, archive.open(about, "w") as target:
                while piece := source.read(CHUNK):
                    target.write(piece)
                    yield pipe.taken()
            yield pipe.taken()
    yield pipe.taken()


def _free(path: Path, taken: set[str]) -> str:
    name, number = path.name, 2
    while name.casefold() in taken:
        name, number = f"{path.stem} ({number}){path.suffix}", number + 1
    taken.add(name.casefold())
    return name


class _Pipe(io.RawIOBase):
    """What `zipfile` writes into, without seeking, and what was written since it was last asked."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole
