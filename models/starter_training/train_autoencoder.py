"""Train the VAE: crops first, whole pictures at the end."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.starter_training import networks
from models.starter_training.art import Sprite, concepts, sprites
from models.starter_training.optimiser import Optimiser
from models.starter_training.run import Run, accelerator
from models.starter_training.scenes import drawn, planned
from models.starter_training.sheets import save_sheet

TOP, RATIO = 1.2e-3, 2.5
CROP, CROPS, WHOLE = 64, 8, 3  # pixels, and pictures of a batch in each process
WHOLE_FROM = 0.6  # of the time
KL = 4e-4


class Pictures:
    """Endless training pictures, drawn as they are wanted."""

    def __init__(self, found: list[Sprite], seed: int) -> None:
        self._sprites, self._chance = found, random.Random(seed)
        self._plan = planned(found, concepts(), 12, seed)

    def batch(self, count: int, side: int) -> Tensor:
        """(count, 3, side, side) in -1..1, cut out of whole pictures."""
        cut = []
        for _ in range(count):
            number, scene = self._chance.choice(self._plan)
            picture = drawn(self._sprites[number], scene, networks.SIZE, self._chance)
            left, top = (self._chance.randint(0, networks.SIZE - side) for _ in range(2))
            cut.append(picture[top : top + side, left : left + side])
        return as_tensor(cut)


def as_tensor(pictures: list[NDArray[np.uint8]]) -> Tensor:
    """(N, 3, S, S) in -1..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def loss_of(picture: Tensor, made: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """How unlike they are, and a little Kullback-Leibler divergence."""
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return difference(made, picture) + KL * divergence


def difference(made: Tensor, picture: Tensor) -> Tensor:
    """How unlike two (N, 3, S, S) are, as one number: colours, edges and areas."""
    error = made - picture
    edges = (error[..., 1:, :] - error[..., :-1, :]).abs().mean() + (error[..., 1:] - error[..., :-1]).abs().mean()
    areas = functional.avg_pool2d(error, 4).abs().mean()
    found: Tensor = error.abs().mean() + 0.5 * error.square().mean() + 0.5 * edges + 0.5 * areas
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    options = parser.parse_args()
    here = accelerator()
    torch.manual_seed(0)
    model = networks.autoencoder().to(here.device, memory_format=torch.channels_last)
    run = Run(here, options.work / "autoencoder.pt", model, options.minutes, decay=0.998)
    optimiser = Optimiser(model.named_parameters(), ratio=RATIO, betas=(0.9, 0.99))
    run.resume(optimiser)
    wrapped = here.prepare_model(_Through(model))
    found = sprites(options.work)
    pictures = Pictures(found, seed=here.process_index * 1000 + run.step)
    shown = examples(found).to(here.device)
    torch.manual_seed(here.process_index + run.step)

    def step(done: float) -> tuple[Tensor, int]:
        crops = done < WHOLE_FROM
        picture = pictures.batch(CROPS if crops else WHOLE, CROP if crops else networks.SIZE).to(here.device)
        picture = picture.contiguous(memory_format=torch.channels_last)
        return loss_of(picture, *wrapped(picture)), len(picture)

    def look() -> dict[str, float]:
        return {"psnr": show(run.average, shown, options.work / "autoencoder.png")}

    run.train(optimiser, TOP, step, look)
    if here.is_main_process:
        run.say(**look())


class _Through(torch.nn.Module):
    """In and out again: (picture, mean, log variance)."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae: Any = vae

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = self.vae.encode(picture).latent_dist
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.vae.decode(latent).sample.float(), mean, log_variance


def examples(found: list[Sprite]) -> Tensor:
    """(24, 3, S, S) in -1..1, the same ones every time."""
    chance = random.Random(7)
    chosen = chance.sample(planned(found, concepts(), 3, 99), 24)
    return as_tensor([drawn(found[number], scene, networks.SIZE, chance) for number, scene in chosen])


@torch.no_grad()
def show(vae: Any, pictures: Tensor, file: Path) -> float:
    """Save pictures above what the VAE makes of them; returns the mean peak signal-to-noise ratio in dB."""
    made = torch.cat([vae.decode(vae.encode(part).latent_dist.mode()).sample for part in pictures.split(8)])
    made = made.float().clamp(-1, 1)
    error = ((made - pictures) / 2).square().mean((1, 2, 3))
    rows = torch.cat([pictures[:12], made[:12], pictures[12:], made[12:]])
    pixels = ((rows + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    save_sheet(list(pixels), file, columns=12)
    return float((-10 * torch.log10(error)).mean())


if __name__ == "__main__":
    main()
