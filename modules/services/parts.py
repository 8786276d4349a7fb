"""Which VAE and text encoders a checkpoint is used with: those that were chosen, its own, or files that fit it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from modules.core.checkpoint import MODEL_INDEXES, ModelInfo, Separate
from modules.core.errors import RequestError, UnsupportedCheckpoint
from modules.core.family import KINDS, Part

AUTOMATIC, NONE = "automatic", "none"
TEXT, VAE = "text_encoder", "vae"  # request fields, and how the parts' names begin
CLIP_TOKENS = 77
# Hidden width and layers of the text encoders that come in one size only
CLIP_SIZES: Mapping[str, tuple[int, int]] = {"clip_l": (768, 12), "clip_g": (1280, 32)}

# VAEs of SD1 and SDXL, and of SD3 and Flux, have the same shapes and other latents: their names are all that tells
_FLUX_LIKE = frozenset({"flux", "chroma", "z_image"})
_SPEAKS_FOR: Mapping[str, frozenset[str]] = {
    "xl": frozenset({"sdxl"}), "sd3": frozenset({"sd3"}), "sd_3": frozenset({"sd3"}), "sd-3": frozenset({"sd3"}),
    "stable-diffusion-3": frozenset({"sd3"}), "flux": _FLUX_LIKE,
}  # fmt: skip
_MUST_SAY = frozenset({"sdxl", "sd3"})  # families that no VAE is taken for whose name says nothing


class Files(Protocol):
    """What is asked of the catalog."""

    def vaes(self) -> Sequence[ModelInfo]: ...
    def text_encoders(self) -> Sequence[ModelInfo]: ...
    def find_vae(self, text: str) -> ModelInfo: ...
    def find_text_encoder(self, text: str) -> ModelInfo: ...
    def needs(self, info: ModelInfo) -> Sequence[Part]: ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """A part of a checkpoint, and what can stand there.

    own: whether the checkpoint holds it. automatic: the file that is used where nothing is chosen, None for the
    checkpoint's own or where nothing fits. fitting: every file that can be chosen for it, the best first.
    """

    part: Part
    own: bool
    automatic: ModelInfo | None
    fitting: tuple[ModelInfo, ...]

    @property
    def missing(self) -> bool:
        """Whether the checkpoint cannot be used until there is a file."""
        return not (self.own or self.part.optional or self.automatic)

    @property
    def field(self) -> str:
        """The request's field that chooses for it."""
        return VAE if self.part.name == VAE else TEXT


def places(info: ModelInfo, files: Files) -> tuple[Place, ...]:
    """Everything beside its denoiser that checkpoint `info` is used with."""
    return tuple(_place(info, part, files) for part in files.needs(info))


def complete(info: ModelInfo, files: Files) -> bool:
    """Whether there is a file for every part that the checkpoint lacks."""
    return not any(place.missing for place in places(info, files))


def choose_parts(info: ModelInfo, *, vae: str, text_encoder: str | Sequence[str], files: Files) -> Separate[ModelInfo]:
    """The files to use beside checkpoint `info`.

    vae: a name, "Automatic" or "None" (the checkpoint's own). text_encoder: "Automatic", or one name or several, each
    of which goes where it fits; the other places are filled as without a choice.
    Raises RequestError, which names what is missing and what would fit, or CheckpointError for an unusable choice.
    """
    found = places(info, files)
    chosen = _placed(info, _asked(text_encoder), found, files)
    wanted = vae.strip()
    if wanted.lower() not in (AUTOMATIC, NONE):
        chosen[VAE] = _fitting_vae(info, wanted, found, files)
    missing = []
    for place in found:
        name = place.part.name
        own_vae = name == VAE and wanted.lower() == NONE
        if name in chosen:
            continue
        if place.missing or (own_vae and not place.own):
            missing.append(place)
        elif place.automatic is not None and not own_vae:
            chosen[name] = place.automatic
    if missing:
        raise _missing(info, missing, refused=wanted.lower() == NONE and missing[0].field == VAE)
    return Separate(**chosen)


def fits(info: ModelInfo, name: str, files: Files) -> bool:
    """Whether the VAE file `name` ("Automatic" and "None" too) can be used with a checkpoint."""
    if name.strip().lower() in (AUTOMATIC, NONE):
        return True
    known = {file.path for place in places(info, files) if place.field == VAE for file in place.fitting}
    return files.find_vae(name).path in known


def _asked(text_encoder: str | Sequence[str]) -> list[str]:
    names = [text_encoder] if isinstance(text_encoder, str) else list(text_encoder)
    return [name.strip() for name in names if name.strip().lower() != AUTOMATIC]


def _placed(info: ModelInfo, names: Iterable[str], found: Sequence[Place], files: Files) -> dict[str, ModelInfo]:
    """Part -> the text encoder that was chosen for it."""
    chosen: dict[str, ModelInfo] = {}
    for name in names:
        file = _usable(files.find_text_encoder(name))
        fitting = [place for place in found if place.field == TEXT and file in place.fitting]
        if not fitting:
            raise _misfit(info, file, [place for place in found if place.field == TEXT])
        place = next((place for place in fitting if place.part.name not in chosen), None)
        if place is None:
            other = chosen[fitting[0].part.name]
            raise RequestError(
                TEXT,
                f"{other.name} and {file.name} are both a {fitting[0].part.label}",
                accepted="one file of each kind",
            )
        chosen[place.part.name] = file
    return chosen


def _fitting_vae(info: ModelInfo, name: str, found: Sequence[Place], files: Files) -> ModelInfo:
    file = _usable(files.find_vae(name))
    wanted = [place for place in found if place.field == VAE]
    if not any(file in place.fitting for place in wanted):
        raise _misfit(info, file, wanted)
    return file


def _misfit(info: ModelInfo, file: ModelInfo, wanted: Sequence[Place]) -> RequestError:
    """The error for a file that was chosen and fits nowhere."""
    if not wanted:
        what = "text encoder" if file.family == TEXT else "VAE"
        field = TEXT if file.family == TEXT else VAE
        return RequestError(
            field, f"{info.name} takes no {what} from another file, such as {file.name}", accepted="Automatic"
        )
    needs, width = _wanted_width(info, wanted[0].part), _dimensions(file)[0]
    if len(wanted) == 1 and file.variant == wanted[0].part.kind and None not in (needs, width):
        problem = f"{file.name} has a width of {width}, and {info.name} needs {needs}"
    else:
        kind = KINDS.get(file.variant, file.variant or file.label)
        kinds = " and ".join(place.part.kind_label for place in wanted)
        problem = f"{file.name} is {kind}, and {info.name} needs {kinds}"
    return RequestError(wanted[0].field, problem, accepted=" and ".join(_would_fit(info, place) for place in wanted))


def _missing(info: ModelInfo, missing: Sequence[Place], *, refused: bool) -> RequestError:
    """The error for parts that there is no file for. refused: the person wants none."""
    names = " and no ".join(place.part.label for place in missing)
    nothing = "" if refused else ", and there is no file that fits"
    accepted = " and ".join(_would_fit(info, place) for place in missing)
    return RequestError(missing[0].field, f"{info.name} has no {names} of its own{nothing}", accepted=accepted)


def _would_fit(info: ModelInfo, place: Place) -> str:
    if place.field == VAE:
        return f"a VAE file in models/VAE, such as {place.part.usual}"
    width = _wanted_width(info, place.part)
    if width is not None and width != CLIP_SIZES.get(place.part.kind, (width, 0))[0]:
        return f"a CLIP text encoder file of width {width} in models/text_encoder"
    return f"a {place.part.kind_label} file in models/text_encoder, such as {place.part.usual}"


def _place(info: ModelInfo, part: Part, files: Files) -> Place:
    own = part.name in info.components
    if part.name == VAE:
        fitting = sorted(
            (file for file in files.vaes() if file.supported and file.variant == part.kind),
            key=lambda file: (not _speaks(file, info), _made_for_another(file), not _usual(file, part), file.name),
        )
        told = next((file for file in fitting if _speaks(file, info)), None)
        automatic = vae_beside(info, fitting) or (None if own else told)
        return Place(part=part, own=own, automatic=automatic, fitting=tuple(fitting))
    encoders = [file for file in files.text_encoders() if file.supported and _encodes(file, info, part)]
    encoders.sort(key=lambda file: (_stretched(file), bool(file.quantisation), not _usual(file, part), file.name))
    whole = (file for file in encoders if _of_full_depth(file))
    return Place(part=part, own=own, automatic=None if own else next(whole, None), fitting=tuple(encoders))


def vae_beside(info: ModelInfo, vaes: Iterable[ModelInfo]) -> ModelInfo | None:
    """The VAE that is named after the checkpoint, beside it or in a VAE folder: AUTOMATIC1111 prefers it, too."""
    own = Path(info.path)
    own = own.parent if own.name in MODEL_INDEXES else own
    named = [vae for vae in vaes if _stem(vae) == own.stem.casefold()]
    return min(named, key=lambda vae: (Path(vae.path).parent != own.parent, vae.path), default=None)


def _stem(vae: ModelInfo) -> str:
    return Path(vae.path).stem.casefold().removesuffix(".vae")


def _made_for_another(vae: ModelInfo) -> bool:
    """Named after some checkpoint, as it is not this one's."""
    return Path(vae.path).stem.lower().endswith(".vae")


def _speaks(vae: ModelInfo, info: ModelInfo) -> bool:
    """Whether the VAE's name says that its latents are this family's, or says nothing against it."""
    name = vae.name.casefold()
    families = [known for word, known in _SPEAKS_FOR.items() if word in name]
    families += [_FLUX_LIKE] if name.rpartition("/")[2] == "ae" else []
    return any(info.family in known for known in families) if families else info.family not in _MUST_SAY


def _usual(file: ModelInfo, part: Part) -> bool:
    return bool(part.usual) and Path(part.usual).stem.casefold() in file.name.casefold()


def _encodes(file: ModelInfo, info: ModelInfo, part: Part) -> bool:
    """Whether a text encoder is of the part's kind and as wide as the checkpoint's denoiser expects."""
    wanted, width = _wanted_width(info, part), _dimensions(file)[0]
    if wanted is not None and width is not None and wanted != width:
        return False
    unusual = wanted is not None and wanted != CLIP_SIZES.get(part.kind, (wanted, 0))[0]
    return file.variant == part.kind or (unusual and file.variant.startswith("clip"))


def _of_full_depth(file: ModelInfo) -> bool:
    width, layers = _dimensions(file)
    usual = CLIP_SIZES.get(file.variant)
    return usual is None or width != usual[0] or layers in (None, usual[1])


def _stretched(file: ModelInfo) -> bool:
    """Whether it is a CLIP that was stretched to longer texts."""
    tokens = _config(file).get("max_position_embeddings", CLIP_TOKENS)
    return file.variant.startswith("clip") and tokens != CLIP_TOKENS


def _wanted_width(info: ModelInfo, part: Part) -> int | None:
    """How wide the text encoder must be, where the denoiser's own shapes tell."""
    denoiser = info.config.get("unet") or info.config.get("transformer") or {}
    if "cross_attention_dim" in denoiser and part.name == TEXT and part.kind in ("clip_l", "clip_h"):
        width = None if info.family == "sdxl" else denoiser["cross_attention_dim"]
    elif part.kind == "clip_l" and info.family in ("flux", "chroma"):
        width = denoiser.get("pooled_projection_dim")
    elif not part.kind.startswith("clip"):
        names = ("joint_attention_dim", "cap_feat_dim", "caption_channels", "text_embed_dim")
        width = next((denoiser[name] for name in names if name in denoiser), None)
    else:
        width = None
    return width if isinstance(width, int) else None


def _config(file: ModelInfo) -> Mapping[str, Any]:
    return file.config.get(TEXT) or next(iter(file.config.values()), {})


def _dimensions(file: ModelInfo) -> tuple[int | None, int | None]:
    """(hidden width, layers), as CLIP, T5 or a language model names them; None where it is not known."""
    config = _config(file)
    config = {**config, **config.get("text_config", {})}
    return config.get("hidden_size", config.get("d_model")), config.get("num_hidden_layers", config.get("num_layers"))


def _usable(info: ModelInfo) -> ModelInfo:
    if not info.supported:
        raise UnsupportedCheckpoint(info.problem or f"{info.name} cannot be used.")
    return info
