"""Perturbed self-attention against diffusers' own, on a whole UNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0
from torch import Tensor, nn

from modules.backbones.perturbed import perturbed_attention
from modules.backbones.sd1 import load_sd1
from modules.backbones.unet import UnetModel
from modules.core.errors import RequestError
from tests.backbones.test_sd1 import FP32, describe
from tests.passes import denoise, encoded
from tests.tiny import write_tiny_sd1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> UnetModel:
    return load_sd1(describe(write_tiny_sd1(tmp_path_factory.mktemp("m") / "tiny.safetensors")), None, FP32)


def inputs(model: UnetModel, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 4
    return x, torch.linspace(1, 6, rows), torch.cat(encoded(model, [f"a cat {n}" for n in range(rows)], 1))


def test_it_is_diffusers(model: UnetModel) -> None:
    x, sigmas, text = inputs(model, 4)
    found = denoise(model, x, sigmas, text, perturbed=(False, False, True, True))
    layer: Any = model._unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
    usual = layer.processor
    layer.processor = PAGIdentitySelfAttnProcessor2_0()  # perturbs the second half
    wanted = denoise(model, x, sigmas, text)
    layer.processor = usual
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    plain = denoise(model, x, sigmas, text)
    torch.testing.assert_close(found[:2], plain[:2], atol=1e-6, rtol=1e-6)
    assert float((found[2:] - plain[2:]).abs().max()) > 1e-4


@pytest.mark.parametrize("flags", [(True, False, True), (True, True, True), (False, True, False)])
def test_each_row_is_as_it_is_alone(model: UnetModel, flags: tuple[bool, ...]) -> None:
    x, sigmas, text = inputs(model, 3)
    together = denoise(model, x, sigmas, text, perturbed=flags)
    for n, flag in enumerate(flags):
        alone = denoise(model, x[n : n + 1], sigmas[n : n + 1], text[n : n + 1], perturbed=(flag,))
        torch.testing.assert_close(together[n : n + 1], alone, atol=1e-5, rtol=1e-5)


def test_everything_is_as_before_afterwards(model: UnetModel) -> None:
    x, sigmas, text = inputs(model, 2)
    unet = model._unet
    before, answer = dict(unet.attn_processors), denoise(model, x, sigmas, text)
    denoise(model, x, sigmas, text, perturbed=(True, False))
    with pytest.raises(RuntimeError, match="on purpose"), perturbed_attention(unet.mid_block, (True,)):
        raise RuntimeError("on purpose")
    assert all(unet.attn_processors[name] is processor for name, processor in before.items())
    assert torch.equal(denoise(model, x, sigmas, text), answer)


def test_a_model_without_self_attention_says_so() -> None:
    with pytest.raises(RequestError, match=r"guidance\.pag"), perturbed_attention(nn.Sequential(nn.Linear(2, 2)), ()):
        pass


def test_only_the_middle_block_is_perturbed(model: UnetModel) -> None:
    unet = model._unet
    before = dict(unet.attn_processors)
    with perturbed_attention(unet.mid_block, (True,)):
        changed = [name for name, processor in unet.attn_processors.items() if processor is not before[name]]
    assert changed == ["mid_block.attentions.0.transformer_blocks.0.attn1.processor"]
