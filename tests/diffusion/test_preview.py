from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch import Tensor

from modules.core.errors import NotAMatch
from modules.core.operations import ModelKey
from modules.diffusion.preview import (
    LatentColours,
    TinyDecoder,
    as_pixels,
    find_taesd,
    load_taesd,
    probe_latents,
    remapped_taesd,
    renderer_for,
    shrunk,
)
from tests.engine.small import SmallBackbone

KEY = ModelKey("one", 1)


class TaesdBackbone(SmallBackbone):
    """A model whose VAE is a given TAESD."""

    def __init__(self, tiny: AutoencoderTiny) -> None:
        super().__init__(KEY)
        self.tiny = tiny

    def decode(self, latent: Tensor, *, fp32: bool = False, tiled: bool = False, seamless: bool = False) -> Tensor:
        with torch.inference_mode():
            rgb: Tensor = self.tiny.decoder(latent) / 2 + 0.5
        return rgb


def tiny_vae() -> AutoencoderTiny:
    torch.manual_seed(0)
    return AutoencoderTiny()


def own_layout(tiny: AutoencoderTiny) -> dict[str, Tensor]:
    """The decoder's weights as TAESD's authors name them."""
    found = {}
    for key, value in tiny.decoder.state_dict().items():
        _, number, rest = key.split(".", 2)
        found[f"{int(number) + 1}.{rest}"] = value.contiguous()
    return found


def test_the_fit_finds_a_linear_decoder_again() -> None:
    backbone = SmallBackbone(KEY)
    colours, renderer = renderer_for(backbone)
    assert renderer is colours
    latent = torch.randn(1, 4, 12, 20, generator=torch.Generator().manual_seed(3))
    expected = as_pixels(backbone.decode(latent)[0]).numpy()[::8, ::8]
    for _ in range(3):
        colours.learn(latent, np.kron(expected, np.ones((8, 8, 1), dtype=np.uint8)))
    shown = colours.render(latent)
    assert shown.shape == (12, 20, 3)
    assert np.abs(shown.astype(int) - expected).mean() < 3


def test_before_anything_was_learnt_the_probe_alone_is_near() -> None:
    backbone = SmallBackbone(KEY)
    colours, _ = renderer_for(backbone)
    latent = 0.7 * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(4))
    expected = as_pixels(backbone.decode(latent)[0]).numpy()[::8, ::8]
    assert np.abs(colours.render(latent).astype(int) - expected).mean() < 8


def test_the_probe_tells_sixteen_channels_apart() -> None:
    backbone = SmallBackbone(KEY)
    backbone.latent_channels = 16
    backbone._colours = torch.randn(16, 3, generator=torch.Generator().manual_seed(5)) * 0.05
    colours, _ = renderer_for(backbone)
    latent = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(4))
    expected = as_pixels(backbone.decode(latent)[0]).numpy()[::8, ::8]
    assert np.abs(colours.render(latent).astype(int) - expected).mean() < 6


def test_nothing_observed_is_grey_and_nan_does_no_harm() -> None:
    colours = LatentColours(4)
    nan = torch.full((1, 4, 2, 2), float("nan"))
    colours.observe(nan, np.zeros((16, 16, 3), dtype=np.uint8))
    assert np.abs(colours.render(nan).astype(int) - 128).max() <= 1


def test_only_the_first_results_are_learnt_from() -> None:
    colours = LatentColours(4)
    latent, rgb = torch.randn(1, 4, 2, 2), np.zeros((16, 16, 3), dtype=np.uint8)
    for _ in range(20):
        colours.learn(latent, rgb)
    assert colours.results == 8
    assert not colours.wanting


def test_a_vae_that_overflows_is_asked_again_in_float32() -> None:
    half = SmallBackbone(ModelKey("one", 1, dtype="bfloat16"), broken=("decode",))
    colours, _ = renderer_for(half)
    whole, _ = renderer_for(SmallBackbone(KEY))
    np.testing.assert_array_equal(colours.render(probe_latents(4)[:1]), whole.render(probe_latents(4)[:1]))


@pytest.mark.parametrize("layout", ["own", "own below decoder", "diffusers"])
def test_taesd_in_every_layout_gives_its_own_picture(tmp_path: Path, layout: str) -> None:
    tiny = tiny_vae()
    weights = {
        "own": own_layout(tiny),
        "own below decoder": {f"decoder.{key}": value for key, value in own_layout(tiny).items()},
        "diffusers": {key: value.contiguous() for key, value in tiny.state_dict().items()},
    }[layout]
    save_file(weights, tmp_path / "taesd_decoder.safetensors")
    path = find_taesd(tmp_path)
    assert path is not None
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    shown = TinyDecoder(load_taesd(path), torch.device("cpu"), 64).render(latent)
    with torch.inference_mode():
        expected = as_pixels(tiny.decode(latent).sample[0] / 2 + 0.5).numpy()
    np.testing.assert_array_equal(shown, expected)


def test_taesd_is_used_only_where_it_agrees_with_the_vae(tmp_path: Path) -> None:
    tiny = tiny_vae()
    save_file(own_layout(tiny), tmp_path / "taesd_decoder.safetensors")
    _, fitting = renderer_for(TaesdBackbone(tiny), str(tmp_path))
    assert isinstance(fitting, TinyDecoder)
    _, foreign = renderer_for(SmallBackbone(KEY), str(tmp_path))
    assert isinstance(foreign, LatentColours)


def test_a_file_that_is_no_taesd_is_named(tmp_path: Path) -> None:
    save_file({"1.weight": torch.zeros(2, 2)}, tmp_path / "taesd_decoder.safetensors")
    with pytest.raises(NotAMatch, match="taesd_decoder"):
        renderer_for(SmallBackbone(KEY), str(tmp_path))
    assert remapped_taesd({"foreign": 1}) == {}


def test_an_empty_folder_means_no_taesd(tmp_path: Path) -> None:
    assert find_taesd(tmp_path) is None
    _, renderer = renderer_for(SmallBackbone(KEY), str(tmp_path))
    assert isinstance(renderer, LatentColours)


def test_shrinking_keeps_proportions_and_small_latents() -> None:
    assert shrunk(torch.zeros(1, 4, 128, 64), 64).shape == (1, 4, 64, 32)
    small = torch.zeros(1, 4, 8, 8)
    assert shrunk(small, 64) is small
