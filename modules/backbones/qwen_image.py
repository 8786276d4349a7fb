"""Qwen-Image (Alibaba 2025): double blocks throughout, under the language part of Qwen2.5-VL.

Its authors bring the guided prediction back to the length of the prompt's own, patch by patch; guidance here is plain,
as in ComfyUI, and that is what CFG rescale does in its form 3 with a phi of 1.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from diffusers import QwenImageTransformer2DModel
from torch import Tensor, nn

from modules.backbones.encoders.qwen import QwenEncoder
from modules.backbones.loaded import Built
from modules.backbones.loading import Assembly
from modules.backbones.qwen_texts import ReadByQwen
from modules.backbones.transformer import Seen, packed, unpacked
from modules.core.checkpoint import ModelInfo, Separate
from modules.diffusion.backbone import Placement, backbone
from modules.families.layouts.parts import TEXT
from modules.families.qwen_image import qwen_image as family
from modules.prompting.qwen import QWEN_IMAGE

# The authors' numbers; those of Lightning, which was distilled at one shift
SCHEDULER = MappingProxyType(
    {
        "use_dynamic_shifting": True,
        "base_shift": 0.5,
        "max_shift": 0.9,
        "max_image_seq_len": 8192,
        "shift_terminal": 0.02,
    }
)
LIGHTNING = MappingProxyType({"shift": 3.0})


class QwenImage(ReadByQwen):
    """A loaded Qwen-Image checkpoint: the engine's `Backbone`."""

    scheduler: Mapping[str, Any] = SCHEDULER

    def __init__(self, built: Built, *, text: QwenEncoder) -> None:
        super().__init__(built, text=text)
        if self.info.variant == "lightning":
            self.scheduler = LIGHTNING

    def _predict(self, seen: Seen) -> Tensor:
        height, width = seen.x.shape[-2:]
        output = self._transformer(
            hidden_states=packed(seen.x),
            timestep=seen.times,
            encoder_hidden_states=seen.tokens,
            encoder_hidden_states_mask=seen.mask,
            img_shapes=[[(1, height // 2, width // 2)]] * len(seen.x),
            return_dict=False,
        )[0]
        return unpacked(output, height, width)


@backbone("qwen_image")
def qwen_image(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> QwenImage:
    """Load a Qwen-Image checkpoint. Raises CheckpointError."""
    assembly = Assembly(family, info, separate, placement)
    transformer = assembly.denoiser(QwenImageTransformer2DModel, _build)
    transformer.pos_embed = _places(tuple(transformer.config.axes_dims_rope))
    text = assembly.qwen(TEXT, kind="qwen2_5_vl", template=QWEN_IMAGE)
    assembly.check_width({TEXT: text.width}, transformer.config.joint_attention_dim)
    vae = assembly.qwen_autoencoder()
    return QwenImage(assembly.built(transformer, vae, qwen_image.load), text=text)


def _build(config: Mapping[str, Any]) -> QwenImageTransformer2DModel:
    return QwenImageTransformer2DModel(**config)


@functools.cache
def _places(axes: tuple[int, ...]) -> nn.Module:
    """The rotary embedding, which has no weights: one for all models, as diffusers never forgets what one computed."""
    width = sum(axes)
    small = QwenImageTransformer2DModel(
        num_layers=0, attention_head_dim=width, num_attention_heads=1, joint_attention_dim=1, axes_dims_rope=axes
    )
    places: nn.Module = small.pos_embed
    return places
