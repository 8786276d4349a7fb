"""Very small networks of Stable Diffusion's kinds with random weights, in diffusers' and transformers' own classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from diffusers import AutoencoderKL, EDMEulerScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from modules.core.checkpoint import ModelInfo
from modules.core.sampling import LAST_ALPHA_BAR
from modules.diffusion.backbone import Placement
from modules.prompting.clip import merges, vocabulary

CPU = torch.device("cpu")
FP32 = Placement(
    device=CPU, dtype=torch.float32, vae_dtype=torch.float32, text_device=CPU, unet_device=CPU, vae_device=CPU
)
GROUPS = 4
L, H, G = 16, 16, 24  # widths of the text encoders, whatever their real ones
POOLED = 20
MEAN, DEVIATION = (-1.5, 1.75, -1.25, 2.5), (8.5, 6.0, 6.5, 5.25)  # of latents, near Playground v2.5's
EDM = {
    "playground": {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5},
    "cosxl": {"sigma_min": 0.002, "sigma_max": 120.0, "sigma_data": 1.0},
}
FEW = MappingProxyType({"bos_token_id": 49406, "eos_token_id": 49407})


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of checkpoint. texts: component -> which encoder; beside: channels that the UNet sees beside the latent.

    numbers: how many an SDXL UNet is told of the picture's size and looks, 0 for the others. edm: "playground" or
    "cosxl", trained on EDM's noise levels. guided: the UNet takes its guidance as an input, as LCM's do. pruned: the
    middle and some transformer blocks are gone, as of SSD-1B and Vega.
    """

    name: str
    family: str
    texts: tuple[tuple[str, str], ...]
    prediction: str = "epsilon"
    variant: str = ""
    beside: int = 0
    numbers: int = 0
    zero_terminal_snr: bool = False
    edm: str = ""
    guided: bool = False
    pruned: bool = False


SD1 = Kind(name="sd1", family="sd1", texts=(("text_encoder", "clip_l"),))
SD2 = Kind(name="sd2", family="sd2", texts=(("text_encoder", "clip_h"),))
SDXL = Kind(name="sdxl", family="sdxl", texts=(("text_encoder", "clip_l"), ("text_encoder_2", "clip_g")), numbers=6)
KINDS = (
    SD1,
    replace(SD1, name="sd1-v", prediction="v"),
    replace(SD1, name="sd1-guided", guided=True),
    replace(SD1, name="sd1-inpaint", variant="inpaint", beside=5),
    replace(SD1, name="sd1-pix2pix", variant="pix2pix", beside=4),
    SD2,
    replace(SD2, name="sd2-v", prediction="v"),
    replace(SD2, name="sd2-inpaint", variant="inpaint", beside=5),
    SDXL,
    replace(SDXL, name="sdxl-v-zero", prediction="v", zero_terminal_snr=True),
    replace(SDXL, name="sdxl-playground", prediction="edm", edm="playground"),
    replace(SDXL, name="sdxl-cosxl", prediction="v", edm="cosxl"),
    replace(SDXL, name="sdxl-guided", guided=True),
    replace(SDXL, name="sdxl-pruned", pruned=True),
    replace(SDXL, name="sdxl-inpaint", variant="inpaint", beside=5),
    replace(SDXL, name="sdxl-pix2pix", variant="pix2pix", beside=4),
    replace(SDXL, name="sdxl-refiner", variant="refiner", texts=(("text_encoder_2", "clip_g"),), numbers=5),
)
WIDTHS = {"clip_l": L, "clip_h": H, "clip_g": G}


def networks(kind: Kind, seed: int = 0) -> dict[str, Any]:
    """Component -> network, in evaluation mode, float32."""
    torch.manual_seed(seed)
    found: dict[str, nn.Module] = {"unet": unet(kind), "vae": vae(kind)}
    found |= {component: text(encoder) for component, encoder in kind.texts}
    for network in found.values():
        network.eval().requires_grad_(False)
        for value in network.parameters():
            if value.dim() == 1:  # biases and norms begin at zero and one, which hides what is left out
                value.add_(0.1 * torch.randn(value.shape))
    # The spread of the VAE's posterior is all but nothing, so that what others draw from it is its mean
    moments: Any = found["vae"].quant_conv
    moments.bias[4:], moments.weight[4:] = -40.0, 0.0
    return found


def unet(kind: Kind) -> nn.Module:
    width = sum(WIDTHS[encoder] for _, encoder in kind.texts)
    config: dict[str, Any] = {
        "in_channels": 4 + kind.beside, "out_channels": 4, "sample_size": 8, "block_out_channels": (8, 16),
        "layers_per_block": 1, "cross_attention_dim": width, "attention_head_dim": 2, "norm_num_groups": GROUPS,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "use_linear_projection": kind.family != "sd1",
    }  # fmt: skip
    if kind.numbers:
        config |= {
            "addition_embed_type": "text_time", "addition_time_embed_dim": 4, "transformer_layers_per_block": [1, 2],
            "projection_class_embeddings_input_dim": POOLED + 4 * kind.numbers, "attention_head_dim": [2, 4],
        }  # fmt: skip
    if kind.guided:
        config["time_cond_proj_dim"] = 12
    if kind.pruned:
        config |= {
            "layers_per_block": 2, "mid_block_type": None, "transformer_layers_per_block": [1, [2, 1]],
            "reverse_transformer_layers_per_block": [[1, 2, 1], 1],
        }  # fmt: skip
    model: nn.Module = UNet2DConditionModel(**config)
    return model


def vae(kind: Kind) -> nn.Module:
    scaling = {"playground": 0.5, "cosxl": 0.13025}.get(kind.edm, 0.13025 if kind.family == "sdxl" else 0.18215)
    lies = {"latents_mean": MEAN, "latents_std": DEVIATION} if kind.edm == "playground" else {}
    model: nn.Module = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8), layers_per_block=1, norm_num_groups=GROUPS, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=scaling,
        **lies,
    )  # fmt: skip
    return model


def text(encoder: str) -> nn.Module:
    """`clip_h` has 23 layers of the 24 that it was trained with, as in diffusers' files."""
    width = WIDTHS[encoder]
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=23 if encoder == "clip_h" else 3,
        num_attention_heads=2, projection_dim=POOLED, hidden_act="quick_gelu" if encoder == "clip_l" else "gelu", **FEW,
    )  # fmt: skip
    made: nn.Module = CLIPTextModelWithProjection(config) if encoder == "clip_g" else CLIPTextModel(config)
    return made


def tokenizer(encoder: str) -> CLIPTokenizer:
    """transformers' own, with the bundled vocabulary. OpenCLIP fills up with the token of number 0, "!"."""
    pad = "<|endoftext|>" if encoder == "clip_l" else "!"
    return CLIPTokenizer(vocab=dict(vocabulary(merges())), merges=list(merges()), model_max_length=77, pad_token=pad)


def scheduler(kind: Kind) -> Any:
    """diffusers' Euler on evenly spaced timesteps, with the last level that is used here; EDM's on Karras' levels."""
    if kind.edm == "playground":
        return EDMEulerScheduler(sigma_max=80.0, sigma_data=0.5)
    if kind.edm:
        return EDMEulerScheduler(sigma_max=120.0, sigma_data=1.0, prediction_type="v_prediction")
    found = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace", steps_offset=1,
        prediction_type="v_prediction" if kind.prediction == "v" else "epsilon",
        rescale_betas_zero_snr=kind.zero_terminal_snr,
    )  # fmt: skip
    if kind.zero_terminal_snr:
        found.alphas_cumprod[-1] = LAST_ALPHA_BAR
    return found


def info(kind: Kind, networks: Mapping[str, Any]) -> ModelInfo:
    """The description that the file of these networks would have."""
    config = {name: dict(network.config if name in ("unet", "vae") else network.config.to_dict()) for name, network in
              networks.items()}  # fmt: skip
    config["scheduler"] = {"zero_terminal_snr": kind.zero_terminal_snr, **EDM.get(kind.edm, {})}
    return ModelInfo(
        name=kind.name, path=kind.name, family=kind.family, label=kind.name, supported=True, variant=kind.variant,
        prediction=kind.prediction, components=tuple(networks), config=config,
    )  # fmt: skip


def latent(height: int = 8, width: int = 8, rows: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(rows, 4, height, width, generator=torch.Generator().manual_seed(seed))
