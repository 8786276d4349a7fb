"""A plan as the arguments of a diffusers pipeline, and what of the plan such a pipeline leaves undone.

Pipelines differ in what they take; their signature says it. Whatever a person asked for and the pipeline has no place
for is told in words, for nothing that was asked may be dropped in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modules.core.checkpoint import Defaults
from modules.core.generation import Emphasis, GenerationPlan
from modules.prompting.attention import Break, parse_attention
from modules.prompting.networks import without_tags
from modules.prompting.stages import parts_of

NO_WEIGHTS = "This model reads words without weights: brackets in the prompt count as plain text."
NO_EDITING = "This model reads one text for all steps: of words that change with the steps it sees the first."
NO_AND = "This model knows no AND: its prompts are read as one, one after another."

# What would make another text of the prompt: by rules that need another library, or by a language model that draws its
# words from no seed of ours and takes longer than the picture
_REWRITES = ("clean_caption", "use_pe", "enable_prompt_rewrite", "prompt_upsampling")


@dataclass(frozen=True)
class Arguments:
    """What a pipeline is called with, and what is to be told of the rest.

    steps: of all its stages together. guider_scale: of the part that guides in place of an argument, None where there
    is none.
    """

    values: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    steps: int = 0
    guider_scale: float | None = None


def parameters(call: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The named parameters of a pipeline's `__call__`, without self."""
    unnamed = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = inspect.signature(call).parameters
    return {name: each for name, each in found.items() if name != "self" and each.kind not in unnamed}


def arguments(
    accepted: Mapping[str, inspect.Parameter], plan: GenerationPlan, defaults: Defaults, *, guider: bool = False
) -> Arguments:
    """The arguments for one picture, its generator and callbacks aside. defaults: of the checkpoint.

    guider: whether a part of the pipeline guides where its arguments have no scale.
    """
    notices: list[str] = []
    prompt, told = plain_text(plan.prompt, plan.emphasis, plan.steps)
    notices += told
    values: dict[str, Any] = {"prompt": prompt}
    own, others = _stages(accepted)
    if own:
        values[own] = plan.steps
    if {"width", "height"} <= accepted.keys():
        values |= {"width": plan.width, "height": plan.height}
    if "use_resolution_binning" in accepted:
        values["use_resolution_binning"] = False  # else another size is computed than the one that was asked for
    values |= {name: False for name in _REWRITES if name in accepted}
    if "intermediate_timesteps" in accepted and plan.steps != accepted["num_inference_steps"].default:
        values["intermediate_timesteps"] = None  # Sana Sprint: of its own number of steps only
    negative, told = plain_text(plan.negative_prompt, plan.emphasis, plan.steps)
    if "negative_prompt" in accepted:
        notices += told
        # Where nothing is written, a pipeline's own text for it stands; None would switch some pipelines' CFG off
        if negative or accepted["negative_prompt"].default is None:
            values["negative_prompt"] = negative
    elif negative:
        notices.append("This model takes no negative prompt: it is not used.")
    scales, told = _guidance(accepted, plan, defaults, guider)
    return Arguments(
        values | scales, tuple(dict.fromkeys([*notices, *told, *unused(plan, defaults)])), plan.steps + others,
        plan.cfg_scale if guider else None,
    )  # fmt: skip


def _stages(accepted: Mapping[str, inspect.Parameter]) -> tuple[str, int]:
    """The argument for the steps of the stage that paints ("" for none), and how many the stages before it make."""
    found = {name: each.default for name, each in accepted.items() if name.endswith("num_inference_steps")}
    own = next((name for name in ("num_inference_steps", "decoder_num_inference_steps") if name in found), "")
    return own, sum(steps for name, steps in found.items() if name != own and isinstance(steps, int))


def _guidance(
    accepted: Mapping[str, inspect.Parameter], plan: GenerationPlan, defaults: Defaults, guider: bool
) -> tuple[dict[str, Any], list[str]]:
    """Scales by argument. Where a pipeline has both kinds, "guidance_scale" is the distilled one.

    Of pipelines in two stages without one of their own, the first is guided: it reads the words.
    """
    kinds = ("true_cfg_scale", "guidance_scale", "prior_guidance_scale")
    real = next((name for name in kinds if name in accepted), "")
    distilled = "guidance_scale" if real == "true_cfg_scale" else "distilled_guidance_scale"
    values: dict[str, Any] = {}
    notices = []
    if real:
        values[real] = plan.cfg_scale
        if "guidance_schedule" in accepted:
            values["guidance_schedule"] = None  # Ideogram 4 takes one of both, and its own is for 48 steps
    elif plan.cfg_scale != defaults.cfg_scale and not guider:
        notices.append("This model takes no CFG scale: it is not used.")
    if plan.distilled_cfg_scale is not None:
        if distilled in accepted:
            values[distilled] = plan.distilled_cfg_scale
        elif plan.distilled_cfg_scale != defaults.distilled_cfg_scale:
            notices.append("This model takes no distilled CFG scale: it is not used.")
    return values, notices


def unused(plan: GenerationPlan, defaults: Defaults) -> Sequence[str]:
    """What no pipeline does of a plan, in words."""
    asked = {
        f"the sampler {plan.sampler}": plan.sampler != defaults.sampler,
        f"the schedule {plan.schedule}": plan.schedule != defaults.schedule or bool(plan.schedule_options),
        "the shift": plan.shift is not None and plan.shift != defaults.shift,
        "discarding the last but one noise level": plan.discard_penultimate is not None,
        f"clip skip {plan.clip_skip}": plan.clip_skip != defaults.clip_skip,
        "tiling": plan.tiling,
        "the variation seed": bool(plan.variation_seeds and plan.variation_strength),
        "the seed's own size": plan.seed_resize is not None,
        "the noise source NV": plan.noise_source == "NV",
        f"guidance by {', '.join(plan.guidance)}": bool(plan.guidance),
    }
    names = [name for name, chosen in asked.items() if chosen]
    if not names:
        return ()
    return (f"This model runs by its own rules and has no use for {' and '.join(names)}.",)


def plain_text(text: str, emphasis: Emphasis, steps: int) -> tuple[str, list[str]]:
    """A prompt as one text without grammar, and what is to be told of what that left out."""
    notices = []
    parts = parts_of(without_tags(text), max(1, steps))
    if len(parts) > 1:
        notices.append(NO_AND)
    if any(len(part.stages.texts) > 1 for part in parts):
        notices.append(NO_EDITING)
    first = ", ".join(part.stages.at(0) for part in parts)
    if emphasis == "None":
        return first, notices
    pieces = parse_attention(first)
    words = [" " if isinstance(piece, Break) else piece.text for piece in pieces]
    if any(not isinstance(piece, Break) and piece.weight != 1 for piece in pieces):
        notices.append(NO_WEIGHTS)
    return "".join(words), notices
