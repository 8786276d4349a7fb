"""Tensors through the two buffers: on any device they are what they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modules.backbones.packed import fp8
from modules.backbones.packed.values import Packed
from modules.backbones.parameters import Places, Storage, kept_packed
from modules.backbones.upload import Upload
from modules.backbones.weights import fill
from modules.core.checkpoint import Source
from modules.diffusion.arena import SLAB, Arena, HostPool

CUDA = torch.cuda.is_available()
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not CUDA, reason="there is no CUDA device"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [64, 4096])
def test_tensors_of_all_sizes_and_types_arrive(device: str, size: int) -> None:
    generator = torch.Generator().manual_seed(8)
    tensors = [torch.randn(shape, generator=generator) for shape in ((3,), (), (40, 30), (0, 4), (1,), (17, 9), (64,))]
    tensors += [tensors[2].half(), tensors[2].t(), tensors[5].to(torch.float8_e4m3fn), tensors[2][5:9].bfloat16()]
    upload = Upload(torch.device(device), Arena(HostPool(4 * SLAB, pin=device == "cuda")), size)
    arrived = [upload.send(tensor, tensor.dtype) for tensor in tensors]
    cast = upload.send(tensors[2], torch.float16)
    upload.finish()
    for tensor, there in zip(tensors, arrived, strict=True):
        assert (there.device.type, there.dtype, there.shape) == (device, tensor.dtype, tensor.shape)
        assert torch.equal(there.cpu().float(), tensor.float())
    assert torch.equal(cast.cpu(), tensors[2].half())
    upload.send(tensors[0], torch.float32)  # and again after the end
    upload.finish()


@pytest.mark.parametrize("arena", [None, Arena(HostPool(4 * SLAB))])
def test_places_convert_into_the_arena(arena: Arena | None) -> None:
    places = Places(torch.device("cpu"), torch.float32, arena)
    half = torch.arange(12.0).reshape(3, 4).half()
    assert places.values(half).tolist() == half.tolist()
    assert places.move(half) is half
    assert places.swapped(half.t()).tolist() == half.t().roll(2, 0).tolist()
    packed = fp8.plain(half.to(torch.float8_e4m3fn))
    assert places.values(packed).tolist() == half.to(torch.float8_e4m3fn).tolist()
    if arena:
        slab, used = arena._open[0]
        assert used >= 4 * 12 * 2
        start = slab.data_ptr()
        assert start <= places.values(half).data_ptr() < start + len(slab)


def test_devices_without_fp8_get_unpacked_values() -> None:
    layer, places = nn.Linear(4, 3), Places(torch.device("mps"), torch.float32)
    packed = fp8.plain(torch.ones(3, 4).to(torch.float8_e4m3fn))
    assert kept_packed(layer, "layer", packed, None, places) is None
    assert kept_packed(layer, "layer", torch.ones(3, 4), (), places) is None
    here = Places(torch.device("cpu"), torch.float32)
    assert kept_packed(layer, "layer", packed, None, here)
    assert kept_packed(layer, "layer", torch.ones(3, 4), (), here)
    assert kept_packed(layer, "layer", torch.ones(3, 4), ("^lay",), here) is None


@pytest.mark.skipif(not CUDA, reason="there is no CUDA device")
@pytest.mark.parametrize("storage", ["file", "compute", "fp8"])
def test_models_are_filled_on_the_device(storage: Storage) -> None:
    generator = torch.Generator().manual_seed(8)
    weights: dict[str, Tensor | Packed] = {
        "a": fp8.scaled(torch.randn(96, 64, generator=generator).to(torch.float8_e4m3fn), torch.tensor(0.02)),
        "b": torch.randn(64, 32, generator=generator) * 0.1,
    }
    names = {"0.weight": Source("a", rows=(32, 64)), "1.weight": Source("b")}
    x = torch.randn(5, 64, generator=generator)
    answers = []
    for device in ("cpu", "cuda"):
        model = nn.Sequential(nn.Linear(64, 32, bias=False), nn.Linear(32, 64, bias=False)).to("meta")
        arena = Arena(HostPool(4 * SLAB, pin=True))
        fill(
            model, weights, names=names, device=torch.device(device), dtype=torch.float32, source="m",
            storage=storage, arena=arena,
        )  # fmt: skip
        assert all(value.device.type == device for value in (*model.parameters(), *model.buffers()))
        with torch.inference_mode():
            answers.append(model(x.to(device)).cpu())
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-2, atol=1e-3)
