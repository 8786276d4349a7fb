"""Sampling defaults that several families share: those of models which were distilled to few steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modules.core.checkpoint import Defaults, Header
from modules.families.layouts.describe import named_steps, says

# Words of file names, the most particular first
_FAST = (
    ("turbo", ("turbo",)),
    ("lightning", ("lightning",)),
    ("hyper", ("hyper-?sd", "hyper-?flux", "hyper-?[0-9]", "hyper(?![a-z])")),
    ("lcm", ("lcm",)),
    ("dmd", ("dmd2",)),
)
FAST_VARIANTS = tuple(name for name, _ in _FAST)


def fast_variant(header: Header) -> str:
    """ "turbo", "lightning", "hyper", "lcm" or "dmd" where the file's name says so, else ""."""
    return next((name for name, words in _FAST if says(header, *words)), "")


def fast_defaults(header: Header, variant: str, plain: Defaults, unet: Mapping[str, Any]) -> Defaults:
    """What a distilled UNet of configuration `unet` wants, by the publishers' model cards.

    SDXL Turbo: 1 to 4 steps without guidance at 512 x 512 (merges of it at the family's size want more steps);
    Lightning and Hyper-SD: the steps in the name, Euler with trailing timesteps (here "turbo"), no guidance; LCM and
    DMD2: 4 to 8 steps of the LCM sampler, guidance 1 to 2. A UNet that LCM's authors distilled as a whole takes the
    guidance as an input, 8, and is not guided besides.
    """
    steps = named_steps(header)
    if unet.get("time_cond_proj_dim"):
        return replace(
            plain, steps=steps or 6, cfg_scale=1.0, distilled_cfg_scale=8.0, sampler="lcm", schedule="sgm_uniform"
        )
    if variant == "turbo":
        pure = says(header, "sd-xl-turbo", "sdxl-turbo", "sd-turbo")
        size = 512 if pure else plain.width
        count, scale = (1, 1.0) if pure else (8, 2.0)
        return replace(
            plain, width=size, height=size, steps=steps or count, cfg_scale=scale, sampler="euler_a", schedule="turbo"
        )
    if variant in ("lightning", "hyper"):
        return replace(plain, steps=steps or 8, cfg_scale=1.0, sampler="euler", schedule="turbo")
    if variant == "lcm":
        return replace(plain, steps=steps or 6, cfg_scale=1.5, sampler="lcm", schedule="sgm_uniform")
    if variant == "dmd":
        return replace(plain, steps=steps or 4, cfg_scale=1.0, sampler="lcm", schedule="sgm_uniform")
    return plain
