"""Settings: what each one is, what it accepts, and its stored value.

A setting that is at its default is not stored, so that a better default reaches those who never changed it.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

from modules.core.errors import RequestError
from modules.services.setting_specs import SPECS, SettingSpec, Value
from modules.services.state import StateDatabase
from modules.services.subscribers import Subscribers

__all__ = ["SPECS", "SettingSpec", "Settings", "Value", "checked"]

OnChange = Callable[[str, Value], None]


class Settings:
    """The settings of one installation. Thread-safe; a value is stored before `set` returns."""

    def __init__(self, state: StateDatabase, specs: tuple[SettingSpec, ...] = SPECS) -> None:
        self._state = state
        self._specs = {spec.name: spec for spec in specs}
        self._lock = threading.RLock()
        self._subscribers: Subscribers[[str, Any]] = Subscribers()
        self._values: dict[str, Value] = {}
        self._load()

    def specs(self) -> tuple[SettingSpec, ...]:
        """Every setting's description, in the page's order."""
        return tuple(self._specs.values())

    def spec(self, name: str) -> SettingSpec:
        """One setting's description. Raises RequestError for an unknown name."""
        if name not in self._specs:
            raise RequestError(name[:80], "there is no such setting", accepted=", ".join(self._specs))
        return self._specs[name]

    def get(self, name: str) -> Any:
        """The value, or the default. Raises RequestError for an unknown name."""
        spec = self.spec(name)
        with self._lock:
            return self._values.get(name, spec.default)

    def all(self) -> dict[str, Any]:
        """Every setting's value by name."""
        return {name: self.get(name) for name in self._specs}

    def set(self, name: str, value: object) -> Any:
        """Check and store a value; returns it as stored. Raises RequestError (naming the setting) or StorageError."""
        return self.update({name: value})[name]

    def update(self, values: Mapping[str, object]) -> dict[str, Any]:
        """Check and store several values together, all or none. Raises as `set`."""
        accepted = {name: checked(self.spec(name), value) for name, value in values.items()}
        with self._lock:
            changed = {name: value for name, value in accepted.items() if value != self.get(name)}
            with self._state.write() as connection:
                for name, value in accepted.items():
                    connection.execute("DELETE FROM settings WHERE name = ?", (name,))
                    if value != self._specs[name].default:
                        connection.execute("INSERT INTO settings VALUES (?, ?)", (name, json.dumps(value)))
            self._values.update(accepted)
        for name, value in changed.items():
            self._subscribers.tell(name, value)
        return accepted

    def reset(self, name: str) -> Any:
        """Go back to the default; returns it."""
        return self.set(name, self.spec(name).default)

    def reset_all(self) -> None:
        """Go back to every default."""
        self.update({spec.name: spec.default for spec in self.specs()})

    def subscribe(self, callback: OnChange) -> Callable[[], None]:
        """Call `callback(name, value)` after each change, in the thread that made it. Returns how to end that."""
        return self._subscribers.add(callback)

    def _load(self) -> None:
        for row in self._state.rows("SELECT name, value FROM settings"):
            spec = self._specs.get(row["name"])
            if spec is None:  # of a plug-in that is away, or of another version: kept, not used
                continue
            try:
                self._values[spec.name] = checked(spec, json.loads(row["value"]))
            except (RequestError, ValueError):  # its range has become narrower since: the default holds
                continue


Kind = Literal["bool", "int", "float", "choice", "text"]


def checked(spec: SettingSpec, value: object) -> Value:
    """`value` as the setting stores it. Raises RequestError naming the setting and what it accepts."""
    readers: Mapping[Kind, Callable[[SettingSpec, object], Value | None]] = {
        "bool": _bool,
        "int": _int,
        "float": _float,
        "choice": _choice,
        "text": _text,
    }
    accepted = readers[spec.kind](spec, value)
    if accepted is None:
        shown = repr(value)
        problem = f"{shown if len(shown) <= 60 else shown[:57] + '...'} is not accepted"
        raise RequestError(spec.name, problem, accepted=spec.accepted)
    return accepted


def _bool(_: SettingSpec, value: object) -> bool | None:
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in {"true", "on", "yes", "1"} else False if word in {"false", "off", "no", "0"} else None
    return value if isinstance(value, bool) else None


def _number(spec: SettingSpec, value: object) -> float | None:
    if isinstance(value, str) and len(value) <= 40:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):  # an integer may be too large to be asked
        return None
    inside = (spec.low is None or value >= spec.low) and (spec.high is None or value <= spec.high)
    return value if inside else None


def _int(spec: SettingSpec, value: object) -> int | None:
    number = _number(spec, value)
    return int(number) if number is not None and number == int(number) else None


def _float(spec: SettingSpec, value: object) -> float | None:
    number = _number(spec, value)
    return None if number is None else float(number)


def _choice(spec: SettingSpec, value: object) -> str | None:
    return value if isinstance(value, str) and value in spec.choices else None


def _text(spec: SettingSpec, value: object) -> str | None:
    longest = int(spec.high) if spec.high is not None else 400
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        return None
    half_pair = any("\ud800" <= letter <= "\udfff" for letter in value)  # of surrogates: no answer could carry it
    return None if half_pair else value
