"""Any text-to-image pipeline of diffusers, from a folder in its layout, run as it is: one picture at a time.

What the other backbones have by their own sampling (batches, samplers, previews) is not there; progress, interrupt and
seeds are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from diffusers.guiders.guider_utils import BaseGuidance
from torch import Tensor, nn

from modules.backbones.loaded import model_key
from modules.backbones.modular import Modular, load_modular
from modules.backbones.pipeline_call import Arguments, arguments, parameters
from modules.backbones.pipeline_folder import PipelineFolder, look_into, refused
from modules.backbones.pipeline_memory import LESS, SHORT, Mode, decode_in_tiles, first_mode, keep
from modules.backbones.pipeline_steps import Steps, seeded, told
from modules.backbones.weights import weight_bytes
from modules.core.checkpoint import ModelInfo, Separate
from modules.core.errors import CorruptCheckpoint, EngineError, UnsupportedCheckpoint
from modules.core.generation import Emphasis, GenerationPlan, drawn_by
from modules.core.operations import Text
from modules.core.sampling import NoiseLevels
from modules.diffusion.backbone import Batch, Placement, backbone
from modules.diffusion.shortage import is_short

_SAFE = 64  # pixels; what no VAE and no patch divides unevenly


class GenericPipeline:
    """A loaded pipeline: the engine's `Whole`. pipeline: a diffusers.DiffusionPipeline, or a `Modular`."""

    latent_channels = 0
    downscale = 8

    def __init__(self, info: ModelInfo, placement: Placement, pipeline: Any) -> None:
        self.info, self.placement = info, placement
        self.key = model_key(info, Separate(), placement)
        self._pipeline = pipeline
        self._parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
        self.weight_bytes = weight_bytes(*self._parts)
        self._accepted = pipeline.accepted if isinstance(pipeline, Modular) else parameters(type(pipeline).__call__)
        self._guiders = [part for part in pipeline.components.values() if isinstance(part, BaseGuidance)]
        self._mode: Mode = first_mode(placement.vram, placement.unet_device, self.weight_bytes)
        pipeline.set_progress_bar_config(disable=True)
        keep(pipeline, placement.unet_device, self._mode)

    def run(self, plan: GenerationPlan, stepped: Callable[[int, int], None], notice: Callable[[str], None]) -> Tensor:
        """Make the picture of `plan`: see `Whole`. Random numbers come from one generator with the picture's seed."""
        guided = any(hasattr(part, "guidance_scale") for part in self._guiders)
        wanted: Arguments = arguments(self._accepted, plan, self.info.defaults, guider=guided)
        for text in wanted.notices:
            notice(text)
        while True:
            steps = Steps(wanted.steps, stepped)
            try:
                with self._guided(wanted.guider_scale), seeded(plan.seeds[0], self.placement.unet_device):
                    answer = self._made(wanted.values, plan, steps)
                break
            except (MemoryError, RuntimeError) as error:
                # The CPU and Apple's GPUs have one memory: there is nowhere else to keep parts
                one_memory = self.placement.unet_device.type in ("cpu", "mps")
                if not is_short(error) or self._mode not in LESS or one_memory:
                    raise
            # Only here has the failed attempt let go of its tensors
            self._mode = LESS[self._mode]
            notice(SHORT[self._mode])
            keep(self._pipeline, self.placement.unet_device, self._mode)
            decode_in_tiles(self._pipeline)
        picture = as_picture(answer[0])
        if any(_flags(answer)):
            notice("This model's own safety checker took the picture for unsafe and blackened it.")
        if 0 < steps.done < wanted.steps:
            notice(f"This model keeps to a number of steps of its own: it made {steps.done} of {wanted.steps}.")
        height, width = picture.shape[-2:]
        if (width, height) != (plan.width, plan.height):
            notice(f"This model makes no picture of {plan.width} x {plan.height} pixels: it is {width} x {height}.")
        return picture

    def _made(self, wanted: Mapping[str, Any], plan: GenerationPlan, steps: Steps) -> tuple[Any, ...]:
        values = dict(wanted)
        if "generator" in self._accepted:
            values["generator"] = self._generator(plan)
        if "output_type" in self._accepted:
            values["output_type"] = "np"  # as "pt" some give what their decoder says, in -1..1
        try:
            with told(self._pipeline, self._accepted, values, steps):
                answer = self._pipeline(**values, return_dict=False)
                return answer if isinstance(answer, tuple) else (answer,)  # Stable Cascade forgets it
        except NameError as error:  # of a package that the pipeline looks for and uses without it as well
            raise refused(self.info.name, self.info.label, error) from error
        except RuntimeError as error:  # PixArt finds out by its tensors that a side is odd in its latent
            if "size of tensor" not in str(error) or not (plan.width % _SAFE or plan.height % _SAFE):
                raise
            raise EngineError(
                f"{self.info.label} makes no picture of {plan.width} x {plan.height} pixels: {error}",
                hint=f"Sides that are multiples of {_SAFE} suit every model.",
            ) from error
        finally:
            self._pipeline.maybe_free_model_hooks()

    @contextmanager
    def _guided(self, scale: float | None) -> Iterator[None]:
        """While it lasts, the parts that guide do so by `scale`."""
        before = [(part, part.guidance_scale) for part in self._guiders if hasattr(part, "guidance_scale")]
        try:
            for part, own in before:
                part.guidance_scale = own if scale is None else scale
            yield
        finally:
            for part, own in before:
                part.guidance_scale = own

    def _generator(self, plan: GenerationPlan) -> torch.Generator:
        device = self.placement.unet_device
        on = device if drawn_by(plan.noise_source, str(device)) == "GPU" else torch.device("cpu")
        return torch.Generator(on).manual_seed(plan.seeds[0])

    def upcast(self) -> GenericPipeline:
        """The same model in float32, read from its folder again: it shares nothing with this one."""
        exact = replace(self.placement, dtype=torch.float32, vae_dtype=torch.float32)
        return load_pipeline(self.info, exact)

    def close(self) -> None:
        """Drop the weights. The object is not used afterwards."""
        self._pipeline.remove_all_hooks()
        self._pipeline = None
        for part in self._parts:
            if not getattr(part, "is_quantized", False):  # those refuse to be moved, and go with their last reference
                part.to("meta")
        self._parts = []

    # -- what a model that is stepped from outside would do

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[tuple[str, ...], ...]:
        self._refuse()

    def noise_levels(self, width: int, height: int, shift: float | None = None) -> NoiseLevels:
        self._refuse()

    def encode(self, texts: Sequence[str], clip_skip: int, emphasis: Emphasis = "Original") -> list[Text]:
        self._refuse()

    def denoise(self, batch: Batch) -> Tensor:
        self._refuse()

    def encode_picture(self, picture: Tensor) -> Tensor:
        self._refuse()

    def decode(self, latent: Tensor, *, fp32: bool = False, tiled: bool = False, seamless: bool = False) -> Tensor:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnsupportedCheckpoint(
            f"{self.info.name} runs as a whole through {self.info.label}, which cannot be stepped.",
            hint="Only text to image is possible with it.",
        )


def _flags(answer: tuple[Any, ...]) -> Iterator[bool]:
    """What a safety checker found in each picture, where a pipeline answers that as well."""
    for found in answer[1:]:
        if isinstance(found, Sequence | np.ndarray) and not isinstance(found, str):
            yield from (bool(each) for each in found if isinstance(each, bool | np.bool_))


def as_picture(found: Any) -> Tensor:
    """(3, H, W) float32 in 0..1 of a pipeline's answer: (N, 3, H, W), (N, H, W, 3) or a list of pictures."""
    if isinstance(found, Tensor):
        return found[0].float()
    first = np.asarray(found[0])
    values = torch.from_numpy(np.array(first[..., :3], dtype=np.float32)).permute(2, 0, 1)
    return values / 255 if first.dtype == np.uint8 else values


@backbone("diffusers")
def diffusers_adapter(info: ModelInfo, separate: Separate[ModelInfo], placement: Placement) -> GenericPipeline:
    """Load a folder in diffusers' layout. Raises CheckpointError."""
    if separate.files:
        names = ", ".join(name.replace("_", " ") for name, _ in separate.named)
        raise UnsupportedCheckpoint(
            f"{info.name} is a folder that is used as it is: it takes no other {names}.",
            hint="Choose none.",
        )
    return load_pipeline(info, placement)


def load_pipeline(info: ModelInfo, placement: Placement) -> GenericPipeline:
    """The pipeline of the folder whose model_index.json is `info.path`. Raises CheckpointError."""
    folder = look_into(Path(info.path))
    return GenericPipeline(info, placement, _loaded(folder, placement))


def _loaded(folder: PipelineFolder, placement: Placement) -> Any:
    try:
        if folder.modular:
            pipeline: Any = load_modular(folder.path, folder.variant, placement.dtype)
        else:
            pipeline = folder.kind.from_pretrained(
                str(folder.path), local_files_only=True, use_safetensors=True, trust_remote_code=False,
                variant=folder.variant, dtype=placement.dtype,
            )  # fmt: skip
    except (ValueError, OSError, ImportError, NameError, KeyError, TypeError, AttributeError) as error:
        raise refused(folder.path.name, folder.kind.__name__, error) from error
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            empty = next((key for key, value in part.named_parameters() if value.is_meta), None)
            if empty is not None:
                raise CorruptCheckpoint(f"{folder.path.name} is incomplete: {empty} of its {name} is missing.")
    return pipeline
