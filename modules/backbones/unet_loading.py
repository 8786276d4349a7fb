"""How a Stable Diffusion model is put together from its file and those of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from diffusers import UNet2DConditionModel

from modules.backbones.autoencoder import Autoencoder, load_vae
from modules.backbones.encoders.clip import Chunker, ClipEncoder, Layer, load_clip
from modules.backbones.placing import arena_of, home, put, turns_of
from modules.backbones.unet import Built, UnetModel
from modules.backbones.upcast_attention import upcast_attention
from modules.backbones.weights import fill, map_tensors, read_described, skeleton
from modules.core.checkpoint import Header, ModelInfo, Separate
from modules.core.errors import UnsupportedCheckpoint
from modules.diffusion.arena import Arena
from modules.diffusion.backbone import Placement
from modules.families.layouts.parts import TEXT, UNET, VAE, sort_parts, text_parts

WORDS: Mapping[str, str] = MappingProxyType({TEXT: "text encoder", "text_encoder_2": "second text encoder", VAE: "VAE"})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What sets a family apart. texts: its text encoders and which layer of each is read, in the order in which they
    are joined. scaling: of its VAE, where the VAE's own configuration says nothing. upcast: whether attention in
    float16 needs float32's range. tokenizer: of all encoders, CLIP's where none is given.
    """

    model: type[UnetModel] = UnetModel
    texts: Mapping[str, Layer]
    scaling: float = 0.18215
    upcast: bool = False
    tokenizer: Chunker | None = None


def load(recipe: Recipe, info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> UnetModel:
    """Map the files, fill the networks and place them. Raises CheckpointError."""
    named = dict(separate.named)
    check_parts(recipe, info, named)
    arena = arena_of(placement)
    files = {each.path: each for each in (info, *named.values())}
    headers = {path: read_described(each) for path, each in files.items()}
    unet = load_unet(info, headers[info.path], placement, upcast=recipe.upcast, arena=arena)
    readers = tuple(
        _text(component, recipe, named.get(component, info), headers, placement, alone=component in named, arena=arena)
        for component in recipe.texts
    )
    turns, chosen = turns_of(placement), named.get(VAE, info)
    again = partial(load_vae, chosen, VAE in named, arena=arena)
    vae = again(placement, header=headers[chosen.path])
    for reader in readers:
        put(reader.module, placement.text_device, placement, turns)
    put(unet, placement.unet_device, placement, turns)
    put(vae, placement.vae_device, placement, turns)
    scaling = float(chosen.config[VAE].get("scaling_factor", recipe.scaling))
    autoencoder = Autoencoder(vae, placement, scaling=scaling, load=again, turns=turns)
    built = Built(
        info=info, separate=separate, placement=placement, unet=unet, readers=readers, autoencoder=autoencoder,
        turns=turns, arena=arena, load=partial(load, recipe, info, separate),
    )  # fmt: skip
    return recipe.model(built)


def check_parts(recipe: Recipe, info: ModelInfo, separate: Mapping[str, ModelInfo]) -> None:
    """Raise UnsupportedCheckpoint where a part is missing, or where the text encoders do not fit the UNet."""
    widths: dict[str, int] = {}
    for component in (VAE, *recipe.texts):
        source = separate.get(component, info)
        config = own_config(source, component, alone=component in separate)
        if config is None:
            what = WORDS[component]
            raise UnsupportedCheckpoint(f"{info.name} has no {what} of its own.", hint=f"Choose a {what} file for it.")
        if component != VAE:
            widths[source.name] = widths.get(source.name, 0) + int(config["hidden_size"])
    wanted = info.config[UNET]["cross_attention_dim"]
    if sum(widths.values()) != wanted:
        sources = " and ".join(widths)
        raise UnsupportedCheckpoint(
            f"{sources} {'give' if len(widths) > 1 else 'gives'} texts a width of {sum(widths.values())} where "
            f"{info.name} needs {wanted}.",
            hint="Choose another text encoder.",
        )


def own_config(source: ModelInfo, component: str, *, alone: bool) -> Mapping[str, Any] | None:
    """The configuration of a part in file `source`; alone: the file is taken as a text encoder's."""
    return source.config.get(TEXT if alone and component != VAE else component)


def load_unet(
    info: ModelInfo, header: Header, placement: Placement, *, upcast: bool = False, arena: Arena | None = None
) -> UNet2DConditionModel:
    """The UNet of checkpoint `info`, where it is kept. Raises CheckpointError."""
    names = sort_parts(header).of(UNET)
    unet = skeleton(UNet2DConditionModel, info.config[UNET], lambda config: UNet2DConditionModel(**config))
    fill(
        unet, map_tensors(header, names.values()), names=names, device=home(placement.unet_device, placement),
        dtype=placement.dtype, source=header.path.name, storage=placement.storage, arena=arena,
    )  # fmt: skip
    if upcast or info.config[UNET].get("upcast_attention"):
        upcast_attention(unet, placement)
    return unet


def _text(
    component: str,
    recipe: Recipe,
    chosen: ModelInfo,
    headers: Mapping[str, Header],
    placement: Placement,
    *,
    alone: bool,
    arena: Arena | None,
) -> ClipEncoder:
    """A text encoder; alone: file `chosen` is taken as a text encoder's, not as a checkpoint."""
    header, own = headers[chosen.path], TEXT if alone else component
    names = (text_parts(header) if alone else sort_parts(header)).of(own)
    return load_clip(
        chosen, names, chosen.config[own], placement, layer=recipe.texts[component], component=component,
        tokenizer=recipe.tokenizer, arena=arena, header=header,
    )  # fmt: skip
