"""Weights that are stored packed, with further tensors beside each: seen as the weights alone.

- fp8: weights in one of the two 8-bit float types; *scaled*, with a scale per weight beside it: `.scale_weight` and
  `.scale_input` (ComfyUI, with a `scaled_fp8` marker) or `.weight_scale`, `.input_scale` (and a `.comfy_quant` marker).
- bitsandbytes NF4 and FP4: a row of bytes, two weights each, with `.absmax`, `.quant_map`, `.nested_absmax`,
  `.nested_quant_map` and `.quant_state.bitsandbytes__nf4` named after the weight. Their matrix shape is in the bytes of
  the last one, not in the header.
- GGUF: types of blocks, in a file of its own format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from modules.core.checkpoint import Header, TensorInfo
from modules.families.layouts.once import once
from modules.families.layouts.shapes import FLAT4

_SIDES = re.compile(
    r"\.(weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.bitsandbytes__(?:nf4|fp4))"
    r"|scale_weight|scale_input|weight_scale|weight_scale_2|input_scale|comfy_quant|weight_format|weight_shape)$"
)
_MARKERS = re.compile(r"(^|\.)scaled_fp8$")
_FP8 = {"F8_E4M3", "F8_E5M2"}
_SCALES = (".scale_weight", ".weight_scale")


@dataclass(frozen=True)
class Folded:
    """header: with one tensor per weight. quantisation: as in `ModelInfo`, or "nvfp4", "int8", "svdq", "unknown"."""

    header: Header
    quantisation: str


@once
def folded(header: Header) -> Folded:
    """The header without what belongs to packed weights."""
    sides = {name for name in header.tensors if _SIDES.search(name) or _MARKERS.search(name)}
    tensors = {name: info for name, info in header.tensors.items() if name not in sides}
    quantisation = _quantisation(tensors, sides)
    if quantisation in ("nf4", "fp4"):
        tensors = {name: _flat(info) if f"{name}.absmax" in sides else info for name, info in tensors.items()}
    elif quantisation == "nvfp4":
        scaled = {name for name in tensors if f"{name}_scale" in sides}
        tensors = {name: _halved(info) if name in scaled else info for name, info in tensors.items()}
    return Folded(replace(header, tensors=tensors) if quantisation or sides else header, quantisation)


def _quantisation(tensors: Mapping[str, TensorInfo], sides: set[str]) -> str:
    dtypes = {info.dtype for info in tensors.values()}
    scaled = any(name.endswith(_SCALES) for name in sides)
    tests = (
        ("fp4", any("bitsandbytes__fp4" in name for name in sides)),
        ("nf4", any(name.endswith(".weight.absmax") for name in sides)),
        ("svdq", any(name.endswith((".qweight", ".wscales")) for name in tensors)),
        ("nvfp4", any(name.endswith(".weight_scale_2") for name in sides)),
        ("gguf", any(_is_gguf(dtype) for dtype in dtypes)),
        ("fp8_scaled", scaled and bool(dtypes & _FP8)),
        ("fp8", bool(dtypes & _FP8)),
        ("int8", scaled and "I8" in dtypes),
    )
    return next((name for name, holds in tests if holds), "")


def _is_gguf(dtype: str) -> bool:
    return re.match(r"(I?T?Q\d|MXFP4)", dtype) is not None


def _flat(info: TensorInfo) -> TensorInfo:
    return replace(info, dtype=FLAT4, shape=(2 * prod(info.shape),))


def _halved(info: TensorInfo) -> TensorInfo:
    return replace(info, shape=(*info.shape[:-1], 2 * info.shape[-1]))
