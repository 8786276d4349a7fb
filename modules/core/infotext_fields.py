"""The fields of a parameters line, in AUTOMATIC1111's order: how each is written, and what it says about a request.

A new field is one entry of FIELDS, at the place where AUTOMATIC1111 writes it:

    InfotextField(name="ENSD", write=lambda made: made.plan.ensd or None, read=whole("ensd"), absent={"ensd": 0})
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modules.core.generation import GenerationPlan
from modules.core.guidance_text import ACTIVE, guidance_fields, read_guidance, read_option

Read = Callable[[str], Mapping[str, Any] | None]  # None: the text says nothing that could be used

# What old versions of AUTOMATIC1111 put behind the sampler's name; the longer of two that end alike first.
_OLD_SCHEDULES = (
    "Karras", "Exponential", "Polyexponential", "SGM Uniform", "Uniform", "KL Optimal", "Align Your Steps", "Simple",
    "Normal", "Beta", "DDIM", "Turbo",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class InfotextLabels:
    """What infotext says and the plan does not: labels as AUTOMATIC1111 shows them, hashes, the program's version.

    schedule "Automatic" is written as such. model_hash, vae_hash: the first ten digits of the SHA-256, or "" where it
    is not known yet (the field is left out). vae: the VAE's file name, "" for the checkpoint's own. options,
    schedule_options: those of sampler and schedule that are worth saying; None for all that the plan has. ensd: whether
    the eta noise seed delta is worth saying.
    """

    sampler: str
    schedule: str
    model: str
    model_hash: str = ""
    vae: str = ""
    vae_hash: str = ""
    version: str = ""
    options: Mapping[str, float] | None = None
    schedule_options: Mapping[str, float] | None = None
    ensd: bool = True


@dataclass(frozen=True, kw_only=True)
class Made:
    """One picture whose parameters are written. seed: this picture's own."""

    plan: GenerationPlan
    labels: InfotextLabels
    seed: int

    @property
    def options(self) -> Mapping[str, float]:
        """The sampler's options that are worth saying."""
        return self.plan.options if self.labels.options is None else self.labels.options

    @property
    def schedule_options(self) -> Mapping[str, float]:
        """The schedule's options that are worth saying."""
        found = self.labels.schedule_options
        return self.plan.schedule_options if found is None else found


@dataclass(frozen=True, kw_only=True)
class InfotextField:
    """One field. name: as written.

    write: the value; None or "" leaves the field out. read: the text, unquoted, to values of a request; None where it
    cannot be used, and without a `read` it never can. weak: what it says gives way to the other fields. absent: the
    request's values that a parameters line means by not having the field. option: the sampler's that it is about.
    """

    name: str
    write: Callable[[Made], object]
    read: Read | None = None
    weak: bool = False
    absent: Mapping[str, Any] = field(default_factory=dict)
    option: str = ""


def whole(name: str) -> Read:
    """Reads a number without a sign into request field `name`."""
    return lambda text: {name: int(text)} if re.fullmatch(r"[0-9]{1,19}", text) else None


def decimal(name: str) -> Read:
    """Reads a number, with or without a fraction, into request field `name`."""
    return lambda text: {name: float(text)} if re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,18})?", text) else None


def words(name: str) -> Read:
    """Reads any text but an empty one into request field `name`."""
    return lambda text: {name: text} if text else None


def one_of(name: str, *choices: str) -> Read:
    """Reads one of these texts, in whatever case, into request field `name`."""
    known = {choice.lower(): choice for choice in choices}
    return lambda text: {name: known[text.lower()]} if text.lower() in known else None


def only(*texts: str) -> Read:
    """Reads nothing into a request; other texts than these (any, without them) mean something that is lost."""
    return lambda text: {} if not texts or text in texts else None


def number(value: float) -> str:
    """A number as AUTOMATIC1111's page gives it: without a fraction where it has none."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def split_sampler(label: str) -> tuple[str, str]:
    """Sampler and schedule of an old name such as "DPM++ 2M Karras"; the schedule is "" where the name has none."""
    for schedule in _OLD_SCHEDULES:
        if label.endswith(f" {schedule}"):
            return label.removesuffix(f" {schedule}"), schedule
    return label, ""


def _sampler(text: str) -> Mapping[str, Any] | None:
    sampler, schedule = split_sampler(text)
    named = {"schedule": schedule} if schedule else {}
    return {"sampler": sampler, **named} if sampler else None


def _size(text: str) -> Mapping[str, Any] | None:
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    return {"width": int(match[1]), "height": int(match[2])} if match else None


def _resize(text: str) -> Mapping[str, Any] | None:
    size = _size(text)
    return {f"seed_resize_{side}": value for side, value in size.items()} if size else None


def _ensd(text: str) -> Mapping[str, Any] | None:
    return {"ensd": int(text)} if re.fullmatch(r"-?[0-9]{1,10}", text) else None


def numbered(text: str) -> float | None:
    """A number as `number` writes it; None for other text."""
    return float(text) if re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,18})?(e-?[0-9]{1,2})?", text) else None


def _into(field_name: str, option: str) -> Read:
    def read(text: str) -> Mapping[str, Any] | None:
        value = numbered(text)
        return None if value is None else {field_name: {option: value}}

    return read


def _option(option: str, name: str, *samplers: str, beside: tuple[str, ...] = ()) -> InfotextField:
    """A field of one of the sampler's options. samplers: whose it is, of all without them; beside: whose it is not."""

    def write(made: Made) -> str | None:
        sampler = made.plan.sampler
        value = made.options.get(option) if sampler not in beside and (not samplers or sampler in samplers) else None
        return None if value is None else number(value)

    return InfotextField(name=name, write=write, read=_into("options", option), option=option)


def _schedule_option(option: str, name: str) -> InfotextField:
    """A field of one of the schedule's options."""

    def write(made: Made) -> str | None:
        value = made.schedule_options.get(option)
        return None if value is None else number(value)

    return InfotextField(name=name, write=write, read=_into("schedule_options", option))


def _worded_option(option: str, name: str, words: Mapping[float, str]) -> InfotextField:
    """A field of one of UniPC's options that AUTOMATIC1111 has words for."""

    def write(made: Made) -> str | None:
        return words.get(made.options[option]) if made.plan.sampler == "unipc" and option in made.options else None

    def read(text: str) -> Mapping[str, Any] | None:
        return next(({"options": {option: value}} for value, word in words.items() if word == text), None)

    return InfotextField(name=name, write=write, read=read, option=option)


def _skip_type(text: str) -> Mapping[str, Any] | None:
    """Where UniPC's own steps lie: a schedule, here; even in time is its usual one."""
    return {"logSNR": {"schedule": "Exponential"}, "time_uniform": {}}.get(text)


def _told(name: str) -> InfotextField:
    """A field that is read without using it, and never written."""
    return InfotextField(name=name, write=lambda made: None, read=only())


MOST_MODULES = 8  # files beside the checkpoint that are read; no model has more than four


def _module(number: int) -> InfotextField:
    """Forge's fields of the files beside the checkpoint, VAE and text encoders in one list; which is which, their names
    do not say. A VAE alone stands in its own field, as in AUTOMATIC1111."""

    def write(made: Made) -> str | None:
        named = dict(made.plan.model.separate.named)
        modules = [named.pop("vae")] if "vae" in named and len(named) > 1 else []
        modules += [file for name, file in named.items() if name != "vae"]
        return modules[number - 1].name if number <= len(modules) else None

    return InfotextField(
        name=f"Module {number}", write=write, read=lambda text: {"text_encoder": (text,)} if text else None,
        absent={"text_encoder": "Automatic"} if number == 1 else {},
    )  # fmt: skip


def _number_or_none(field_name: str, name: str) -> InfotextField:
    """A number that only some models take."""

    def write(made: Made) -> str | None:
        value = getattr(made.plan, field_name)
        return None if value is None else number(value)

    return InfotextField(name=name, write=write, read=decimal(field_name))


DDIM_LIKE = ("ddim", "ddim_cfgpp")  # samplers whose eta AUTOMATIC1111 names apart
OTHER_OPTION = "Sampler option "  # how the name begins of an option that has no field

FIELDS: tuple[InfotextField, ...] = (
    InfotextField(name="Steps", write=lambda made: made.plan.steps, read=whole("steps")),
    InfotextField(name="Sampler", write=lambda made: made.labels.sampler, read=_sampler),
    # Before there was this field, the sampler's name said the schedule or meant its usual one
    InfotextField(
        name="Schedule type", write=lambda made: made.labels.schedule, read=words("schedule"),
        absent={"schedule": "Automatic"},
    ),
    InfotextField(name="CFG scale", write=lambda made: number(made.plan.cfg_scale), read=decimal("cfg_scale")),
    _number_or_none("distilled_cfg_scale", "Distilled CFG Scale"),
    _number_or_none("shift", "Shift"),
    InfotextField(name="Seed", write=lambda made: made.seed, read=whole("seed")),
    InfotextField(name="Size", write=lambda made: f"{made.plan.width}x{made.plan.height}", read=_size),
    InfotextField(name="Model hash", write=lambda made: made.labels.model_hash, read=words("checkpoint")),
    InfotextField(name="Model", write=lambda made: made.labels.model, read=words("checkpoint"), weak=True),
    InfotextField(name="VAE hash", write=lambda made: made.labels.vae_hash, read=words("vae"), weak=True),
    InfotextField(
        name="VAE", write=lambda made: made.labels.vae, read=words("vae"), absent={"vae": "Automatic"}
    ),
    *map(_module, range(1, MOST_MODULES + 1)),
    InfotextField(
        name="Variation seed", write=lambda made: next(iter(made.plan.variation_seeds), None),
        read=whole("variation_seed"), absent={"variation_seed": -1},
    ),
    InfotextField(
        name="Variation seed strength",
        write=lambda made: number(made.plan.variation_strength) if made.plan.variation_seeds else None,
        read=decimal("variation_strength"), absent={"variation_strength": 0.0},
    ),
    InfotextField(
        name="Seed resize from",
        write=lambda made: "x".join(map(str, made.plan.seed_resize)) if made.plan.seed_resize else None,
        read=_resize, absent={"seed_resize_width": 0, "seed_resize_height": 0},
    ),
    InfotextField(
        name="Clip skip", write=lambda made: made.plan.clip_skip if made.plan.clip_skip > 1 else None,
        read=whole("clip_skip"), absent={"clip_skip": 1},
    ),
    InfotextField(
        name="ENSD", write=lambda made: made.plan.ensd or None if made.labels.ensd else None, read=_ensd,
        absent={"ensd": 0},
    ),
    # Without the field it was a GPU's generator, mostly CUDA's, whose numbers NV has on every machine
    InfotextField(
        name="RNG", write=lambda made: None if made.plan.noise_source == "GPU" else made.plan.noise_source,
        read=one_of("noise_source", "CPU", "GPU", "NV"), absent={"noise_source": "NV"},
    ),
    InfotextField(
        name="Tiling", write=lambda made: made.plan.tiling or None,
        read=lambda text: {"tiling": text == "True"} if text in ("True", "False") else None, absent={"tiling": False},
    ),
    InfotextField(
        name="Emphasis", write=lambda made: None if made.plan.emphasis == "Original" else made.plan.emphasis,
        read=one_of("emphasis", "Original", "No norm", "Ignore", "None"), absent={"emphasis": "Original"},
    ),
    InfotextField(
        name="Discard penultimate sigma", write=lambda made: made.plan.discard_penultimate,
        read=lambda text: {"discard_penultimate": text == "True"} if text in ("True", "False") else None,
        absent={"discard_penultimate": None},
    ),
    _schedule_option("sigma_max", "Schedule max sigma"),
    _schedule_option("sigma_min", "Schedule min sigma"),
    _schedule_option("rho", "Schedule rho"),
    _schedule_option("alpha", "Beta schedule alpha"),
    _schedule_option("beta", "Beta schedule beta"),
    _option("eta", "Eta DDIM", *DDIM_LIKE),
    _option("eta", "Eta", beside=DDIM_LIKE),
    _option("s_churn", "Sigma churn"),
    _option("s_tmin", "Sigma tmin"),
    _option("s_tmax", "Sigma tmax"),
    _option("s_noise", "Sigma noise"),
    _worded_option("bh", "UniPC variant", {1.0: "bh1", 2.0: "bh2", 3.0: "vary_coeff"}),
    InfotextField(name="UniPC skip type", write=lambda made: None, read=_skip_type),
    _option("order", "UniPC order", "unipc"),
    _worded_option("lower_order_final", "UniPC lower order final", {0.0: "False", 1.0: "True"}),
    # The dynamic prompts extension's names for what a prompt was drawn from
    InfotextField(name="Template", write=lambda made: made.plan.template, read=only()),
    InfotextField(name="Negative Template", write=lambda made: made.plan.negative_template, read=only()),
    # What other programs say of networks and of themselves: nothing that a form could take
    *map(_told, ("Lora hashes", "TI hashes", "User", "App", "Backend", "Operations", "Pipeline", "Parser",
           "Diffusion in Low Bits")),
    _told(ACTIVE),
    InfotextField(name="Version", write=lambda made: made.labels.version, read=only()),
)  # fmt: skip


def written(made: Made) -> dict[str, str]:
    """Name -> value of every field that is to be written, in their order; options of the sampler without a field come
    before the last one."""
    values = {each.name: each.write(made) for each in FIELDS[:-1]}
    told = {each.option for each in FIELDS if each.option and values.get(each.name) not in (None, "")}
    others = {name: value for name, value in made.options.items() if name not in told}
    values |= {OTHER_OPTION + name: number(value) for name, value in others.items()}
    values |= guidance_fields(made.plan.guidance)
    values[FIELDS[-1].name] = FIELDS[-1].write(made)
    return {name: str(value) for name, value in values.items() if value is not None and value != ""}


def request_values(fields: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a parameters line says about a request's fields, and the names of those that it says nothing with: fields
    that are not known here, and values that cannot be read."""
    meant: dict[str, Any] = {}
    weak: dict[str, Any] = {}
    said: dict[str, Any] = {}
    options: dict[str, dict[str, float]] = {"options": {}, "schedule_options": {}}
    lost = list(fields)
    for each in (*FIELDS, *_other_options(fields)):
        if each.name not in fields:
            meant |= each.absent
        elif each.read is not None and (found := each.read(fields[each.name])) is not None:
            lost.remove(each.name)
            for name, value in found.items():
                if name in options:
                    options[name] |= value
                elif name == "text_encoder":  # of several fields
                    said[name] = (*said.get(name, ()), *value)
                else:
                    (weak if each.weak else said)[name] = value
    guidance = read_guidance(fields)
    left = tuple(name for name in lost if read_option(name, fields[name]) is None)
    return {**meant, **options, "guidance": guidance, **weak, **said}, left


def _other_options(fields: Mapping[str, str]) -> tuple[InfotextField, ...]:
    names = (name.removeprefix(OTHER_OPTION) for name in fields if name.startswith(OTHER_OPTION))
    return tuple(
        InfotextField(name=OTHER_OPTION + name, write=lambda _: None, read=_into("options", name)) for name in names
    )


def said_by(fields: Mapping[str, str]) -> dict[str, str]:
    """Request field -> the infotext's field that says it; of a name and a hash, the name."""
    guiding = next((name for name, text in fields.items() if read_option(name, text)), "")
    found = {"guidance": guiding} if guiding else {}
    for each in FIELDS:
        if each.name in fields and each.read is not None:
            for name in each.read(fields[each.name]) or ():
                if name not in found or not each.name.endswith("hash"):
                    found[name] = each.name
    return found
