"""The starter's three networks: Stable Diffusion 1's classes and head counts at a fraction of the widths."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

SIZE = 128  # pixels: the native size
DOWNSCALE = 8
TEXT_WIDTH = 96
UNET: dict[str, Any] = {
    "sample_size": SIZE // DOWNSCALE, "in_channels": 4, "out_channels": 4, "layers_per_block": 1,
    "block_out_channels": [64, 128, 192],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": TEXT_WIDTH, "attention_head_dim": 8, "norm_num_groups": 32,
}  # fmt: skip
VAE: dict[str, Any] = {
    "sample_size": SIZE, "in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 1,
    "block_out_channels": [64, 64, 96, 128], "norm_num_groups": 32, "scaling_factor": 0.18215,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": TEXT_WIDTH, "projection_dim": TEXT_WIDTH, "intermediate_size": 4 * TEXT_WIDTH,
    "num_hidden_layers": 3, "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
}  # fmt: skip


def autoencoder() -> AutoencoderKL:
    """A fresh VAE. Fan-in scaled weights, silent residual branches and little posterior noise."""
    vae = AutoencoderKL(**VAE)
    for name, value in vae.named_parameters():
        _begin(name, value, silent=("conv2.", "to_out.", "decoder.conv_out."))
    with torch.no_grad():
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -4
    return vae


class Drawer(nn.Module):
    """Text encoder and UNet as they are trained, together. tokens: rows of the table, the last for unknown words."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        config = CLIPTextConfig(**TEXT, vocab_size=tokens, bos_token_id=0, eos_token_id=1, pad_token_id=1)
        self.text = CLIPTextModel(config)
        self.unet = UNet2DConditionModel(**UNET)
        for name, value in self.unet.named_parameters():
            _begin(name, value, silent=("conv2.", "conv_out.", "proj_out."))
        _let_text_in(self.text, self.unet)

    def forward(self, x: Tensor, times: Tensor, ids: Tensor) -> Tensor:
        """The noise in x, (N, 4, h, w), at timesteps (N,), for texts of token numbers (N, 77)."""
        hidden = self.text(input_ids=ids).last_hidden_state
        answer: Tensor = self.unet(x, times, encoder_hidden_states=hidden).sample
        return answer.float()


def _begin(name: str, value: Tensor, *, silent: tuple[str, ...]) -> None:
    with torch.no_grad():
        if any(part in name for part in silent):
            value.zero_()
        elif value.ndim >= 2:
            value.normal_(0, (1 / value[0].numel()) ** 0.5)
        elif name.endswith("bias"):
            value.zero_()


FLAG = 2.5
NORMED_FLAG = FLAG / ((0.25 * (TEXT_WIDTH - 1) + FLAG**2) / TEXT_WIDTH) ** 0.5  # behind a layer norm
TURN = 4.0


def _let_text_in(text: CLIPTextModel, unet: UNet2DConditionModel) -> None:
    """A start from which captions reach the UNet at once: else seventy padding tokens drown a caption of six.

    The first dimension of a token's code flags begin and padding, and attention begins by turning away from the flag:
    its logits there are about -TURN. It is a start, and training goes on from it.
    """
    generator = torch.Generator().manual_seed(5)
    core = getattr(text, "text_model", text)  # transformers < 5.6 keeps the layers one level down
    with torch.no_grad():
        codes, places = core.embeddings.token_embedding.weight, core.embeddings.position_embedding.weight
        codes.normal_(0, 0.5, generator=generator)
        places.normal_(0, 0.1, generator=generator)
        codes[:, 0] = places[:, 0] = 0
        codes[-1] *= 0.3  # unknown words say little
        codes[0, 0] = codes[1, 0] = FLAG
        for layer in core.encoder.layers:
            attention, heads = layer.self_attn, TEXT["num_attention_heads"]
            width = TEXT_WIDTH // heads
            asked = torch.sign(torch.randn(TEXT_WIDTH, generator=generator))
            attention.q_proj.bias.copy_(asked)
            attention.k_proj.weight[:, 0] = -asked * TURN / (width * NORMED_FLAG * width**-0.5)
        for name, block in unet.named_modules():
            if name.endswith("transformer_blocks.0"):
                _turn_from_flag(block.attn2, block.norm2, generator)


def _turn_from_flag(attention: Any, norm: Any, generator: torch.Generator) -> None:
    channels, heads = norm.bias.numel(), attention.heads
    width = channels // heads
    norm.bias.copy_(torch.randn(channels, generator=generator) * 0.5)
    asked = attention.to_q.weight @ norm.bias
    for layer in (attention.to_k, attention.to_v):
        layer.weight.normal_(0, (1 / TEXT_WIDTH) ** 0.5, generator=generator)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        query = asked[part]
        attention.to_k.weight[part, 0] = -query * TURN / ((query @ query) * 0.7 * NORMED_FLAG * width**-0.5)
