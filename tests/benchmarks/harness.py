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
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.benchmarks.tables import markdown

UNET: Mapping[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
NARROW_UNET: Mapping[str, Any] = {**UNET, "block_out_channels": (192, 384, 768, 768)}  # 2.07 GB in all, in float32
SDXL_UNET: Mapping[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
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
TEXT_2: Mapping[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}  # in a safetensors header


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
    return _write(path, {"unet": empty_unet(unet), "vae": empty_vae(), "text_encoder": empty_text()}, seed, dtype)


def write_sdxl(path: Path, *, seed: int = 0, dtype: torch.dtype = torch.float16) -> Path:
    """The same of Stable Diffusion XL, 6.94 GB in float16. No more than one tensor is in memory at once."""
    parts = {
        "unet": empty_unet(SDXL_UNET), "vae": empty_vae(), "text_encoder": empty_text(),
        "text_encoder_2": empty_projected_text(),
    }  # fmt: skip
    return _write(path, parts, seed, dtype)


def _write(path: Path, parts: Mapping[str, nn.Module], seed: int, dtype: torch.dtype) -> Path:
    shapes: dict[str, tuple[str, torch.Size]] = {}
    for component, part in parts.items():
        for name, value in part.state_dict().items():
            if "position_ids" not in name:
                text = component.startswith("text_encoder") and not name.startswith("text_projection")
                middle = "text_model." if text and "text_model" not in name else ""
                shapes[f"{component}.{middle}{name}"] = name, value.shape
    generator, end, entries = torch.Generator().manual_seed(seed), 0, {}
    for full, (_, shape) in shapes.items():
        begin, end = end, end + shape.numel() * dtype.itemsize
        entries[full] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    raw += b" " * (-len(raw) % 8)  # tensors begin at a multiple of eight bytes, as the format's own writer has it
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for name, shape in shapes.values():
            file.write(_random(name, shape, generator).to(dtype).view(torch.uint8).numpy().tobytes())
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


def empty_projected_text() -> nn.Module:
    with init_empty_weights():
        model: nn.Module = CLIPTextModelWithProjection(CLIPTextConfig(**TEXT_2))
    return model
