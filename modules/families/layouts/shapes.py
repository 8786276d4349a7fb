"""One network's tensors in a file: their shapes under the network's own names, and tables of names being written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

from modules.core.checkpoint import Header, Names, Source
from modules.core.errors import CorruptCheckpoint

Config = dict[str, Any]


class Shapes:
    """Shapes of one network of a file under the network's names. Asking for an absent tensor raises CorruptCheckpoint.

    names: the network's name -> the file's, as in `Parts`.
    """

    def __init__(self, header: Header, names: Names) -> None:
        self._header, self._names = header, names

    def __call__(self, name: str) -> tuple[int, ...]:
        """The shape of `name`. Weights of 4 bits whose layer has no bias are a row: the header tells no more."""
        key = self._names.get(name)
        info = self._header.tensors.get(_file_name(key)) if key else None
        if info is None or not info.shape:
            raise CorruptCheckpoint(f"{self._header.path.name} is incomplete: {name} is missing.")
        shape = info.shape
        if info.dtype == FLAT4:
            rows = self._rows(name)
            if not rows or prod(shape) % rows:
                return shape
            shape = (rows, prod(shape) // rows)
        if isinstance(key, Source):
            if key.rows is not None:
                shape = (key.rows[1] - key.rows[0], *shape[1:])
            if key.change == "transpose":
                shape = shape[::-1]
        return shape

    def _rows(self, name: str) -> int | None:
        bias = self._names.get(f"{name.removesuffix('weight')}bias") if name.endswith(".weight") else None
        shape = self._header.shape(_file_name(bias)) if bias else None
        return shape[0] if shape else None

    def across(self, name: str, side: int) -> int:
        """The other side of a matrix one of whose sides is known."""
        return prod(self(name)) // side

    def has(self, *names: str) -> bool:
        """Whether all of `names` are there."""
        return all(name in self._names for name in names)

    def count(self, pattern: str) -> int:
        """One more than the highest number that the group of `pattern` matches at the start of a name; 0 for none."""
        expression = re.compile(pattern)
        return max((int(found[1]) + 1 for name in self._names if (found := expression.match(name))), default=0)


FLAT4 = "FLAT4"  # stands in folded headers for weights of 4 bits each, whose matrix shape the header does not tell


def _file_name(key: str | Source) -> str:
    return key.name if isinstance(key, Source) else key


def file_names(names: Names) -> set[str]:
    """The file's names that a table takes tensors from."""
    return {_file_name(key) for key in names.values()}


class Table(dict[str, "str | Source"]):
    """A network's parameter names -> names in a file's layout, as they are written down."""

    def pair(self, new: str, old: str) -> None:
        """Weight and bias of a layer."""
        self[f"{new}.weight"], self[f"{new}.bias"] = f"{old}.weight", f"{old}.bias"

    def weights(self, new: str, old: str) -> None:
        """The weight alone."""
        self[f"{new}.weight"] = f"{old}.weight"

    def split(self, old: str, parts: Iterable[tuple[str, int]], *, bias: bool = True) -> None:
        """Layers that the file keeps in one, above each other. parts: (name, rows)."""
        start = 0
        for new, rows in parts:
            for leaf in ("weight", "bias") if bias else ("weight",):
                self[f"{new}.{leaf}"] = Source(f"{old}.{leaf}", rows=(start, start + rows))
            start += rows

    def swapped(self, new: str, old: str) -> None:
        """A layer that gives shift and scale, which diffusers expects the other way round."""
        for leaf in ("weight", "bias"):
            self[f"{new}.{leaf}"] = Source(f"{old}.{leaf}", change="swap_halves")


@contextmanager
def sensible(header: Header) -> Iterator[None]:
    """Shapes that cannot be (a matrix with one side, a side of 0) are a damaged file's, not an error of the program."""
    try:
        yield
    except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
        raise CorruptCheckpoint(
            f"{header.file_name} has tensors whose shapes fit no such network: {error}.", hint="Download it again."
        ) from error


def told_config(header: Header) -> Mapping[str, Mapping[str, Any]]:
    """What is said of each component: of a folder its configs, of a file the `config` metadata, JSON per component.

    Other tools' values under that name are not ours and ignored.
    """
    if header.configs:
        return header.configs
    try:
        told = json.loads(header.metadata.get("config", "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {part: values for part, values in told.items() if isinstance(values, dict)}


def whole(told: Mapping[str, Any], name: str, default: int) -> int:
    """A positive whole number out of metadata, or `default` where there is none."""
    value = told.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CorruptCheckpoint(f"The file's metadata gives {name} as {value!r}, which is no positive whole number.")
    return value


def wholes(told: Mapping[str, Any], name: str, default: list[int]) -> list[int]:
    """A list of positive whole numbers out of metadata, or `default` where there is none."""
    value = told.get(name, default)
    if not isinstance(value, list) or any(type(each) is not int or each < 1 for each in value):
        raise CorruptCheckpoint(f"The file's metadata gives {name} as {value!r}, which are no positive whole numbers.")
    return list(value)


def number(told: Mapping[str, Any], name: str, default: float) -> float:
    """A positive number out of metadata, or `default` where there is none that makes sense."""
    value = told.get(name, default)
    known = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if known else default


def divides(what: str, sizes: list[int], divisor: int, name: str) -> None:
    """Raise CorruptCheckpoint unless `divisor` divides all `sizes`."""
    if any(size % divisor for size in sizes):
        listed = ", ".join(map(str, sizes))
        raise CorruptCheckpoint(f"{what} of {listed} cannot be split into {divisor} {name}: the metadata is wrong.")


def heads(width: int, size: int, what: str) -> int:
    """How many attention heads of `size` channels a width has. Raises CorruptCheckpoint."""
    divides(f"{what} channels", [width], size, "channels per attention head")
    return width // size


def missing_text(name: str, missing: list[str], what: str) -> str:
    """The sentence that says which tensors are missing of `what` in file `name`."""
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    verb = "is" if len(missing) == 1 else "are"
    return f"{name} is incomplete: {', '.join(missing[:3])}{more} of the {what} {verb} missing."
