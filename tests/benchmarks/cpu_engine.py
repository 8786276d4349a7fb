"""Our CPU path against diffusers' own pipeline, in float32, from the same file, noise, sampler and prompt.

    python -m tests.benchmarks.cpu_engine [--size 256] [--steps 4] [--runs 3]

Both make the same picture (the difference is in the table). Loading is not timed: both are warmed up by one picture.
bfloat16, which has to be asked for on a CPU, is told apart. The last column says what is left to gain: how many
operations per second each reaches, and how many a plain matrix product does.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTokenizer

from modules.backbones.sd1 import load_sd1
from modules.backbones.unet import UnetModel
from modules.core.checkpoint import read_header
from modules.core.family import Family, recognise
from modules.core.plugin import collect
from modules.diffusion.backbone import Placement
from modules.prompting.clip import merges, vocabulary
from tests.benchmarks import harness
from tests.passes import denoise, encoded

CFG = 7.0
PRODUCT_SIDE = 2048
PROMPT, NEGATIVE = "a red apple on a blue background", "blurry"


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=3)
    parser.add_argument("--size", type=int, default=256, help="pixels of a side (default %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="Euler steps (default %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = harness.machine()
    with tempfile.TemporaryDirectory() as folder:
        file = harness.write_sd15(Path(folder) / "sd15.safetensors", dtype=torch.float32)
        ours, half, theirs = load_ours(file), load_ours(file, torch.bfloat16), load_theirs(file)
        start = torch.randn(1, 4, options.size // 8, options.size // 8, generator=torch.Generator().manual_seed(1))
        pictures: dict[str, Tensor] = {}

        def run_ours() -> None:
            pictures["ours"] = draw(ours, start, theirs_sigmas(theirs, options.steps))

        def run_half() -> None:
            pictures["half"] = draw(half, start, theirs_sigmas(theirs, options.steps))

        def run_theirs() -> None:
            pictures["theirs"] = pipeline_picture(theirs, start, options.steps)

        with FlopCounterMode(display=False) as counter:
            run_theirs()
        operations = counter.get_total_flops() / 1e9
        sides = torch.randn(2, PRODUCT_SIDE, PRODUCT_SIDE)
        ways = {"theirs": run_theirs, "ours": run_ours, "half": run_half, "product": lambda: sides[0] @ sides[1]}
        times = harness.alternate(ways, runs=options.runs)
        ours.close()
        half.close()
    a, b = times["ours"], times["theirs"]
    errors = {way: harness.difference(picture, pictures["theirs"]) for way, picture in pictures.items()}
    rows = [
        {"": label, "wall s": times[way].wall, "CPU s": times[way].cpu, "error": errors[way],
         "GFLOP/s": operations / times[way].wall}
        for way, label in (("theirs", "diffusers' pipeline"), ("ours", "ours"), ("half", "ours in bfloat16"))
    ]  # fmt: skip
    rows += [
        {"": "diffusers' to ours", "wall s": b.wall / a.wall, "CPU s": b.cpu / a.cpu, "error": "", "GFLOP/s": ""},
        {"": f"a product of {PRODUCT_SIDE} x {PRODUCT_SIDE} matrices", "wall s": times["product"].wall,
         "CPU s": times["product"].cpu, "error": "", "GFLOP/s": 2e-9 * PRODUCT_SIDE**3 / times["product"].wall},
    ]  # fmt: skip
    title = f"One picture, {options.size} x {options.size}, {options.steps} steps, fp32, median of {options.runs}"
    harness.report(title, rows, facts=facts, output=options.json)


def load_ours(file: Path, dtype: torch.dtype = torch.float32) -> UnetModel:
    cpu = torch.device("cpu")
    placement = Placement(
        device=cpu, dtype=dtype, vae_dtype=torch.float32, text_device=cpu, unet_device=cpu, vae_device=cpu
    )
    families = collect("modules.families", Family, group="inferenz.families")
    return load_sd1(recognise(read_header(file), families), None, placement)


def load_theirs(file: Path) -> Any:
    """diffusers' pipeline of the same shapes and weights."""
    tensors = load_file(file)
    unet, vae, text = harness.empty_unet(), harness.empty_vae(), harness.empty_text()
    for prefix, part in (("unet.", unet), ("vae.", vae), ("text_encoder.", text)):
        wanted = set(part.state_dict())
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        own = {name if name in wanted else name.removeprefix("text_model."): value for name, value in own.items()}
        part.load_state_dict(own, strict=False, assign=True)
        for name, buffer in list(part.named_buffers()):
            if name.endswith("position_ids") and buffer.is_meta:
                owner = part.get_submodule(name.rpartition(".")[0])
                owner.register_buffer("position_ids", torch.arange(buffer.shape[-1])[None], persistent=False)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=CLIPTokenizer(vocab=dict(vocabulary(merges())), merges=list(merges()), model_max_length=77),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="linspace",
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (unet, vae, text):
        part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def theirs_sigmas(pipeline: Any, steps: int) -> list[float]:
    pipeline.scheduler.set_timesteps(steps)
    return [float(sigma) for sigma in pipeline.scheduler.sigmas]


def draw(model: UnetModel, start: Tensor, sigmas: list[float]) -> Tensor:
    """Euler's method with classifier-free guidance; (1, 3, H, W) in 0..1."""
    negative, positive = encoded(model, [NEGATIVE, PROMPT], 1)
    text = torch.cat((negative, positive))
    x = start * sigmas[0]  # as diffusers begins with linspace spacing
    for sigma, sigma_next in pairwise(sigmas):
        without, with_ = denoise(model, torch.cat((x, x)), torch.tensor([sigma, sigma]), text).chunk(2)
        denoised = without + CFG * (with_ - without)
        x = x + (sigma_next - sigma) / sigma * (x - denoised)
    return model.decode(x)


def pipeline_picture(pipeline: Any, start: Tensor, steps: int) -> Tensor:
    size = start.shape[-1] * 8
    answer: Tensor = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        height=size,
        width=size,
        num_inference_steps=steps,
        guidance_scale=CFG,
        latents=start,
        output_type="pt",
    ).images
    return answer


if __name__ == "__main__":
    main()
