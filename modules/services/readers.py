"""How headers become descriptions: the families, and what a checkpoint wants in the names that are known here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from modules import samplers, schedules
from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import RequestError
from modules.core.family import Family, Part, Reads, identify
from modules.core.plugin import Registry, collect
from modules.core.sampling import Sampler, Schedule
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae
from modules.services.model_cache import reader_version
from modules.services.model_notes import Taken

Identify = Callable[[Header], ModelInfo]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Readers:
    """What reads headers. version: of that code, so that what it read before can be trusted.

    families: by name. known_names: a description with sampler and schedule in the names that are known here.
    """

    checkpoint: Identify
    vae: Identify
    version: str
    text_encoder: Identify = identify_text_encoder
    families: Mapping[str, Family] = field(default_factory=dict)
    known_names: Callable[[ModelInfo], ModelInfo] = lambda info: info

    def read_as(self, family: str) -> Identify:
        """Reads a header as a file of `family`, whatever else it looks like."""

        def identify_as(header: Header) -> ModelInfo:
            return self.known_names(identify(header, self.families, family=family))

        return identify_as

    def taken(self, info: ModelInfo, taken: Taken) -> ModelInfo:
        """The description with the prediction and the variant that a person decided on."""
        variant = info.variant if taken.variant is None else taken.variant
        return replace(info, prediction=taken.prediction or info.prediction, variant=variant)

    def check(self, info: ModelInfo, taken: Taken) -> None:
        """Raises RequestError for what checkpoint `info` cannot be taken as. info: as it is recognised."""
        models = {name: kind for name, kind in self.families.items() if kind.predictions}
        name = taken.family or info.family
        if taken.family and taken.family not in models:
            raise RequestError("family", f"there is no family {taken.family[:60]!r}", accepted=", ".join(models))
        kind = self.families.get(name)
        predictions, variants = (kind.predictions, kind.variants) if kind else ((), ())
        if taken.prediction and taken.prediction not in predictions:
            raise _refused("prediction", taken.prediction, kind, predictions)
        if taken.variant is not None and taken.variant not in variants:
            raise _refused("variant", taken.variant, kind, variants)

    def needs(self, info: ModelInfo) -> tuple[Part, ...]:
        """What a checkpoint consists of beside its denoiser."""
        kind = self.families.get(info.family)
        return kind.needs(info.variant) if kind else ()

    def reads(self, info: ModelInfo) -> tuple[str, int]:
        """By whose tokens a prompt is counted, and how many are read at once."""
        kind = self.families.get(info.family)
        reads = kind.reads if kind else Reads(by="")
        return reads.by, reads.of(info.variant)


def installed_readers() -> Readers:
    """The families, samplers and schedules of this program and of installed plug-ins."""
    families = collect("modules.families", Family, group="inferenz.families")
    known, spacings = samplers.registry(), schedules.registry()

    def known_names(info: ModelInfo) -> ModelInfo:
        return in_known_names(info, known, spacings)

    def checkpoint(header: Header) -> ModelInfo:
        return known_names(identify(header, families))

    version = reader_version([*families, *known, *spacings])
    return Readers(checkpoint, identify_vae, version, families=families, known_names=known_names)


def _refused(field_name: str, value: str, kind: Family | None, accepted: tuple[str, ...]) -> RequestError:
    label = kind.label if kind else "a model that is not known"
    words = ", ".join(each or '"" (the plain model)' for each in accepted)
    return RequestError(field_name, f"{value[:60]!r} is not accepted for {label}", accepted=words or "nothing else")


def in_known_names(info: ModelInfo, known: Registry[Sampler], spacings: Registry[Schedule]) -> ModelInfo:
    """The description with the sampler and schedule it wants as registry names; a file may say "Euler a".

    Where there is no such sampler here, that wish alone is set aside, and the log says so.
    """
    wants = info.defaults
    try:
        sampler, named = samplers.resolve(wants.sampler, known, spacings)
        asked = schedules.resolve(wants.schedule, spacings)
    except RequestError as error:
        log.warning("%s wants a sampler or schedule that is not here: %s", info.name, error)
        return replace(info, defaults=replace(wants, sampler=Defaults.sampler, schedule=Defaults.schedule))
    schedule = named if named is not None and asked.name == schedules.AUTOMATIC else asked
    return replace(info, defaults=replace(wants, sampler=sampler.name, schedule=schedule.name))
