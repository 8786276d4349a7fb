"""Train the VAE's decoder some more, at last: on the latents that the drawer was trained on, which stay as they are."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from models.starter_training import networks
from models.starter_training.art import sprites
from models.starter_training.latents import Latents, plan_of
from models.starter_training.optimiser import Optimiser
from models.starter_training.run import Run, accelerator
from models.starter_training.scenes import drawn
from models.starter_training.train_autoencoder import as_tensor, difference, examples, show

TOP, RATIO = 6e-4, 2.5
BATCH = 6  # pictures of a step in each process
GRAIN = 0.05  # deviation of the noise in latents, so that small mistakes of the drawer do not show
LARGE_EVERY = 8  # a step is on pictures of twice the size, for second passes


class Decoder(nn.Module):
    """The half of a VAE that makes pictures, with the VAE's own layers."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latent: Tensor) -> Tensor:
        """(N, 3, 8 h, 8 w) in about -1..1 of (N, 4, h, w) latents as the drawer sees them."""
        found: Tensor = self.decoder(self.post_quant_conv(latent / networks.VAE["scaling_factor"]))
        return found.float()

    def into(self, vae: AutoencoderKL) -> AutoencoderKL:
        """`vae` with this decoder in place of its own."""
        vae.post_quant_conv, vae.decoder = self.post_quant_conv, self.decoder
        return vae


class Pairs:
    """Endless latents and the pictures that they were made of. Raises SystemExit if those are others by now."""

    def __init__(self, work: Path, chance: random.Random) -> None:
        self._latents, self._chance, self._sprites = Latents(work), chance, sprites(work)
        self._plan = plan_of(self._sprites)
        if [scene for _, scene in self._plan] != self._latents.scenes:
            raise SystemExit(f"The latents in {work} are of other pictures than these: begin in an empty folder.")

    def batch(self, count: int, *, large: bool = False) -> tuple[Tensor, Tensor]:
        """(count, 4, h, w) and (count, 3, 8 h, 8 w) in -1..1; at twice the size if `large`."""
        latents, side = self._latents, networks.SIZE * (1 + large)
        rows = self._chance.choices(latents.large if large else latents.trained, k=count)
        latent = latents.drawn_large(rows) if large else latents.drawn(rows)
        planned = [(self._sprites[number], scene) for number, scene in (self._plan[row] for row in rows)]
        # As `latents` drew them: a row is the seed of its picture
        pictures = [drawn(*each, side, random.Random(row)) for each, row in zip(planned, rows, strict=True)]
        return latent + GRAIN * torch.randn_like(latent), as_tensor(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    options = parser.parse_args()
    here, work = accelerator(), options.work
    vae = AutoencoderKL.from_pretrained(work / "vae").requires_grad_(False).to(here.device)
    vae.to(memory_format=torch.channels_last)
    model = Decoder(vae).requires_grad_(True).train()
    run = Run(here, work / "decoder.pt", model, options.minutes, decay=0.998)
    optimiser = Optimiser(model.named_parameters(), ratio=RATIO, betas=(0.9, 0.99))
    run.resume(optimiser)
    seed = 200 + here.process_index + here.num_processes * run.step
    torch.manual_seed(seed)
    pairs, whole = Pairs(work, random.Random(seed)), run.average.into(vae)
    shown = examples(sprites(work)).to(here.device)
    wrapped = here.prepare_model(model)

    def step(_: float) -> tuple[Tensor, int]:
        large = run.step % LARGE_EVERY == LARGE_EVERY - 1
        latent, picture = pairs.batch(max(1, BATCH // 4) if large else BATCH, large=large)
        return difference(wrapped(latent.to(here.device)), picture.to(here.device)), len(picture)

    def look() -> dict[str, float]:
        return {"psnr": show(whole, shown, work / "decoder.png")}

    run.train(optimiser, TOP, step, look)
    if here.is_main_process and not run.stopped:
        run.say(**look())
        beside = work / "vae.part"
        whole.cpu().save_pretrained(beside)
        for file in beside.iterdir():
            file.replace(work / "vae" / file.name)
        beside.rmdir()


if __name__ == "__main__":
    main()
