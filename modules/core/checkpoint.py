"""What can be known about a model file without loading it, and the choices that go with it.

`read_header` reads safetensors and GGUF files and folders in diffusers' layout; see `header`, `gguf` and `folder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from modules.core.folder import read_folder
from modules.core.gguf import read_gguf
from modules.core.header import (
    DTYPE_BYTES,
    MODEL_INDEX,
    MODEL_INDEXES,
    PICKLES,
    Header,
    TensorInfo,
    read_safetensors,
    unreadable,
)

__all__ = [
    "DTYPE_BYTES",
    "MODEL_INDEX",
    "MODEL_INDEXES",
    "PICKLES",
    "Defaults",
    "Header",
    "ModelInfo",
    "Names",
    "Separate",
    "Source",
    "TensorInfo",
    "read_header",
    "unreadable",
]

File = TypeVar("File")


@dataclass(frozen=True)
class Source:
    """Where a parameter of a network comes from: a tensor of the file, a part of it, or it turned around.

    rows: (start, stop) along the first dimension, None for all of it: original files keep query, key and value in one.
    change: "swap_halves" exchanges the two halves of the first dimension (scale and shift, which diffusers keeps the
    other way round), "transpose" the two dimensions.
    """

    name: str
    rows: tuple[int, int] | None = None
    change: Literal["", "swap_halves", "transpose"] = ""


Names = Mapping[str, "str | Source"]  # a network's parameter name -> the file's tensor


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a checkpoint wants where nothing was chosen. width, height: pixels; sampler, schedule: registry names.

    distilled_cfg_scale: of models that were distilled with guidance (Flux dev), None where there is no such input.
    shift: of flow models, how far their noise levels lean to the noisy side; None for the model's own rule.
    """

    width: int = 512
    height: int = 512
    steps: int = 20
    cfg_scale: float = 7.0
    sampler: str = "dpmpp_2m"
    schedule: str = "automatic"
    clip_skip: int = 1
    distilled_cfg_scale: float | None = None
    shift: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A checkpoint as the catalog lists it, from its header alone.

    name: path below the models folder without extension, with forward slashes (unique within the catalog).
    family: registry name (`sd1`); label: as shown ("Stable Diffusion 1"); supported False: recognised, not loadable
    (`problem` says why). prediction: "epsilon", "v", "edm" or "flow". variant: what sets it apart within its family,
    such as "inpaint", "refiner", "turbo", "schnell"; "" for the plain model. dtype: of most weight bytes.
    quantisation: how weights are packed: "" (not at all), "fp8", "fp8_scaled", "nf4", "fp4" or "gguf". layout:
    "original" or "diffusers".
    components: by diffusers' names, of "unet" or "transformer", "text_encoder", "text_encoder_2", "text_encoder_3",
    "vae". config: by component, the keyword arguments of its class.
    For a text encoder or VAE alone in a file, `variant` is its kind (see `Part`).
    """

    name: str
    path: str
    family: str
    label: str
    supported: bool
    problem: str = ""
    prediction: str = "epsilon"
    variant: str = ""
    dtype: str = "F16"
    quantisation: str = ""
    layout: str = "original"
    components: tuple[str, ...] = ("unet", "text_encoder", "vae")
    size: int = 0
    mtime_ns: int = 0
    sha256: str | None = None
    defaults: Defaults = field(default_factory=Defaults)
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def short_hash(self) -> str | None:
        """AutoV2: the first ten hexadecimal digits of the file's SHA-256; None until it is computed."""
        return self.sha256[:10] if self.sha256 else None

    @property
    def title(self) -> str:
        """The name as AUTOMATIC1111 lists it: `folder/name.safetensors [0123456789]`; of a folder its name."""
        known = f" [{self.short_hash}]" if self.short_hash else ""
        path = Path(self.path)
        return f"{self.name}{'' if path.name in MODEL_INDEXES else path.suffix}{known}"


@dataclass(frozen=True, kw_only=True)
class Separate(Generic[File]):
    """Parts of a model that come from files of their own: a `FileRef` or a `ModelInfo` each. None: the checkpoint's.

    Named as diffusers names a pipeline's components.
    """

    text_encoder: File | None = None
    text_encoder_2: File | None = None
    text_encoder_3: File | None = None
    vae: File | None = None

    @property
    def named(self) -> tuple[tuple[str, File], ...]:
        """(component, file) of those that are given."""
        found = ((each.name, getattr(self, each.name)) for each in fields(self))
        return tuple((name, file) for name, file in found if file is not None)

    @property
    def files(self) -> tuple[File, ...]:
        """Those that are given."""
        return tuple(file for _, file in self.named)


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors or GGUF file, or of the folder that a model_index.json lies in.

    No tensor byte is read. Raises CheckpointMissing, UnsafeCheckpoint (a pickle by name or content), NotAMatch (another
    format) or CorruptCheckpoint (truncated, or a header that does not describe the file), and what `unreadable` makes
    of the rest.
    """
    if path.name in MODEL_INDEXES:
        return read_folder(path)
    if path.suffix.lower() == ".gguf":
        return read_gguf(path)
    return read_safetensors(path)
