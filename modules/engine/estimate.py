"""What a model and its work take of memory, told from a header and a size before anything is loaded.

Weights: of each part, the values as they will be kept. Activations of one pass, at their peak:

- UNets: per pixel of a level 26 values for each of its channels where it attends, 16 where it does not; the level that
  takes most counts. (Attention's feed-forward is the widest place: 8 times the channels, their gates and the product,
  beside the skip connections.)
- Transformers: per token some 12 to 18 values for each channel, by family: queries, keys, values, the widened
  feed-forward and what is joined to it, all at once.
- Decoding: per pixel of a level of a KL autoencoder 4 values for each of its channels and 1 for each of the next
  coarser one's, whose picture has just become this large; 18 times the base dimension in Qwen-Image's.

Attention itself takes nothing: its kernels never write the matrix of weights down. These constants are counted op by op
on diffusers' own classes at full size (tests/engine/test_estimate.py: at most a tenth too low, a sixth too high); what
kernels take beside tensors is the margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from modules.core.checkpoint import Header, ModelInfo, TensorInfo
from modules.core.job import MemoryMode
from modules.diffusion.backbone import PartName, Placement

MARGIN = 1.2  # over what tensors take: workspaces of kernels, gaps between blocks
FIXED = 200 << 20  # bytes: libraries' workspaces that come whatever the size
# The same on a CPU: what was measured beyond weights and tensors with full-size SD1 and SDXL in float32, where weights
# are converted and convolutions unfold their input
FIXED_CPU = 512 << 20
TEXT_PASS = 128 << 20  # bytes: a prompt of 512 tokens through T5-XXL takes 101 MB, through CLIP 5
STREAMED = 512 << 20  # bytes of weights on the device in mode "low": those ahead, and a large layer
TILE = 64  # latent pixels of a side, as in `modules.backbones.autoencoder`
DOWNSCALE = 8

ATTENDING, RESIDUAL = 26, 16  # values per channel and pixel of a UNet's level
TOKEN_VALUES: Mapping[str, float] = {"sd3": 12.5, "flux": 17.5, "chroma": 16.5, "z_image": 16, "qwen_image": 15}
OTHER_TOKEN_VALUES = 20.0  # of a transformer that nobody has counted
UNKNOWN_WIDTH = 3072
CLIP_WIDTH = 1280  # of the widest CLIP text encoder

_TEXT = ("cond_stage_model.", "conditioner.embedders.", "text_encoder", "text_model.")
_VAE = ("first_stage_model.", "vae.")
_NOTHING = ("model_ema.", "safety_checker.", "feature_extractor.")
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be made: pictures of width x height pixels, `rows` rows in a pass, texts of `tokens` tokens."""

    width: int
    height: int
    rows: int = 2
    tokens: int = 512

    @property
    def latent_pixels(self) -> int:
        """Of one picture."""
        return math.ceil(self.width / DOWNSCALE) * math.ceil(self.height / DOWNSCALE)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Bytes of a model's weights, by part. fresh: of all of them, those that cannot stay in the mapped file."""

    parts: Mapping[PartName, int]
    fresh: int = 0

    @property
    def total(self) -> int:
        """Of all parts."""
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes that work takes, phase by phase. parts: weights on the device; activations: of one pass; decode, tiled: of
    decoding a picture whole and in tiles.
    """

    parts: Mapping[PartName, int]
    activations: int
    decode: int
    tiled: int
    text: int = TEXT_PASS

    def at(self, mode: MemoryMode, *, tiled: bool = False) -> int:
        """The most that is needed at once in a memory mode."""
        last = self.tiled if tiled else self.decode
        phases: dict[PartName, int] = {"text": self.text, "denoiser": self.activations, "vae": last}
        if mode == "normal":
            return sum(self.parts.values()) + max(phases.values())
        if mode == "medium":
            return max(self.parts.get(part, 0) + phase for part, phase in phases.items())
        return max(min(self.parts.get(part, 0), STREAMED) + phase for part, phase in phases.items())


def weights_of(checkpoint: Header, separate: Mapping[str, Header], placement: Placement) -> Weights:
    """What the weights of a model will take on `placement.device`; parts that compute elsewhere are left out.

    separate: component -> header of the file that it is taken from. A VAE takes the place of the checkpoint's own, a
    text encoder comes on top of its others.
    """
    found: dict[PartName, int] = {}
    fresh = 0
    devices = part_devices(placement)
    for name, tensor, part in _tensors(checkpoint, separate):
        if devices[part] != placement.device:
            continue
        dtype = placement.vae_dtype if part == "vae" else placement.dtype
        rounded = part != "vae" and placement.storage == "fp8" and "norm" not in name and "embed" not in name
        as_stored = part == "text" and placement.storage == "file" and _stays_mapped(tensor, devices[part])
        kept = tensor.offsets[1] - tensor.offsets[0] if as_stored else kept_bytes(tensor, dtype, rounded=rounded)
        found[part] = found.get(part, 0) + kept
        if as_stored:
            continue
        # Only the CPU computes from a mapped file; Apple's GPUs have its memory, but copies of their own
        in_file = devices[part].type == "cpu" and kept == tensor.offsets[1] - tensor.offsets[0]
        fresh += 0 if in_file and tensor.dtype not in _FLOATS - {_NAMES.get(dtype)} else kept
    return Weights(parts=found, fresh=fresh)


def _stays_mapped(tensor: TensorInfo, device: torch.device) -> bool:
    """Whether a text encoder computes with a weight straight from the file, whatever its dtype: T5 and Qwen do so on
    the CPU, CLIP, which is at most 1280 wide, does not (see `modules.backbones.encoders.loading`)."""
    return device.type == "cpu" and len(tensor.shape) == 2 and min(tensor.shape) > CLIP_WIDTH


def _tensors(checkpoint: Header, separate: Mapping[str, Header]) -> Iterator[tuple[str, TensorInfo, PartName]]:
    for name, tensor in checkpoint.tensors.items():
        part = part_of(name)
        if part is not None and not (part == "vae" and "vae" in separate):
            yield name, tensor, part
    for component, header in separate.items():
        role: PartName = "vae" if component == "vae" else "text"
        # A whole checkpoint may be chosen for its VAE or its text encoder
        whole = any(part_of(name) == role for name in header.tensors)
        for name, tensor in header.tensors.items():
            if not whole or part_of(name) == role:
                yield name, tensor, role


def part_devices(placement: Placement) -> Mapping[PartName, torch.device]:
    """Where each part computes."""
    return {"text": placement.text_device, "denoiser": placement.unet_device, "vae": placement.vae_device}


def part_of(name: str) -> PartName | None:
    """The part that a checkpoint's tensor belongs to, by its name; None for what no model needs."""
    if name.startswith(_NOTHING):
        return None
    if name.startswith(_TEXT):
        return "text"
    return "vae" if name.startswith(_VAE) else "denoiser"


def kept_bytes(tensor: TensorInfo, dtype: torch.dtype, *, rounded: bool = False) -> int:
    """Bytes of a tensor as it will be kept. rounded: linear layers in 8 bits."""
    values = math.prod(tensor.shape)
    linear = len(tensor.shape) == 2
    if tensor.dtype not in _FLOATS:
        in_file = tensor.offsets[1] - tensor.offsets[0]
        # Whole numbers are packed weights; 8-bit floats stay as they are in linear layers only
        unpacked = tensor.dtype.startswith("F8") and not linear
        return values * dtype.itemsize if unpacked else in_file
    return values if rounded and linear else values * dtype.itemsize


def needs_of(info: ModelInfo, parts: Mapping[PartName, int], work: Work, placement: Placement) -> Needs:
    """What making `work` with a model takes. parts: bytes of its weights on the device."""
    itemsize, at_vae = placement.dtype.itemsize, placement.vae_dtype.itemsize
    picture = work.latent_pixels * DOWNSCALE**2
    side = TILE * DOWNSCALE
    # Tiles come one after another; their pixels are kept, three values each, and joined
    fixed = FIXED_CPU if placement.device.type == "cpu" else FIXED
    tile = decode_values(info) * min(picture, side * side) * at_vae + 4 * 3 * picture * at_vae
    return Needs(
        parts=parts,
        activations=_with_margin(work.rows * pass_values(info, work) * itemsize, fixed),
        decode=_with_margin(decode_values(info) * picture * at_vae, fixed),
        tiled=_with_margin(min(tile, decode_values(info) * picture * at_vae), fixed),
    )


def pass_values(info: ModelInfo, work: Work) -> float:
    """Values that are there at once at the peak of a pass of one row."""
    unet = info.config.get("unet")
    if unet:
        return work.latent_pixels * _unet_values(unet)
    config = info.config.get("transformer", {})
    per_channel = TOKEN_VALUES.get(info.family, OTHER_TOKEN_VALUES)
    patch = _number(config.get("patch_size"), 2)
    # Flux's configuration calls the patches, which it is given, its pixels
    patch = 2 if patch == 1 else patch
    return (work.latent_pixels / patch**2 + work.tokens) * _width(config) * per_channel


def decode_values(info: ModelInfo) -> float:
    """Values per pixel of a picture at the peak of its decoding."""
    # Where the VAE is a file of its own, the family tells which kind it is; all of a kind have the same dimensions
    config = info.config.get("vae") or ({"base_dim": 96} if info.family == "qwen_image" else {})
    if base := config.get("base_dim"):
        return 18.0 * _number(base, 96)
    channels: list[int] = list(config.get("block_out_channels") or (128, 256, 512, 512))
    wider = [*channels[1:], 0]
    return max(
        (4.0 * fine + coarse) / 4.0**level for level, (fine, coarse) in enumerate(zip(channels, wider, strict=True))
    )


def _unet_values(config: Mapping[str, Any]) -> float:
    channels: Sequence[int] = config.get("block_out_channels") or (320, 640, 1280, 1280)
    kinds: Sequence[str] = config.get("down_block_types") or ["CrossAttn"] * len(channels)
    attends = ["Attn" in kind for kind in kinds]
    return max(
        wide * (ATTENDING if attending else RESIDUAL) / 4.0**level
        for level, (wide, attending) in enumerate(zip(channels, attends, strict=True))
    )


def _width(config: Mapping[str, Any]) -> float:
    for name in ("dim", "hidden_size", "inner_dim"):
        if config.get(name):
            return _number(config[name], UNKNOWN_WIDTH)
    heads, size = config.get("num_attention_heads"), config.get("attention_head_dim")
    return heads * size if isinstance(heads, int) and isinstance(size, int) else UNKNOWN_WIDTH


def _number(value: Any, default: float) -> float:
    value = value[-1] if isinstance(value, list | tuple) and value else value
    return float(value) if isinstance(value, int | float) and value > 0 else default


def _with_margin(count: float, fixed: int) -> int:
    return int(count * MARGIN) + fixed
