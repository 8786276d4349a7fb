"""Weights that are stored packed, with further tensors beside each: seen as the weights alone.

- fp8: weights in one of the two 8-bit float types; *scaled*, with a scale per weight beside it: `.scale_weight` and
  `.scale_input` (ComfyUI, with a `scaled_fp8` marker) or `.weight_scale`, `.input_scale` (and a `.comfy_quant` marker).
- bitsandbytes NF4 and FP4: a row of bytes, two weights each, with `.absmax`, `.quant_map`, `.nested_absmax`,
  `.nested_quant_map` and `.quant_state.bitsandbytes__nf4` named after the weight. Their matrix shape is in the bytes of
  the last one, not in the header.
- GGUF: types of blocks, in a file of its own format.

What is recognised and not read: NVFP4 and the MX formats (ComfyUI, ModelOpt), 8-bit integers (ComfyUI, bitsandbytes),
Nunchaku's SVDQuant, Quanto, SDNQ, DFloat11, HQQ, GPTQ and AWQ. `PACKINGS` says how they are called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

from modules.core.checkpoint import Header, TensorInfo
from modules.families.layouts.once import once
from modules.families.layouts.shapes import FLAT4

_SIDES = re.compile(
    r"\.(weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.bitsandbytes__(?:nf4|fp4))"
    r"|scale_weight|scale_input|weight_scale|weight_scale_2|weight_scale_inv|input_scale|comfy_quant|weight_format"
    r"|weight_shape|SCB)$"
)
_MARKERS = re.compile(r"(^|\.)scaled_fp8$")
_FP8 = {"F8_E4M3", "F8_E5M2"}
_SCALES = (".scale_weight", ".weight_scale", ".weight_scale_inv", ".SCB")
_POWERS = {"F8_E8M0", "U8"}  # in which the MX formats keep their scales, powers of two
LOADABLE = frozenset({"", "fp8", "fp8_scaled", "nf4", "fp4", "gguf"})
PACKINGS: Mapping[str, str] = {
    "nvfp4": "NVFP4", "mxfp8": "MXFP8", "mxfp4": "MXFP4", "int8": "8-bit integers", "svdq": "Nunchaku's SVDQuant",
    "gptq": "GPTQ or AWQ", "quanto": "Quanto", "sdnq": "SDNQ", "dfloat11": "DFloat11", "hqq": "HQQ",
}  # fmt: skip
# Packing -> what its tensors' names end with that stand in the place of `.weight`, or beside it, and in no other file
_ENDINGS: Mapping[str, tuple[str, ...]] = {
    "gptq": (".qzeros", ".g_idx"), "svdq": (".qweight", ".wscales"), "quanto": (".weight._data",),
    "sdnq": (".zero_point", ".svd_up"), "dfloat11": (".sign_mantissa", ".encoded_exponent"), "hqq": (".W_q",),
}  # fmt: skip
_INSTEAD = re.compile(r"\.(qweight|weight\._data|sign_mantissa|W_q)$")


@dataclass(frozen=True)
class Folded:
    """header: with one tensor per weight. quantisation: as in `ModelInfo`, or a key of `PACKINGS`."""

    header: Header
    quantisation: str


@once
def folded(header: Header) -> Folded:
    """The header without what belongs to packed weights."""
    sides = {name: info for name, info in header.tensors.items() if _SIDES.search(name) or _MARKERS.search(name)}
    tensors = {name: info for name, info in header.tensors.items() if name not in sides}
    quantisation = _quantisation(tensors, sides)
    if quantisation in ("nf4", "fp4"):
        tensors = {name: _flat(info) if f"{name}.absmax" in sides else info for name, info in tensors.items()}
    elif quantisation in ("nvfp4", "mxfp4"):  # two in a byte, which the shape of bytes does not count
        scaled = {name for name, info in tensors.items() if info.dtype == "U8" and f"{name}_scale" in sides}
        tensors = {name: _halved(info) if name in scaled else info for name, info in tensors.items()}
    return Folded(replace(header, tensors=tensors) if quantisation or sides else header, quantisation)


def replaced(header: Header) -> str:
    """The packing of a file whose weights have names of their own, so that nothing else recognises it; else ""."""
    return _ending(header.tensors)


def spelled_out(header: Header) -> Header:
    """The header with `.weight` in the place of those names, to see which network it is. Its shapes tell nothing."""
    return replace(header, tensors={_INSTEAD.sub(".weight", name): info for name, info in header.tensors.items()})


def _ending(names: Iterable[str]) -> str:
    names = tuple(names)
    return next((kind for kind, ends in _ENDINGS.items() if any(name.endswith(ends) for name in names)), "")


def _quantisation(tensors: Mapping[str, TensorInfo], sides: Mapping[str, TensorInfo]) -> str:
    dtypes = {info.dtype for info in tensors.values()}
    scales = {info.dtype for name, info in sides.items() if name.endswith(_SCALES)}
    powers = bool(scales & _POWERS)
    tests = (
        ("fp4", any("bitsandbytes__fp4" in name for name in sides)),
        ("nf4", any(name.endswith(".weight.absmax") for name in sides)),
        (_ending(tensors), True),
        ("nvfp4", any(name.endswith(".weight_scale_2") for name in sides)),
        ("gguf", any(_is_gguf(dtype) for dtype in dtypes)),
        ("mxfp8", powers and bool(dtypes & _FP8)),
        ("mxfp4", powers or "F4" in dtypes),
        ("fp8_scaled", bool(scales) and bool(dtypes & _FP8)),
        ("fp8", bool(dtypes & _FP8)),
        ("int8", any(info.dtype == "I8" and len(info.shape) == 2 for info in tensors.values())),
    )
    return next((name for name, holds in tests if name and holds), "")


def _is_gguf(dtype: str) -> bool:
    return re.match(r"(I?T?Q\d|MXFP4)", dtype) is not None


def _flat(info: TensorInfo) -> TensorInfo:
    return replace(info, dtype=FLAT4, shape=(2 * prod(info.shape),))


def _halved(info: TensorInfo) -> TensorInfo:
    return replace(info, shape=(*info.shape[:-1], 2 * info.shape[-1]))
