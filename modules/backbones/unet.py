"""What Stable Diffusion's UNets have in common, whatever their texts: noise levels, the pass, what they see beside it.

A family's file says how its texts are read and what else its UNet is told; everything else is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from modules.backbones.encoders.clip import ClipEncoder
from modules.backbones.loaded import Built, Loaded
from modules.backbones.perturbed import perturbed_attention
from modules.backbones.seamless import seamless as wrapping
from modules.core.checkpoint import ModelInfo
from modules.core.errors import RequestError, UnsupportedCheckpoint
from modules.core.generation import Emphasis
from modules.core.operations import Text
from modules.core.sampling import NoiseLevels
from modules.diffusion.backbone import Batch
from modules.diffusion.parameterisation import scale_input, to_denoised

SCALING = 0.18215  # of the VAE of Stable Diffusion 1 and 2: CompVis' configuration
SCHEDULER = "scheduler"  # of `ModelInfo.config`: what the checkpoint says of its noise levels
_EDM = {"low": "sigma_min", "high": "sigma_max", "data": "sigma_data"}
GUIDANCE = 8.0  # of UNets that take it as an input: LCM's model cards
MEDIUM_GREY = 0.5  # of 0..1: what an inpainting model is shown where nothing is to be kept


class UnetModel(Loaded):
    """A loaded Stable Diffusion checkpoint: the engine's `Backbone`. pooled: whether the UNet is told a pooled text."""

    pooled = False

    def __init__(self, built: Built, readers: Sequence[ClipEncoder]) -> None:
        """readers: its text encoders, whose answers are joined along their width.

        Raises UnsupportedCheckpoint for noise levels or channels that are not known here.
        """
        super().__init__(built, [reader.module for reader in readers])
        self._levels = levels_of(built.info)
        self._unet: Any = built.denoiser
        self._readers = tuple(readers)
        self._beside = int(self._unet.config["in_channels"]) - self.latent_channels
        if self._beside not in (0, self.latent_channels, self.latent_channels + 1):
            raise UnsupportedCheckpoint(
                f"{built.info.name} sees {self._beside} channels beside the latent's {self.latent_channels}.",
                hint="Known: none, a picture (InstructPix2Pix), or a mask and a picture (inpainting).",
            )
        self._blank: tuple[torch.Size, Tensor] | None = None

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        """The token texts of a prompt, one tuple per chunk of 75: the same for all CLIP encoders."""
        return self._readers[0].tokens(text, emphasis)

    def noise_levels(self, width: int, height: int, shift: float | None = None) -> NoiseLevels:
        """The same for every size; there is no shift."""
        return self._levels

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], clip_skip: int, emphasis: Emphasis = "Original") -> list[Text]:
        """Encode prompts, one pass each, so that a text's encoding never depends on its company.

        Returns per text (1, 77 * chunks, width) in the compute dtype on the UNet's device. clip_skip: 1 is the last
        layer, 2 the one before it, as AUTOMATIC1111 counts. emphasis: see `GenerationPlan`.
        """
        where: dict[str, Any] = {"device": self.placement.unet_device, "dtype": self.placement.dtype}
        found = []
        for text in texts:
            read = [reader.encode(text, clip_skip, emphasis) for reader in self._readers]
            tokens = torch.cat([each.hidden for each in read], dim=-1) if len(read) > 1 else read[0].hidden
            pooled = read[-1].pooled if self.pooled else None
            found.append(Text(tokens.to(**where), None if pooled is None else pooled.to(**where)))
        return found

    @torch.inference_mode()
    def denoise(self, batch: Batch) -> Tensor:
        """Predict x0, (N, C, H, W) float32 on the device of the batch's latents.

        Raises RequestError for rows with another number of channels beside them than the UNet has.
        """
        device, dtype, x, sigmas = self.placement.unet_device, self.placement.dtype, batch.x, batch.sigmas
        times = self._sent([self._levels.told(sigma) for sigma in sigmas.tolist()])
        levels = sigmas.to(x.device, non_blocking=sigmas.is_pinned())
        seen = scale_input(x, levels, self._levels.data).to(device=device, dtype=dtype)
        if (beside := self._channels(batch)) is not None:
            seen = torch.cat([seen, beside], dim=1)
        with wrapping(self._unet, batch.seamless), self._changed(batch):
            output = self._unet(
                seen,
                times,
                timestep_cond=self._guidance(batch),
                encoder_hidden_states=batch.text.tokens.to(device=device, dtype=dtype),
                added_cond_kwargs=self._told(batch),
                return_dict=False,
            )[0]
        found = output.to(device=x.device, dtype=torch.float32)
        return to_denoised(self._levels.prediction, x, found, levels, self._levels.data)

    def _guidance(self, batch: Batch) -> Tensor | None:
        """Waves of the guidance scale, (N, width), for a UNet that takes it as an input (Luo et al. 2023, LCM).

        Sines and cosines as of a timestep, of 1000 times the scale less 1: what guidance adds to the plain prediction.
        """
        if not (width := self._unet.config.get("time_cond_proj_dim")):
            return None
        scales = self._sent(self._guidance_of(batch.distilled, len(batch.x), GUIDANCE))
        waves: Tensor = get_timestep_embedding((scales - 1) * 1000, width, downscale_freq_shift=1)
        return waves.to(self.placement.dtype)

    def _told(self, batch: Batch) -> dict[str, Tensor] | None:
        """What the UNet is told besides time and text, by diffusers' names."""
        return None

    def _changed(self, batch: Batch) -> AbstractContextManager[None]:
        if not any(batch.perturbed):
            return nullcontext()
        middle = self._unet.mid_block
        return perturbed_attention(nn.Identity() if middle is None else middle, batch.perturbed)

    def _sent(self, values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
        """Numbers as a float32 tensor on the UNet's device, sent without waiting for it."""
        device = self.placement.unet_device
        # Pinned, the copies are queued behind the device's work; else each step would wait until that is done
        tensor = torch.tensor(values, dtype=torch.float32, pin_memory=device.type == "cuda")
        return tensor.to(device, non_blocking=tensor.is_pinned())

    def _channels(self, batch: Batch) -> Tensor | None:
        """What the UNet sees beside the latents, (N, K, H, W), or None."""
        given = 0 if batch.channels is None else batch.channels.shape[1]
        if given and given != self._beside:
            raise RequestError(
                "checkpoint", f"{self.info.name} was given {given} channels beside the latent",
                accepted=f"{self._beside} channels" if self._beside else "none: it sees the latent alone",
            )  # fmt: skip
        if not self._beside:
            return None
        channels = self._nothing(batch.x) if batch.channels is None else batch.channels
        return channels.to(device=self.placement.unet_device, dtype=self.placement.dtype)

    def _nothing(self, x: Tensor) -> Tensor:
        """What is seen beside (N, C, H, W) latents where a picture is made of nothing.

        InstructPix2Pix: zeros, which is how it was trained to be without a picture (Brooks et al. 2023, section 3.2.1).
        Inpainting: a mask of ones, all is to be painted, and the latent of a medium grey picture, as AUTOMATIC1111 and
        diffusers have it. That latent is kept for the next step.
        """
        if self._beside == self.latent_channels:
            return torch.zeros(len(x), self._beside, *x.shape[-2:], device=x.device)
        if self._blank is None or self._blank[0] != x.shape[-2:]:
            rows, columns = (side * self.downscale for side in x.shape[-2:])
            grey = self.encode_picture(torch.full((1, 3, rows, columns), MEDIUM_GREY))
            mask = torch.ones(1, 1, *x.shape[-2:], device=grey.device)
            self._blank = x.shape[-2:], torch.cat([mask, grey], dim=1).to(self.placement.unet_device)
        return self._blank[1].expand(len(x), -1, -1, -1)


def levels_of(info: ModelInfo) -> NoiseLevels:
    """The noise levels of a checkpoint, by what config["scheduler"] says in diffusers' words.

    Rescaled to end in noise alone where it says so ("zero_terminal_snr" or "rescale_betas_zero_snr") and the model
    predicts v: the noise of noise alone would tell nothing of the picture. EDM's where it names their "sigma_data", or
    the model predicts as EDM's do. Raises UnsupportedCheckpoint.
    """
    told = info.config.get(SCHEDULER, {})
    if info.prediction == "edm" or "sigma_data" in told:
        own = {ours: float(told[name]) for ours, name in _EDM.items() if name in told}
        return replace(NoiseLevels.edm(**own), prediction=info.prediction, family=info.family)
    kind = told.get("beta_schedule", "scaled_linear")
    if kind != "scaled_linear":
        raise UnsupportedCheckpoint(
            f"{info.name} was trained on betas of the kind {kind!r}.", hint='Known for its family: "scaled_linear".'
        )
    start, end = float(told.get("beta_start", 0.00085)), float(told.get("beta_end", 0.012))
    levels = NoiseLevels.scaled_linear(start, end, int(told.get("num_train_timesteps", 1000)))
    levels = replace(levels, prediction=info.prediction, family=info.family)
    zero = told.get("zero_terminal_snr") or told.get("rescale_betas_zero_snr")
    return levels.zero_terminal_snr() if zero and info.prediction == "v" else levels
