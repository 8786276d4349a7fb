"""Stable Diffusion 1: load a checkpoint into diffusers' UNet and VAE and transformers' CLIP, and compute with them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from modules.backbones.autoencoder import Autoencoder, load_vae
from modules.backbones.encoders.clip import Chunker, clip_tokenizer
from modules.backbones.encoders.emphasis import weigh
from modules.backbones.loaded import Loaded
from modules.backbones.offload import OneAtATime
from modules.backbones.perturbed import perturbed_attention
from modules.backbones.placing import arena_of, home, put, text_dtype, turns_of
from modules.backbones.seamless import seamless as wrapping
from modules.backbones.weights import fill, map_tensors, read_described, skeleton
from modules.core.checkpoint import ModelInfo, Separate
from modules.core.errors import RequestError, UnsupportedCheckpoint
from modules.core.generation import Emphasis
from modules.core.operations import Text
from modules.core.sampling import NoiseLevels
from modules.diffusion.arena import Arena
from modules.diffusion.backbone import Batch, Placement, backbone
from modules.diffusion.parameterisation import scale_input, to_denoised
from modules.families.layouts.parts import TEXT, UNET, VAE, sort_parts, text_parts
from modules.prompting.clip import Chunk


class Sd1(Loaded):
    """A loaded Stable Diffusion 1 checkpoint: the engine's `Backbone`."""

    def __init__(
        self,
        info: ModelInfo,
        separate: Separate[ModelInfo],
        placement: Placement,
        *,
        unet: UNet2DConditionModel,
        text: CLIPTextModel,
        autoencoder: Autoencoder,
        turns: OneAtATime | None = None,
        arena: Arena | None = None,
        tokenizer: Chunker | None = None,
    ) -> None:
        super().__init__(
            info, separate, placement, networks=(unet, text), autoencoder=autoencoder, turns=turns, arena=arena
        )
        self._levels = replace(NoiseLevels.scaled_linear(), prediction=info.prediction, family="sd1")
        self._unet, self._text = unet, text
        self._tokenizer = tokenizer or clip_tokenizer()

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
        layers = self._text.config.num_hidden_layers
        if not 1 <= clip_skip <= layers:
            raise RequestError("clip_skip", f"{clip_skip} layers cannot be skipped", accepted=f"1 to {layers}")
        brackets = emphasis != "None"
        return [self._encode(self._tokenizer.chunks(text, brackets=brackets), clip_skip, emphasis) for text in texts]

    def _encode(self, chunks: Sequence[Chunk], clip_skip: int, emphasis: Emphasis) -> Text:
        device = self.placement.text_device
        ids = torch.tensor([chunk.ids for chunk in chunks], device=device)
        encoder = self._text
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
        unet = self._unet
        changed = perturbed_attention(unet.mid_block, batch.perturbed) if any(batch.perturbed) else nullcontext()
        with wrapping(unet, batch.seamless), changed:
            output = unet(
                scaled,
                times.to(device, non_blocking=times.is_pinned()),
                encoder_hidden_states=batch.text.tokens.to(device=device, dtype=dtype),
                return_dict=False,
            )[0]
        return to_denoised(self._levels.prediction, x, output.to(device=x.device, dtype=torch.float32), levels)

    def upcast(self) -> Sd1:
        """The same model in float32, read from its file again: it shares nothing with this one."""
        exact = replace(self.placement, dtype=torch.float32, vae_dtype=torch.float32)
        return load_sd1(self.info, self._separate, exact)


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
    header, arena = read_described(info), arena_of(placement)
    names = sort_parts(header).unet
    unet = skeleton(UNet2DConditionModel, info.config[UNET], lambda config: UNet2DConditionModel(**config))
    fill(
        unet, map_tensors(header, names.values()), names=names, device=home(placement.unet_device, placement),
        dtype=placement.dtype, source=header.path.name, storage=placement.storage, arena=arena,
    )  # fmt: skip
    text = _load_text(text_info, separate.text_encoder is not None, placement, arena)
    turns = turns_of(placement)
    load = partial(load_vae, separate.vae or info, separate.vae is not None, arena=arena)
    vae = load(placement)
    scaling = float(vae.config.scaling_factor)
    for part, device in ((text, placement.text_device), (unet, placement.unet_device), (vae, placement.vae_device)):
        put(part, device, placement, turns)
    autoencoder = Autoencoder(vae, placement, scaling=scaling, load=load, turns=turns)
    return Sd1(
        info, separate, placement, unet=unet, text=text, autoencoder=autoencoder, turns=turns, arena=arena,
        tokenizer=tokenizer,
    )  # fmt: skip


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


def _load_text(chosen: ModelInfo, alone: bool, placement: Placement, arena: Arena | None) -> CLIPTextModel:
    """The text encoder of file `chosen`; alone: the file is taken as a text encoder's, not as a checkpoint."""
    header = read_described(chosen)
    names = (text_parts(header) if alone else sort_parts(header)).text_encoder
    text = skeleton(CLIPTextModel, chosen.config[TEXT], lambda config: CLIPTextModel(CLIPTextConfig(**config)))
    core = getattr(text, "text_model", text)  # transformers < 5.6 keeps the layers one level down
    fill(
        core, map_tensors(header, names.values()), names=names, device=home(placement.text_device, placement),
        dtype=text_dtype(placement), source=header.path.name, storage=placement.storage, arena=arena,
    )  # fmt: skip
    return text
