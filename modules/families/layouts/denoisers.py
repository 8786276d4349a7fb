"""Which denoiser a file holds, at a glance."""

from __future__ import annotations

from modules.core.checkpoint import Header
from modules.families.layouts.packed import folded
from modules.families.layouts.pipelines import may_be_ours
from modules.families.layouts.prefixes import components


def denoiser_kind(header: Header) -> str:
    """The kind of the file's denoiser ("unet", "flux", "wan" ...), "" where it has none that is known.

    Of a folder whose pipeline none of the families here computes, "": what it is made of does not decide then.
    """
    if not may_be_ours(header):
        return ""
    return components(folded(header).header).kind
