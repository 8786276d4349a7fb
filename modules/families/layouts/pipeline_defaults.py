"""What pictures diffusers' pipelines make where nobody chooses: as their own calls say, or their authors' examples.

Their classes are not asked, for nothing here may import diffusers: a test compares this table with their signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modules.core.checkpoint import Defaults, Header
from modules.families.layouts.pipelines import pipeline

_UNKNOWN_SIDE = 1024  # pixels; of a pipeline that is not in the table


@dataclass(frozen=True)
class Own:
    """Of a pipeline. side: pixels, a pair for width and height, 0 where its network's sample_size decides.

    distilled: steps and scale where its model_index.json says is_distilled.
    """

    side: int | tuple[int, int]
    steps: int
    cfg_scale: float
    distilled: tuple[int, float] | None = None


OWN: Mapping[str, Own] = {
    "AuraFlowPipeline": Own(1024, 50, 3.5),
    "BriaPipeline": Own(1024, 30, 5.0),
    "BriaFiboPipeline": Own(1024, 30, 5.0),
    "BriaFibo2Pipeline": Own(1024, 30, 5.0),
    "CogView3PlusPipeline": Own(0, 50, 5.0),
    "CogView4Pipeline": Own(0, 50, 5.0),
    "Cosmos2TextToImagePipeline": Own((1360, 768), 35, 7.0),
    "DreamLitePipeline": Own(1024, 30, 3.5),
    "DreamLiteMobilePipeline": Own(1024, 4, 1.0),
    "ErnieImagePipeline": Own(1024, 50, 4.0),
    "Flux2Pipeline": Own(1024, 50, 4.0),
    "Flux2KleinPipeline": Own(1024, 50, 4.0, distilled=(4, 1.0)),
    "Flux2KleinKVPipeline": Own(1024, 4, 1.0),
    "GlmImagePipeline": Own(1024, 50, 1.5),
    "HiDreamImagePipeline": Own(1024, 50, 5.0),
    "HunyuanDiTPipeline": Own(0, 50, 5.0),
    "HunyuanDiTPAGPipeline": Own(0, 50, 5.0),
    "HunyuanImagePipeline": Own(2048, 50, 3.5),
    "IFPipeline": Own(0, 100, 7.0),
    "Ideogram4Pipeline": Own(2048, 48, 7.0),
    "JoyImageEditPipeline": Own(1024, 40, 4.0),
    "JoyImageEditPlusPipeline": Own(1024, 30, 4.0),
    "Kandinsky3Pipeline": Own(1024, 25, 3.0),
    "Kandinsky5T2IPipeline": Own(1024, 50, 3.5),
    "KandinskyCombinedPipeline": Own(512, 100, 4.0),
    "KandinskyV22CombinedPipeline": Own(512, 100, 4.0),
    "KolorsPipeline": Own(0, 50, 5.0),
    "KolorsPAGPipeline": Own(0, 50, 5.0),
    "Krea2Pipeline": Own(1024, 28, 4.5, distilled=(8, 0.0)),
    "LongCatImagePipeline": Own(1024, 50, 4.5),
    "LuminaPipeline": Own(0, 30, 4.0),
    "Lumina2Pipeline": Own(0, 30, 4.0),
    "NucleusMoEImagePipeline": Own(1024, 50, 4.0),
    "OmniGenPipeline": Own(1024, 50, 2.5),
    "OvisImagePipeline": Own(1024, 50, 5.0),
    "PRXPipeline": Own(512, 28, 4.0),
    "PRXPixelPipeline": Own(1024, 28, 4.0),
    "PixArtAlphaPipeline": Own(0, 20, 4.5),
    "PixArtSigmaPipeline": Own(0, 20, 4.5),
    "PixArtSigmaPAGPipeline": Own(0, 20, 4.5),
    "QwenImage21Pipeline": Own(1024, 40, 1.0),
    "SanaPipeline": Own(0, 20, 4.5),
    "SanaPAGPipeline": Own(0, 20, 4.5),
    "SanaSprintPipeline": Own(0, 2, 4.5),
    # Its call says 512, and that of the prior that it begins with, 1024
    "StableCascadeCombinedPipeline": Own(1024, 12, 4.0),
    "StableDiffusionPAGPipeline": Own(0, 50, 7.5),
    "StableDiffusion3PAGPipeline": Own(0, 28, 7.0),
    "StableDiffusionXLPAGPipeline": Own(0, 50, 5.0),
    "ZImageOmniPipeline": Own(1024, 50, 5.0),
    # Modular pipelines, where they are not those above in another form
    "AnimaModularPipeline": Own(1024, 50, 4.0),
    "Flux2KleinModularPipeline": Own(1024, 4, 1.0),
    "Flux2KleinBaseModularPipeline": Own(1024, 50, 4.0),
    "Flux3ModularPipeline": Own(1024, 50, 3.5),
    "Flux3DistilledModularPipeline": Own(1024, 16, 1.0),
    "Krea2TurboModularPipeline": Own(1024, 8, 0.0),
    "QwenImage21TurboModularPipeline": Own(1024, 8, 1.0),
}


def pipeline_defaults(header: Header) -> Defaults:
    """What a folder's pipeline begins with."""
    index = header.configs.get("model_index", {})
    name = pipeline(header)
    own = OWN.get(name) or OWN.get(name.replace("Modular", "")) or Own(_UNKNOWN_SIDE, 28, 4.0)
    steps, scale = own.distilled if own.distilled and index.get("is_distilled") else (own.steps, own.cfg_scale)
    distilled = None
    if name == "HunyuanImagePipeline" and header.configs.get("transformer", {}).get("guidance_embeds"):
        steps, scale, distilled = 8, 1.0, 3.25
    if isinstance(sigmas := index.get("sample_sigmas"), list) and sigmas:
        steps = len(sigmas)  # Qwen-Image 2.1 Turbo keeps to these noise levels
    width, height = own.side if isinstance(own.side, tuple) else (own.side, own.side)
    told = index.get("default_sample_size")  # PRX, in pixels
    if isinstance(told, int) and told > 0:
        width = height = told
    width, height = width or _by_sample_size(header), height or _by_sample_size(header)
    return Defaults(
        width=width, height=height, steps=steps, cfg_scale=scale, distilled_cfg_scale=distilled, sampler="euler"
    )


def _by_sample_size(header: Header) -> int:
    """The side in pixels: the network's sample_size, in positions of the latent, times what the VAE shrinks by."""
    network: Mapping[str, Any] = header.configs.get("transformer", header.configs.get("unet", {}))
    vae = header.configs.get("vae", {})
    blocks = vae.get("encoder_block_out_channels") or vae.get("block_out_channels") or [0]  # of one: pixels
    sample = network.get("sample_size")
    if not isinstance(sample, int) or not 0 < sample <= 4096 or not isinstance(blocks, list):
        return _UNKNOWN_SIDE
    return int(sample * 2 ** (len(blocks) - 1))
