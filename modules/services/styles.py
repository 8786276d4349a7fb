"""The styles of an installation: styles.csv, as AUTOMATIC1111 reads and writes it."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import locale
import os
import secrets
import threading
from collections.abc import Iterable
from pathlib import Path

from modules.core.errors import RequestError, StorageError
from modules.core.held import patiently
from modules.prompting.styles import Style

COLUMNS = ("name", "prompt", "negative_prompt")
MAX_NAME_CHARACTERS = 200
MAX_FILE_BYTES = 16 << 20


class Styles:
    """The styles of one file, read anew whenever it changes. Thread-safe; a change is on disk before a call returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._state: tuple[int, int] | None = None
        self._styles: dict[str, Style] = {}

    def all(self) -> tuple[Style, ...]:
        """Every style in the file's order. Raises StorageError where the file is there and cannot be read."""
        with self._lock:
            self._look()
            return tuple(self._styles.values())

    def chosen(self, names: Iterable[str]) -> tuple[Style, ...]:
        """The styles of these names. Raises RequestError for one that is not there."""
        known = {style.name: style for style in self.all()}
        for name in names:
            if name not in known:
                shown = repr(name if len(name) <= 60 else name[:57] + "...")
                raise RequestError("styles", f"there is no style {shown}", accepted=", ".join(known) or "no style yet")
        return tuple(known[name] for name in names)

    def save(self, style: Style) -> None:
        """Add a style, or change the one of its name. Raises RequestError or StorageError."""
        if not style.name.strip() or len(style.name) > MAX_NAME_CHARACTERS or not style.name.isprintable():
            raise RequestError(
                "name",
                f"{style.name[:60]!r} is not accepted",
                accepted=f"1 to {MAX_NAME_CHARACTERS} visible characters",
            )
        for field, text in (("prompt", style.prompt), ("negative_prompt", style.negative_prompt)):
            # No file can hold half of a surrogate pair, and no prompt takes a NUL
            if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
                raise RequestError(field, "holds what is no text", accepted="text, line breaks and tabs")
        with self._lock:
            self._look()
            self._write({**self._styles, style.name: style})

    def delete(self, name: str) -> None:
        """Remove a style; one that is gone already is fine. Raises StorageError."""
        with self._lock:
            self._look()
            if name in self._styles:
                self._write({key: style for key, style in self._styles.items() if key != name})

    def _look(self) -> None:
        try:
            found = self.path.stat()
        except OSError:
            self._state, self._styles = None, {}
            return
        state = (found.st_mtime_ns, found.st_size)
        if state == self._state:
            return
        if found.st_size > MAX_FILE_BYTES:
            raise StorageError(
                f"{self.path.name} is larger than {MAX_FILE_BYTES >> 20} MiB.", hint="Is it the right file?"
            )
        try:
            text = decoded(self.path.read_bytes(), system=locale.getencoding())
            self._styles = {style.name: style for style in read_styles(text)}
        except (OSError, csv.Error) as error:
            raise StorageError(f"{self.path.name} cannot be read: {error}.", hint="Is it a table of styles?") from error
        self._state = state

    def _write(self, styles: dict[str, Style]) -> None:
        temporary = self.path.with_name(f".inferenz-{os.getpid()}-{secrets.token_hex(6)}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(write_styles(styles.values()).encode("utf-8-sig"))
                file.flush()
                os.fsync(file.fileno())
            patiently(lambda: temporary.replace(self.path))
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageError(f"{self.path.name} could not be saved: {error.strerror or error}.") from error
        self._state = None
        self._look()


def decoded(data: bytes, *, system: str) -> str:
    """The text of a table: in UTF-8, or as spreadsheets on Windows save it, in UTF-16 or the system's own encoding.

    What is read here is written back as a whole when a style changes: a letter that was misread would be lost.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", "replace")
    else:
        for encoding in ("utf-8-sig", system, "cp1252"):
            with contextlib.suppress(UnicodeDecodeError):
                text = data.decode(encoding)
                break
        else:
            text = data.decode("utf-8-sig", "replace")
    return text.replace("\r\n", "\n")


def read_styles(text: str) -> tuple[Style, ...]:
    """The styles of a table with the columns name, prompt (older files: text) and negative_prompt.

    Rows without a name are left out; of two with one name the later counts. Raises csv.Error.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    found = {}
    for row in rows:
        name = (row.get("name") or "").strip()
        if name:
            prompt = row.get("prompt") or row.get("text") or ""
            found[name] = Style(name=name, prompt=prompt, negative_prompt=row.get("negative_prompt") or "")
    return tuple(found.values())


def write_styles(styles: Iterable[Style]) -> str:
    """The table of some styles: `read_styles(write_styles(s)) == s`."""
    table = io.StringIO(newline="")
    csv.writer(table).writerow(COLUMNS)
    # Readers skip blanks before a value that is not quoted
    rows = ((style.name, style.prompt, style.negative_prompt) for style in styles)
    csv.writer(table, quoting=csv.QUOTE_ALL).writerows(rows)
    return table.getvalue()
