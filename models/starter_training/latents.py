"""Training pictures as latents: encoded once by the finished VAE, which is given standard latents on the way.

The latents' mean and deviation per channel go into the VAE's own last and first convolution, so that its stock scaling
factor gives latents of unit variance, as those of Stable Diffusion 1 have.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.starter_training import networks
from models.starter_training.art import STYLES, Sprite, concepts, sprites
from models.starter_training.run import accelerator
from models.starter_training.scenes import Scene, drawn, planned
from models.starter_training.train_autoencoder import as_tensor

VARIANTS = 24  # of each sprite
HELD_OUT = 33  # (concept, style) pairs that are never trained on, about one in twenty
BATCH = 32
MEASURED = 1024  # latents that tell mean and deviation


class Latents:
    """All of them. scenes: what each shows. trained: which may be trained on. mean, deviation: (N, 4, h, w) float16."""

    def __init__(self, work: Path) -> None:
        tensors = load_file(work / "latents.safetensors")
        self.mean, self.deviation = tensors["mean"], tensors["deviation"]
        rows = json.loads((work / "scenes.json").read_text(encoding="utf-8"))
        self.scenes = [Scene(*row) for row in rows]
        held = held_out()
        self.trained = [n for n, scene in enumerate(self.scenes) if (scene.concept, scene.style) not in held]

    def drawn(self, rows: list[int]) -> Tensor:
        """(len(rows), 4, h, w) float32, drawn from the posteriors."""
        mean, deviation = self.mean[rows].float(), self.deviation[rows].float()
        found: Tensor = mean + deviation * torch.randn_like(mean)
        return found


def plan_of(found: Sequence[Sprite]) -> list[tuple[int, Scene]]:
    """All pictures of the training: (number of the sprite, scene)."""
    return planned(found, concepts(), VARIANTS, seed=1)


def held_out() -> set[tuple[int, str]]:
    """Pairs of concept and style that training never sees."""
    chance = random.Random(7)
    chosen = chance.sample(range(len(concepts())), HELD_OUT)
    return {(concept, chance.choice([*STYLES])) for concept in chosen}


def autoencoder_of(work: Path) -> AutoencoderKL:
    """The trained VAE's average, as it came out of training."""
    state = torch.load(work / "autoencoder.pt", map_location="cpu", weights_only=True)
    vae = networks.autoencoder()
    vae.load_state_dict(state["average"])
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def moments(vae: AutoencoderKL, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation, (N, 4, h, w) float32 each, of the posteriors of pictures in -1..1."""
    found = vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latent_dist
    return found.mean.float(), (0.5 * found.logvar.float()).exp()


@torch.no_grad()
def standardised(vae: AutoencoderKL, pictures: Tensor) -> AutoencoderKL:
    """The VAE with its latents' mean and deviation over `pictures` in its convolutions."""
    means = torch.cat([moments(vae, part)[0] for part in pictures.split(BATCH)])
    centre, spread = means.mean((0, 2, 3)), means.std((0, 2, 3))
    gain = 1 / (spread * networks.VAE["scaling_factor"])
    inner: Any = vae.quant_conv
    inner.weight[:4] *= gain[:, None, None, None]
    inner.bias[:4] = (inner.bias[:4] - centre) * gain
    inner.bias[4:] += 2 * gain.log()
    outer: Any = vae.post_quant_conv
    outer.bias += outer.weight[:, :, 0, 0] @ centre
    outer.weight /= gain[None, :, None, None]
    return vae


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    here, work = accelerator(), options.work
    found = sprites(work)
    plan = plan_of(found)
    if (work / "vae").is_dir():
        vae = AutoencoderKL.from_pretrained(work / "vae").eval().requires_grad_(False).to(here.device)
    else:
        chance = random.Random(3)
        some = chance.sample(plan, MEASURED)
        pictures = as_tensor([drawn(found[number], scene, networks.SIZE, chance) for number, scene in some])
        vae = standardised(autoencoder_of(work).to(here.device), pictures.to(here.device))
    means, deviations = [], []
    mine = range(here.process_index, len(plan), here.num_processes)
    for begin in range(0, len(mine), BATCH):
        rows = mine[begin : begin + BATCH]
        drawings = [drawn(found[plan[row][0]], plan[row][1], networks.SIZE, random.Random(row)) for row in rows]
        with here.autocast():
            mean, deviation = moments(vae, as_tensor(drawings).to(here.device))
        means.append((mean * networks.VAE["scaling_factor"]).half().cpu())
        deviations.append((deviation * networks.VAE["scaling_factor"]).half().cpu())
        if here.is_main_process and begin % (20 * BATCH) == 0:
            print(f"{begin * here.num_processes} of {len(plan)} pictures", flush=True)
    part = work / f"latents-{here.process_index}.safetensors"
    save_file({"mean": torch.cat(means).contiguous(), "deviation": torch.cat(deviations).contiguous()}, part)
    here.wait_for_everyone()
    if not here.is_main_process:
        return
    whole = {
        name: torch.empty(len(plan), 4, *means[0].shape[2:], dtype=torch.float16) for name in ("mean", "deviation")
    }
    for process in range(here.num_processes):
        file = work / f"latents-{process}.safetensors"
        for name, values in load_file(file).items():
            whole[name][process :: here.num_processes] = values
        file.unlink()
    save_file(whole, work / "latents.safetensors")
    scenes = [[scene.concept, scene.style, scene.background, scene.tint] for _, scene in plan]
    (work / "scenes.json").write_text(json.dumps(scenes), encoding="utf-8")
    if not (work / "vae").is_dir():
        vae.cpu().save_pretrained(work / "vae")
    print(f"latents of {len(plan)} pictures, deviation {np.round(whole['mean'].float().std((0, 2, 3)).numpy(), 2)}")


if __name__ == "__main__":
    main()
