"""Training at tiny size: what is fed, what an interruption leaves, and whether captions are heard."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from safetensors.torch import save_file

from models.starter_training import networks, run, train_decoder
from models.starter_training.art import STYLES, Sprite
from models.starter_training.latents import Latents, held_out, large_of, plan_of
from models.starter_training.optimiser import Optimiser
from models.starter_training.run import Run
from models.starter_training.scenes import drawn
from models.starter_training.train_autoencoder import as_tensor
from models.starter_training.train_decoder import GRAIN, Decoder, Pairs
from models.starter_training.train_drawer import EXAMPLES, Feed, Times, begun, heard, samples
from models.starter_training.words import Words


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents of 240 scenes: forty things, each in three styles, plain and tinted."""
    folder = tmp_path_factory.mktemp("work")
    scenes = [[n, style, "white", tint] for n in range(40) for style in STYLES for tint in ("", "red")]
    mean = torch.randn(len(scenes), 4, 16, 16, generator=torch.Generator().manual_seed(1))
    large = mean[large_of(len(scenes))].repeat_interleave(2, 2).repeat_interleave(2, 3)
    whole = {f"{kind}mean": each.half() for kind, each in (("", mean), ("large ", large))}
    whole |= {name.replace("mean", "deviation"): torch.full_like(each, 0.1) for name, each in whole.items()}
    save_file(whole, folder / "latents.safetensors")
    (folder / "scenes.json").write_text(json.dumps(scenes), encoding="utf-8")
    return folder


@pytest.fixture
def undone() -> Iterator[None]:
    """Takes back what a run does to its process: signals, and accelerate's place in it."""
    kept = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    yield
    for name, handler in kept.items():
        signal.signal(name, handler)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def words() -> Words:
    return Words()


def test_things_in_their_own_colours_come_more_often_and_held_out_ones_never(work: Path) -> None:
    latents = Latents(work)
    held = held_out()
    assert all((latents.scenes[row].concept, latents.scenes[row].style) not in held for row in latents.trained)
    latent, texts = Feed(latents, 400, random.Random(3)).batch()
    assert latent.shape == (400, 4, 16, 16)
    told = [text for text in texts if text]
    assert len(told) < len(texts)
    assert 0.2 < sum("red " in text for text in told) / len(told) < 0.42  # of as many plain as tinted ones


def test_pictures_of_twice_the_size_come_with_captions_and_held_out_ones_never(work: Path) -> None:
    latents = Latents(work)
    held = held_out()
    assert 100 < len(latents.large) < len(latents.scenes)
    assert all((latents.scenes[row].concept, latents.scenes[row].style) not in held for row in latents.large)
    latent, texts = Feed(latents, 24, random.Random(3)).large()
    assert latent.shape == (6, 4, 32, 32)
    assert len(texts) == 6
    row = latents.large[-1]
    twice = latents.mean[row].float().repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert float((latents.drawn_large([row])[0] - twice).abs().mean()) < 0.2  # the deviation is 0.1


def test_noise_is_added_as_stable_diffusion_does(work: Path) -> None:
    times, latent = Times(), Latents(work).mean[:4].float()
    at = torch.tensor([0, 300, 700, 999])
    noise = torch.randn_like(latent)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)[at].float()[:, None, None, None]
    torch.testing.assert_close(times.noised(latent, noise, at), kept.sqrt() * latent + (1 - kept).sqrt() * noise)
    drawn = times.drawn(4000).float()
    assert float(drawn.mean()) > 600  # captions decide at the noisy end
    assert int(times.drawn(4000, 500).max()) < 500


def test_captions_are_not_heard_before_training_and_are_where_they_enter(work: Path, words: Words) -> None:
    model, latents = begun(work, words).eval(), Latents(work)
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.05)
    assert heard(model, words, latents, Times()) == 1.0
    for name, value in model.unet.named_parameters():
        if "proj_out.weight" in name:
            torch.nn.init.normal_(value, std=0.05)
    assert heard(model, words, latents, Times()) != 1.0


def test_pictures_are_made_on_the_way(work: Path, words: Words) -> None:
    vae = networks.autoencoder().eval()
    made = samples(begun(work, words).eval(), words, vae, EXAMPLES[:2], steps=2)
    assert [picture.shape for picture in made] == [(128, 128, 3)] * 2


@pytest.mark.usefixtures("undone")
def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    def begin() -> tuple[Run, Optimiser, torch.nn.Linear]:
        torch.manual_seed(0)
        model = torch.nn.Linear(32, 32)
        return (
            Run(run.accelerator(), tmp_path / "state.pt", model, 10, decay=0.9),
            Optimiser(model.named_parameters(), ratio=3.0, betas=(0.9, 0.98)),
            model,
        )

    first, optimiser, model = begin()
    for _ in range(5):
        model(torch.ones(4, 32)).square().mean().backward()
        optimiser.step(1e-3)
        first.averaged(model.named_parameters())
    first.pictures = 20
    first.save(optimiser)
    second, again, copied = begin()
    assert second.resume(again)
    assert (second.step, second.pictures) == (5, 20)
    assert torch.equal(copied.weight, model.weight)
    assert torch.equal(second.average.weight, first.average.weight)
    assert not torch.equal(second.average.weight, copied.weight)
    assert not (tmp_path / "state.part").exists()


@pytest.mark.usefixtures("undone")
def test_the_learning_rate_rises_stays_and_falls(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    found = Run(run.accelerator(), tmp_path / "state.pt", model, 10, decay=0.9)
    assert found.rate(1.0, 0.0) < 0.05
    found.step = 1000
    assert found.rate(1.0, 0.5) == pytest.approx(1.0)
    assert found.rate(1.0, 1.0) == pytest.approx(0.01)


def plain_sprite(red: int) -> NDArray[np.uint8]:
    pixels = np.full((256, 256, 4), (red, 90, 40, 255), np.uint8)
    pixels[:, :60, 3] = 0
    return pixels


def test_a_decoder_makes_what_its_vae_makes_and_goes_back_into_it() -> None:
    vae = networks.autoencoder().eval()
    torch.nn.init.normal_(vae.decoder.conv_out.weight, std=0.05)
    latent = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = vae.decode(latent / 0.18215).sample
        torch.testing.assert_close(Decoder(vae)(latent), wanted)
        other = networks.autoencoder().eval()
        assert not torch.equal(other.decode(latent / 0.18215).sample, wanted)
        torch.testing.assert_close(Decoder(vae).into(other).decode(latent / 0.18215).sample, wanted)


def test_the_decoder_is_shown_the_pictures_that_latents_were_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a row's latent holds here is its picture's colours, eight by eight pixels each."""
    few = [Sprite(0, "3d", plain_sprite(60)), Sprite(1, "sticker", plain_sprite(200))]
    monkeypatch.setattr(train_decoder, "sprites", lambda _: few)
    plan = plan_of(few)
    kept = {}
    for kind, side in (("", 128), ("large ", 256)):
        rows = large_of(len(plan)) if kind else range(len(plan))
        pictures = as_tensor([drawn(few[plan[row][0]], plan[row][1], side, random.Random(row)) for row in rows])
        small = torch.nn.functional.avg_pool2d(pictures, 8)
        kept[f"{kind}mean"] = torch.cat([small, small[:, :1]], 1).half().contiguous()
        kept[f"{kind}deviation"] = torch.zeros_like(kept[f"{kind}mean"])
    save_file(kept, tmp_path / "latents.safetensors")
    scenes = [[scene.concept, scene.style, scene.background, scene.tint] for _, scene in plan]
    (tmp_path / "scenes.json").write_text(json.dumps(scenes), encoding="utf-8")
    pairs = Pairs(tmp_path, random.Random(2))
    for large, side in ((False, 128), (True, 256)):
        latent, picture = pairs.batch(5, large=large)
        assert picture.shape == (5, 3, side, side)
        error = latent[:, :3] - torch.nn.functional.avg_pool2d(picture, 8)
        assert float(error.std()) == pytest.approx(GRAIN, rel=0.2)
    (tmp_path / "scenes.json").write_text(json.dumps(scenes[::-1]), encoding="utf-8")
    with pytest.raises(SystemExit, match="are of other pictures"):
        Pairs(tmp_path, random.Random(2))


@pytest.mark.usefixtures("undone")
def test_a_run_trains_until_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.0)
    torch.manual_seed(0)
    model = torch.nn.Linear(32, 32)
    found = Run(run.accelerator(), tmp_path / "state.pt", model, 1, decay=0.5)
    shares = iter([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    monkeypatch.setattr(found, "done", lambda: next(shares))
    losses, looked = [], []

    def step(done: float) -> tuple[torch.Tensor, int]:
        loss = model(torch.ones(4, 32)).square().mean()
        losses.append((done, float(loss.detach())))
        return loss, 4

    def look() -> dict[str, float]:
        looked.append(found.step)
        return {}

    found.train(Optimiser(model.named_parameters(), ratio=3.0, betas=(0.9, 0.98)), 1e-2, step, look)
    assert [done for done, _ in losses] == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert losses[-1][1] < losses[0][1]
    assert (found.step, found.pictures, looked) == (5, 20, [1, 2, 3, 4, 5])
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 5
