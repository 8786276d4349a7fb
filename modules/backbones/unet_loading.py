"""How a Stable Diffusion model is put together: what its UNet and CLIPs have beside the parts of other models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import UNet2DConditionModel

from modules.backbones.encoders.clip import Chunker, ClipEncoder, Layer
from modules.backbones.loading import Assembly
from modules.backbones.upcast_attention import upcast_attention
from modules.core.checkpoint import ModelInfo, Separate
from modules.core.family import Family, Part
from modules.diffusion.backbone import Placement
from modules.families.layouts.parts import UNET, VAE


class UnetAssembly(Assembly):
    """A Stable Diffusion model while it is put together. Its text encoders are CLIPs, whose answers are joined."""

    def __init__(self, family: Family, info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> None:
        """See `Assembly`. Raises UnsupportedCheckpoint also where the text encoders do not fit the UNet."""
        super().__init__(family, info, separate, placement)
        self._texts = tuple(part.name for part in family.needs(info.variant) if part.name != VAE)
        widths = {name: int(self.config(name)["hidden_size"]) for name in self._texts}
        self.check_width(widths, info.config[UNET]["cross_attention_dim"])

    def fits(self, chosen: ModelInfo, part: Part) -> bool:
        """Whether a file of its own can be used for a part: any CLIP, as small UNets read other widths than those by
        which its kinds are told; whether the width is right is asked of all together."""
        return super().fits(chosen, part) or (part.name != VAE and chosen.variant.startswith("clip"))

    def unet(self, *, upcast: bool = False) -> UNet2DConditionModel:
        """The UNet, ready to compute. upcast: whether its attention in float16 needs float32's range, which the
        checkpoint may also say. Raises CheckpointError."""
        unet = self.denoiser(UNet2DConditionModel, _build, UNET)
        if upcast or unet.config.get("upcast_attention"):
            upcast_attention(unet, self.placement)
        return unet

    def readers(self, layers: Mapping[str, Layer], tokenizer: Chunker | None = None) -> tuple[ClipEncoder, ...]:
        """The text encoders, ready to compute, in the order in which they are joined.

        layers: which layer of each is read; of one that the model does without it is not used. tokenizer: see
        `load_clip`. Raises CheckpointError.
        """
        return tuple(
            self.clip(name, projected=True, layer=layers[name], tokenizer=tokenizer) for name in self._texts
        )  # fmt: skip


def _build(config: Mapping[str, Any]) -> UNet2DConditionModel:
    return UNet2DConditionModel(**config)
