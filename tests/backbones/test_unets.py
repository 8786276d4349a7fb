"""Stable Diffusion 1, 2 and XL in all their kinds, against diffusers' own pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.backbones.autoencoder import Autoencoder, Scaled, by_channel
from modules.backbones.encoders.clip import CLIP_G, CLIP_L, SD1, SD2, ClipEncoder, clip_tokenizer
from modules.backbones.loaded import Built
from modules.backbones.sdxl import Sdxl
from modules.backbones.unet import GUIDANCE, UnetModel
from modules.core.checkpoint import Separate
from modules.core.errors import RequestError
from modules.engine.forward import joined
from tests.backbones.unet_pipelines import picture, pipeline
from tests.backbones.unets import FP32, KINDS, POOLED, Kind, info, latent, networks
from tests.passes import denoise

PROMPT, NEGATIVE = "a red apple on a blue background", "blurry, ugly"
STEPS, CFG = 10, 5.0


def build(kind: Kind, parts: Mapping[str, Any]) -> UnetModel:
    """Ours, of the same networks."""
    layers = {
        ("sd1", "clip_l"): SD1, ("sd2", "clip_h"): SD2, ("sdxl", "clip_l"): CLIP_L, ("sdxl", "clip_g"): CLIP_G,
    }  # fmt: skip
    read = [(parts[component], layers[kind.family, encoder]) for component, encoder in kind.texts]
    readers = tuple(ClipEncoder(each, clip_tokenizer(layer.padding), FP32, layer=layer) for each, layer in read)
    vae = parts["vae"]
    built = Built(
        info=info(kind, parts), separate=Separate(), placement=FP32, denoiser=parts["unet"],
        autoencoder=Autoencoder(vae, FP32, scaled=Scaled(scaling=1.0).told(vae.config), load=lambda _: vae),
        load=lambda _: build(kind, parts),
    )  # fmt: skip
    return Sdxl(built, readers) if kind.family == "sdxl" else UnetModel(built, readers)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def each(request: pytest.FixtureRequest) -> tuple[Kind, dict[str, Any], UnetModel]:
    parts = networks(request.param)
    return request.param, parts, build(request.param, parts)


def drawn(model: UnetModel, noise: Tensor, sigmas: list[float], *, cfg: float) -> Tensor:
    """Euler's method with guidance from standard normal noise: (1, 3, H, W) in 0..1."""
    text = joined(model.encode([NEGATIVE, PROMPT], 1))
    x = noise * sigmas[0]
    for sigma, following in pairwise(sigmas):
        rows = torch.cat([x, x])
        without, with_text = denoise(model, rows, torch.full((2,), sigma), text, negative=(True, False)).chunk(2)
        denoised = without + cfg * (with_text - without)
        x = x + (following - sigma) / sigma * (x - denoised)
    return model.decode(x)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' scheduler, numpy 2
@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
def test_a_picture_equals_the_pipelines(size: tuple[int, int], each: tuple[Kind, dict[str, Any], UnetModel]) -> None:
    kind, parts, model = each
    noise = latent(*size)
    scale = GUIDANCE if kind.guided else CFG  # as an input, it is what models get that are told nothing
    wanted = picture(kind, parts, noise, prompt=PROMPT, negative=NEGATIVE, steps=STEPS, cfg_scale=scale)
    levels = model.noise_levels(size[1] * 8, size[0] * 8)
    sigmas = [levels.sigma(111.0 * k) for k in range(9, -1, -1)] + [0.0]
    if kind.edm:
        theirs = pipeline(kind, parts).scheduler
        theirs.set_timesteps(STEPS)
        sigmas = theirs.sigmas.tolist()
    ours = drawn(model, noise, sigmas, cfg=1.0 if kind.guided else CFG)
    assert float(wanted.std()) > 0.02
    assert float((ours - wanted).abs().max()) < 1e-4


def test_texts_equal_the_pipelines(each: tuple[Kind, dict[str, Any], UnetModel]) -> None:
    """Also of an empty text and of one that is longer than 77 tokens as far as the pipelines read it."""
    kind, parts, model = each
    if kind.variant:
        return  # their texts are the plain models'
    made = pipeline(kind, parts)
    for text in (PROMPT, ""):
        (ours,) = model.encode([text], 1)
        told = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
        theirs = made.encode_prompt(prompt=text, **told)
        assert float((ours.tokens - theirs[0]).abs().max()) < 1e-5
        if model.pooled:
            assert ours.pooled is not None
            assert float((ours.pooled - theirs[2]).abs().max()) < 1e-5
    (long,) = model.encode([", ".join(["a red apple"] * 40)], 1)
    assert long.tokens.shape[1] == 3 * 77
    assert long.pooled is None or long.pooled.shape == (1, POOLED)


def test_unequal_prompts_share_a_pass(each: tuple[Kind, dict[str, Any], UnetModel]) -> None:
    _, _, model = each
    texts = model.encode([PROMPT, ", ".join(["a red apple"] * 20), ""], 2)
    x, sigmas = latent(8, 10, rows=3) * 4, torch.tensor([9.0, 2.5, 0.2])
    together = denoise(model, x, sigmas, joined(texts), negative=(False, False, True))
    for n, text in enumerate(texts):
        alone = denoise(model, x[n : n + 1], sigmas[n : n + 1], text, negative=(n == 2,))
        assert float((together[n : n + 1] - alone).abs().max()) < 1e-4


def test_a_picture_is_encoded_as_diffusers_does(each: tuple[Kind, dict[str, Any], UnetModel]) -> None:
    _, parts, model = each
    rgb = torch.rand(2, 3, 64, 72, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        theirs = parts["vae"].encode(rgb * 2 - 1).latent_dist.mode()
    config = parts["vae"].config
    if config.latents_mean:
        theirs = (theirs - by_channel(config.latents_mean, theirs)) / by_channel(config.latents_std, theirs)
    theirs = theirs * config.scaling_factor
    assert torch.allclose(model.encode_picture(rgb), theirs, atol=1e-5)
    tiled = model.decode(theirs, tiled=True)
    assert float((tiled - model.decode(theirs)).abs().mean()) < 0.05


def test_perturbed_and_seamless_rows(each: tuple[Kind, dict[str, Any], UnetModel]) -> None:
    kind, _, model = each
    text = joined(model.encode([PROMPT, PROMPT], 1))
    x, sigmas = latent().expand(2, -1, -1, -1) * 3, torch.full((2,), 3.0)
    if kind.pruned:
        with pytest.raises(RequestError, match="no middle block"):
            denoise(model, x, sigmas, text, perturbed=(False, True))
        return
    plain = denoise(model, x, sigmas, text)
    changed = denoise(model, x, sigmas, text, perturbed=(False, True))
    assert torch.allclose(changed[0], plain[0], atol=1e-5)
    assert not torch.allclose(changed[1], plain[1], atol=1e-5)
    if kind.variant == "inpaint":
        return  # the grey picture that it is shown has edges of its own
    moved = denoise(model, x.roll((2, 4), (2, 3)), sigmas, text, seamless=True)
    still = denoise(model, x, sigmas, text, seamless=True)
    assert float((moved - still.roll((2, 4), (2, 3))).abs().max()) < 1e-4


def test_what_is_seen_beside_the_latent(each: tuple[Kind, dict[str, Any], UnetModel]) -> None:
    """What is given takes the place of nothing; what the UNet has no room for is refused."""
    kind, _, model = each
    x, sigmas, (text,) = latent() * 3, torch.tensor([3.0]), model.encode([PROMPT], 1)
    if kind.beside:
        nothing = denoise(model, x, sigmas, text)
        given = denoise(model, x, sigmas, text, channels=torch.full((1, kind.beside, 8, 8), 0.5))
        assert not torch.allclose(nothing, given, atol=1e-4)
        assert torch.equal(denoise(model, x, sigmas, text), nothing)
        if kind.beside == model.latent_channels:  # made where it is used: nothing is sent at each step
            assert model._nothing(x.to("meta")).is_meta
    with pytest.raises(RequestError, match=f"{kind.name} was given 7 channels"):
        denoise(model, x, sigmas, text, channels=torch.zeros(1, 7, 8, 8))
