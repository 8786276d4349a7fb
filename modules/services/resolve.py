"""From what was asked to a plan with nothing left to choose: catalog, family defaults and settings fill the gaps.

Order of precedence for every field: the request, what is remembered for the checkpoint (its profile), the settings, the
checkpoint's own defaults. Nothing is corrected silently: a value that cannot be used ends in an error that names the
field and what would be accepted.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from modules import guidance, samplers, schedules
from modules.core.checkpoint import ModelInfo, Separate
from modules.core.errors import CheckpointMissing, RequestError, UnsupportedCheckpoint
from modules.core.family import Family, Part
from modules.core.flow import check_flow
from modules.core.generation import (
    MAX_PICTURES,
    MAX_SEED,
    FileRef,
    GenerationPlan,
    GenerationRequest,
    parse_plan,
    parse_request,
)
from modules.core.guidance import GuidanceKind
from modules.core.plugin import Registry
from modules.core.sampling import Sampler, Schedule
from modules.services.model_notes import Note, checked_profile
from modules.services.parts import TEXT, VAE, choose_parts, complete, fits
from modules.services.words import Words

MAX_PIXELS = 4096 * 2048  # of one picture: what the largest cards decode; less is told by the device itself
MAX_BATCH_PIXELS = 4 * MAX_PIXELS  # of the pictures made side by side
SMALLEST_SIDE = 64  # pixels
TEXT_FIELDS = ("prompt", "negative_prompt")
FLOW = "flow"  # the prediction of flow models
FLOW_SCHEDULE = "simple"  # what Automatic means for them
ALLOWED_CONTROLS = "\n\r\t"


class Models(Protocol):
    """What is asked of the catalog."""

    def checkpoints(self) -> tuple[ModelInfo, ...]: ...
    def find(self, text: str) -> ModelInfo: ...
    def vaes(self) -> Sequence[ModelInfo]: ...
    def find_vae(self, text: str) -> ModelInfo: ...
    def text_encoders(self) -> Sequence[ModelInfo]: ...
    def find_text_encoder(self, text: str) -> ModelInfo: ...
    def needs(self, info: ModelInfo) -> Sequence[Part]: ...
    def note(self, info: ModelInfo) -> Note: ...
    def families(self) -> Mapping[str, Family]: ...
    def hash_of(self, info: ModelInfo) -> str | None: ...


class Values(Protocol):
    """What is asked of the settings: a stored value by its name."""

    def get(self, name: str) -> Any: ...


def random_seed() -> int:
    """A seed as AUTOMATIC1111 draws it: 32 bits."""
    return secrets.randbits(32)


class Resolver:
    """Makes plans. Called from any thread; reads a few stored values and the catalog's index, never a model file."""

    def __init__(
        self,
        *,
        models: Models,
        settings: Values,
        known_samplers: Registry[Sampler],
        known_schedules: Registry[Schedule],
        words: Words,
        known_guidance: Registry[GuidanceKind] | None = None,
        draw_seed: Callable[[], int] = random_seed,
    ) -> None:
        self._models = models
        self._settings = settings
        self._words = words
        self.samplers = known_samplers
        self.schedules = known_schedules
        self.guidance = guidance.registry() if known_guidance is None else known_guidance
        self._draw_seed = draw_seed

    def resolve(self, values: Mapping[str, Any]) -> GenerationPlan:
        """A plan from untrusted values: a request, or a plan as `plan_json` wrote it (it has a "schema").

        Raises RequestError (a field is wrong) or CheckpointError (no such model, or one that cannot be loaded).
        """
        if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
            raise RequestError(
                "request", "is not a JSON object", accepted='an object such as {"prompt": "a red apple"}'
            )
        for name in TEXT_FIELDS:
            _check_text(name, values.get(name))
        plan = self._known_plan(values) if "schema" in values else self._plan(parse_request(values))
        _check_size(plan)
        return plan

    def _plan(self, request: GenerationRequest) -> GenerationPlan:
        info = self.checkpoint(request.checkpoint)
        sampler, schedule = self._sampling(request, info)
        count = request.batch_count * request.batch_size
        width, height = request.width or info.defaults.width, request.height or info.defaults.height
        profile = self._models.note(info).profile
        parts = self._references(self._parts(request, profile, info))
        strict = self._settings.get("strict") if request.strict is None else request.strict
        seeds, variations = self._all_seeds(request, count)
        words = self._words.drawn(request, seeds)
        return GenerationPlan(
            checkpoint=self._reference(info),
            family=info.family,
            prediction=info.prediction,
            variant=info.variant,
            **parts,
            prompt=words.prompts[0],
            negative_prompt=words.negative_prompts[0],
            prompts=words.prompts if len(set(words.prompts)) > 1 else (),
            negative_prompts=words.negative_prompts if len(set(words.negative_prompts)) > 1 else (),
            template=words.template,
            negative_template=words.negative_template,
            emphasis=request.emphasis or self._settings.get("emphasis"),
            clip_skip=request.clip_skip or profile.get("clip_skip") or self._clip_skip(info),
            sampler=sampler.name,
            schedule=schedule.name,
            steps=request.steps or info.defaults.steps,
            width=width,
            height=height,
            cfg_scale=info.defaults.cfg_scale if request.cfg_scale is None else request.cfg_scale,
            distilled_cfg_scale=_distilled(request.distilled_cfg_scale, info),
            shift=_shift(request.shift, info),
            seeds=seeds,
            noise_source=request.noise_source or self._settings.get("noise_source"),
            variation_seeds=variations,
            variation_strength=request.variation_strength,
            seed_resize=_resize(request, width, height),
            ensd=self._settings.get("ensd") if request.ensd is None else request.ensd,
            tiling=request.tiling,
            batch_size=request.batch_size,
            strict=bool(strict),
            options=sampler.filled_options(request.options),
            schedule_options=schedule.filled_options(request.schedule_options),
            discard_penultimate=request.discard_penultimate,
            guidance=guidance.resolve(request.guidance, self.guidance),
        )

    def _known_plan(self, values: Mapping[str, Any]) -> GenerationPlan:
        """A plan made earlier or elsewhere: its files are looked up here, whatever path it carries."""
        plan = parse_plan(values)
        info = self._same_file("checkpoint", plan.checkpoint, self._models.find)
        _refuse_unsupported(info)
        info = replace(  # as what it was taken then, whatever it is taken as now
            info,
            family=plan.family if plan.family in self._models.families() else info.family,
            prediction=plan.prediction or info.prediction,
            variant=info.variant if plan.variant is None else plan.variant,
        )
        parts = Separate(**{name: self._same_part(name, file) for name, file in plan.model.separate.named})
        sampler, _ = samplers.resolve(plan.sampler, self.samplers, self.schedules)
        schedule = self._schedule(plan.schedule, sampler, info)
        if info.prediction == FLOW:
            check_flow(sampler, schedule)
        if max(plan.seeds) > MAX_SEED:
            raise RequestError("seeds", f"{max(plan.seeds)} is too large", accepted=f"0 to {MAX_SEED}")
        for field in ("prompts", "negative_prompts", "variation_seeds"):
            found = len(getattr(plan, field))
            if found not in (0, len(plan.seeds)):
                raise RequestError(field, f"has {found} entries", accepted=f"none, or {len(plan.seeds)}: one per seed")
        return replace(
            plan,
            checkpoint=self._reference(info),
            family=info.family,
            prediction=info.prediction,
            variant=info.variant,
            distilled_cfg_scale=_distilled(plan.distilled_cfg_scale, info),
            shift=_shift(plan.shift, info),
            **self._references(parts),
            sampler=sampler.name,
            schedule=schedule.name,
            options=sampler.checked_options(plan.options),
            schedule_options=schedule.checked_options(plan.schedule_options),
            guidance=guidance.resolve(plan.guidance, self.guidance),
        )

    def _same_file(self, field: str, wanted: FileRef, find: Callable[[str], ModelInfo]) -> ModelInfo:
        """By hash where that is known, else by name; another file under the same name is an error."""
        try:
            return find(wanted.short_hash or wanted.name)
        except CheckpointMissing:
            info = find(wanted.name)
        found = self._models.hash_of(info)
        if wanted.sha256 and found and found != wanted.sha256:
            raise RequestError(
                field, f"{wanted.name} here is another file ({found[:10]})", accepted=f"the file {wanted.short_hash}"
            )
        return info

    def _same_part(self, name: str, wanted: FileRef) -> ModelInfo:
        find = self._models.find_vae if name == VAE else self._models.find_text_encoder
        return self._same_file(name, wanted, find)

    def checkpoint(self, text: str | None = None) -> ModelInfo:
        """The model that `text` names; without one the settings', else the first usable. Raises CheckpointError.

        One that has all its parts, or for whose missing parts there are files, comes before others.
        """
        chosen = text or self._settings.get("checkpoint")
        if chosen:
            _check_text("checkpoint", chosen)
            info = self._models.find(chosen)
            _refuse_unsupported(info)
            return info
        listed = self._models.checkpoints()
        usable = [info for info in listed if info.supported]
        if not usable:
            raise CheckpointMissing(
                "There is no checkpoint that can be loaded.",
                hint="Put a .safetensors checkpoint into models/Stable-diffusion.",
            )
        return next((info for info in usable if complete(info, self._models)), usable[0])

    def profile(self, info: ModelInfo, values: Mapping[str, Any]) -> dict[str, Any]:
        """What of a request's values can be remembered for a checkpoint, sampler and schedule by registry name.

        Raises RequestError or CheckpointError for what the checkpoint cannot be used with.
        """
        found = checked_profile(values)
        self._plan(parse_request({**found, "checkpoint": info.name}))
        if "sampler" in found:
            sampler, named = samplers.resolve(found["sampler"], self.samplers, self.schedules)
            found["sampler"] = sampler.name
            if named is not None:
                found["schedule"] = named.name
        if "schedule" in found:
            found["schedule"] = schedules.resolve(found["schedule"], self.schedules).name
        return found

    def _clip_skip(self, info: ModelInfo) -> int:
        """1 is the setting's way to say that nothing was chosen."""
        chosen = int(self._settings.get("clip_skip") or 1)
        return chosen if chosen > 1 else info.defaults.clip_skip

    def _parts(self, request: GenerationRequest, profile: Mapping[str, Any], info: ModelInfo) -> Separate[ModelInfo]:
        vae = profile.get(VAE) if request.vae is None else request.vae
        text_encoder = request.text_encoder or profile.get(TEXT) or "Automatic"
        if vae is None:  # the setting is of the model that was chosen last: it gives way where it does not fit
            stored = self._settings.get("vae") or "Automatic"
            vae = stored if fits(info, stored, self._models) else "Automatic"
        names = (text_encoder,) if isinstance(text_encoder, str) else text_encoder
        for field, text in ((VAE, vae), *((TEXT, name) for name in names)):
            _check_text(field, text)
        return choose_parts(info, vae=vae or "Automatic", text_encoder=names, files=self._models)

    def _references(self, parts: Separate[ModelInfo]) -> dict[str, Any]:
        return {name: self._reference(file) for name, file in parts.named}

    def _reference(self, info: ModelInfo) -> FileRef:
        sha256 = info.sha256 or self._models.hash_of(info)
        return FileRef(name=info.name.rpartition("/")[2], path=info.path, sha256=sha256)

    def _sampling(self, request: GenerationRequest, info: ModelInfo) -> tuple[Sampler, Schedule]:
        sampler, schedule = self._named_sampling(request, info)
        if info.prediction == FLOW:
            check_flow(sampler, schedule)
        return sampler, schedule

    def _named_sampling(self, request: GenerationRequest, info: ModelInfo) -> tuple[Sampler, Schedule]:
        wanted = info.defaults.sampler if request.sampler is None else request.sampler
        sampler, named = samplers.resolve(wanted, self.samplers, self.schedules)
        if named is None or named.name == schedules.AUTOMATIC:
            own = info.defaults.schedule if request.sampler is None else schedules.AUTOMATIC
            return sampler, self._schedule(own if request.schedule is None else request.schedule, sampler, info)
        if request.schedule is not None:
            asked = schedules.resolve(request.schedule, self.schedules)
            if asked.name not in (schedules.AUTOMATIC, named.name):
                raise RequestError(
                    "schedule",
                    f'"{asked.label}" contradicts the sampler name "{wanted}"',
                    accepted=f'{named.label}, or the sampler "{sampler.label}"',
                )
        return sampler, named

    def _schedule(self, text: str, sampler: Sampler, info: ModelInfo) -> Schedule:
        """What Automatic means for sampler and model: Karras and others were made for what is no flow model."""
        asked = schedules.resolve(text, self.schedules)
        if asked.name == schedules.AUTOMATIC and info.prediction == FLOW and FLOW_SCHEDULE in self.schedules:
            return self.schedules[FLOW_SCHEDULE]
        return schedules.for_sampler(sampler, asked, self.schedules)

    def _all_seeds(self, request: GenerationRequest, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(seeds, variation seeds). With a variation the seed stays, and the variation seeds count."""
        if not request.variation_strength:
            return self._seeds(request.seed, count), ()
        seed = self._seeds(request.seed, 1)[0]
        return (seed,) * count, self._seeds(request.variation_seed, count, "variation_seed")

    def _seeds(self, seed: int, count: int, field: str = "seed") -> tuple[int, ...]:
        if count > MAX_PICTURES:
            raise RequestError(
                "batch_count", f"{count} pictures are too many", accepted=f"{MAX_PICTURES} in one request"
            )
        first = self._draw_seed() if seed == -1 else seed
        if first + count - 1 > MAX_SEED:
            raise RequestError(
                field, f"{first} leaves no room for {count} pictures", accepted=f"at most {MAX_SEED - count + 1}"
            )
        return tuple(range(first, first + count))


def _check_text(field: str, text: object) -> None:
    """Characters that no file, terminal or tokenizer takes well: controls and halves of surrogate pairs."""
    if not isinstance(text, str):
        return
    for position, letter in enumerate(text):
        code = ord(letter)
        if (code < 32 and letter not in ALLOWED_CONTROLS) or 127 <= code < 160 or 0xD800 <= code < 0xE000:
            raise RequestError(
                field, f"contains U+{code:04X} at position {position}", accepted="text, line breaks and tabs"
            )


def _distilled(asked: float | None, info: ModelInfo) -> float | None:
    """The guidance that the model takes as an input; None for a model that has no such input."""
    if info.defaults.distilled_cfg_scale is not None:
        return info.defaults.distilled_cfg_scale if asked is None else asked
    if asked is not None:
        raise RequestError(
            "distilled_cfg_scale",
            f"{info.name} ({info.label}) takes no guidance as an input",
            accepted="cfg_scale; distilled_cfg_scale is for models such as Flux.1 dev",
        )
    return None


def _shift(asked: float | None, info: ModelInfo) -> float | None:
    """How far the noise levels lean to the noisy side; None for the model's own rule, and for what is no flow model."""
    if info.prediction == FLOW:
        return info.defaults.shift if asked is None else asked
    if asked is not None:
        raise RequestError(
            "shift",
            f"{info.name} ({info.label}) is no flow model",
            accepted="no shift; it is for flow models such as Stable Diffusion 3, Flux, Chroma, Z-Image and Qwen-Image",
        )
    return None


def _resize(request: GenerationRequest, width: int, height: int) -> tuple[int, int] | None:
    """Where the seed's picture had another size: (width, height). As in AUTOMATIC1111 both or none are given."""
    asked = request.seed_resize_width, request.seed_resize_height
    if not any(asked) or asked == (width, height):
        return None
    for field, side in zip(("seed_resize_width", "seed_resize_height"), asked, strict=True):
        if side < SMALLEST_SIDE:
            raise RequestError(field, f"{side} is not accepted", accepted=f"{SMALLEST_SIDE} to 4096, or 0 for both")
    return asked


def _check_size(plan: GenerationPlan) -> None:
    pixels = plan.width * plan.height
    if pixels > MAX_PIXELS:
        raise RequestError(
            "width", f"{plan.width} x {plan.height} is too large", accepted=f"at most {MAX_PIXELS:,} pixels in all"
        )
    side_by_side = min(plan.batch_size, len(plan.seeds))
    if pixels * side_by_side > MAX_BATCH_PIXELS:
        raise RequestError(
            "batch_size",
            f"{side_by_side} pictures of {plan.width} x {plan.height} side by side are too many",
            accepted=f"at most {MAX_BATCH_PIXELS // pixels} of this size",
        )


def _refuse_unsupported(info: ModelInfo) -> None:
    if not info.supported:
        raise UnsupportedCheckpoint(
            info.problem or f"{info.name} is {info.label}, which is not supported yet.",
            hint="" if info.problem else "Choose another checkpoint.",
        )
