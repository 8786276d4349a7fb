"""What tells the families of UNets apart, at a glance: asked before anything is read closely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modules.core.checkpoint import Header
from modules.families.layouts import names as ldm
from modules.families.layouts.once import once
from modules.families.layouts.packed import folded
from modules.families.layouts.pipelines import may_be_ours
from modules.families.layouts.prefixes import components
from modules.families.layouts.shapes import Shapes, sensible
from modules.families.layouts.unet import context_width


@dataclass(frozen=True, kw_only=True)
class Unet:
    """context: width of the text; linear: projections around attention are linear; embeds_size, embeds_class: it is
    told sizes (SDXL), or a class or picture (upscaler, unCLIP). motion: it holds motion modules (AnimateDiff).
    """

    channels: int
    context: int | None
    linear: bool
    embeds_size: bool
    embeds_class: bool
    motion: bool


@once
def unet_names(plain: Header) -> tuple[str, dict[str, str]] | None:
    """Layout and name table of the UNet in a folded header, None where there is none."""
    found = components(plain)
    if found.kind != "unet":
        return None
    inner = found.denoiser
    if "conv_in.weight" in inner or "time_embedding.linear_1.weight" in inner:
        return "diffusers", dict(inner)
    return "original", {new: inner[old] for new, old in ldm.unet_names(inner).items()}


@once
def unet_of(header: Header) -> Unet | None:
    """A file's UNet, None where it has none that is Stable Diffusion's, or a folder's pipeline is of another kind."""
    if not may_be_ours(header):
        return None
    plain = folded(header).header
    found = unet_names(plain)
    if found is None:
        return None
    with sensible(header):
        return _glance(Shapes(plain, found[1]), found[1])


def _glance(shapes: Shapes, names: Mapping[str, str]) -> Unet:
    stems = ("mid_block.attentions.0", "down_blocks.1.attentions.0", "down_blocks.2.attentions.0")
    projections = [f"{stem}.proj_in.weight" for stem in stems]
    first = next((name for name in projections if shapes.has(name)), None)
    return Unet(
        channels=shapes("conv_in.weight")[1] if shapes.has("conv_in.weight") else 4,
        context=context_width(shapes),
        linear=first is not None and len(shapes(first)) == 2,
        embeds_size=shapes.has("add_embedding.linear_1.weight"),
        embeds_class=any(name.startswith(("class_embedding.", "label_emb.")) for name in names),
        motion=any("motion_modules" in name for name in names),
    )
