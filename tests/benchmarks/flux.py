"""A Flux.1 of its true widths and a quarter of its depth: how long it takes to load, and how much memory.

    python -m tests.benchmarks.flux [--dtype bfloat16] [--size 128] [--double 5] [--single 10]

The file is in bfloat16, random, in the layout that Flux was published in; its text encoders have true widths and one
layer, its VAE is whole. In bfloat16 the transformer's weights stay pages of the file, and so take no anonymous memory;
in float32 (--dtype float32) they are converted and take twice the file's size.
"""

from __future__ import annotations

import json
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from modules.core.generation import FileRef, ModelChoice
from modules.core.job import EngineOptions
from modules.diffusion.backbone import Batch
from modules.engine.manager import ModelManager
from modules.engine.memory import budget
from tests import original
from tests.benchmarks import harness
from tests.benchmarks.swap import AnonymousMemory, anonymous_bytes
from tests.benchmarks.tables import against

GIB = 1 << 30
NOISE = 1 << 22  # random numbers, repeated to fill every weight: drawing three thousand million takes minutes
VAE_BYTES = 84_000_000 * 4  # of its parameters in float32, in which a VAE computes on a CPU
LOADED_SHARE, FLOAT32_SHARE = 0.03, 2.03  # of the file's size, anonymous memory that the rest may take


def write_flux(path: Path, *, double: int, single: int) -> Path:
    """A checkpoint in bfloat16 with random weights, of so many double and single blocks; written tensor by tensor."""
    shapes = {name: tuple(value.shape) for name, value in _tensors(double, single)}
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    noise = torch.empty(NOISE).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            for piece in _random(name, torch.Size(shape), noise):
                file.write(piece.to(torch.bfloat16).view(torch.uint8).numpy().data)
    return path


def _tensors(double: int, single: int) -> Iterator[tuple[str, Tensor]]:
    """Name and empty tensor of everything in the file."""
    with init_empty_weights():
        flux: nn.Module = FluxTransformer2DModel(num_layers=double, num_single_layers=single, guidance_embeds=True)
        clip: Any = CLIPTextModel(CLIPTextConfig(**{**harness.TEXT, "num_hidden_layers": 1}))
        t5 = T5EncoderModel(T5Config(vocab_size=32128, d_model=4096, d_ff=1024, num_layers=1, num_heads=64))
        config: Mapping[str, Any] = {
            **harness.VAE, "up_block_types": ("UpDecoderBlock2D",) * 4, "latent_channels": 16,
            "use_quant_conv": False, "use_post_quant_conv": False,
        }  # fmt: skip
        vae: nn.Module = AutoencoderKL(**config)
    for name, value in original.flux(flux.state_dict()).items():
        yield f"model.diffusion_model.{name}", value
    for name, value in clip.state_dict().items():
        yield f"text_encoders.clip_l.transformer.text_model.{name.removeprefix('text_model.')}", value
    for name, value in t5.state_dict().items():
        if "embed_tokens" not in name:
            yield f"text_encoders.t5xxl.transformer.{name}", value
    for name, value in vae.state_dict().items():
        yield f"vae.{name}", value


def _random(name: str, shape: torch.Size, noise: Tensor) -> Iterator[Tensor]:
    """A tensor's values in pieces: uniform, so that activations stay level; norms are ones, biases zeros."""
    left, level = shape.numel(), (1.5 / max(shape[1:].numel(), 1)) ** 0.5
    while left:
        piece = noise[: min(left, NOISE)]
        if len(shape) < 2:
            piece = torch.full_like(piece, 0.0 if name.endswith("bias") else 1.0)
        yield piece * level if len(shape) > 1 else piece
        left -= len(piece)


def measure(path: Path, dtype: str, side: int, threads: int) -> list[dict[str, object]]:
    """The table's rows."""
    options = EngineOptions(device="cpu", dtype=dtype, threads=threads, cache_bytes=2 * budget())
    torch.set_num_threads(threads)
    manager, size = ModelManager(options), path.stat().st_size
    before = anonymous_bytes()
    with AnonymousMemory() as memory:
        began = time.perf_counter()
        model = manager.bring(ModelChoice(checkpoint=FileRef(name=path.stem, path=str(path)))).backbone
        loading = time.perf_counter() - began
        loaded = max(memory.peak, anonymous_bytes()) - before
    with AnonymousMemory() as memory, torch.inference_mode():
        (text,) = model.encode(["a red apple"], 1)
        x = torch.randn(1, 16, side // 8, side // 8, generator=torch.Generator().manual_seed(0))
        batch = Batch(x=x, sigmas=torch.tensor([0.7]), text=text)
        passes = []
        for _ in range(2):
            began = time.perf_counter()
            assert bool(model.denoise(batch).isfinite().all())
            passes.append(time.perf_counter() - began)
        running = memory.peak - before
    share = LOADED_SHARE if dtype == "bfloat16" else FLOAT32_SHARE
    return [
        against("the file", size / GIB, unit="GiB"),
        against("loading", loading, unit="s"),
        against("anonymous memory, loaded", loaded / GIB, unit="GiB", at_most=(VAE_BYTES + share * size) / GIB),
        against("anonymous memory, while it computes", running / GIB, unit="GiB"),
        against(f"first pass at {side} x {side}", passes[0], unit="s"),
        against("second pass", passes[1], unit="s"),
    ]


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=1)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--size", type=int, default=128, help="pixels of a side (default %(default)s)")
    parser.add_argument("--double", type=int, default=5, help="double blocks, of 19 (default %(default)s)")
    parser.add_argument("--single", type=int, default=10, help="single blocks, of 38 (default %(default)s)")
    given = parser.parse_args()
    facts = harness.machine()
    with tempfile.TemporaryDirectory() as folder:
        path = write_flux(Path(folder) / "flux.safetensors", double=given.double, single=given.single)
        rows = measure(path, given.dtype, given.size, given.threads)
    blocks = f"{given.double} and {given.single} blocks"
    report = f"Flux.1 of true widths with {blocks}, in {given.dtype}"
    harness.report(report, rows, facts=facts, output=given.json)


if __name__ == "__main__":
    main()
