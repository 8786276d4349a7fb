"""Every network of every family in mode "low", on a device of which only shapes are known.

An operation of tensors on two devices is refused there: a weight that stays at home while its layer computes is found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from modules.backbones.offload import Turns
from modules.core.job import MemoryMode
from tests import tiny_dits, tiny_qwens

META = torch.device("meta")
PATCHES, TOKENS = 16, 6


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device=META)


def tokens() -> Tensor:
    return torch.zeros(1, TOKENS, device=META, dtype=torch.long)


def flux() -> tuple[nn.Module, Callable[[Any], object]]:
    return tiny_dits.tiny_flux(), lambda net: net(
        hidden_states=empty(1, PATCHES, net.config.in_channels),
        encoder_hidden_states=empty(1, TOKENS, net.config.joint_attention_dim),
        pooled_projections=empty(1, net.config.pooled_projection_dim), timestep=empty(1), guidance=empty(1),
        img_ids=empty(PATCHES, 3), txt_ids=empty(TOKENS, 3),
    )  # fmt: skip


def chroma() -> tuple[nn.Module, Callable[[Any], object]]:
    return tiny_dits.tiny_chroma(), lambda net: net(
        hidden_states=empty(1, PATCHES, net.config.in_channels),
        encoder_hidden_states=empty(1, TOKENS, net.config.joint_attention_dim), timestep=empty(1),
        img_ids=empty(PATCHES, 3), txt_ids=empty(TOKENS, 3),
    )  # fmt: skip


def sd3() -> tuple[nn.Module, Callable[[Any], object]]:
    return tiny_dits.tiny_sd3(), lambda net: net(
        hidden_states=empty(1, net.config.in_channels, 8, 8),
        encoder_hidden_states=empty(1, TOKENS, net.config.joint_attention_dim),
        pooled_projections=empty(1, net.config.pooled_projection_dim), timestep=empty(1),
    )  # fmt: skip


def qwen_image() -> tuple[nn.Module, Callable[[Any], object]]:
    return tiny_qwens.tiny_qwen_image(), lambda net: net(
        hidden_states=empty(1, PATCHES, net.config.in_channels),
        encoder_hidden_states=empty(1, TOKENS, net.config.joint_attention_dim),
        encoder_hidden_states_mask=torch.ones(1, TOKENS, device=META, dtype=torch.bool), timestep=empty(1),
        img_shapes=[[(1, 4, 4)]],
    )  # fmt: skip


def z_image() -> tuple[nn.Module, Callable[[Any], object]]:
    return tiny_qwens.tiny_z_image(), lambda net: net(
        [empty(tiny_qwens.LATENT, 1, 8, 8)], empty(1), [empty(TOKENS, tiny_qwens.WIDTH)]
    )


def unet() -> tuple[nn.Module, Callable[[Any], object]]:
    """Small, with SDXL's further inputs."""
    net = UNet2DConditionModel(
        block_out_channels=(8, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=1, norm_num_groups=4,
        attention_head_dim=2, cross_attention_dim=8, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=4 * 6 + 8,
    )  # fmt: skip
    return net, lambda net: net(
        empty(1, 4, 8, 8), empty(1), encoder_hidden_states=empty(1, TOKENS, 8),
        added_cond_kwargs={"text_embeds": empty(1, 8), "time_ids": empty(1, 6)},
    )  # fmt: skip


def vae() -> tuple[nn.Module, Callable[[Any], object]]:
    return tiny_dits.tiny_vae(), lambda net: (net.decode(empty(1, 16, 4, 4)), net.encode(empty(1, 3, 32, 32)))


def qwen_vae() -> tuple[nn.Module, Callable[[Any], object]]:
    return tiny_qwens.tiny_qwen_vae(), lambda net: (
        net.decode(empty(1, 16, 1, 4, 4)), net.encode(empty(1, 3, 1, 32, 32))
    )  # fmt: skip


def clip() -> tuple[nn.Module, Callable[[Any], object]]:
    return tiny_dits.tiny_clip(8, projected=True), lambda net: net(tokens(), output_hidden_states=True)


def t5() -> tuple[nn.Module, Callable[[Any], object]]:
    return tiny_dits.tiny_t5(), lambda net: net(tokens())


def qwen3() -> tuple[nn.Module, Callable[[Any], object]]:
    return tiny_qwens.tiny_qwen3(), lambda net: net(tokens())


BUILDERS = (unet, flux, chroma, sd3, qwen_image, z_image, vae, qwen_vae, clip, t5, qwen3)


@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")
@pytest.mark.parametrize("mode", ["medium", "low"])
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_all_weights_come_to_where_they_compute(
    build: Callable[[], tuple[nn.Module, Callable[[Any], object]]], mode: MemoryMode
) -> None:
    network, run = build()
    network = network.eval().requires_grad_(False)
    turns = Turns(META, mode)
    turns.add(network)
    with torch.inference_mode():
        for _ in range(2):  # the second time the next layers come ahead
            run(network)
    assert turns.bytes_there > 0 or mode == "low"
    turns.close()
    assert {value.device.type for value in network.parameters()} == {"cpu"}
