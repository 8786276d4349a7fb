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
from accelerate import Accelerator
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.starter_training import networks
from models.starter_training.art import STYLES, Sprite, concepts, sprites
from models.starter_training.run import accelerator
from models.starter_training.scenes import Scene, drawn, planned
from models.starter_training.train_autoencoder import as_tensor

VARIANTS = 30  # of each sprite
LARGE = 768  # pictures are encoded at twice the native size, too: a second pass wants them
HELD_OUT = 33  # (concept, style) pairs that are never trained on, about one in twenty
BATCH = 32
MEASURED = 1024  # latents that tell mean and deviation


class Latents:
    """All of them. scenes: what each shows. trained: which may be trained on. mean, deviation: (N, 4, h, w) float16.

    large: numbers of the scenes that are there at twice the native size and may be trained on.
    """

    def __init__(self, work: Path) -> None:
        tensors = load_file(work / "latents.safetensors")
        self.mean, self.deviation = tensors["mean"], tensors["deviation"]
        rows = json.loads((work / "scenes.json").read_text(encoding="utf-8"))
        self.scenes = [Scene(*row) for row in rows]
        held = held_out()
        self.trained = [n for n, scene in enumerate(self.scenes) if (scene.concept, scene.style) not in held]
        self._large = tensors["large mean"], tensors["large deviation"]
        trained = set(self.trained)
        self._place = {row: place for place, row in enumerate(large_of(len(self.scenes))) if row in trained}
        self.large = [*self._place]

    def drawn(self, rows: list[int]) -> Tensor:
        """(len(rows), 4, h, w) float32, drawn from the posteriors."""
        return _drawn(self.mean[rows], self.deviation[rows])

    def drawn_large(self, rows: list[int]) -> Tensor:
        """(len(rows), 4, 2 h, 2 w) float32, of rows in `large`."""
        places = [self._place[row] for row in rows]
        return _drawn(self._large[0][places], self._large[1][places])


def _drawn(mean: Tensor, deviation: Tensor) -> Tensor:
    found: Tensor = mean.float() + deviation.float() * torch.randn(mean.shape)
    return found


def large_of(count: int) -> list[int]:
    """Which of `count` pictures are encoded at twice the native size, too."""
    return random.Random(4).sample(range(count), min(LARGE, count))


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


Wanted = tuple[Sprite, Scene, int, random.Random]  # what `drawn` takes


def encoded(here: Accelerator, vae: AutoencoderKL, wanted: Sequence[Wanted]) -> tuple[Tensor, Tensor]:
    """Mean and deviation, (len(wanted), 4, h, w) float16 each, of pictures as UNets see them."""
    means, deviations = [], []
    for begin in range(0, len(wanted), BATCH):
        pictures = as_tensor([drawn(*each) for each in wanted[begin : begin + BATCH]])
        with here.autocast():
            mean, deviation = moments(vae, pictures.to(here.device))
        means.append((mean * networks.VAE["scaling_factor"]).half().cpu())
        deviations.append((deviation * networks.VAE["scaling_factor"]).half().cpu())
        if here.is_main_process and begin % (20 * BATCH) == 0:
            print(f"{begin} of {len(wanted)} pictures of each process", flush=True)
    return torch.cat(means).contiguous(), torch.cat(deviations).contiguous()


def _woven(parts: Sequence[Tensor]) -> Tensor:
    """What processes hold by turns, in one."""
    found = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=parts[0].dtype)
    for process, part in enumerate(parts):
        found[process :: len(parts)] = part
    return found


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
    part = work / f"latents-{here.process_index}.safetensors"
    kept = {}
    for kind, side in (("", networks.SIZE), ("large ", 2 * networks.SIZE)):
        wanted = large_of(len(plan)) if kind else range(len(plan))
        own = wanted[here.process_index :: here.num_processes]
        asked = [(found[plan[row][0]], plan[row][1], side, random.Random(row)) for row in own]
        kept[f"{kind}mean"], kept[f"{kind}deviation"] = encoded(here, vae, asked)
    save_file(kept, part)
    here.wait_for_everyone()
    if not here.is_main_process:
        return
    parts = [load_file(work / f"latents-{process}.safetensors") for process in range(here.num_processes)]
    whole = {name: _woven([each[name] for each in parts]) for name in kept}
    save_file(whole, work / "latents.safetensors")
    for process in range(here.num_processes):
        (work / f"latents-{process}.safetensors").unlink()
    scenes = [[scene.concept, scene.style, scene.background, scene.tint] for _, scene in plan]
    (work / "scenes.json").write_text(json.dumps(scenes), encoding="utf-8")
    if not (work / "vae").is_dir():
        vae.cpu().save_pretrained(work / "vae")
    print(f"latents of {len(plan)} pictures, deviation {np.round(whole['mean'].float().std((0, 2, 3)).numpy(), 2)}")


if __name__ == "__main__":
    main()
