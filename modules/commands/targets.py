"""Where the pictures of `generate --output` go: a file, a pattern or a folder, instead of the history."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import cast

from modules.core.errors import RequestError, StorageError
from modules.core.generation import GenerationPlan
from modules.core.held import patiently
from modules.imaging.formats import Kind, SaveFormat, finished, kinds
from modules.services.provenance import EngineFacts, picture_texts


@dataclass(frozen=True, kw_only=True)
class Written:
    """A picture that was written. id: its place in the order of writing, from 1."""

    id: int
    index: int
    path: Path


class OutputTarget:
    """Saves pictures where `--output` says, with the same texts inside as the history's.

    output: a folder (one that exists, or that ends in a slash), or a name that may hold {seed} and {index} (from 00001)
    and ends in .png, .jpg, .webp or .avif. Several pictures under one plain name are numbered: apple.png, apple-2.png.
    A file of that name is replaced.
    """

    def __init__(self, output: str) -> None:
        self._template = _template(output)
        self.written: list[Written] = []
        self.metadata = True  # whether the texts go into the files
        self.quality = SaveFormat().quality

    def save(
        self, png: bytes, plan: GenerationPlan, index: int, job: str, *, model_hash: str | None, facts: EngineFacts
    ) -> Written:
        """Raises StorageError; an existing file is replaced whole or not at all."""
        path = self.path(plan, index)
        wanted = SaveFormat(kind=_kind(path), quality=self.quality)
        texts = picture_texts(plan, index, job, model_hash=model_hash, facts=facts, created=time(), saved=wanted)
        data, kind = finished(png, texts if self.metadata else {}, wanted)
        if kind != wanted.kind:
            path = path.with_suffix(f".{kind}")
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                patiently(lambda: temporary.replace(path))
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{path} could not be written: {error.strerror or error}.") from error
        written = Written(id=len(self.written) + 1, index=index, path=path)
        self.written.append(written)
        return written

    def of_job(self, job: str) -> Sequence[Written]:
        return tuple(self.written)

    def path(self, plan: GenerationPlan, index: int) -> Path:
        """The file of picture `index`, 0-based."""
        path = Path(self._template.format(seed=plan.seeds[index], index=f"{index + 1:05d}"))
        by_seed = "{seed}" in self._template and len(set(plan.seeds)) == len(plan.seeds)  # variations share theirs
        if index == 0 or by_seed or "{index}" in self._template:
            return path
        return path.with_stem(f"{path.stem}-{index + 1}")


def _template(output: str) -> str:
    path = Path(output)
    if not output or "\0" in output:
        raise RequestError("--output", f"{output!r} is not accepted", accepted="a file name or a folder")
    if path.is_dir() or output.endswith(("/", os.sep)):
        return _escaped(path) + "/{index}-{seed}.png"
    if _kind(path) not in kinds():
        endings = ", ".join(f".{kind}" for kind in kinds())
        raise RequestError(
            "--output", f"{path.name} is not accepted", accepted=f"a name that ends in {endings}, or a folder"
        )
    plain = output.replace("{seed}", "").replace("{index}", "")
    if "{" in plain or "}" in plain:
        raise RequestError("--output", f"{output} holds an unknown field", accepted="{seed} and {index}")
    return output


def _kind(path: Path) -> Kind:
    """The format that a name's ending stands for, whether it can be written or not."""
    return cast(Kind, {"jpeg": "jpg"}.get(ending := path.suffix.lower().removeprefix("."), ending))


def _escaped(path: Path) -> str:
    return str(path).replace("{", "{{").replace("}", "}}")
