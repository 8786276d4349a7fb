"""Tiling: what goes in shifted around comes out shifted around, exactly as far as rounding lets it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modules.backbones.sd1 import load_sd1
from modules.backbones.seamless import seamless
from modules.backbones.unet import UnetModel
from modules.backbones.wide_conv import WideConv2d, widen
from tests.backbones.test_sd1 import FP32, describe
from tests.passes import denoise
from tests.tiny import write_tiny_sd1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> UnetModel:
    path = tmp_path_factory.mktemp("seamless") / "tiny.safetensors"
    write_tiny_sd1(path)
    return load_sd1(describe(path), None, FP32)


def latent(side: int = 16) -> Tensor:
    return torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(3))


def rolled(x: Tensor, rows: int, columns: int) -> Tensor:
    return torch.roll(x, (rows, columns), (2, 3))


def test_a_prediction_moves_with_its_latent(tiny: UnetModel) -> None:
    (text,) = tiny.encode(["a texture"], 1)
    x, sigma = latent() * 3, torch.tensor([3.0])
    plain = denoise(tiny, x, sigma, text)
    found = denoise(tiny, x, sigma, text, seamless=True)
    # A UNet that halves its latent three times knows where it is in steps of eight
    moved = denoise(tiny, rolled(x, 8, -8), sigma, text, seamless=True)
    torch.testing.assert_close(moved, rolled(found, 8, -8), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(denoise(tiny, rolled(x, 8, -8), sigma, text), rolled(plain, 8, -8), atol=1e-3)
    torch.testing.assert_close(denoise(tiny, x, sigma, text), plain)  # nothing of it stays


def test_a_decoded_picture_moves_with_its_latent(tiny: UnetModel) -> None:
    found = tiny.decode(latent(), seamless=True)
    moved = tiny.decode(rolled(latent(), 3, 5), seamless=True)
    scale = tiny.downscale
    torch.testing.assert_close(moved, rolled(found, 3 * scale, 5 * scale), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(tiny.decode(rolled(latent(), 3, 5)), rolled(tiny.decode(latent()), 24, 40), atol=1e-3)


def test_decoding_in_tiles_keeps_the_size_and_comes_near(tiny: UnetModel) -> None:
    whole, tiled = (tiny.decode(latent(32), seamless=True, tiled=each) for each in (False, True))
    assert tiled.shape == whole.shape
    plain = tiny.decode(latent(32), tiled=True)
    edge = (whole - tiled)[:, :, :4].abs().mean()
    assert float(edge) < float((whole - plain)[:, :, :4].abs().mean())


def test_wide_convolutions_wrap_as_torchs_do() -> None:
    plain = nn.Conv2d(16, 64, 3, padding=1)
    holder = nn.Sequential(plain)
    x = torch.randn(2, 16, 4, 5)
    with seamless(holder), torch.no_grad():
        wanted = holder(x)
    widen(holder)
    assert isinstance(holder[0], WideConv2d)
    with seamless(holder), torch.no_grad():
        torch.testing.assert_close(holder(x), wanted)
    assert holder[0].padding_mode == "zeros"


def test_it_is_undone_after_an_error_and_left_out_when_off() -> None:
    holder = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 1))
    modes: list[str] = []

    def fail() -> None:
        with seamless(holder):
            modes.extend(str(layer.padding_mode) for layer in holder)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert modes == ["circular", "zeros"]
    with seamless(holder, on=False):
        assert holder[0].padding_mode == "zeros"
    assert holder[0].padding_mode == "zeros"
