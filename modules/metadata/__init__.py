"""What pictures say of how they were made: a reader for each program that writes it, one file each.

See `core.metadata` for what a reader is. Readers know neither files nor pixels, only texts.
"""

from __future__ import annotations

from modules.core.errors import MetadataError
from modules.core.infotext import Infotext
from modules.core.metadata import Reader, Reading, Texts
from modules.core.plugin import Registry, collect

GROUP = "inferenz.metadata"


def registry() -> Registry[Reader]:
    """All readers, built in and plugged in, in the order in which they are asked."""
    return collect(__name__, Reader, group=GROUP)


def read_texts(texts: Texts, readers: Registry[Reader]) -> Reading | None:
    """What the first reader says that knows the texts; None where none does.

    A reader whose program's texts are broken says so in the notes of a reading without anything else in it, unless a
    later reader finds parameters in what else there is.
    """
    broken: Reading | None = None
    for each in readers.values():
        try:
            found = each.read(texts)
        except MetadataError as error:
            broken = broken or Reading(program=each.label, info=Infotext(), notes=(str(error),))
            continue
        if found is not None and (found.info.fields or broken is None):
            return found
    return broken
