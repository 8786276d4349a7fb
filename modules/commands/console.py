"""A terminal as commands see it: streams that tests replace, and the exit codes scripts rely on."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any, TextIO

from modules.core.errors import InferenzError, RequestError

FINE, FAILED, BAD_INPUT, DIFFERENT, STOPPED = 0, 1, 2, 3, 130


@dataclass(frozen=True, kw_only=True)
class Console:
    """Results go to `out`, everything else to `err`, so that `out` can be piped."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    source: TextIO = field(default_factory=lambda: sys.stdin)

    def print(self, text: str) -> None:
        """A result line."""
        encoding = self.out.encoding or "utf-8"  # none for what is kept in memory
        # A character that the terminal cannot show is no reason to fail with the work done
        self.out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self.out.flush()

    def print_json(self, values: Any) -> None:
        """A result as one line of JSON, escaped where the stream does not speak UTF-8 (a pipe on Windows)."""
        utf8 = (self.out.encoding or "utf-8").lower().replace("-", "") == "utf8"
        self.print(json.dumps(values, ensure_ascii=not utf8))

    def read_json(self) -> Any:
        """What came on `source`. JSON is UTF-8 on every system (RFC 8259), whatever the terminal speaks.

        Raises ValueError or RecursionError for anything else.
        """
        buffer = getattr(self.source, "buffer", None)
        return json.loads(self.source.read() if buffer is None else buffer.read().decode("utf-8-sig"))

    def say(self, text: str) -> None:
        """A line for the person who watches."""
        self.err.write(f"{text}\n")
        self.err.flush()

    def complain(self, error: InferenzError) -> int:
        """Tell an error; returns the exit code that goes with it."""
        self.say(f"Error: {error}")
        return BAD_INPUT if isinstance(error, RequestError) else FAILED

    def width(self) -> int:
        """Columns of the terminal."""
        import shutil

        return shutil.get_terminal_size().columns


def error_json(error: InferenzError) -> dict[str, Any]:
    """An error for a script, as the HTTP interface tells it."""
    field_name = error.field if isinstance(error, RequestError) else None
    return {"code": error.code, "message": error.message, "hint": error.hint, "field": field_name}
