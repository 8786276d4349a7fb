"""Models whose weights are packed under names of their own, by programs that nothing is read of here.

Asked first: what is beside such weights may look like another kind of file (SVDQuant keeps a LoRA in each layer).
"""

from __future__ import annotations

import re

from modules.core.checkpoint import Header, ModelInfo
from modules.core.errors import NotAMatch
from modules.core.family import family, foreign
from modules.families.layouts.describe import packed_otherwise
from modules.families.layouts.labels import label_of
from modules.families.layouts.packed import PACKINGS, replaced, spelled_out
from modules.families.layouts.prefixes import components

LABEL = "Packed model"
# Nunchaku's own names of Flux's layers: query, key and value in one
_NUNCHAKU_FLUX = "single_transformer_blocks.0.mlp_fc1.weight"
_TEXT = re.compile(r"(SelfAttention\.q|self_attn\.q_proj)\.weight$")


@family("packed", label=LABEL, rank=4)
def packed(header: Header) -> ModelInfo:
    """Name the packing, and the model as far as its names tell it."""
    kind = replaced(header)
    if not kind or header.configs:
        raise NotAMatch(f"{header.file_name} has its weights under their own names.")
    what = _what(spelled_out(header))
    beginning = f"this is {what}" if what else "this is a model"
    return foreign(header, "packed", what or PACKINGS[kind], packed_otherwise(kind, beginning), variant=kind)


def _what(plain: Header) -> str:
    if _NUNCHAKU_FLUX in plain.tensors:
        return "Flux.1"
    if label := label_of(components(plain).kind):
        return label
    return "a text encoder" if any(_TEXT.search(name) for name in plain.tensors) else ""
