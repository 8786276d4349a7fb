"""Linear layers with packed weights compute what nn.Linear does with the unpacked ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5DenseGatedActDense

from modules.backbones.offload import Turns
from modules.backbones.packed import fp8
from modules.backbones.packed.linear import PackedLinear
from modules.backbones.packed.values import PIECE_CPU, Packed
from modules.backbones.weights import weight_bytes
from tests.backbones.packed.test_values import FOUR_BIT, recorded


def linear_of(packed: Packed, bias: bool = True, dtype: torch.dtype = torch.float32) -> tuple[PackedLinear, nn.Linear]:
    """The layer, and torch's with the same values in float32."""
    weight = packed.unpack(torch.float32)
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    plain.weight = nn.Parameter(weight)
    own = nn.Parameter(plain.bias.detach().clone().to(dtype), requires_grad=False) if bias else None
    return PackedLinear(packed, own, dtype), plain


def random_fp8(rows: int, columns: int, scale: float = 0.02) -> Packed:
    values = torch.randn(rows, columns, generator=torch.Generator().manual_seed(5)).to(torch.float8_e4m3fn)
    return fp8.scaled(values, torch.tensor(scale))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", FOUR_BIT)
def test_it_answers_as_the_unpacked_layer(name: str, bias: bool) -> None:
    packed, _ = recorded(name)
    layer, plain = linear_of(packed, bias)
    x = torch.randn(2, 3, packed.shape[1], generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)


@pytest.mark.parametrize("bias", [True, False])
def test_large_weights_are_multiplied_in_pieces(bias: bool) -> None:
    packed = random_fp8(900, 2050)
    assert packed.numel() > PIECE_CPU
    layer, plain = linear_of(packed, bias)
    x = torch.randn(5, 2050, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), plain(x), rtol=1e-5, atol=1e-5)


def test_bytes_move_and_are_never_cast() -> None:
    layer, _ = linear_of(random_fp8(8, 16))
    before = {name: value.clone() for name, value in layer.named_parameters() if name != "bias"}
    layer.to(torch.bfloat16)
    assert all(torch.equal(value, layer.get_parameter(name)) for name, value in before.items())
    assert layer.bias.dtype == layer.weight.dtype == torch.bfloat16
    assert layer(torch.ones(1, 16, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert weight_bytes(layer) == 8 * 16 + 2 * 8
    layer.to("meta")
    assert all(value.is_meta for value in layer.parameters())
    assert layer.weight.is_meta


def test_its_weight_is_unpacked_where_it_is_computed_with_and_cannot_be_changed() -> None:
    packed = random_fp8(8, 16)
    layer, plain = linear_of(packed)
    assert layer.weight.dtype == torch.float32
    assert layer.weight.shape == (8, 16)
    assert torch.equal(layer.weight + 1, plain.weight + 1)
    assert torch.equal(torch.cat((layer.weight, layer.weight)), torch.cat((plain.weight, plain.weight)))
    assert "fp8_scaled" in repr(layer)
    assert "fp8_scaled" in repr(layer.weight)
    with pytest.raises(TypeError, match="cannot be changed in place"):
        layer.weight.add_(1)


def test_asking_the_dtype_of_a_weight_unpacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    unpack = fp8.Fp8.unpack

    def counting(self: fp8.Fp8, parts: dict[str, Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        calls.append(shape)
        return unpack(self, parts, shape, dtype)

    monkeypatch.setattr(fp8.Fp8, "unpack", counting)
    # transformers' T5 asks three times at each call what its last layer's weight is made of
    block = T5DenseGatedActDense(T5Config(d_model=16, d_ff=32, feed_forward_proj="gated-gelu", dropout_rate=0.0)).eval()
    reference = copy.deepcopy(block)
    packed = random_fp8(16, 32)
    block.wo = PackedLinear(packed, None, torch.bfloat16)
    reference.wo.weight = nn.Parameter(packed.unpack(torch.float32))
    calls.clear()
    with torch.inference_mode():
        answer = block.wo(torch.ones(1, 32))
        assert calls == [(16, 32)]
        assert answer.dtype == torch.float32
        x = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(block(x).float(), reference(x), rtol=0.05, atol=0.01)
    assert calls == [(16, 32)] * 2


def test_a_copy_computes_alone() -> None:
    layer, plain = linear_of(random_fp8(8, 16))
    twin = copy.deepcopy(layer)
    layer.to("meta")
    x = torch.ones(1, 16)
    with torch.inference_mode():
        torch.testing.assert_close(twin(x), plain(x))


def test_hooks_bring_packed_weights_to_a_device_and_away() -> None:
    first, plain = linear_of(random_fp8(8, 16))
    second, _ = linear_of(random_fp8(16, 8))
    network = nn.Sequential(first, nn.SiLU(), second).requires_grad_(False)
    x = torch.ones(1, 16)
    with torch.inference_mode():
        expected = network(x)
        turns = Turns(torch.device("cpu"), "low")
        turns.add(network)
        torch.testing.assert_close(network(x), expected)
        turns.close()
    twin = nn.Sequential(copy.deepcopy(linear_of(random_fp8(8, 16))[0]))
    turns = Turns(torch.device("meta"))
    turns.add(twin)
    assert twin(x.to("meta")).is_meta
    turns.close()
    with torch.inference_mode():
        torch.testing.assert_close(twin(x), plain(x) - plain.bias + twin[0].bias)
