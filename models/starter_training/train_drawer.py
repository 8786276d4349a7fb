"""Train text encoder and UNet on latents and captions."""

from __future__ import annotations

import argparse
import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor

from models.starter_training import networks
from models.starter_training.art import concepts
from models.starter_training.compiled import compile_in_place
from models.starter_training.latents import Latents
from models.starter_training.optimiser import Optimiser
from models.starter_training.precision import computing
from models.starter_training.run import Run, accelerator
from models.starter_training.scenes import caption, with_articles
from models.starter_training.sheets import save_sheet
from models.starter_training.words import Words

TOP, RATIO = 1e-3, 3.0
LEAST_ALPHA_BAR = 0.012
OFTEN, TINTED = {"3d": 1.0, "sticker": 0.7, "ink": 0.45}, 0.45  # how often styles and re-coloured things come
SHEET_SECONDS = 900
# Pictures of twice the size, for a second pass: how often a step is of them, from which part of the time on, and up to
# which timestep, for a second pass begins with little noise
LARGE_EVERY, LARGE_FROM, LARGE_LATEST = 16, 0.5, 700
HEARD, HEARD_AT = 64, 900  # pictures and the timestep by which is told whether captions matter
NOISE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
EXAMPLES = (
    "a cat", "a red apple on a blue background", "a fox, 3d style", "a purple dragon on a yellow background",
    "strawberry, sticker style", "a green car on a white background", "blue butterfly on pink", "rocket, ink style",
    "a cool face", "a pizza", "a pink elephant, 3d style", "a castle on a green background",
    "an orange fish on a teal background", "sunflower on a purple background", "blue robot, sticker style", "cake",
    "a guitar on a red background", "ghost on an orange background", "a yellow bunny on a gray background",
    "a pine tree, ink style", "a panda, sticker style", "teal rose", "sailboat on a blue background", "an owl",
)  # fmt: skip


class Times:
    """Which timesteps are trained, and what they count.

    Both p(t) and w(t) go with alpha_bar^-1/2, together the weighting of a model that predicts v: in plain epsilon's
    almost nothing is lost at the noisy end, which is where the caption decides.
    """

    def __init__(self) -> None:
        self.alphas = DDIMScheduler(**NOISE).alphas_cumprod
        share = self.alphas.clamp(min=LEAST_ALPHA_BAR) ** -0.5
        self.weights = share / (share.square().mean() / share.mean())
        self._share = share / share.sum()

    def drawn(self, count: int, latest: int = 1000) -> Tensor:
        """(count,) timesteps below `latest`."""
        return torch.multinomial(self._share[:latest], count, replacement=True)

    def noised(self, latent: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents at their timesteps."""
        kept = self.alphas[times].view(-1, 1, 1, 1)
        found: Tensor = kept.sqrt() * latent + (1 - kept).sqrt() * noise
        return found


class Feed:
    """Endless latents and captions. Things in their own colours come more often: they show what a name means."""

    def __init__(self, latents: Latents, batch: int, chance: random.Random) -> None:
        self._latents, self._batch, self._chance, self._known = latents, batch, chance, concepts()
        scenes = (latents.scenes[row] for row in latents.trained)
        self._weights = [OFTEN[scene.style] * (TINTED if scene.tint else 1) for scene in scenes]

    def batch(self) -> tuple[Tensor, list[str]]:
        """(batch, 4, h, w) float32 and as many captions."""
        rows = self._chance.choices(self._latents.trained, self._weights, k=self._batch)
        return self._latents.drawn(rows), self._captions(rows)

    def large(self) -> tuple[Tensor, list[str]]:
        """A quarter of a batch at twice the size, which costs as much: (n, 4, 2 h, 2 w), and captions."""
        rows = self._chance.choices(self._latents.large, k=max(1, self._batch // 4))
        return self._latents.drawn_large(rows), self._captions(rows)

    def _captions(self, rows: list[int]) -> list[str]:
        scenes = [self._latents.scenes[row] for row in rows]
        return [caption(each, self._known[each.concept], self._chance) for each in scenes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--batch", type=int, default=32, help="pictures of a step in each process")
    parser.add_argument(
        "--compile", action="store_true", help="compile the networks first: it takes minutes, steps are quicker then"
    )
    options = parser.parse_args()
    here, work = accelerator(), options.work
    words, times, latents = Words(), Times(), Latents(work)
    model = begun(work, words).to(here.device)
    run = Run(here, work / "drawer.pt", model, options.minutes, decay=0.999)
    optimiser = Optimiser(model.named_parameters(), ratio=RATIO, betas=(0.9, 0.98))
    run.resume(optimiser)
    seed = 100 + here.process_index + here.num_processes * run.step
    torch.manual_seed(seed)
    feed = Feed(latents, options.batch, random.Random(seed))
    if options.compile:
        example, texts = feed.batch()
        spread = torch.linspace(50, 950, options.batch).long().to(here.device)
        compile_in_place(model, example.to(here.device), spread, words.rows(texts).to(here.device))
    wrapped = here.prepare_model(model)
    vae = AutoencoderKL.from_pretrained(work / "vae").eval()
    next_sheet = 0.0

    def step(done: float) -> tuple[Tensor, int]:
        large = done > LARGE_FROM and run.step % LARGE_EVERY == 0
        latent, texts = feed.large() if large else feed.batch()
        at, noise = times.drawn(len(texts), LARGE_LATEST if large else 1000), torch.randn_like(latent)
        noised = times.noised(latent, noise, at).contiguous(memory_format=torch.channels_last)
        given = noised.to(here.device), at.to(here.device), words.blurred(words.rows(texts)).to(here.device)
        with torch.compiler.set_stance("force_eager") if large else nullcontext():
            answer = wrapped(*given)
        errors = (answer - noise.to(here.device)).square().mean((1, 2, 3))
        return (errors * times.weights[at].to(here.device)).mean(), len(texts)

    def look() -> dict[str, float]:
        nonlocal next_sheet
        if run.minutes * 60 > next_sheet:
            next_sheet = run.minutes * 60 + SHEET_SECONDS
            made = samples(run.average, words, vae, EXAMPLES)
            save_sheet(made, work / f"drawer-{run.minutes:05.0f}.png", columns=8, captions=EXAMPLES)
        return {"heard": heard(run.average, words, latents, times)}

    run.train(optimiser, TOP, step, look)


def begun(work: Path, words: Words) -> networks.Drawer:
    """A fresh one, or with the weights of a finished file that the work folder holds."""
    torch.manual_seed(0)
    model = networks.Drawer(len(words))
    if (work / "begin.pt").is_file():
        model.load_state_dict(torch.load(work / "begin.pt", map_location="cpu", weights_only=True))
    model.unet.to(memory_format=torch.channels_last)
    return model


@torch.no_grad()
def heard(model: networks.Drawer, words: Words, latents: Latents, times: Times) -> float:
    """How much worse noise at timestep HEARD_AT is told with each other's captions: 1 where texts say nothing yet."""
    chance, generator, known = random.Random(5), torch.Generator().manual_seed(5), concepts()
    rows = chance.sample(latents.trained, HEARD)
    latent = latents.mean[rows].float()
    noise = torch.randn(latent.shape, generator=generator)
    scenes = [latents.scenes[row] for row in rows]
    ids = words.rows(
        [with_articles(f"a {s.tint} {known[s.concept].name} on {s.background}".replace("  ", " ")) for s in scenes]
    )
    device, at = next(model.parameters()).device, torch.full((HEARD,), HEARD_AT)
    noised = times.noised(latent, noise, at).to(device)
    errors = []
    for texts in (ids.roll(1, 0), ids):
        with computing(device):
            answer = model(noised, at.to(device), texts.to(device))
        errors.append(float((answer.cpu() - noise).square().mean()))
    return errors[0] / errors[1]


@torch.no_grad()
def samples(
    model: networks.Drawer,
    words: Words,
    vae: AutoencoderKL,
    texts: tuple[str, ...],
    *,
    cfg: float = 4.0,
    steps: int = 20,
) -> list[NDArray[np.uint8]]:
    """(S, S, 3) uint8 pictures of `texts` by DDIM, each from its own seed."""
    scheduler = DDIMScheduler(**NOISE)
    scheduler.set_timesteps(steps)
    device = next(model.parameters()).device
    side = networks.SIZE // networks.DOWNSCALE
    x = torch.cat(
        [torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(n)) for n in range(len(texts))]
    )
    ids = words.rows([*texts, *[""] * len(texts)]).to(device)
    x = x.to(device)
    for at in scheduler.timesteps:
        with computing(device):
            found = model(torch.cat([x, x]), at.expand(2 * len(texts)).to(device), ids)
        asked, empty = found.chunk(2)
        x = scheduler.step(empty + cfg * (asked - empty), at, x).prev_sample
    pictures = vae.decode((x / networks.VAE["scaling_factor"]).cpu()).sample.clamp(-1, 1)
    return list(((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


if __name__ == "__main__":
    main()
