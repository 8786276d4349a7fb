"""A model's file sorted into its networks, each with its configuration and a table of names.

`sort_parts` is all that is needed to fill a network of diffusers or transformers from any layout: `of(component)` maps
each of its parameters to the file's tensor. A folder in diffusers' layout is sorted in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modules.core.checkpoint import DTYPE_BYTES, Header, Names
from modules.families.layouts import unet
from modules.families.layouts.autoencoders import autoencoder
from modules.families.layouts.clip import clip
from modules.families.layouts.language import language
from modules.families.layouts.network import Network
from modules.families.layouts.once import once
from modules.families.layouts.packed import folded
from modules.families.layouts.prefixes import Text, components, harmless, lone_text, lone_vae
from modules.families.layouts.shapes import Config, Shapes, sensible, told_config
from modules.families.layouts.t5 import t5
from modules.families.layouts.transformers import transformer
from modules.families.layouts.unets import unet_names

UNET, TRANSFORMER, VAE = "unet", "transformer", "vae"
TEXT, TEXT_2, TEXT_3 = "text_encoder", "text_encoder_2", "text_encoder_3"
_ORDER = (UNET, TRANSFORMER, TEXT, TEXT_2, TEXT_3, "text_encoder_4", VAE)
# Which component a text encoder is in the models of a kind; others have one alone
_TEXTS: Mapping[str, Mapping[str, str]] = {
    "unet": {"clip_g": TEXT_2},
    "sd3": {"clip_g": TEXT_2, "t5": TEXT_3},
    "flux": {"t5": TEXT_2},
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """layout: "original" or "diffusers". networks: by diffusers' names of components, in the order text to picture.

    rest: names that belong to no part and are not known to be harmless. ema: the UNet is there as an average only.
    quantisation: see `ModelInfo`.
    """

    layout: str
    networks: Mapping[str, Network] = field(default_factory=dict)
    rest: tuple[str, ...] = ()
    ema: bool = False
    quantisation: str = ""

    @property
    def present(self) -> tuple[str, ...]:
        """The components that are there."""
        return tuple(self.networks)

    @property
    def configs(self) -> dict[str, Config]:
        """The configuration of each component."""
        return {name: dict(found.config) for name, found in self.networks.items()}

    def of(self, component: str) -> Names:
        """The name table of `component`: parameter -> tensor of the file; empty where the file has none."""
        found = self.networks.get(component)
        return found.names if found else {}

    @property
    def unet(self) -> Mapping[str, str]:
        """The UNet's table, whose values are plain names."""
        return _plain(self.of(UNET))

    @property
    def text_encoder(self) -> Mapping[str, str]:
        """The table of a text encoder under transformers' names, whose values are plain names; no projection."""
        return {name: key for name, key in _plain(self.of(TEXT)).items() if not name.startswith("text_projection")}

    @property
    def vae(self) -> Mapping[str, str]:
        """The VAE's table, whose values are plain names."""
        return _plain(self.of(VAE))


def _plain(names: Names) -> dict[str, str]:
    return {name: key for name, key in names.items() if isinstance(key, str)}


@once
def sort_parts(header: Header) -> Parts:
    """Sort a file or folder into networks; one that holds none has none.

    Raises CorruptCheckpoint where a network's dimensions cannot be told, because too much is missing or damaged.
    """
    with sensible(header):
        return _sorted(header)


def _sorted(header: Header) -> Parts:
    plain = folded(header)
    found = components(plain.header)
    told = told_config(header)
    networks: dict[str, Network] = {}
    layout = "original"
    if own := unet_names(plain.header):
        layout, networks[UNET] = _unet(plain.header, *own, told.get(UNET, {}))
    elif found.kind and (read := transformer(plain.header, found.kind, found.denoiser, told.get(TRANSFORMER, {}))):
        layout, networks[TRANSFORMER] = read
    for text in found.texts:
        component = _folder_component(text, header) or _guess(text, found.kind)
        if encoder := _text(plain.header, text, told.get(component, {})):
            component = _folder_component(text, header) or _TEXTS.get(found.kind, {}).get(encoder.kind, TEXT)
            networks.setdefault(component, encoder)
    if found.vae and (vae := autoencoder(plain.header, found.vae, told.get(VAE, {}))):
        networks[VAE] = vae[1]
        layout = layout if found.kind else vae[0]
    return Parts(
        layout="diffusers" if header.configs else layout,
        networks={name: _as_told(networks[name], name, header) for name in _ORDER if name in networks},
        rest=found.rest,
        ema=found.ema,
        quantisation=plain.quantisation,
    )


def _unet(header: Header, layout: str, names: Mapping[str, str], told: Mapping[str, Any]) -> tuple[str, Network]:
    config = unet.config(Shapes(header, names), told)
    wanted = dict.fromkeys(unet.expected(config))
    missing = tuple(name for name in wanted if name not in names)
    unknown = tuple(key for name, key in names.items() if name not in wanted)
    return layout, Network(kind="unet", config=config, names=names, missing=missing, unknown=unknown)


def _text(header: Header, text: Text, told: Mapping[str, Any]) -> Network | None:
    for read in (clip, t5, language):
        if found := read(header, text.inner, told, text.hint):
            return found
    return None


def _folder_component(text: Text, header: Header) -> str:
    """The component's name where the file or folder says it."""
    name = text.prefix.removesuffix(".")
    return name if name in _ORDER and (header.configs or name != TEXT) else ""


def _guess(text: Text, kind: str) -> str:
    return _TEXTS.get(kind, {}).get(text.hint, TEXT)


def _as_told(found: Network, component: str, header: Header) -> Network:
    """With the configuration that a folder in diffusers' layout gives for it: shapes do not tell everything."""
    told = header.configs.get(component, {})
    if (
        "_class_name" not in told
    ):  # of transformers' classes what is needed is read from shapes, and from there the rest
        return found
    return replace(found, config={name: value for name, value in told.items() if not name.startswith("_")})


def vae_parts(header: Header) -> Parts:
    """The parts of a file that holds a VAE alone, with or without a prefix, in either layout; or of a checkpoint's VAE.

    Raises CorruptCheckpoint.
    """
    plain = folded(header)
    inner = lone_vae(plain.header)
    with sensible(header):
        found = autoencoder(plain.header, inner, told_config(header).get(VAE, {}))
    if found is None:
        return Parts(layout="original", quantisation=plain.quantisation)
    rest = tuple(key for key in plain.header.tensors if key not in set(inner.values()) and not harmless(key))
    return Parts(layout=found[0], networks={VAE: found[1]}, rest=rest, quantisation=plain.quantisation)


def text_parts(header: Header) -> Parts:
    """The parts of a file that holds a text encoder alone, under whichever prefix programs store it.

    Its component is "text_encoder", whatever it is in the model that it is used with. Of a checkpoint, its first one.
    Raises CorruptCheckpoint.
    """
    plain = folded(header)
    text = lone_text(plain.header)
    with sensible(header):
        found = _text(plain.header, text, told_config(header).get(TEXT, {}))
    if found is None:
        return Parts(layout="original", quantisation=plain.quantisation)
    layout = "original" if text.prefix.startswith(("cond_stage_model.", "conditioner.")) else "diffusers"
    return Parts(layout=layout, networks={TEXT: found}, quantisation=plain.quantisation)


def main_dtype(header: Header) -> str:
    """The dtype that most weight bytes have."""
    totals: dict[str, float] = {}
    for info in header.tensors.values():
        totals[info.dtype] = totals.get(info.dtype, 0) + info.offsets[1] - info.offsets[0]
    known = {dtype: size for dtype, size in totals.items() if dtype in DTYPE_BYTES or dtype.startswith(("Q", "IQ"))}
    return max(known, key=lambda dtype: known[dtype], default="F32")
