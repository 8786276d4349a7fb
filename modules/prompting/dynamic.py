"""Dynamic prompts: `{red|blue}`, `{2$$a|b|c}`, `{3::a|b}`, `__animals__`, chosen anew for every picture by its seed.

The dynamicprompts library reads and draws. Before it sees a text, everything that is no notation of its own is put
aside, for it raises on a stray brace and takes `//` for a comment: a prompt that uses none of this passes unchanged.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any
from unicodedata import normalize

from modules.core.errors import RequestError
from modules.core.generation import MAX_PROMPT_CHARACTERS

SUFFIXES = (".txt", ".yaml", ".json")
MAX_CONSTRUCTS = 1000  # of one template: the library needs about a millisecond each
MAX_DEPTH = 12  # of braces in braces; deeper ones are text
MAX_DRAWS = 20_000  # choices and texts that one picture's prompt is put together from

# Noncharacters, which Unicode keeps out of every text, stand for what the library would misread.
_ASIDE = {sign: chr(0xFDD0 + place) for place, sign in enumerate("{}$%#/@!")}
_UNDERSCORE = chr(0xFDDF)  # of two that begin or end no name
_BACK = {ord(letter): sign for sign, letter in (*_ASIDE.items(), ("_", _UNDERSCORE))}
_NAME = re.compile(
    r"__[~@!]?(?P<name>[^\W_](?:[^\s{}#$()|,<>_]|_(?!_)| (?! ))*)(?:\([^()\n]*\))?__|__[~@!]?(?P<any>\*+)__"
)

_ALL = re.compile(r"\s*!")  # asks for all combinations, which one picture cannot show: it draws one


@dataclass(frozen=True)
class Spot:
    """A notation in a text. kind: "choice", "wildcard"; start, end: its characters; name: of a wildcard, else ""."""

    kind: str
    start: int
    end: int
    name: str = ""


@dataclass(frozen=True)
class Reading:
    """A text with everything put aside that is no notation. stray: places of braces that have no partner."""

    text: str
    spots: tuple[Spot, ...]
    stray: tuple[int, ...]


def read(text: str) -> Reading:
    """Find the notations of a text. Linear in its length; no text is an error."""
    partners, stray = _braces(text)
    names = {match.start(): match for match in _NAME.finditer(text)}
    spots: list[Spot] = []
    pieces: list[str] = []
    inside = 0
    position = 0
    while position < len(text):
        sign = text[position]
        if position in names:
            match = names[position]
            spots.append(Spot("wildcard", position, match.end(), match["name"] or match["any"]))
            pieces.append(match[0].replace("__!", "__", 1))
            position = match.end()
            continue
        if sign == "{" and position in partners:
            inside += 1
            spots.append(Spot("choice", position, partners[position] + 1))
            pieces.append(sign)
            if combinatorial := _ALL.match(text, position + 1):
                position = combinatorial.end() - 1
        elif sign == "}" and position in partners:
            inside -= 1
            pieces.append(sign)
        elif sign in "$%" and position + 1 in partners and text[position + 1] == "{":
            pieces.append(sign)
        elif inside and text.startswith("$$", position):
            pieces.append("$$")
            position += 1
        elif sign == "_" and "_" in (text[position - 1 : position], text[position + 1 : position + 2]):
            pieces.append(_UNDERSCORE)
        elif sign in _ASIDE and text[max(position - 1, 0) : position + 1] not in ("{@", "=!"):
            pieces.append(_ASIDE[sign])
        else:
            pieces.append(sign)
        position += 1
    return Reading("".join(pieces), tuple(spots), tuple(stray))


def _braces(text: str) -> tuple[dict[int, int], list[int]]:
    """(place -> place of the partner, both ways; places of those without one or nested too deep)."""
    partners: dict[int, int] = {}
    stray: list[int] = []
    opened: list[int] = []
    for match in re.finditer(r"[{}]", text):
        place = match.start()
        if match[0] == "{":
            opened.append(place)
        elif not opened:
            stray.append(place)
        else:
            first = opened.pop()
            if len(opened) < MAX_DEPTH:
                partners[first], partners[place] = place, first
    return partners, sorted((*stray, *opened))


def restored(text: str) -> str:
    """The text with what was put aside in its place again."""
    return text.translate(_BACK)


class Wildcards:
    """The wildcard files of some folders, read anew when they change. Thread-safe.

    Names are paths below the folders without suffix, with "/": `animals/birds`; of a YAML or JSON file, the keys within
    it, joined by "/". A name may hold "*". Hidden files are left out, which macOS lays beside others ("._birds.txt"),
    and its way of writing an accent, apart from the letter, counts as the usual one.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._lock = threading.Lock()
        self._state: tuple[tuple[str, int, int], ...] | None = None
        self._manager: Any = None

    def names(self) -> tuple[str, ...]:
        """Every name there is, in alphabetical order."""
        return tuple(sorted(self.manager().get_collection_names()))

    def known(self, name: str) -> bool:
        """Whether a wildcard of this name has values."""
        return bool(self.manager().get_values(name))

    def manager(self) -> Any:
        """The library's view of the files as they are now."""
        state = tuple(self._files())
        with self._lock:
            if self._manager is None or state != self._state:
                self._manager, self._state = _manager(self.folders), state
            return self._manager

    def _files(self) -> Iterator[tuple[str, int, int]]:
        for folder in self.folders:
            for place, folders, names in os.walk(folder, followlinks=True):
                folders[:] = sorted(each for each in folders if not each.startswith("."))
                for name in sorted(names):
                    if name.endswith(SUFFIXES) and not name.startswith("."):
                        path = os.path.join(place, name)
                        found = os.stat(path)
                        yield path, found.st_mtime_ns, found.st_size


def _manager(folders: Iterable[Path]) -> Any:
    from dynamicprompts.wildcards.collection import WildcardTextFile
    from dynamicprompts.wildcards.item import WildcardItem
    from dynamicprompts.wildcards.tree import WildcardTree, build_tree_from_root_map
    from dynamicprompts.wildcards.values import WildcardValues
    from dynamicprompts.wildcards.wildcard_manager import WildcardManager

    class Manager(WildcardManager):
        """Values as the parser can read them, under names as people type them."""

        @property
        def tree(self) -> WildcardTree:
            if self._tree is None:
                found = {}
                for name, values in build_tree_from_root_map(self._root_map).map.items():
                    if not name.rpartition("/")[2].startswith("."):
                        text = isinstance(values, WildcardTextFile)
                        found[normalize("NFC", name)] = _unmarked(values) if text else values
                self._tree = WildcardTree.from_map(found)
            return self._tree

        def _get_values(self, wildcard: str) -> WildcardValues:
            wildcard = normalize("NFC", wildcard)
            found = super()._get_values(wildcard)
            if all(isinstance(item, WildcardItem) and item.content == read(item.content).text for item in found.items):
                return found
            values = WildcardValues.from_items(
                WildcardItem(read(str(item)).text, getattr(item, "weight", 1.0)) for item in found.items
            )
            self._values_cache[wildcard] = values
            return values

    return Manager(root_map={"": [folder for folder in folders if folder.is_dir()]})


def _unmarked(values: Any) -> Any:
    """A text file as read without the mark that Windows' editor begins it with."""
    return type(values)(values._path, "utf-8-sig")


class Template:
    """A prompt with choices, read once and drawn once per picture."""

    def __init__(self, text: str, wildcards: Wildcards, *, field: str = "prompt") -> None:
        """Raises RequestError, naming `field`, for more notations than one prompt may hold."""
        self.text = text
        self._field = field
        self._wildcards = wildcards
        reading = read(text)
        self.spots = reading.spots
        self._cyclical = "@" in reading.text
        self._command: Any = None
        if len(self.spots) > MAX_CONSTRUCTS:
            raise RequestError(
                field, f"holds {len(self.spots):,} choices and wildcards", accepted=f"at most {MAX_CONSTRUCTS:,}"
            )
        if self.spots:
            self._command = _parsed(reading.text)

    @property
    def dynamic(self) -> bool:
        """Whether pictures may get other texts than this one."""
        return self._command is not None

    @property
    def unreadable(self) -> bool:
        """Whether there are notations that say nothing together: the text is taken as it stands."""
        return bool(self.spots) and self._command is None

    def unknown(self) -> tuple[str, ...]:
        """Names of wildcards without values, once each: they stay in the text as they are."""
        names = dict.fromkeys(spot.name for spot in self.spots if spot.kind == "wildcard")
        return tuple(name for name in names if not self._wildcards.known(name))

    def draw(self, seed: int, index: int = 0) -> str:
        """The text of picture `index` of a request, whose seed this is: the same for the same files.

        A cyclical choice {@a|b} goes on from picture to picture; all others depend on the seed alone.
        Raises RequestError where wildcards go round in a circle or the text grows past every limit.
        """
        if self._command is None:
            return self.text
        context = _context(self._wildcards.manager(), Random(seed))
        index = index if self._cyclical else 0
        try:
            drawn = next(islice(context.sample_prompts(self._command, index + 1), index, None))
        except (RecursionError, KeyError, ValueError, OverflowError, StopIteration, RuntimeError) as error:
            raise RequestError(
                self._field, f"cannot be drawn: {_reason(error)}", accepted="choices and wildcards that come to an end"
            ) from None
        text = restored(str(drawn))
        if len(text) > MAX_PROMPT_CHARACTERS:
            raise RequestError(
                self._field, f"becomes {len(text):,} characters long", accepted=f"at most {MAX_PROMPT_CHARACTERS:,}"
            )
        return text


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "a wildcard or variable holds itself"
    if isinstance(error, TooManyDraws):
        return f"it is put together from more than {MAX_DRAWS:,} pieces"
    if isinstance(error, KeyError):
        return str(error.args[0])
    return "a choice in it has nothing to choose from"


class TooManyDraws(RuntimeError):
    """One prompt asked for more pieces than any prompt needs."""


def _parsed(text: str) -> Any:
    from dynamicprompts.parser.parse import parse
    from pyparsing import ParseException

    try:
        return parse(text)
    except (ParseException, ValueError, RecursionError, OverflowError):  # the last: a weight of hundreds of digits
        return None


def _context(manager: Any, rand: Random) -> Any:
    from dynamicprompts.enums import SamplingMethod
    from dynamicprompts.samplers import CyclicalSampler, RandomSampler
    from dynamicprompts.sampling_context import SamplingContext

    left = MAX_DRAWS

    def counted(kind: Any) -> Any:
        class Counted(kind):  # type: ignore[misc]
            def generator_from_command(self, command: Any, context: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise TooManyDraws
                return super().generator_from_command(command, context)

        return Counted()

    samplers: Mapping[Any, Any] = {
        SamplingMethod.RANDOM: counted(RandomSampler), SamplingMethod.CYCLICAL: counted(CyclicalSampler),
    }  # fmt: skip
    return SamplingContext(
        default_sampling_method=SamplingMethod.RANDOM, wildcard_manager=manager, samplers=dict(samplers), rand=rand
    )
