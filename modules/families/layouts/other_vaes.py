"""Autoencoders that no model decodes with here, each by a name that only its decoder has."""

from __future__ import annotations

from collections.abc import Mapping

from modules.core.checkpoint import Header

_TAESD = ("taesd", "a TAESD preview decoder, not a VAE: put it into models/VAE-approx")
_DC = ("dc-ae", "a deep compression VAE, as Sana uses")
_LTX = ("ltx", "the VAE of LTX-Video")
_VIDEO = ("video", "the VAE of a video model")
_WAN = ("wan2.2", "the VAE of Wan 2.2 or Qwen-Image 2")
_SOUND = ("sound", "an autoencoder of sounds")
_CASCADE = ("cascade", "a part of Stable Cascade that encodes or decodes its latents")
# A name -> the kind of the VAE and what it is called. Asked where nothing that is loaded here was found
_MARKS: Mapping[str, tuple[str, str]] = {
    "decoder.layers.1.weight": _TAESD,
    "decoder.layers.0.weight": _TAESD,
    "1.weight": _TAESD,
    "decoder.1.weight": ("taehv", "a preview decoder of videos, not a VAE: put it into models/VAE-approx"),
    "decoder.stages.1.op_list.0.main.conv.conv.bias": _DC,
    "decoder.up_blocks.0.0.conv1.conv.weight": _DC,
    "decoder.up_blocks.0.0.conv.weight": _DC,
    "decoder.project_in.conv.weight": _DC,
    "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": _LTX,
    "per_channel_statistics.mean-of-means": _LTX,
    "decoder.det_stages.0.0.norm1.weight": _LTX,
    "decoder.mid.block_1.conv1.conv.weight": _VIDEO,
    "decoder.mid_block.resnets.0.conv1.conv.weight": _VIDEO,
    "decoder.up_blocks.0.resnets.0.spatial_res_block.conv1.weight": _VIDEO,
    "decoder.mid_block.convs.0.norm1.weight": _VIDEO,
    "decoder.temp_conv_in.weight": _VIDEO,
    "decoder.block_in.resnets.0.norm1.norm_layer.weight": ("mochi", "the VAE of Mochi"),
    "decoder.blocks.2.blocks.3.stack.5.weight": ("mochi", "the VAE of Mochi"),
    "decoder.unpatcher3d.wavelets": ("cosmos", "the VAE of Cosmos"),
    "decoder.conv_in.conv_s.weight": ("cosmos", "the VAE of Cosmos"),
    "decoder.middle.0.residual.0.gamma": _WAN,
    "decoder.mid_block.resnets.0.norm1.gamma": _WAN,
    "decoder.condition_encoder.layers.0.weight": ("asymmetric", "an asymmetric VAE for inpainting"),
    "decoder_unet.conv_in.weight": ("consistency", "the consistency decoder of DALL-E 3"),
    "decoder.latent_conv_in.weight": ("transparent", "LayerDiffuse's decoder of transparent pictures"),
    "student.dconv_encoder.proj_out.weight": ("mage_flow", "the VAE of Mage-Flow"),
    "decoder.layers.1.layers.0.beta": _SOUND,
    "decoder.block.0.snake1.alpha": _SOUND,
    "pretransform.model.decoder.layers.1.layers.0.beta": _SOUND,
    "vquantizer.codebook.weight": _CASCADE,
    "backbone.1.0.block.0.1.num_batches_tracked": _CASCADE,
    "blocks.11.num_batches_tracked": _CASCADE,
    "geo_decoder.cross_attn_decoder.ln_1.bias": ("shapes", "the VAE of a model of shapes in space"),
}
_HUNYUAN_IMAGE = ("hunyuan_image", "the VAE of HunyuanImage")


def other_vae(header: Header) -> tuple[str, str]:
    """The kind of such an autoencoder and what it is called; both "" where no name tells."""
    latents = header.shape("decoder.conv_in.weight")
    found = next((known for mark, known in _MARKS.items() if mark in header.tensors), None)
    if found is None and latents is not None and len(latents) == 4 and latents[1] == 64:
        return _HUNYUAN_IMAGE
    return found or ("", "")
