"""Hooks for small devices, with the CPU as its own device, and with the meta device to see what moves."""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from modules.backbones import offload
from modules.backbones.moving import Weights
from modules.backbones.offload import Turns
from modules.backbones.sd1 import load_sd1
from modules.backbones.streaming import Stream
from modules.backbones.unet import UnetModel
from modules.core.checkpoint import ModelInfo, read_header
from modules.core.family import Family, identify
from modules.core.job import MemoryMode
from modules.core.plugin import collect
from modules.diffusion.arena import SLAB, HostPool
from modules.diffusion.backbone import Placement
from modules.engine.placement import use
from tests.passes import denoise
from tests.tiny import write_tiny_sd1

MODES: tuple[MemoryMode, ...] = ("normal", "medium", "low")
CUDA = torch.cuda.is_available()
DEVICES = ["cpu", pytest.param("cuda:0", marks=pytest.mark.skipif(not CUDA, reason="there is no CUDA device"))]
HERE = torch.device("cpu")
EXACT = Placement(
    device=HERE, dtype=torch.float32, vae_dtype=torch.float32, text_device=HERE, unet_device=HERE, vae_device=HERE
)


def part(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)).requires_grad_(False)


def devices(module: nn.Module) -> set[str]:
    return {value.device.type for value in module.parameters()}


def test_one_part_is_on_the_device_at_a_time() -> None:
    turns = Turns(torch.device("meta"))
    first, second = part(0), part(1)
    before = [value.clone() for value in first.parameters()]
    homes = [value.data_ptr() for value in first.parameters()]
    for module in (first, second):
        turns.add(module)
    first(torch.ones(1, 4, device="meta"))
    assert (devices(first), devices(second)) == ({"meta"}, {"cpu"})
    first(torch.ones(1, 4, device="meta"))
    assert devices(first) == {"meta"}
    second(torch.ones(1, 4, device="meta"))
    assert (devices(first), devices(second)) == ({"cpu"}, {"meta"})
    assert all(torch.equal(old, new) for old, new in zip(before, first.parameters(), strict=True))
    assert [value.data_ptr() for value in first.parameters()] == homes  # the same memory: nothing was copied back
    turns.clear()
    assert devices(second) == {"cpu"}


class Heavy(nn.Parameter):
    """A weight for which the device has no memory until `room` is made."""

    room = False

    def detach(self) -> Tensor:
        if not self.room:
            raise torch.OutOfMemoryError("out of memory")
        return super().detach()


def test_a_part_that_does_not_fit_leaves_nothing_on_the_device() -> None:
    turns = Turns(torch.device("meta"))
    module, heavy = part(0), Heavy(torch.ones(4), requires_grad=False)
    list(module.children())[-1].register_parameter("heavy", heavy)
    turns.add(module)
    with pytest.raises(torch.OutOfMemoryError):
        module(torch.ones(1, 4, device="meta"))
    assert devices(module) == {"cpu"}
    heavy.room = True
    module(torch.ones(1, 4, device="meta"))
    assert devices(module) == {"meta"}
    turns.clear()
    assert devices(module) == {"cpu"}


def test_what_models_share_and_has_no_weights_brings_none_of_them() -> None:
    """As Qwen-Image's places, which are one module for all of its models."""
    shared = nn.ReLU()
    parts = [nn.Sequential(nn.Linear(4, 4), shared).requires_grad_(False) for _ in range(2)]
    every = [Turns(torch.device("meta")) for _ in parts]
    for turns, module in zip(every, parts, strict=True):
        turns.add(module)
    parts[0](torch.ones(1, 4, device="meta"))
    assert [devices(module) for module in parts] == [{"meta"}, {"cpu"}]


@pytest.mark.parametrize(("says", "raised"), [("CUDA error: out of memory", False), ("a mistake", True)])
def test_weights_that_cannot_be_pinned_are_streamed_all_the_same(
    says: str, raised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[nn.Module] = []

    def settle(weights: Weights, device: torch.device, *, pin: bool = False) -> None:
        if pin:
            raise RuntimeError(says)

    class Recorded(Stream):
        def __init__(self, device: torch.device) -> None:
            super().__init__(torch.device("meta"))

        def add(self, part: nn.Module) -> None:
            added.append(part)

    monkeypatch.setattr(Weights, "settle", settle)
    monkeypatch.setattr(offload, "Stream", Recorded)
    module, turns = part(0), Turns(torch.device("cuda"), "low")
    with pytest.raises(RuntimeError, match=says) if raised else nullcontext():
        turns.add(module)
    assert added == ([] if raised else [module])


def test_pinned_memory_comes_in_powers_of_two() -> None:
    layer = nn.Linear(3, 5)
    layer.register_buffer("nothing", torch.empty(0))
    weights = Weights([layer])
    assert (weights.nbytes, weights.pinned_bytes) == (60 + 20, 64 + 32)


def test_layers_come_when_they_compute_and_the_next_ones_ahead_of_them() -> None:
    module = part(2)
    first, second = module[0], module[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    stream = Stream(torch.device("meta"), ahead=1 << 20)
    stream.add(module)
    seen: list[tuple[set[str], set[str]]] = []
    for layer in (first, second):
        layer.register_forward_pre_hook(lambda *_: seen.append((devices(first), devices(second))))
    module(torch.ones(1, 4, device="meta"))
    module(torch.ones(1, 4, device="meta"))
    away, home = {"meta"}, {"cpu"}
    # From the second pass on it is known what follows, over the end of a pass as well
    assert seen == [(away, home), (home, away), (away, away), (away, away)]
    stream.clear()
    assert devices(module) == home


def test_no_more_comes_ahead_than_is_allowed() -> None:
    layers = [nn.Linear(16, 16) for _ in range(6)]  # 1088 bytes each
    module = nn.Sequential(*layers).requires_grad_(False)
    stream = Stream(torch.device("meta"), ahead=2500)
    stream.add(module)
    most = 0

    def count(*_: object) -> None:
        nonlocal most
        most = max(most, sum(devices(layer) == {"meta"} for layer in layers))

    for layer in layers:
        layer.register_forward_pre_hook(count)
    for _ in range(3):
        module(torch.ones(1, 16, device="meta"))
    assert most == 3  # the one that computes, and two ahead


def test_layers_on_another_way_than_the_last_time_come_all_the_same() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4).requires_grad_(False) for _ in range(4)]
    whole = nn.ModuleList(layers)
    stream = Stream(torch.device("cpu"))
    stream.add(whole)
    for order in ((0, 1, 2, 3), (0, 2, 3), (3, 1, 1, 0), (0, 1, 2, 3)):
        found = wanted = torch.ones(1, 4)
        for index in order:
            found = whole[index](found)
            wanted = nn.functional.linear(wanted, layers[index].weight, layers[index].bias)
        assert torch.equal(found, wanted)
    stream.close()
    assert devices(whole) == {"cpu"}


def test_an_error_in_a_layer_leaves_nothing_behind() -> None:
    class Failing(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("out of memory")

    module = nn.Sequential(nn.Linear(4, 4), Failing(4, 4)).requires_grad_(False)
    stream = Stream(torch.device("meta"))
    stream.add(module)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            module(torch.ones(1, 4, device="meta"))
    stream.clear()
    assert devices(module) == {"cpu"}


def test_tied_weights_come_once() -> None:
    module = part(4)
    first = module[0]
    assert isinstance(first, nn.Linear)
    module.register_module("again", first)
    module[2]._parameters["tied"] = first._parameters["weight"]
    weights, count = Weights(module.modules()), len(list(module.parameters()))
    assert weights.nbytes == sum(value.nbytes for value in module.parameters())
    assert len(weights.bring(torch.device("meta"))) == count
    assert module[2].tied is not None
    weights.leave()
    assert devices(module) == {"cpu"}


@pytest.mark.parametrize("start", ["normal", "medium", "low"])
@pytest.mark.parametrize("end", ["normal", "medium", "low"])
def test_the_mode_changes_without_another_load(start: MemoryMode, end: MemoryMode) -> None:
    turns = Turns(torch.device("meta"), start)
    first, second = part(0), part(1)
    before = [value.clone() for value in (*first.parameters(), *second.parameters())]
    for module in (first, second):
        turns.add(module)
    first(torch.ones(1, 4, device="meta"))
    turns.change(end)
    assert turns.mode == end
    second(torch.ones(1, 4, device="meta"))
    present = {"normal": ({"meta"}, {"meta"}), "medium": ({"cpu"}, {"meta"}), "low": ({"cpu"}, {"cpu"})}
    assert (devices(first), devices(second)) == present[end]
    turns.close()
    after = (*first.parameters(), *second.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert not any(child._forward_pre_hooks for module in (first, second) for child in module.modules())


def test_a_mode_for_which_there_is_no_memory_is_not_taken() -> None:
    turns = Turns(torch.device("meta"), "medium")
    module, heavy = part(0), Heavy(torch.ones(4), requires_grad=False)
    list(module.children())[-1].register_parameter("heavy", heavy)
    turns.add(part(1))
    turns.add(module)
    with pytest.raises(torch.OutOfMemoryError):
        turns.change("normal")
    assert turns.mode == "medium"
    heavy.room = True
    module(torch.ones(1, 4, device="meta"))
    assert devices(module) == {"meta"}


def test_released_parts_can_be_collected() -> None:
    for mode in MODES:
        turns = Turns(torch.device("cpu"), mode)
        module = part(3)
        turns.add(module)
        module(torch.ones(1, 4))
        turns.close()
        gone = weakref.ref(module)
        del module
        gc.collect()
        assert gone() is None


@pytest.mark.parametrize("mode", MODES)
def test_a_whole_model_computes_the_same_in_every_mode(mode: MemoryMode, tmp_path: Path) -> None:
    """The hooks that small devices get, with the CPU in the device's place."""
    info = tiny_sd1(tmp_path)
    plain, hooked = load_sd1(info, None, EXACT), load_sd1(info, None, EXACT)
    turns = Turns(EXACT.device, mode)
    for network in (hooked._readers[0].module, hooked._unet, hooked._autoencoder.vae):
        turns.add(network)
    hooked._turns = turns
    for skip in (1, 2):
        assert float((made(plain, skip) - made(hooked, skip)).abs().max()) < 1e-5
        hooked.change("low" if mode == "medium" else "medium")
    assert hooked.placement.vram != mode
    hooked.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("device", DEVICES)
def test_a_model_that_is_loaded_in_a_mode_computes_the_same(device: str, mode: MemoryMode, tmp_path: Path) -> None:
    """The whole way, with pinned memory, streams and events where there is a CUDA device. Of the file's float16 all is
    converted, so that it comes from the pool."""
    where, info = torch.device(device), tiny_sd1(tmp_path, "F16")
    use(where)
    pool = HostPool(4 * SLAB, pin=where.type == "cuda")
    there = replace(EXACT, device=where, text_device=where, unet_device=where, vae_device=where, vram=mode, pool=pool)
    plain, moved = load_sd1(info, None, EXACT), load_sd1(info, None, there)
    for chosen in (mode, *(other for other in MODES if other != mode), mode):
        moved.change(chosen)
        assert float((made(plain) - made(moved)).abs().max()) < 1e-3
    moved.close()


def tiny_sd1(folder: Path, dtype: Literal["F32", "F16"] = "F32") -> ModelInfo:
    path = write_tiny_sd1(folder / "a.safetensors", dtype=dtype)
    return identify(read_header(path), collect("modules.families", Family, group="inferenz.families"))


def made(model: UnetModel, skip: int = 1) -> Tensor:
    """A text read, one step, and the picture, on the CPU."""
    device = model.placement.unet_device
    x, sigma = torch.ones(1, 4, 8, 8, device=device), torch.tensor([2.0])
    return model.decode(denoise(model, x, sigma, model.encode(["a (cat:1.2)"], skip)[0])).cpu()
