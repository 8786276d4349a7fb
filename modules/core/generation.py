"""What a person asks for, and the same with nothing left to choose.

`GenerationRequest` may leave nearly everything out; `services.jobs` resolves it against catalog, family defaults and
settings to a `GenerationPlan`, which alone decides the pixels. Both are frozen, JSON-serialisable and free of torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from modules.core.checkpoint import Separate
from modules.core.errors import RequestError

T = TypeVar("T")
UNKNOWN_FIELD = "unexpected_keyword_argument"  # pydantic's name of that error for dataclasses

SCHEMA = 1
MAX_SEED = 2**63 - 1  # the largest integer SQLite and JSON readers of other languages keep exactly
MAX_PROMPT_CHARACTERS = 100_000
MOST_NAMES = 24  # that an error lists
MAX_PICTURES = 400  # of one request: batch_count * batch_size

Side = Annotated[int, Field(ge=64, le=4096, multiple_of=8)]  # pixels
Steps = Annotated[int, Field(ge=1, le=150)]
Guidance = Annotated[float, Field(ge=1.0, le=30.0, allow_inf_nan=False)]
Distilled = Annotated[float, Field(ge=0.0, le=30.0, allow_inf_nan=False)]
Shift = Annotated[float, Field(ge=0.1, le=100.0, allow_inf_nan=False)]
ClipSkip = Annotated[int, Field(ge=1, le=12)]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
Seed = Annotated[int, Field(ge=-1, le=MAX_SEED)]
Name = Annotated[str, Field(max_length=400)]
NoiseSource = Literal["CPU", "GPU", "NV"]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Ensd = Annotated[int, Field(ge=-(2**31), le=2**31)]
NoSide = Annotated[int, Field(ge=0, le=4096, multiple_of=8)]  # pixels; 0 for none
OptionName = Annotated[str, Field(max_length=40, pattern="^[a-z][a-z0-9_]*$")]
OptionValue = Annotated[float, Field(allow_inf_nan=False)]
GuidanceOptions = Annotated[
    Mapping[Name, Mapping[Name, Annotated[float, Field(allow_inf_nan=False)]]], Field(max_length=40)
]
Emphasis = Literal["Original", "No norm", "Ignore", "None"]
Options = Annotated[Mapping[OptionName, OptionValue], Field(max_length=30)]
PerPicture = Annotated[tuple[Prompt, ...], Field(max_length=MAX_PICTURES)]


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What was asked. None means: the checkpoint's or the settings' own value.

    width, height: pixels, multiples of 8. seed: -1 for a random one; picture i of a request uses seed + i.
    batch_count * batch_size pictures are made, batch_size of them side by side.
    clip_skip: 1 is the text encoder's last layer, 2 the one before (AUTOMATIC1111's counting).
    checkpoint, vae, text_encoder: a name, file name, title or short hash from the catalog; vae also "Automatic" or
    "None" (the checkpoint's own), text_encoder also "Automatic": the checkpoint's own, else a file that fits. Where a
    model has several text encoders, text_encoder may be several names, each of which goes where it fits.
    distilled_cfg_scale: the guidance that Flux dev and others like it take as an input. shift: how far the noise levels
    of a flow model lean to the noisy side. Other models have neither, and say so.
    strict: run each picture alone, so that it is identical to the last bit whatever else is running.
    emphasis: what (word:1.2) does, see `GenerationPlan`. styles: names from styles.csv, applied in their order.
    noise_source: of "CPU", "GPU" and "NV", see `modules.diffusion.noise`. variation_seed (-1 for a random one),
    variation_strength: a second seed and how far towards it, 0 to 1; all pictures have the same seed then, and picture
    i has variation seed + i. seed_resize_width, seed_resize_height: the size, in pixels, that the seed's picture had; 0
    for the same. ensd: "eta noise seed delta". tiling: the picture continues over its edges.
    Prompts may hold choices and wildcards, see `modules.prompting.dynamic`.
    options, schedule_options: numbers of the sampler and of the schedule by name (`eta`, `rho`); those left out have
    their defaults. discard_penultimate: leave out the last noise level but one; None for what the sampler wants.
    guidance: what is added to CFG, kind -> option -> value, such as {"rescale": {"phi": 0.7}}; see docs/guidance.md.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    checkpoint: Name | None = None
    vae: Name | None = None
    text_encoder: Name | Annotated[tuple[Name, ...], Field(max_length=4)] | None = None
    clip_skip: ClipSkip | None = None
    sampler: Name | None = None
    schedule: Name | None = None
    steps: Steps | None = None
    width: Side | None = None
    height: Side | None = None
    cfg_scale: Guidance | None = None
    distilled_cfg_scale: Distilled | None = None
    shift: Shift | None = None
    seed: Seed = -1
    batch_count: Annotated[int, Field(ge=1, le=100)] = 1
    batch_size: Annotated[int, Field(ge=1, le=16)] = 1
    strict: bool | None = None
    emphasis: Emphasis | None = None
    noise_source: NoiseSource | None = None
    variation_seed: Seed = -1
    variation_strength: Share = 0.0
    seed_resize_width: NoSide = 0
    seed_resize_height: NoSide = 0
    ensd: Ensd | None = None
    tiling: bool = False
    options: Options = field(default_factory=dict)
    schedule_options: Options = field(default_factory=dict)
    discard_penultimate: bool | None = None
    styles: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    guidance: GuidanceOptions = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FileRef:
    """A model file as the plan names it. sha256 may be None: it is computed in the background and never blocks.

    name: as shown and written to infotext (file name without extension). path: absolute, on the machine that plans.
    """

    name: str
    path: str
    sha256: str | None = None

    @property
    def short_hash(self) -> str | None:
        """AutoV2: the first ten hexadecimal digits of the file's SHA-256."""
        return self.sha256[:10] if self.sha256 else None


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """A checkpoint, the parts that come from other files, and as what it is taken.

    family "", prediction "", variant None: as what it is recognised.
    """

    checkpoint: FileRef
    separate: Separate[FileRef] = field(default_factory=Separate)
    family: str = ""
    prediction: str = ""
    variant: str | None = None

    @property
    def taken_as(self) -> str:
        """Family, prediction and variant in one word, for a `ModelKey`."""
        return "/".join((self.family, self.prediction, "?" if self.variant is None else self.variant))


@dataclass(frozen=True, kw_only=True)
class GenerationPlan:
    """One job with nothing left to choose: one picture per entry of `seeds`, equal in all else.

    The same plan gives the same bytes when run alone or with `strict`, and the same picture to rounding when batched.
    family, sampler, schedule: registry names (`sd1`, `euler_a`, `karras`). vae, text_encoder ... None: the
    checkpoint's own. prediction, variant: as what the checkpoint is taken, see `ModelInfo`; "" and None (in
    plans of earlier versions): as what it is recognised. distilled_cfg_scale, shift: None where the model
    has no such thing.

    emphasis: "Original" weighs tokens and restores the mean of their chunk, "No norm" weighs alone, "Ignore" reads the
    brackets and leaves all weights at 1, "None" takes brackets for text (AUTOMATIC1111's names).

    prompts, negative_prompts: one per picture, where choices and wildcards made them differ; prompt and negative_prompt
    are the first of them then. variation_seeds: likewise, where variation_strength is not 0; all `seeds` are one then.

    noise_source, seed_resize (width, height), ensd: see `modules.diffusion.noise`. tiling: the picture continues over
    its edges. template, negative_template: what they were drawn from, "" where nothing was drawn.
    guidance: what is added to CFG, kind -> option -> value, by registry names; only what changes something.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    schema: Literal[1] = 1
    checkpoint: FileRef
    family: str
    vae: FileRef | None = None
    text_encoder: FileRef | None = None
    text_encoder_2: FileRef | None = None
    text_encoder_3: FileRef | None = None
    prediction: Annotated[str, Field(max_length=40)] = ""
    variant: Annotated[str, Field(max_length=40)] | None = None
    prompt: Prompt
    negative_prompt: Prompt
    clip_skip: ClipSkip
    sampler: str
    schedule: str
    steps: Steps
    width: Side
    height: Side
    cfg_scale: Guidance
    distilled_cfg_scale: Distilled | None = None
    shift: Shift | None = None
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, le=2**64 - 1)], ...], Field(min_length=1, max_length=MAX_PICTURES)
    ]
    batch_size: Annotated[int, Field(ge=1, le=16)] = 1
    noise_source: NoiseSource = "CPU"
    variation_seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, le=2**64 - 1)], ...], Field(max_length=MAX_PICTURES)
    ] = ()
    variation_strength: Share = 0.0
    seed_resize: tuple[Side, Side] | None = None
    ensd: Ensd = 0
    tiling: bool = False
    strict: bool = False
    options: Options = field(default_factory=dict)  # of the sampler, all of them: eta, s_churn, s_noise ...
    schedule_options: Options = field(default_factory=dict)  # of the schedule: sigma_min, rho ...
    discard_penultimate: bool | None = None  # None: what the sampler wants
    emphasis: Emphasis = "Original"
    prompts: PerPicture = ()
    negative_prompts: PerPicture = ()
    template: Prompt = ""
    negative_template: Prompt = ""
    guidance: GuidanceOptions = field(default_factory=dict)

    @property
    def model(self) -> ModelChoice:
        """What is to be loaded."""
        separate = Separate(
            text_encoder=self.text_encoder, text_encoder_2=self.text_encoder_2, text_encoder_3=self.text_encoder_3,
            vae=self.vae,
        )  # fmt: skip
        return ModelChoice(
            checkpoint=self.checkpoint, separate=separate, family=self.family, prediction=self.prediction,
            variant=self.variant,
        )  # fmt: skip

    def only(self, index: int) -> GenerationPlan:
        """The plan of picture `index` alone: what its file carries, and what makes it again."""
        return replace(self.picked((index,)), batch_size=1)

    def picked(self, indices: Sequence[int]) -> GenerationPlan:
        """The plan of some of its pictures, at least one."""
        prompts = tuple(self.prompts[index] for index in indices) if self.prompts else ()
        negative = tuple(self.negative_prompts[index] for index in indices) if self.negative_prompts else ()
        return replace(
            self,
            seeds=tuple(self.seeds[index] for index in indices),
            prompt=prompts[0] if prompts else self.prompt,
            negative_prompt=negative[0] if negative else self.negative_prompt,
            variation_seeds=tuple(self.variation_seeds[index] for index in indices) if self.variation_seeds else (),
            prompts=prompts if len(set(prompts)) > 1 else (),
            negative_prompts=negative if len(set(negative)) > 1 else (),
        )


def drawn_by(source: NoiseSource, device: str) -> NoiseSource:
    """The source whose numbers `source` really gives on a device ("cpu", "cuda:1").

    "GPU" is "CPU" where there is no generator but the CPU's, and on Apple's devices, as in AUTOMATIC1111.
    """
    return source if source != "GPU" or device.partition(":")[0] in ("cuda", "xpu") else "CPU"


_REQUEST: TypeAdapter[GenerationRequest] = TypeAdapter(GenerationRequest)
_PLAN: TypeAdapter[GenerationPlan] = TypeAdapter(GenerationPlan)


def parse_request(values: Mapping[str, Any]) -> GenerationRequest:
    """Build a request from untrusted values (a form, JSON, a command line). Raises RequestError naming the field."""
    return _checked(_REQUEST, values)


def parse_plan(values: Mapping[str, Any]) -> GenerationPlan:
    """Build a plan from untrusted values, as `plan_json` wrote them. Raises RequestError naming the field."""
    return _checked(_PLAN, values)


def request_json(request: GenerationRequest) -> dict[str, Any]:
    """The request as JSON-ready values."""
    return dict(_REQUEST.dump_python(request, mode="json"))


def plan_json(plan: GenerationPlan) -> dict[str, Any]:
    """The plan as JSON-ready values: `parse_plan(plan_json(p)) == p`."""
    return dict(_PLAN.dump_python(plan, mode="json"))


def _checked(adapter: TypeAdapter[T], values: Mapping[str, Any]) -> T:
    try:
        return adapter.validate_python(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        properties = adapter.json_schema()["properties"]
        name = ".".join(str(part) for part in first["loc"]) or "request"
        raise RequestError(name, _problem(first), accepted=_accepted(first, properties)) from None


def _problem(error: Any) -> str:
    value = error.get("input")
    if error["type"] == UNKNOWN_FIELD:
        return "there is no such field"
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "string_too_long":
        return f"is {len(value):,} characters long"
    try:
        shown = repr(value)
    except ValueError:  # an integer of more digits than Python is willing to print
        return "this number is not accepted"
    return f"{shown if len(shown) <= 60 else shown[:57] + '...'} is not accepted"


def _accepted(error: Any, properties: Mapping[str, Any]) -> str:
    """What would have been right, from the field's own bounds; pydantic's words where it has none."""
    if len(error["loc"]) == 1:
        wanted = properties.get(str(error["loc"][0]), {})
        for kind in wanted.get("anyOf", (wanted,)):
            if "minimum" in kind:
                noun = {"integer": "a whole number", "number": "a number"}[kind["type"]]
                noun = f"a multiple of {kind['multipleOf']}" if "multipleOf" in kind else noun
                return f"{noun} from {kind['minimum']} to {kind['maximum']}"
            if "maxLength" in kind:
                return f"text of at most {kind['maxLength']:,} characters"
    if error["type"] == UNKNOWN_FIELD:
        near = get_close_matches(str(error["loc"][-1]), properties)
        names = sorted(properties)
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        return " or ".join(near) if near else ", ".join(names[:MOST_NAMES]) + more
    return str(error["msg"]).removeprefix("Input should be ")
