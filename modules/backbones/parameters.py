"""One parameter at a time: cut from the file's tensor, fitted to its layer, and put where it is to be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from modules.backbones.packed import fp8
from modules.backbones.packed.linear import PackedLinear
from modules.backbones.packed.values import Packed
from modules.backbones.upload import Upload
from modules.core.checkpoint import Source
from modules.core.errors import CorruptCheckpoint
from modules.diffusion.arena import Arena

Storage = Literal["file", "compute", "fp8"]
"""How the weights of linear layers are kept; those of other layers are always unpacked as they are loaded.

"file": packed where the file packs them. "compute": all unpacked, which computes faster and takes more memory. "fp8":
packed ones stay packed, the others are rounded to 8 bits (float8_e4m3fn), except where that shows: norms, embeddings,
first and last layers, and values beyond that type's largest.
"""

# Layers that stay whole in "fp8": those of diffusers' layerwise casting (DEFAULT_SKIP_MODULES_PATTERN, and each model's
# own list), and everything that embeds, which costs little memory and is seen in every pixel
KEPT_WHOLE = ("embed", "norm", r"^proj_in$", r"^proj_out$", r"^(img|txt)_in$", "final_layer", "lm_head", "projection")

FP8_DEVICES = ("cpu", "cuda", "xpu", "meta")  # Apple's know no such type


@dataclass
class Places:
    """Where the parameters of a model go. arena: memory for what cannot be a view of the file."""

    device: torch.device
    dtype: torch.dtype
    arena: Arena | None = None
    _upload: Upload | None = field(default=None, init=False)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Host memory for a tensor."""
        return self.arena.empty(shape, dtype) if self.arena else torch.empty(shape, dtype=dtype)

    def move(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The tensor on the device, in `dtype` (its own by default); itself where that is so."""
        dtype = dtype or tensor.dtype
        if self.device.type != "cpu":
            if self.arena is None:
                return tensor.to(device=self.device, dtype=dtype)
            self._upload = self._upload or Upload(self.device, Arena(self.arena.pool))  # goes back at the end
            return self._upload.send(tensor, dtype)
        return tensor if tensor.dtype == dtype else self.empty(tuple(tensor.shape), dtype).copy_(tensor)

    def values(self, value: Tensor | Packed) -> Tensor:
        """The values on the device, in the dtype of computing."""
        if isinstance(value, Tensor):
            return self.move(value, self.dtype)
        if self.unpacks(value) and self.device.type != "cpu":
            return value.moved(self.move).unpack(self.dtype)  # fewer bytes to send
        if self.device.type != "cpu":
            return self.move(value.unpack(self.dtype))
        return value.unpack(self.dtype, out=self.empty(value.shape, self.dtype))

    def unpacks(self, value: Packed | None = None) -> bool:
        """Whether the device computes with values of this packing; with fp8 where none is given."""
        return not (value is None or isinstance(value.packing, fp8.Fp8)) or self.device.type in FP8_DEVICES

    def swapped(self, tensor: Tensor) -> Tensor:
        """The tensor with the halves of its first dimension exchanged."""
        first, second = tensor.chunk(2)
        return torch.cat((second, first), out=self.empty(tuple(tensor.shape), tensor.dtype))

    def finish(self) -> None:
        """Wait for what is on its way to the device."""
        if self._upload:
            self._upload.finish()
            self._upload = None


def cut(value: Tensor | Packed, part: Source, places: Places, file: str) -> Tensor | Packed:
    """What `part` says of a file's tensor. Packed rows that are no whole blocks, and packed tensors that are turned
    around, come unpacked. Raises CorruptCheckpoint where there are too few rows."""
    if part.rows:
        start, stop = part.rows
        if stop > value.shape[0]:
            raise CorruptCheckpoint(
                f"{file}: {part.name} has the shape {list(value.shape)} where rows {start} to {stop} are needed."
            )
        if isinstance(value, Packed):
            value = value.rows(start, stop) or value.unpack(places.dtype)[start:stop]
        else:
            value = value[start:stop]
    if part.change:
        value = value.unpack(places.dtype) if isinstance(value, Packed) else value
        if value.dim() < 1 or (part.change == "transpose" and value.dim() != 2):
            raise CorruptCheckpoint(f"{file}: {part.name} has the shape {list(value.shape)} and cannot be turned.")
        return value.t() if part.change == "transpose" else places.swapped(value)
    return value


def check_shape(value: Tensor | Packed, shape: tuple[int, ...], what: str) -> None:
    """Raise CorruptCheckpoint where the values do not have the shape, sides of one aside: a 1 x 1 convolution may be a
    linear layer in diffusers. what: file and tensor, for the message."""
    if [side for side in value.shape if side != 1] != [side for side in shape if side != 1]:
        raise CorruptCheckpoint(f"{what} has the shape {list(value.shape)} where {list(shape)} belongs.")


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Name -> layer where the weight may stay packed: nn.Linear itself, since subclasses may use theirs otherwise."""
    return {name: layer for name, layer in model.named_modules() if name and type(layer) is nn.Linear}


def kept_packed(
    layer: nn.Linear, name: str, value: Tensor | Packed, keep_whole: Sequence[str] | None, places: Places
) -> Packed | None:
    """The weight of a linear layer as it is to be kept, on its device, if that is packed.

    name: of the layer within its model. keep_whole: patterns of layers that are not rounded to 8 bits; None: none is.
    """
    shape = (layer.out_features, layer.in_features)
    if isinstance(value, Packed):
        if not places.unpacks(value):
            return None
        return replace(value.moved(places.move), shape=shape)
    if keep_whole is None or not places.unpacks() or any(re.search(pattern, name) for pattern in keep_whole):
        return None
    low, high = (float(end) for end in value.aminmax())
    if not -fp8.LARGEST <= low <= high <= fp8.LARGEST:  # would become NaN
        return None
    kind, value = fp8.STORED[0], value.reshape(shape)
    return fp8.plain(places.move(value, kind) if places.device.type == "cpu" else places.move(value).to(kind))


def never_rounded(model: nn.Module) -> tuple[str, ...]:
    """Patterns of the layers of `model` that stay whole in "fp8"."""
    return (*KEPT_WHOLE, *(getattr(model, "_skip_layerwise_casting_patterns", None) or ()))


def put_packed(model: nn.Module, name: str, packed: Packed, dtype: torch.dtype) -> dict[str, Tensor]:
    """Put a `PackedLinear` in the place of layer `name`; returns its own parameters, under their names in `model`."""
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    plain = owner.get_submodule(leaf)
    new = PackedLinear(packed, plain.get_parameter("bias") if plain.bias is not None else None, dtype)
    setattr(owner, leaf, new.eval())
    return {f"{name}.{own}": parameter for own, parameter in new.named_parameters() if own != "bias"}
