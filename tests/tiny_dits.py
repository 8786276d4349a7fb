"""Very small transformers of flow models with random weights, and the parts around them.

Widths are as small as the classes allow; all that a family is told by (names, channels, layouts) is as in real files.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ChromaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
)
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedModel,
    T5Config,
    T5EncoderModel,
)

from tests import original

CLIP_L, CLIP_G, T5 = 8, 12, 24  # widths of text encoders
HEADS, HEAD = 2, 16
LATENT = 16
AXES = (8, 4, 4)


def tiny_flux(*, dev: bool = True, channels: int = LATENT) -> FluxTransformer2DModel:
    """channels: of the latent and what is beside it."""
    return _ready(
        FluxTransformer2DModel(
            in_channels=channels * 4,
            out_channels=LATENT * 4,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=HEAD,
            num_attention_heads=HEADS,
            joint_attention_dim=T5,
            pooled_projection_dim=CLIP_L,
            guidance_embeds=dev,
            axes_dims_rope=AXES,
        )
    )


def tiny_chroma() -> ChromaTransformer2DModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a name that diffusers itself still uses
        model = ChromaTransformer2DModel(
            in_channels=LATENT * 4,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=HEAD,
            num_attention_heads=HEADS,
            joint_attention_dim=T5,
            axes_dims_rope=AXES,
            approximator_hidden_dim=32,
            approximator_layers=2,
        )
    return _ready(model)


def tiny_sd3(*, version: str = "3.5") -> SD3Transformer2DModel:
    """version "3.5": with norms of queries and keys and a layer of two attentions, as 3.5 medium; "3": without."""
    newer: dict[str, Any] = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)} if version == "3.5" else {}
    return _ready(
        SD3Transformer2DModel(
            sample_size=16,
            in_channels=LATENT,
            num_layers=2,
            attention_head_dim=HEAD,
            num_attention_heads=HEADS,
            joint_attention_dim=T5,
            caption_projection_dim=HEADS * HEAD,
            pooled_projection_dim=CLIP_L + CLIP_G,
            out_channels=LATENT,
            pos_embed_max_size=12,
            **newer,
        )
    )


def tiny_vae(scaling: float = 0.3611, shift: float = 0.1159) -> AutoencoderKL:
    """Flux's by its numbers, SD3's by (1.5305, 0.0609)."""
    return _ready(
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 4, 8, 8),
            layers_per_block=1,
            latent_channels=LATENT,
            norm_num_groups=4,
            scaling_factor=scaling,
            shift_factor=shift,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    )


def tiny_clip(width: int, *, projected: bool = False) -> PreTrainedModel:
    """CLIP-L by CLIP_L, and by CLIP_G one like OpenCLIP's bigG."""
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=width * 4,
        num_attention_heads=2,
        num_hidden_layers=3,
        projection_dim=width,
        hidden_act="gelu" if width == CLIP_G else "quick_gelu",
    )
    return _ready(CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config))


def tiny_t5(width: int = T5) -> T5EncoderModel:
    """T5 v1.1 with its true vocabulary."""
    return _ready(
        T5EncoderModel(
            T5Config(
                vocab_size=32128,
                d_model=width,
                d_kv=8,
                d_ff=32,
                num_layers=2,
                num_heads=2,
                feed_forward_proj="gated-gelu",
            )
        )
    )


def flow_euler(**config: Any) -> FlowMatchEulerDiscreteScheduler:
    """Euler with the levels that it is given: no shift of its own."""
    return FlowMatchEulerDiscreteScheduler(**config)


def _ready(model: Any) -> Any:
    """In evaluation mode, with weights that let every part have its say: none is zero or one."""
    generator = torch.Generator().manual_seed(len(list(model.parameters())))
    with torch.no_grad():
        for name, value in model.named_parameters():
            drawn = torch.randn(value.shape, generator=generator)
            if value.dim() > 1:
                embeds = isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding)
                value.copy_(drawn if embeds else drawn * value[0].numel() ** -0.5)
            else:
                value.copy_(0.1 * drawn + (1.0 if name.endswith("weight") else 0.0))
    return model.eval().requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """The networks of one model, for diffusers' pipelines and for files. parts: by diffusers' names of components."""

    family: str
    parts: Mapping[str, Any]
    scheduler: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.parts[name]

    def write(self, path: Path, *, without: Collection[str] = (), dtype: torch.dtype = torch.float32) -> Path:
        """As one file in the layouts that the networks were published in, as ComfyUI packs them together."""
        tensors: dict[str, Tensor] = {}
        for name, module in self.parts.items():
            if name not in without:
                prefix, convert = _PACKED[self.family, name]
                tensors |= {prefix + key: value for key, value in convert(module.state_dict()).items()}
        plain = {key: value.to(dtype).contiguous().clone() for key, value in tensors.items()}
        save_file(plain, path, metadata={"format": "pt", "config": json.dumps(self._told())})
        return path

    def write_part(self, folder: Path, name: str) -> Path:
        """One network as a file of its own, `name`.safetensors, in the layout in which such files are spread."""
        prefix, convert = _PACKED[self.family, name]
        tensors = {
            prefix + key: value.contiguous().clone() for key, value in convert(self.parts[name].state_dict()).items()
        }
        told = self._told().get(name, {})
        component = "text_encoder" if name.startswith("text_encoder") else name
        path = folder / f"{name}.safetensors"
        save_file(tensors, path, metadata={"format": "pt", "config": json.dumps({component: told})})
        return path

    def write_folder(self, folder: Path) -> Path:
        """As a folder in diffusers' layout; returns its model_index.json."""
        index: dict[str, Any] = {"_class_name": _PIPELINES[self.family]}
        for name, module in self.parts.items():
            module.save_pretrained(folder / name)
            library = "diffusers" if name in ("transformer", "vae") else "transformers"
            index[name] = [library, type(module).__name__]
        scheduler = flow_euler(**self.scheduler)
        scheduler.save_pretrained(folder / "scheduler")
        index["scheduler"] = ["diffusers", type(scheduler).__name__]
        (folder / "model_index.json").write_text(json.dumps(index))
        return folder / "model_index.json"

    def _told(self) -> dict[str, Any]:
        """What shapes do not tell of such small networks."""
        network = {"attention_head_dim": HEAD} if self.family == "sd3" else {"axes_dims_rope": AXES}
        told: dict[str, Any] = {"vae": {"norm_num_groups": 4}, "transformer": network}
        for name, module in self.parts.items():
            if name.startswith("text_encoder"):
                heads = {"num_attention_heads": 2} if isinstance(module.config, CLIPTextConfig) else {}
                told[name] = heads
        return told


def tiny_model(family: str, **choices: Any) -> TinyModel:
    """family: "flux", "chroma" or "sd3"; choices: of its transformer."""
    flux_vae, t5 = tiny_vae(), tiny_t5()
    if family == "flux":
        dynamic = {"use_dynamic_shifting": True, "shift": 3.0} if choices.get("dev", True) else {"shift": 1.0}
        parts = {"text_encoder": tiny_clip(CLIP_L), "text_encoder_2": t5, "vae": flux_vae}
        return TinyModel(family=family, parts={"transformer": tiny_flux(**choices), **parts}, scheduler=dynamic)
    if family == "chroma":
        parts = {"transformer": tiny_chroma(), "text_encoder": t5, "vae": flux_vae}
        return TinyModel(family=family, parts=parts, scheduler={"shift": 1.0})
    parts = {
        "transformer": tiny_sd3(**choices),
        "text_encoder": tiny_clip(CLIP_L, projected=True),
        "text_encoder_2": tiny_clip(CLIP_G, projected=True),
        "text_encoder_3": t5,
        "vae": tiny_vae(1.5305, 0.0609),
    }
    return TinyModel(family=family, parts=parts, scheduler={"shift": 3.0})


def _transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's weights under the names that files have: transformers 5.6 took the level of `text_model` out of some."""
    outer = ("text_model.", "text_projection.")
    return {name if name.startswith(outer) else f"text_model.{name}": value for name, value in state.items()}


def _t5(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name != "encoder.embed_tokens.weight"}


_DENOISER = "model.diffusion_model."
_PACKED: Mapping[tuple[str, str], tuple[str, Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]]] = {
    ("flux", "transformer"): (_DENOISER, original.flux),
    ("flux", "text_encoder"): ("text_encoders.clip_l.transformer.", _transformers),
    ("flux", "text_encoder_2"): ("text_encoders.t5xxl.transformer.", _t5),
    ("flux", "vae"): ("vae.", original.vae),
    ("chroma", "transformer"): (_DENOISER, original.flux),
    ("chroma", "text_encoder"): ("text_encoders.t5xxl.transformer.", _t5),
    ("chroma", "vae"): ("vae.", original.vae),
    ("sd3", "transformer"): (_DENOISER, original.sd3),
    ("sd3", "text_encoder"): ("text_encoders.clip_l.transformer.", _transformers),
    ("sd3", "text_encoder_2"): ("text_encoders.clip_g.transformer.", _transformers),
    ("sd3", "text_encoder_3"): ("text_encoders.t5xxl.transformer.", _t5),
    ("sd3", "vae"): ("first_stage_model.", original.vae),
}
_PIPELINES = {"flux": "FluxPipeline", "chroma": "ChromaPipeline", "sd3": "StableDiffusion3Pipeline"}
