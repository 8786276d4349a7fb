"""One picture from a server that is starting, as any HTTP client would ask for it: `python tests/smoke.py URL`.

Standard library only, so that it says something about the server and nothing about an environment.
"""

from __future__ import annotations

import json
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

WAIT_SECONDS = 180.0
REQUEST = {"prompt": "a red apple on a blue background", "steps": 8, "seed": 1}
SIZE = (128, 128)
_Found = TypeVar("_Found")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class SmokeFailure(Exception):
    """What the server did instead of what it should have done."""


def ask(address: str, values: dict[str, Any] | None = None) -> bytes:
    """GET, or POST of JSON. Raises SmokeFailure with the server's own words for an error status."""
    body = None if values is None else json.dumps(values).encode()
    request = Request(address, data=body, headers={"Content-Type": "application/json"} if body else {})
    try:
        with urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
            return content
    except HTTPError as error:
        raise SmokeFailure(f"{address} answered {error.code}: {error.read().decode(errors='replace')[:500]}") from error


def wait_for(what: str, attempt: Callable[[], _Found | None]) -> _Found:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        found = attempt()
        if found is not None:
            return found
        time.sleep(0.1)
    raise SmokeFailure(f"{what}: not within {WAIT_SECONDS:.0f} s")


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of each chunk, their checksums verified."""
    if not png.startswith(_SIGNATURE):
        raise SmokeFailure(f"the picture is no PNG: it starts with {png[:16]!r}")
    at = len(_SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", png, at + 8 + length)
        if zlib.crc32(kind + data) != checksum:
            raise SmokeFailure(f"the checksum of the PNG chunk {kind!r} is wrong")
        yield kind, data
        at += 12 + length


def check_picture(png: bytes) -> str:
    """Size and parameters as asked. Returns the `parameters` text."""
    parts = list(chunks(png))
    if not parts or parts[-1][0] != b"IEND":
        raise SmokeFailure("the PNG ends early")
    size = struct.unpack_from(">II", parts[0][1])
    if size != SIZE:
        raise SmokeFailure(f"the picture is {size[0]}x{size[1]}, not {SIZE[0]}x{SIZE[1]}")
    texts = dict(data.split(b"\0", 1) for kind, data in parts if kind in (b"tEXt", b"iTXt"))
    if b"parameters" not in texts:
        raise SmokeFailure(f"the PNG has no text named parameters, only {sorted(texts)}")
    text = texts[b"parameters"].decode("utf-8", errors="replace").lstrip("\0")
    for wanted in (str(REQUEST["prompt"]), "Steps: 8", "Seed: 1"):
        if wanted not in text:
            raise SmokeFailure(f"{wanted!r} is missing from the parameters: {text!r}")
    return text


def run(base: str) -> None:
    def page() -> bytes | None:
        try:
            return ask(f"{base}/")
        except (OSError, HTTPException):
            return None  # not listening yet

    def finished() -> dict[str, Any] | None:
        view: dict[str, Any] = json.loads(ask(f"{base}/inferenz/jobs/{job['id']}"))
        if view["state"] in ("failed", "interrupted"):
            raise SmokeFailure(f"the job ended as {view['state']}: {json.dumps(view)[:1000]}")
        return view if view["state"] == "completed" else None

    started = time.monotonic()
    wait_for("the page", page)
    print(f"page after {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    job: dict[str, Any] = json.loads(ask(f"{base}/inferenz/jobs", REQUEST))
    picture = wait_for("the picture", finished)["images"][0]["picture"]
    text = check_picture(ask(f"{base}/inferenz/pictures/{picture}"))
    print(f"picture {picture} after {time.monotonic() - started:.1f} s\n{text}")


if __name__ == "__main__":
    try:
        run(sys.argv[1].rstrip("/"))
    except SmokeFailure as failure:
        sys.exit(f"smoke test failed: {failure}")
