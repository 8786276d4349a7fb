"""Packed values against other implementations: NumPy's of the `gguf` package, bitsandbytes' own, and torch's casts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from safetensors.torch import load_file
from torch import Tensor

from modules.backbones.packed import bitsandbytes, fp8, gguf
from modules.backbones.packed.values import PIECE_CPU, Packed

RECORDED = Path(__file__).parent / "bitsandbytes.safetensors"
FOUR_BIT = ("nf4", "nf4_nested", "fp4", "fp4_nested")


def recorded(name: str) -> tuple[Packed, Tensor]:
    """A weight of the recorded file, and its expected first and last four rows."""
    tensors = {key: value for key, value in load_file(RECORDED).items() if key.startswith(f"{name}.weight")}
    sides = {
        side: tensors[f"{name}.weight.{side}"] for side in bitsandbytes.SIDES if f"{name}.weight.{side}" in tensors
    }
    state = next(value for key, value in tensors.items() if "quant_state" in key)
    packed = bitsandbytes.four_bit(tensors[f"{name}.weight"], sides, bytes(state.tolist()))
    return packed, tensors[f"{name}.weight.expected"]


def random_blocks(kind: str, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """(bytes, values) of random blocks of a GGUF type, the values by the `gguf` package."""
    number = GGMLQuantizationType[kind]
    values, size = GGML_QUANT_SIZES[number]
    data = np.random.default_rng(3).integers(0, 256, (rows, columns // values * size), np.uint8)
    with np.errstate(all="ignore"):  # random scales may overflow
        expected = quants.dequantize(data, number)
    return torch.from_numpy(data).reshape(-1), torch.from_numpy(expected.copy())


@pytest.mark.parametrize("kind", gguf.TYPES)
def test_gguf_blocks_are_those_of_the_gguf_package(kind: str) -> None:
    data, expected = random_blocks(kind, 6, 512)
    packed = gguf.blocks(data, kind, (6, 512))
    torch.testing.assert_close(packed.unpack(torch.float32), expected, rtol=1e-6, atol=0, equal_nan=True)
    some = packed.rows(2, 5)
    assert some
    assert some.parts["blocks"].data_ptr() > data.data_ptr()
    torch.testing.assert_close(some.unpack(torch.float32), expected[2:5], rtol=1e-6, atol=0, equal_nan=True)
    assert packed.packing.kind == kind


def test_every_common_gguf_type_is_known() -> None:
    common = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
    assert set(common) <= set(gguf.TYPES)


@pytest.mark.parametrize("name", FOUR_BIT)
def test_four_bits_are_those_of_bitsandbytes(name: str) -> None:
    packed, expected = recorded(name)
    values = packed.unpack(torch.float32)
    torch.testing.assert_close(torch.cat((values[:4], values[-4:])), expected, rtol=1e-6, atol=1e-9)
    some = packed.rows(97, 130)
    assert some
    torch.testing.assert_close(some.unpack(torch.float32), values[97:], rtol=1e-6, atol=1e-9)
    assert packed.packing.kind == name.removesuffix("_nested")


def test_four_bit_rows_inside_a_block_are_refused_and_the_last_block_may_be_short() -> None:
    table = torch.linspace(-1, 1, 16)
    values = torch.arange(48, dtype=torch.uint8)  # 96 values of which the first is the high half
    sides = {"quant_map": table, "absmax": torch.tensor([2.0, 3.0])}
    state = b'{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [6, 16]}'
    packed = bitsandbytes.four_bit(values, sides, state)
    nibbles = [half for byte in range(48) for half in (byte >> 4, byte & 15)]
    expected = torch.tensor([float(table[n]) * (2.0 if i < 64 else 3.0) for i, n in enumerate(nibbles)])
    torch.testing.assert_close(packed.unpack(torch.float32), expected.reshape(6, 16))
    assert packed.rows(1, 4) is None
    assert packed.rows(0, 3) is None
    last = packed.rows(4, 6)
    assert last
    torch.testing.assert_close(last.unpack(torch.float32), expected.reshape(6, 16)[4:])


@pytest.mark.parametrize(
    ("state", "sides", "said"),
    [
        (b"{", {}, "unreadable description"),
        (b'{"quant_type": "int8", "blocksize": 64, "shape": [4, 32]}', {}, "not of NF4 or FP4"),
        (b'{"quant_type": "nf4", "blocksize": 0, "shape": [4, 32]}', {}, "not of NF4 or FP4"),
        (b'{"quant_type": "nf4", "blocksize": 64, "shape": [4, 64]}', {}, "64 values where nf4"),
        (b'{"quant_type": "nf4", "blocksize": 32, "shape": [4, 32]}', {}, "2 magnitudes where"),
        (b'{"quant_type": "nf4", "blocksize": 64, "shape": [4, 32]}', {"quant_map": torch.ones(15)}, "15 table"),
        (
            b'{"quant_type": "nf4", "blocksize": 64, "shape": [4, 32]}',
            {"absmax": torch.ones(2, dtype=torch.uint8)},
            "another type",
        ),
    ],
)
def test_four_bits_that_do_not_fit_together_are_refused(state: bytes, sides: Mapping[str, Tensor], said: str) -> None:
    given = {"quant_map": torch.ones(16), "absmax": torch.ones(2), **sides}
    with pytest.raises(ValueError, match=said):
        bitsandbytes.four_bit(torch.zeros(64, dtype=torch.uint8), given, state)


@pytest.mark.parametrize("kind", fp8.STORED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_plain_fp8_is_exact(kind: torch.dtype, dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(kind).reshape(2, 128)
    wide = every.to(torch.float64)
    torch.testing.assert_close(fp8.plain(every).unpack(dtype).to(torch.float64), wide, rtol=0, atol=0, equal_nan=True)


def test_scales_of_fp8_multiply_whole_tensors_rows_and_squares() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(300, 160, generator=generator).to(torch.float8_e4m3fn)
    wide = values.to(torch.float64)
    one, rows = torch.tensor(0.3), torch.rand(300, generator=generator)
    squares = torch.rand(3, 2, generator=generator)
    by_hand = torch.stack([
        torch.stack([squares[row // 128, column // 128] for column in range(160)]) for row in range(300)
    ])  # fmt: skip
    for scale, factor in ((one, one), (rows, rows[:, None]), (rows[:, None], rows[:, None]), (squares, by_hand)):
        packed = fp8.scaled(values, scale)
        expected = (wide * factor.to(torch.float64)).to(torch.float32)
        torch.testing.assert_close(packed.unpack(torch.float32), expected, rtol=1e-6, atol=0)
        some = packed.rows(128, 300)
        assert some
        torch.testing.assert_close(some.unpack(torch.float32), expected[128:], rtol=1e-6, atol=0)
    assert fp8.scaled(values, squares).rows(1, 300) is None
    with pytest.raises(ValueError, match=r"scales of shape \[7, 2\]"):
        fp8.scaled(values, torch.ones(7, 2))


def test_scaled_fp8_is_rounded_once() -> None:
    values = torch.tensor([[1.125, 3.5]]).to(torch.float8_e4m3fn)
    scale = torch.tensor(1.0 + 2**-9)  # bfloat16 has no such number
    expected = (values.to(torch.float64) * float(scale)).to(torch.bfloat16)
    assert torch.equal(fp8.scaled(values, scale).unpack(torch.bfloat16), expected)


def test_large_weights_are_unpacked_in_pieces_to_the_same() -> None:
    data, expected = random_blocks("Q8_0", 1100, 2048)
    packed = gguf.blocks(data, "Q8_0", (1100, 2048))
    assert packed.numel() > 2 * PIECE_CPU
    home = torch.empty(1100, 2048)
    assert packed.unpack(torch.float32, out=home) is home
    torch.testing.assert_close(home, expected, equal_nan=True)
    spans = [(start, stop) for start, stop, _ in packed.pieces()]
    assert spans[0][0] == 0
    assert spans[-1][1] == 1100
    assert [stop for _, stop in spans[:-1]] == [start for start, _ in spans[1:]]


def test_pieces_of_squares_hold_whole_ones() -> None:
    values = torch.ones(1100, 2048).to(torch.float8_e4m3fn)
    packed = fp8.scaled(values, torch.rand(9, 16))
    assert [start % 128 for start, _, _ in packed.pieces()] == [0] * len(list(packed.pieces()))
    assert len(list(packed.pieces())) > 1
    whole = packed.packing.unpack(packed.parts, packed.shape, torch.float32)
    assert torch.equal(packed.unpack(torch.float32), whole)
