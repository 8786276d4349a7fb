"""What is free on a device, and how memory goes back, with the devices' own functions replaced."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import psutil
import pytest
import torch

from modules.engine import memory, survey

GB = 10**9


def says(answer: object) -> Callable[..., object]:
    return lambda *_: answer


@pytest.mark.parametrize(("fraction", "free"), [(1.0, 71 * GB), (0.1, 6 * GB)])
def test_a_cap_counts_where_it_is_less_than_what_the_driver_has(
    fraction: float, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, answer in {
        "mem_get_info": (70 * GB, 80 * GB), "memory_reserved": 3 * GB, "memory_allocated": 2 * GB,
        "get_per_process_memory_fraction": fraction,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, says(answer))
    assert memory.free(torch.device("cuda:1")) == free


@pytest.mark.parametrize(("available", "free"), [(20 * GB, 8 * GB), (1 * GB, 4 * GB)])
def test_what_torch_keeps_of_apples_memory_is_free(available: int, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 GB that Metal gives, torch has taken 7 and uses 4."""
    for name, answer in {
        "recommended_max_memory": 12 * GB, "driver_allocated_memory": 7 * GB, "current_allocated_memory": 4 * GB
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.mps, name, says(answer))
    monkeypatch.setattr(psutil, "virtual_memory", says(SimpleNamespace(available=available)))
    assert memory.free(torch.device("mps")) == free


def test_intels_drivers_need_not_tell_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> tuple[int, int]:
        raise RuntimeError("The device (Intel(R) Graphics) doesn't support querying the available free memory.")

    for name, answer in {
        "get_device_properties": SimpleNamespace(total_memory=16 * GB), "memory_reserved": 3 * GB,
        "memory_allocated": 2 * GB,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.xpu, name, says(answer))
    monkeypatch.setattr(torch.xpu, "mem_get_info", silent)
    device = torch.device("xpu:0")
    assert (memory.free(device), survey.memory(device)) == (14 * GB, (3 * GB, 16 * GB))
    monkeypatch.setattr(torch.xpu, "mem_get_info", says((5 * GB, 16 * GB)))
    assert (memory.free(device), survey.memory(device)) == (6 * GB, (11 * GB, 16 * GB))


@pytest.mark.parametrize("public", [True, False])
def test_pinned_memory_goes_back_as_well(public: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", says(True))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append("device"))
    monkeypatch.delattr(torch.accelerator, "empty_host_cache", raising=False)
    owner, name = (torch.accelerator, "empty_host_cache") if public else (torch._C, "_host_emptyCache")
    monkeypatch.setattr(owner, name, lambda: given.append("pinned"), raising=False)
    memory.give_back(torch.device("cuda:0"))
    assert given == ["device", "pinned"]
