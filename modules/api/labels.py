"""Samplers and schedules as people know them, looked up once: registries are gathered from files and plug-ins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modules import samplers, schedules


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Registry name -> label."""

    samplers: Mapping[str, str]
    schedules: Mapping[str, str]

    @classmethod
    def gather(cls) -> Labels:
        return cls(
            samplers={kind.name: kind.label for kind in samplers.registry().values()},
            schedules={kind.name: kind.label for kind in schedules.registry().values()},
        )

    def of(self, sampler: str, schedule: str) -> dict[str, str]:
        """Both labels; a name whose plug-in is gone stands for itself."""
        return {
            "sampler_label": self.samplers.get(sampler, sampler),
            "schedule_label": self.schedules.get(schedule, schedule),
        }
