"""Stable Diffusion 1: load a checkpoint into diffusers' UNet and VAE and transformers' CLIP, and compute with them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from modules.backbones.offload import OneAtATime, by_layer, release
from modules.backbones.perturbed import perturbed_attention
from modules.backbones.seamless import seamless as wrapping
from modules.backbones.weights import fill, map_tensors, skeleton, weight_bytes
from modules.backbones.wide_conv import widen
from modules.core.checkpoint import ModelInfo, Separate, read_header
from modules.core.errors import RequestError, UnsupportedCheckpoint
from modules.core.generation import Emphasis
from modules.core.operations import ModelKey, Text
from modules.core.sampling import NoiseLevels
from modules.diffusion.backbone import Batch, Placement, backbone
from modules.diffusion.parameterisation import scale_input, to_denoised
from modules.families.layouts.parts import TEXT, UNET, VAE, Parts, sort_parts, text_parts, vae_parts
from modules.prompting.clip import Chunk, ClipTokenizer

TILE = 64  # latent pixels: 512 x 512 picture pixels, which any VAE of this family is made for
SMALLEST_TILE = 16
MARGIN = 8  # latent pixels of the opposite side around a seamless picture that is decoded in tiles


class Chunker(Protocol):
    """What is needed of a tokenizer: a prompt in chunks of 77 token numbers with their attention weights."""

    def chunks(self, text: str, *, brackets: bool = True) -> tuple[Chunk, ...]: ...


@functools.cache
def clip_tokenizer() -> ClipTokenizer:
    """CLIP's tokenizer, built once (0.2 s): it never changes and has no state."""
    return ClipTokenizer.load()


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The loaded parts. turns: who takes turns on the device, where placement says so."""

    unet: UNet2DConditionModel
    text: CLIPTextModel
    vae: AutoencoderKL
    turns: OneAtATime | None = None


class Sd1:
    """A loaded Stable Diffusion 1 checkpoint: the engine's `Backbone`."""

    latent_channels = 4
    downscale = 8

    def __init__(
        self,
        info: ModelInfo,
        separate: Separate[ModelInfo],
        placement: Placement,
        networks: Networks,
        *,
        tokenizer: Chunker | None = None,
    ) -> None:
        self.info, self.placement = info, placement
        self.key = model_key(info, separate, placement)
        self._levels = replace(NoiseLevels.scaled_linear(), prediction=info.prediction, family="sd1")
        self.weight_bytes = weight_bytes(networks.unet, networks.text, networks.vae)
        self._separate = separate
        self._networks = networks
        self._tokenizer = tokenizer or clip_tokenizer()
        self._exact_vae: AutoencoderKL | None = None
        self._scaling = float(networks.vae.config.scaling_factor)

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        """The token texts of a prompt, one tuple per chunk of 75."""
        return tuple(chunk.tokens for chunk in self._tokenizer.chunks(text, brackets=emphasis != "None"))

    def noise_levels(self, width: int, height: int, shift: float | None = None) -> NoiseLevels:
        """The same for every size; there is no shift."""
        return self._levels

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], clip_skip: int, emphasis: Emphasis = "Original") -> list[Text]:
        """Encode prompts, one pass each, so that a text's encoding never depends on its company.

        Returns per text (1, 77 * chunks, width) in the compute dtype on the UNet's device. clip_skip: 1 is the last
        layer, 2 the one before it, as AUTOMATIC1111 counts. emphasis: see `GenerationPlan`.
        """
        layers = self._networks.text.config.num_hidden_layers
        if not 1 <= clip_skip <= layers:
            raise RequestError("clip_skip", f"{clip_skip} layers cannot be skipped", accepted=f"1 to {layers}")
        brackets = emphasis != "None"
        return [self._encode(self._tokenizer.chunks(text, brackets=brackets), clip_skip, emphasis) for text in texts]

    def _encode(self, chunks: Sequence[Chunk], clip_skip: int, emphasis: Emphasis) -> Text:
        device = self.placement.text_device
        ids = torch.tensor([chunk.ids for chunk in chunks], device=device)
        encoder = self._networks.text
        answer = encoder(input_ids=ids, output_hidden_states=clip_skip > 1)
        hidden: Tensor = answer.last_hidden_state
        if clip_skip > 1:
            # transformers < 5.6 keeps the layers one level down
            core = getattr(encoder, "text_model", encoder)
            hidden = core.final_layer_norm(answer.hidden_states[-clip_skip].to(device))
        if emphasis in ("Original", "No norm"):
            weights = torch.tensor([chunk.weights for chunk in chunks], dtype=torch.float32)
            hidden = weigh(hidden, weights.to(hidden.device), restore=emphasis == "Original")
        tokens = hidden.reshape(1, -1, hidden.shape[-1])
        return Text(tokens.to(device=self.placement.unet_device, dtype=self.placement.dtype))

    @torch.inference_mode()
    def denoise(self, batch: Batch) -> Tensor:
        """Predict x0, (N, C, H, W) float32 on the device of the batch's latents."""
        device, dtype, x, sigmas = self.placement.unet_device, self.placement.dtype, batch.x, batch.sigmas
        timesteps = [self._levels.timestep(sigma) for sigma in sigmas.tolist()]
        # Pinned, the copies are queued behind the device's work; else each step would wait until that is done
        times = torch.tensor(timesteps, dtype=torch.float32, pin_memory=device.type == "cuda")
        levels = sigmas.to(x.device, non_blocking=sigmas.is_pinned())
        scaled = scale_input(x, levels).to(device=device, dtype=dtype)
        unet = self._networks.unet
        changed = perturbed_attention(unet.mid_block, batch.perturbed) if any(batch.perturbed) else nullcontext()
        with wrapping(unet, batch.seamless), changed:
            output = unet(
                scaled,
                times.to(device, non_blocking=times.is_pinned()),
                encoder_hidden_states=batch.text.tokens.to(device=device, dtype=dtype),
                return_dict=False,
            )[0]
        return to_denoised(self._levels.prediction, x, output.to(device=x.device, dtype=torch.float32), levels)

    @torch.inference_mode()
    def encode_picture(self, picture: Tensor) -> Tensor:
        """The posterior's mean, (N, 4, H / 8, W / 8) float32, of (N, 3, H, W) in 0..1."""
        vae = self._networks.vae
        pixels = (picture * 2 - 1).to(device=self.placement.vae_device, dtype=self.placement.vae_dtype)
        mean: Tensor = vae.encode(pixels, return_dict=False)[0].mean
        return mean.float() * self._scaling

    @torch.inference_mode()
    def decode(self, latent: Tensor, *, fp32: bool = False, tiled: bool = False, seamless: bool = False) -> Tensor:
        """Decode (N, C, H, W) float32 latents to (N, 3, H * 8, W * 8) float32 in 0..1, on the VAE's device; what is
        not finite stays so. tiled: in overlapping tiles of at most TILE latent pixels and half the longer side.
        seamless: the picture goes on over its edges.
        """
        if seamless and tiled:  # a tile's own edges are not the picture's: those are decoded with a margin instead
            rgb = self.decode(functional.pad(latent, (MARGIN,) * 4, mode="circular"), fp32=fp32, tiled=True)
            cut = slice(MARGIN * self.downscale, -MARGIN * self.downscale)
            return rgb[:, :, cut, cut]
        vae = self._vae(fp32)
        dtype = torch.float32 if fp32 else self.placement.vae_dtype
        scaled = (latent.float() / self._scaling).to(device=self.placement.vae_device, dtype=dtype)
        with _tiling(vae, latent) if tiled else wrapping(vae, seamless):
            picture: Tensor = vae.decode(scaled, return_dict=False)[0]
        rgb = picture.float() / 2 + 0.5
        return torch.where(rgb.isfinite(), rgb.clamp(0, 1), rgb)  # infinity is an overflow, not white: it must be seen

    def _vae(self, fp32: bool) -> AutoencoderKL:
        if not fp32 or self.placement.vae_dtype == torch.float32:
            return self._networks.vae
        if self._exact_vae is None:
            placement = replace(self.placement, vae_dtype=torch.float32)
            self._exact_vae = _load_vae(self._separate.vae or self.info, self._separate.vae is not None, placement)
            _place(self._exact_vae, self.placement.vae_device, placement, self._networks.turns)
        return self._exact_vae

    def upcast(self) -> Sd1:
        """The same model in float32, read from its file again: it shares nothing with this one."""
        exact = replace(self.placement, dtype=torch.float32, vae_dtype=torch.float32)
        return load_sd1(self.info, self._separate, exact)

    def close(self) -> None:
        """Drop the weights. The object is not used afterwards."""
        networks = self.__dict__.pop("_networks", None)
        if networks is None:
            return
        parts: list[nn.Module] = [networks.unet, networks.text, networks.vae]
        if self._exact_vae is not None:
            parts.append(self._exact_vae)
            self._exact_vae = None
        if networks.turns:
            networks.turns.clear()
        for part in parts:
            release(part)
            part.to("meta")


@contextmanager
def _tiling(vae: AutoencoderKL, latent: Tensor) -> Iterator[None]:
    """Let the VAE decode in tiles for as long as the context lasts: diffusers' own tiling, with sides that fit here.

    A quarter of a tile overlaps its neighbour and is blended, so a side is a multiple of four.
    """
    before = vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size
    side = max(SMALLEST_TILE, min(TILE, max(latent.shape[-2:]) // 2 // 4 * 4))
    vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size = True, side, side * Sd1.downscale
    try:
        yield
    finally:
        vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size = before


def weigh(hidden: Tensor, weights: Tensor, *, restore: bool = True) -> Tensor:
    """AUTOMATIC1111's "Original" emphasis: multiply each token by its weight, then restore the mean of the chunk.

    restore False: "No norm", without the latter. hidden: (chunks, 77, width); weights: (chunks, 77), float32. A chunk
    whose weights are all 1 is left as it is.
    """
    if bool((weights == 1).all()):
        return hidden
    before = hidden.float()
    after = before * weights.unsqueeze(-1)
    if not restore:
        return after.to(hidden.dtype)
    scale = before.mean(dim=(1, 2), keepdim=True) / after.mean(dim=(1, 2), keepdim=True)
    plain = (weights == 1).all(dim=1).reshape(-1, 1, 1)
    return torch.where(plain, before, after * scale).to(hidden.dtype)


def model_key(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> ModelKey:
    """The key under which a loaded model is known."""
    dtype = str(placement.dtype).removeprefix("torch.")
    vae, text = (part.path if part else "" for part in (separate.vae, separate.text_encoder))
    return ModelKey(info.path, info.mtime_ns, vae=vae, dtype=dtype, text_encoder=text)


@backbone("sd1")
def sd1(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> Sd1:
    """Load a Stable Diffusion 1 checkpoint. Raises CheckpointError."""
    return load_sd1(info, separate, placement)


def load_sd1(
    info: ModelInfo, separate: Separate[ModelInfo] | None, placement: Placement, *, tokenizer: Chunker | None = None
) -> Sd1:
    """Map the files, fill the three networks and place them. separate None: every part is the checkpoint's own.

    tokenizer: CLIP's where none is given. Raises CheckpointError.
    """
    separate = separate or Separate()
    text_info = separate.text_encoder or info
    _check_parts(info, separate)
    parts = sort_parts(read_header(Path(info.path)))
    unet = skeleton(UNet2DConditionModel, info.config[UNET], lambda config: UNet2DConditionModel(**config))
    home = _home(placement.unet_device, placement)
    tensors = map_tensors(info, parts.unet.values())
    fill(unet, tensors, names=parts.unet, device=home, dtype=placement.dtype, source=Path(info.path).name)
    text = _load_text(text_info, separate.text_encoder is not None, placement)
    vae = _load_vae(separate.vae or info, separate.vae is not None, placement)
    networks = Networks(unet=unet, text=text, vae=vae, turns=_turns(placement))
    for part, device in ((text, placement.text_device), (unet, placement.unet_device), (vae, placement.vae_device)):
        _place(part, device, placement, networks.turns)
    return Sd1(info, separate, placement, networks, tokenizer=tokenizer)


def _check_parts(info: ModelInfo, separate: Separate[ModelInfo]) -> None:
    """Raise UnsupportedCheckpoint where a part is missing, or where one does not fit the others."""
    if separate.vae is None and VAE not in info.config:
        raise UnsupportedCheckpoint(f"{info.name} has no VAE of its own.", hint="Choose a VAE file for it.")
    encoder = separate.text_encoder or info
    if TEXT not in encoder.config:
        raise UnsupportedCheckpoint(
            f"{info.name} has no text encoder of its own.", hint="Choose a text encoder file for it."
        )
    width, wanted = encoder.config[TEXT]["hidden_size"], info.config[UNET]["cross_attention_dim"]
    if width != wanted:
        raise UnsupportedCheckpoint(
            f"{encoder.name} gives texts a width of {width} where {info.name} needs {wanted}.",
            hint="Choose another text encoder.",
        )


def _load_text(chosen: ModelInfo, alone: bool, placement: Placement) -> CLIPTextModel:
    """The text encoder of file `chosen`; alone: the file is taken as a text encoder's, not as a checkpoint."""
    header = read_header(Path(chosen.path))
    names = (text_parts(header) if alone else sort_parts(header)).text_encoder
    text = skeleton(CLIPTextModel, chosen.config[TEXT], lambda config: CLIPTextModel(CLIPTextConfig(**config)))
    core = getattr(text, "text_model", text)  # transformers < 5.6 keeps the layers one level down
    dtype = placement.dtype if placement.text_device.type != "cpu" else _cpu_dtype(placement.dtype)
    home, source = _home(placement.text_device, placement), Path(chosen.path).name
    fill(core, map_tensors(chosen, names.values()), names=names, device=home, dtype=dtype, source=source)
    return text


def _load_vae(chosen: ModelInfo, alone: bool, placement: Placement) -> AutoencoderKL:
    """The VAE of file `chosen`; alone: the file is taken as a VAE's, not as a checkpoint."""
    header = read_header(Path(chosen.path))
    parts: Parts = vae_parts(header) if alone else sort_parts(header)
    vae = skeleton(AutoencoderKL, chosen.config[VAE], lambda config: AutoencoderKL(**config))
    tensors = map_tensors(chosen, parts.vae.values())
    home, source = _home(placement.vae_device, placement), Path(chosen.path).name
    fill(vae, tensors, names=parts.vae, device=home, dtype=placement.vae_dtype, source=source)
    return vae


def _home(device: torch.device, placement: Placement) -> torch.device:
    """Where weights are kept: with less than all of the model on the device, on the CPU, whence they are brought."""
    return device if placement.vram == "normal" else torch.device("cpu")


def _cpu_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float16 else dtype


def _turns(placement: Placement) -> OneAtATime | None:
    return OneAtATime(placement.device) if placement.vram == "medium" else None


def _place(part: nn.Module, device: torch.device, placement: Placement, turns: OneAtATime | None) -> None:
    if device.type == "cpu":
        widen(part)
        return
    if placement.vram == "normal":
        return
    if turns:
        turns.add(part)
    else:
        by_layer(part, device)
