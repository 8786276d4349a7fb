"""diffusers' modular pipelines with the face of its ordinary ones: the same names, where they have others or none."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from accelerate.hooks import remove_hook_from_module
from diffusers import ModularPipeline
from torch import nn

WORKFLOW = "text2image"  # of those that a modular pipeline declares


class Modular:
    """A modular pipeline with all its parts. What it has itself is asked of it: `scheduler`, `vae`, `to` ..."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._hooks: list[Any] = []
        self.components: Mapping[str, Any] = dict(pipeline.components)
        self.accepted = accepted(pipeline.blocks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def __call__(self, *, return_dict: bool = False, **values: Any) -> tuple[Any]:
        return (self._pipeline(output="images", **values),)

    def enable_model_cpu_offload(self, device: torch.device) -> None:
        """Bring each part when it is its turn, and take the one before it away."""
        hook = None
        for part in self._networks():
            _, hook = cpu_offload_with_hook(part, device, prev_module_hook=hook)
            self._hooks.append(hook)

    def enable_sequential_cpu_offload(self, device: torch.device) -> None:
        """Bring each layer when it is its turn."""
        for part in self._networks():
            cpu_offload(part, device, offload_buffers=len(part._parameters) > 0)

    def remove_all_hooks(self) -> None:
        for part in self._networks():
            remove_hook_from_module(part, recurse=True)
        self._hooks = []

    def maybe_free_model_hooks(self) -> None:
        for hook in self._hooks:
            hook.offload()

    def _networks(self) -> list[nn.Module]:
        return [part for part in self.components.values() if isinstance(part, nn.Module)]


def accepted(blocks: Any) -> Mapping[str, inspect.Parameter]:
    """What the blocks of a pipeline take, as a function's parameters by name."""
    named = inspect.Parameter.KEYWORD_ONLY
    return {each.name: inspect.Parameter(each.name, named, default=each.default) for each in blocks.inputs if each.name}


def load_modular(folder: Path, variant: str | None, dtype: torch.dtype) -> Modular:
    """The pipeline of a folder with all parts for a picture from text. Raises ValueError and what loading raises."""
    pipeline = ModularPipeline.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False, workflow=WORKFLOW
    )
    chosen = {"variant": variant} if variant else {}
    for name in pipeline.pretrained_component_names:
        part = pipeline.get_component_spec(name)
        if part.pretrained_model_name_or_path != str(folder):  # its own loading would look on a hub, and only warn
            raise ValueError(f"its {name} is not in the folder")
        pipeline.update_components(**{name: part.load(dtype=dtype, local_files_only=True, **chosen)})
    return Modular(pipeline)
