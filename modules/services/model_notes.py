"""What a person decided about a checkpoint file: as what it is taken, and the settings to begin with.

Kept in the state database by path and size, so that another file under the same name begins anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from modules.core.errors import RequestError
from modules.core.generation import parse_request
from modules.services.state import StateDatabase

# Fields of a request that a profile may hold
PROFILE_FIELDS = (
    "width", "height", "steps", "cfg_scale", "distilled_cfg_scale", "shift", "sampler", "schedule", "clip_skip", "vae",
    "text_encoder",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Taken:
    """As what a checkpoint is taken instead of what it is recognised as; "" and None where that holds."""

    family: str = ""
    prediction: str = ""
    variant: str | None = None

    def __bool__(self) -> bool:
        return self != Taken()


@dataclass(frozen=True, kw_only=True)
class Note:
    """What is remembered of one file. profile: request field -> value, see PROFILE_FIELDS."""

    taken: Taken = field(default_factory=Taken)
    profile: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.taken or self.profile)


NOTHING = Note()
Notes = Mapping[tuple[str, int], Note]  # (path, bytes) -> what is remembered


class ModelNotes:
    """The notes of one installation. Thread-safe; what another process wrote is seen at the next question."""

    def __init__(self, state: StateDatabase) -> None:
        self._state = state

    def all(self) -> Notes:
        """Every note by its file's path and size."""
        rows = self._state.rows("SELECT path, size, taken, profile FROM model_notes")
        return {(row["path"], row["size"]): _note(row["taken"], row["profile"]) for row in rows}

    def put(self, path: str, size: int, note: Note) -> None:
        """Remember a note in place of what was remembered; an empty one is forgotten. Raises StorageError."""
        with self._state.write() as connection:
            connection.execute("DELETE FROM model_notes WHERE path = ?", (path,))
            if note:
                connection.execute(
                    "INSERT INTO model_notes (path, size, taken, profile) VALUES (?, ?, ?, ?)",
                    (path, size, json.dumps(asdict(note.taken)), json.dumps(dict(note.profile))),
                )


def checked_profile(values: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request's values a profile keeps, each in the request's own type; None is left out.

    Raises RequestError for a field that no profile holds, and for a value out of its range.
    """
    other = [name for name in values if name not in PROFILE_FIELDS]
    if other:
        raise RequestError(
            str(other[0])[:80], "is nothing that is remembered for a model", accepted=", ".join(PROFILE_FIELDS)
        )
    given = {name: value for name, value in values.items() if value is not None}
    request = parse_request(given)
    found = {name: getattr(request, name) for name in given}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _note(taken: str, profile: str) -> Note:
    """What a row says; nothing where it is of a version that had other fields."""
    try:
        return Note(taken=Taken(**json.loads(taken)), profile=checked_profile(json.loads(profile)))
    except (ValueError, TypeError, RequestError):
        return NOTHING
