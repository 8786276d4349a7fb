"""The VAEs that models decode with: KL autoencoders by their latent channels, and Qwen-Image's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.core.checkpoint import Header
from modules.families.layouts import kl, qwen_vae
from modules.families.layouts import names as ldm
from modules.families.layouts.network import Inner, Network, absent, excess, through
from modules.families.layouts.prefixes import harmless
from modules.families.layouts.shapes import Shapes

_WAN, _QWEN = "decoder.middle.0.residual.0.gamma", "decoder.mid_block.resnets.0.norm1.gamma"


def autoencoder(header: Header, inner: Inner, told: Mapping[str, Any]) -> tuple[str, Network] | None:
    """The layout and the VAE whose tensors, without prefix, are `inner`; None where it is none that is loaded here.

    Raises CorruptCheckpoint.
    """
    inner = {name: full for name, full in inner.items() if not harmless(name)}
    if _WAN in inner or _QWEN in inner:
        return _qwen(header, inner, told)
    return _kl(header, inner, told)


def _qwen(header: Header, inner: Inner, told: Mapping[str, Any]) -> tuple[str, Network] | None:
    original = _WAN in inner
    latents = header.shape(inner.get("decoder.conv1.weight" if original else "decoder.conv_in.weight", ""))
    if latents is None or len(latents) != 5 or latents[1] > 32:  # Wan 2.2's has 48 and another architecture
        return None
    config = qwen_vae.config(Shapes(header, inner), told)
    table: Mapping[str, Any] = qwen_vae.original(config)
    if not original:
        table = {name: name for name in table}
    network = Network(
        kind="qwen",
        config=config,
        names=through(table, inner),
        missing=absent(table, inner),
        unknown=excess(table, inner),
    )
    return "original" if original else "diffusers", network


def _kl(header: Header, inner: Inner, told: Mapping[str, Any]) -> tuple[str, Network] | None:
    new = ldm.vae_names(inner)
    names = {name: inner[old] for name, old in new.items() if not name.startswith("bn.")}
    shapes = Shapes(header, names)
    if not shapes.has("decoder.conv_in.weight", "decoder.mid_block.resnets.0.conv1.weight"):
        return None
    latents = shapes("decoder.conv_in.weight")
    if len(latents) != 4 or latents[1] == 64:  # of videos, and HunyuanImage's, which compresses 32 times
        return None
    diffusers = any(name.startswith(("decoder.up_blocks.", "encoder.down_blocks.")) for name in inner)
    config = kl.config(shapes, told)
    wanted = set(kl.expected(config))
    network = Network(
        kind=f"kl{config['latent_channels']}",
        config=config,
        names=names,
        missing=tuple(name for name in kl.expected(config) if name not in names),
        unknown=tuple(key for name, key in names.items() if name not in wanted),
    )
    return "diffusers" if diffusers else "original", network
