"""What an infotext says, as far as it can be asked for here: names that exist, values in range. The rest is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from modules import guidance, samplers, schedules
from modules.core.checkpoint import ModelInfo
from modules.core.errors import CheckpointError, RequestError
from modules.core.generation import parse_request
from modules.core.guidance import GuidanceKind
from modules.core.guidance_text import read_option
from modules.core.infotext import Infotext, form_values, lost_fields
from modules.core.infotext_fields import said_by
from modules.core.plugin import Registry
from modules.core.sampling import Sampler, Schedule

MOST_MISSED = 40  # fields that are told of
MOST_CHARACTERS = 200  # of a value that is told of


class Models(Protocol):
    """What is asked of the catalog."""

    def find(self, text: str) -> ModelInfo: ...
    def find_vae(self, text: str) -> ModelInfo: ...
    def find_text_encoder(self, text: str) -> ModelInfo: ...


@dataclass(frozen=True, kw_only=True)
class Missed:
    """A field of an infotext that was not taken. name, value: as it says them."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """values: of a request, sampler and schedule by registry name, models by their name in the catalog.

    said: those of them that a field of the infotext says, and which one; the others are prompts, or are meant by what
    it leaves out.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    missed: tuple[Missed, ...] = ()
    said: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """Fits infotexts to what this installation has."""

    models: Models
    samplers: Registry[Sampler]
    schedules: Registry[Schedule]
    guidance: Registry[GuidanceKind] = field(default_factory=guidance.registry)

    def fit(self, info: Infotext) -> Fitted:
        """Never raises: what cannot be used is left out of `values` and named in `missed`."""
        values = form_values(info)
        said = said_by(info.fields)
        missed = list(lost_fields(info))
        for name, read in self._names(info).items():
            if name in values:
                try:
                    values[name] = read(values[name])
                except (RequestError, CheckpointError):
                    del values[name]
                    missed += [said[name]] if name in said else []
        missed += self._modules(values, info.fields) + self._inputs(values, said)
        for name in tuple(values):
            try:
                parse_request({name: values[name]})
            except RequestError:  # out of range, or a prompt that is too long
                del values[name]
                missed.append(said.get(name, name))
        missed += self._options(values) + self._guidance(values, info.fields)
        told = [Missed(name=name, value=info.fields.get(name, "")[:MOST_CHARACTERS]) for name in dict.fromkeys(missed)]
        kept = {name: label for name, label in said.items() if name in values}
        return Fitted(values=values, missed=tuple(told[:MOST_MISSED]), said=kept)

    def _options(self, values: dict[str, Any]) -> list[str]:
        """Leaves options that sampler and schedule have not, and returns the others' names."""
        sampler = self.samplers.get(values.get("sampler", ""))
        schedule = self.schedules.get(values.get("schedule", ""))
        if sampler and schedule:
            schedule = schedules.for_sampler(sampler, schedule, self.schedules)
        missed = []
        for field_name, kind in (("options", sampler), ("schedule_options", schedule)):
            for name, value in dict(values.get(field_name, {})).items():
                try:
                    if kind is None:
                        raise RequestError(name, "belongs to nothing that is known here")
                    kind.checked_options({name: value})
                except RequestError:
                    del values[field_name][name]
                    missed.append(name)
        return missed

    def _guidance(self, values: dict[str, Any], fields: Mapping[str, str]) -> list[str]:
        """Leaves guidance that there is here, and returns the others' names as the infotext has them."""
        says = {read[0]: name for name, text in fields.items() if (read := read_option(name, text))}
        kept: dict[str, dict[str, float]] = {}
        missed = []
        for kind, options in values.get("guidance", {}).items():
            for name, value in options.items():
                try:
                    chosen = guidance.resolve({kind: {name: value}}, self.guidance)
                except RequestError:
                    missed += [says[kind, name]] if (kind, name) in says else []
                else:
                    kept |= {each: kept.get(each, {}) | found for each, found in chosen.items()}
        if "guidance" in values:
            values["guidance"] = kept
        return missed

    def _modules(self, values: dict[str, Any], fields: Mapping[str, str]) -> list[str]:
        """Puts Forge's modules where they belong, and returns the names of fields that no file here is meant by."""
        wanted = values.get("text_encoder", "Automatic")
        if isinstance(wanted, str):
            return []
        encoders, missed = [], []
        for text in wanted:
            try:
                encoders.append(self._model(self.models.find_text_encoder, text))
                continue
            except CheckpointError:
                pass
            try:
                vae = self._model(self.models.find_vae, text)
            except CheckpointError:
                missed += [name for name, value in fields.items() if name.startswith("Module ") and value == text]
            else:
                values["vae"] = vae if values.get("vae", "Automatic") == "Automatic" else values["vae"]
        values["text_encoder"] = tuple(encoders) or "Automatic"
        return missed

    def _inputs(self, values: dict[str, Any], said: Mapping[str, str]) -> list[str]:
        """Leaves inputs that the checkpoint has, where it is here, and returns the others' names."""
        try:
            info = self.models.find(values["checkpoint"]) if "checkpoint" in values else None
        except CheckpointError:
            info = None
        unknown = []
        if info is None or info.defaults.distilled_cfg_scale is None:
            unknown.append("distilled_cfg_scale")
        if info is None or info.prediction != "flow":
            unknown.append("shift")
        return [said[name] for name in unknown if values.pop(name, None) is not None]

    def _names(self, info: Infotext) -> Mapping[str, Callable[[str], str]]:
        fields = info.fields
        return {
            "sampler": lambda text: samplers.resolve(text, self.samplers, self.schedules)[0].name,
            "schedule": lambda text: schedules.resolve(text, self.schedules).name,
            "checkpoint": lambda text: self._model(self.models.find, text, fields.get("Model", "")),
            "vae": lambda text: self._vae(text, fields.get("VAE hash", "")),
        }

    def _vae(self, text: str, short_hash: str) -> str:
        if text.lower() in ("automatic", "none"):
            return text.capitalize()
        return self._model(self.models.find_vae, short_hash or text, text)

    def _model(self, find: Callable[[str], ModelInfo], *names: str) -> str:
        """By the first of the names that there is a loadable file for. Raises CheckpointError where there is none."""
        problem = CheckpointError("No model is named.")
        for name in filter(None, names):
            try:
                info = find(name)
            except CheckpointError as error:
                problem = error
                continue
            if info.supported:
                return info.name
        raise problem
