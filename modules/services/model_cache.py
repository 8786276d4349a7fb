"""What was read from model headers before: kept in the state database while path, size and time stay the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from modules import core, families
from modules.core.checkpoint import ModelInfo
from modules.services.state import StateDatabase
from modules.services.storage import FoundFile

_INFO: TypeAdapter[ModelInfo] = TypeAdapter(ModelInfo)
_READING = ("checkpoint.py", "family.py", "folder.py", "gguf.py", "header.py")
_LONGEST_METADATA = 2000  # characters of one value; merges and training records carry megabytes


class ModelCache:
    """Descriptions and hashes by key (a path, prefixed by what it was read as).

    reader: identifies the code that reads headers; descriptions by another reader are read again, hashes are kept.
    """

    def __init__(self, state: StateDatabase, reader: str) -> None:
        self._state = state
        self._reader = reader
        self._hashes: dict[str, tuple[int, int, str]] = {}
        self._infos: dict[str, ModelInfo] = {}
        for row in state.rows("SELECT path, size, mtime_ns, reader, info, sha256 FROM models"):
            if row["sha256"]:
                self._hashes[row["path"]] = (row["size"], row["mtime_ns"], row["sha256"])
            if row["reader"] == reader and row["info"]:
                try:
                    self._infos[row["path"]] = _INFO.validate_json(row["info"])
                except ValidationError:  # of a version whose description was another
                    continue

    def info(self, key: str, file: FoundFile) -> ModelInfo | None:
        """The description of this very file, or None where it was not read yet."""
        info = self._infos.get(key)
        return info if info is not None and (info.size, info.mtime_ns) == (file.size, file.mtime_ns) else None

    def sha256(self, key: str, size: int, mtime_ns: int) -> str | None:
        """The file's hash, or None where it is not known yet."""
        found = self._hashes.get(key)
        return found[2] if found is not None and found[:2] == (size, mtime_ns) else None

    def put(self, read: Iterable[tuple[str, ModelInfo]]) -> None:
        """Remember descriptions."""
        read = [(key, replace(info, sha256=None)) for key, info in read]
        with self._state.write() as connection:
            for key, info in read:
                known = self.sha256(key, info.size, info.mtime_ns)
                text = _INFO.dump_json(info).decode()
                connection.execute(
                    "INSERT OR REPLACE INTO models (path, size, mtime_ns, reader, info, sha256) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (key, info.size, info.mtime_ns, self._reader, text, known),
                )
        self._infos.update(read)

    def put_hash(self, key: str, size: int, mtime_ns: int, sha256: str) -> None:
        """Remember a hash."""
        with self._state.write() as connection:
            connection.execute(
                "INSERT INTO models (path, size, mtime_ns, sha256) VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE "
                "SET size = excluded.size, mtime_ns = excluded.mtime_ns, sha256 = excluded.sha256",
                (key, size, mtime_ns, sha256),
            )
        self._hashes[key] = (size, mtime_ns, sha256)


def without_long_metadata(info: ModelInfo) -> ModelInfo:
    """The description less metadata that nobody reads in a list."""
    short = {name: text for name, text in info.metadata.items() if len(text) <= _LONGEST_METADATA}
    return replace(info, metadata=short) if len(short) < len(info.metadata) else info


def reader_version(names: Iterable[str]) -> str:
    """Changes whenever the code that reads headers does, or the families it knows by `names` (plug-ins included)."""
    digest = hashlib.blake2b("\n".join(sorted(names)).encode(), digest_size=12)
    folders = [Path(folder) for folder in families.__path__]
    sources = [source for folder in folders for source in sorted(folder.rglob("*.py"))]
    sources += [Path(folder) / name for folder in core.__path__ for name in _READING]
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()
