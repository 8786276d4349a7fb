"""What the benchmarks share: alternating runs, medians, the machine in words, tables, and full-size checkpoints."""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from tests.benchmarks.tables import markdown

UNET: Mapping[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
NARROW_UNET: Mapping[str, Any] = {**UNET, "block_out_channels": (192, 384, 768, 768)}  # 2.07 GB in all, in float32
VAE: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
TEXT: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Medians of one way to do it. wall, cpu: seconds (cpu of all threads together); runs: how many were measured."""

    name: str
    wall: float
    cpu: float
    runs: int
    walls: tuple[float, ...]


def alternate(ways: Mapping[str, Callable[[], object]], *, runs: int, warm: int = 1) -> dict[str, Timing]:
    """Time several ways to do one thing, taking turns, so that a noisy machine disturbs all alike. `warm` turns are
    not counted.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(warm + runs):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            if turn >= warm:
                found[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: timing(name, times) for name, times in found.items()}


def timing(name: str, times: Sequence[tuple[float, float]]) -> Timing:
    """Medians of (wall, cpu) seconds."""
    walls, cpus = zip(*times, strict=True)
    return Timing(
        name=name, wall=statistics.median(walls), cpu=statistics.median(cpus), runs=len(times), walls=tuple(walls)
    )


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference between two pictures of one value range."""
    return float((a.float() - b.float()).abs().max())


def pixels(png: bytes) -> Tensor:
    """A finished picture, (H, W, 3) uint8."""
    with Image.open(io.BytesIO(png)) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB")).copy())


def pixel_difference(a: bytes, b: bytes) -> float:
    """The largest difference between two finished pictures, of 1.0: a level is 1 / 255."""
    return difference(pixels(a), pixels(b)) / 255


def machine() -> dict[str, str]:
    """The machine in words."""
    return {
        "processor": _processor(),
        "cores": f"{psutil.cpu_count(logical=False)} ({torch.get_num_threads()} threads used)",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": f"{psutil.getloadavg()[0]:.1f} before the first run",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def report(
    title: str, rows: Sequence[Mapping[str, object]], *, facts: Mapping[str, object], output: Path | None
) -> None:
    """Print a markdown table with the machine below it; write the same as JSON where `output` is given."""
    print("\n" + markdown(title, rows, facts))
    if output:
        output.write_text(
            json.dumps({"title": title, "rows": list(rows), "facts": dict(facts)}, indent=1, default=asdict),
            encoding="utf-8",
        )


def arguments(description: str, *, runs: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=runs, help="measured runs of each way (default %(default)s)")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False), help="torch threads")
    parser.add_argument("--json", type=Path, default=None, help="write the figures there, too")
    return parser


def write_sd15(
    path: Path, *, seed: int = 0, dtype: torch.dtype = torch.float16, unet: Mapping[str, Any] = UNET
) -> Path:
    """A checkpoint of Stable Diffusion 1.5's shapes with random weights, 2.13 GB in float16; returns `path`.

    Weights are uniform with half the variance that keeps activations level, so that nothing overflows.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for prefix, part in (("unet.", empty_unet(unet)), ("vae.", empty_vae()), ("text_encoder.", empty_text())):
        for name, value in part.state_dict().items():
            if "position_ids" not in name:
                middle = "text_model." if prefix == "text_encoder." and "text_model" not in name else ""
                tensors[prefix + middle + name] = _random(name, value.shape, generator).to(dtype)
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if len(shape) < 2:
        return torch.full(shape, 1.0 if name.endswith("weight") else 0.0)
    bound = 1.0 if "embedding" in name and "time" not in name else (1.5 / shape[1:].numel()) ** 0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def empty_unet(config: Mapping[str, Any] = UNET) -> nn.Module:
    with init_empty_weights():
        model: nn.Module = UNet2DConditionModel(**config)
    return model


def empty_vae() -> nn.Module:
    with init_empty_weights():
        model: nn.Module = AutoencoderKL(**VAE)
    return model


def empty_text() -> nn.Module:
    with init_empty_weights():
        model: nn.Module = CLIPTextModel(CLIPTextConfig(**TEXT))
    return model
