"""How headers become descriptions: the families, and what a checkpoint wants in the names that are known here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from modules import samplers, schedules
from modules.core.checkpoint import Defaults, Header, ModelInfo
from modules.core.errors import RequestError
from modules.core.family import Family, Part, identify
from modules.core.plugin import Registry, collect
from modules.core.sampling import Sampler, Schedule
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae
from modules.services.model_cache import reader_version

Identify = Callable[[Header], ModelInfo]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Readers:
    """What reads headers. version: of that code, so that what it read before can be trusted. families: by name."""

    checkpoint: Identify
    vae: Identify
    version: str
    text_encoder: Identify = identify_text_encoder
    families: Mapping[str, Family] = field(default_factory=dict)

    def needs(self, info: ModelInfo) -> tuple[Part, ...]:
        """What a checkpoint consists of beside its denoiser."""
        kind = self.families.get(info.family)
        return kind.parts if kind else ()


def installed_readers() -> Readers:
    """The families, samplers and schedules of this program and of installed plug-ins."""
    families = collect("modules.families", Family, group="inferenz.families")
    known, spacings = samplers.registry(), schedules.registry()

    def checkpoint(header: Header) -> ModelInfo:
        return in_known_names(identify(header, families), known, spacings)

    version = reader_version([*families, *known, *spacings])
    return Readers(checkpoint, identify_vae, version, families=families)


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
