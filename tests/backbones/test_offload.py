"""Hooks for small devices, with the CPU as its own device, and with the meta device to see what moves."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modules.backbones.offload import OneAtATime, by_layer, release
from modules.backbones.sd1 import load_sd1
from modules.core.checkpoint import read_header
from modules.core.family import Family, identify
from modules.core.plugin import collect
from modules.diffusion.backbone import Placement
from tests.passes import denoise
from tests.tiny import write_tiny_sd1


def part(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)).requires_grad_(False)


def devices(module: nn.Module) -> set[str]:
    return {value.device.type for value in module.parameters()}


def test_one_part_is_on_the_device_at_a_time() -> None:
    turns = OneAtATime(torch.device("meta"))
    first, second = part(0), part(1)
    before = [value.clone() for value in first.parameters()]
    homes = [value.data_ptr() for value in first.parameters()]
    for module in (first, second):
        turns.add(module)
    first(torch.ones(1, 4))
    assert (devices(first), devices(second)) == ({"meta"}, {"cpu"})
    first(torch.ones(1, 4))
    assert devices(first) == {"meta"}
    second(torch.ones(1, 4))
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
    turns = OneAtATime(torch.device("meta"))
    module, heavy = part(0), Heavy(torch.ones(4), requires_grad=False)
    list(module.children())[-1].register_parameter("heavy", heavy)
    turns.add(module)
    with pytest.raises(torch.OutOfMemoryError):
        module(torch.ones(1, 4))
    assert devices(module) == {"cpu"}
    heavy.room = True
    module(torch.ones(1, 4))
    assert devices(module) == {"meta"}
    turns.clear()
    assert devices(module) == {"cpu"}


def test_layers_compute_as_without_hooks_and_hold_nothing() -> None:
    module = part(2)
    wanted: Tensor = module(torch.ones(1, 4))
    by_layer(module, torch.device("cpu"))
    assert devices(module) == {"meta"}
    assert torch.equal(module(torch.ones(1, 4)), wanted)
    assert devices(module) == {"meta"}


def test_released_parts_can_be_collected() -> None:
    turns = OneAtATime(torch.device("cpu"))
    module = part(3)
    turns.add(module)
    module(torch.ones(1, 4))
    turns.clear()
    release(module)
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("mode", ["medium", "low"])
def test_a_whole_model_computes_the_same_under_hooks(mode: str, tmp_path: Path) -> None:
    """The hooks that small devices get, with the CPU in the device's place."""
    cpu = torch.device("cpu")
    exact = Placement(
        device=cpu, dtype=torch.float32, vae_dtype=torch.float32, text_device=cpu, unet_device=cpu, vae_device=cpu
    )
    path = write_tiny_sd1(tmp_path / "a.safetensors")
    info = identify(read_header(path), collect("modules.families", Family, group="inferenz.families"))
    plain, hooked = load_sd1(info, None, exact), load_sd1(info, None, exact)
    turns = OneAtATime(cpu)
    for network in (hooked._readers[0].module, hooked._unet, hooked._autoencoder.vae):
        if mode == "medium":
            turns.add(network)
        else:
            by_layer(network, cpu)
            assert devices(network) == {"meta"}
    x = torch.ones(1, 4, 8, 8)
    sigma = torch.tensor([2.0])
    for skip in (1, 2):
        wanted = plain.decode(denoise(plain, x, sigma, plain.encode(["a (cat:1.2)"], skip)[0]))
        found = hooked.decode(denoise(hooked, x, sigma, hooked.encode(["a (cat:1.2)"], skip)[0]))
        assert float((wanted - found).abs().max()) < 1e-5
    hooked.close()
