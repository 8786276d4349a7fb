"""A job's finished pictures into the history, with what was found out of them while they were made."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from modules.core.errors import StorageError
from modules.core.generation import GenerationPlan
from modules.core.job import ImageReady


class Record(Protocol):
    """What is asked of a picture's record."""

    @property
    def id(self) -> int: ...
    @property
    def index(self) -> int: ...


class Pictures(Protocol):
    """What is asked of the history. Called from one thread at a time."""

    def save(
        self,
        png: bytes,
        plan: GenerationPlan,
        index: int,
        job: str,
        *,
        model_hash: str | None,
        facts: Any,
    ) -> Record: ...

    def of_job(self, job: str) -> Sequence[Record]:
        """The records of a job's pictures."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """describe: what `pictures.save` is told of a picture beside its plan. model_hash: SHA-256 of a plan's checkpoint,
    if it is known by now.
    """

    pictures: Pictures
    describe: Callable[[GenerationPlan, ImageReady], Any]
    model_hash: Callable[[GenerationPlan], str | None]

    def save(self, plan: GenerationPlan, index: int, event: ImageReady) -> int:
        """Save picture `index` of a plan. Returns its record's id. Raises StorageError."""
        sha256 = self.model_hash(plan)
        if sha256 and not plan.checkpoint.sha256:  # it was computed while the picture was made
            plan = replace(plan, checkpoint=replace(plan.checkpoint, sha256=sha256))
        try:
            record = self.pictures.save(
                event.payload,
                plan,
                index,
                event.job,
                model_hash=plan.checkpoint.short_hash,
                facts=self.describe(plan, event),
            )
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"The picture could not be written: {error}.", hint="Is the disk full?") from error
        return record.id

    def saved(self, job: str) -> dict[int, int]:
        """Picture index -> record id, of a job's pictures that are in the history."""
        return {record.index: record.id for record in self.pictures.of_job(job)}
