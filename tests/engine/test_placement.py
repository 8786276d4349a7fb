"""Device and precision for machines that are described rather than present."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from modules.core.errors import SetupError
from modules.core.job import EngineOptions
from modules.engine.placement import Device, Machine, find_device, place, this_machine, use

GIB = 2**30
CPU = Device(name="cpu", label="16 threads", memory=64 * GIB, bf16=True)
H100 = Device(name="cuda:0", label="NVIDIA H100", memory=80 * GIB, capability=(9, 0), bf16=True)
RTX = Device(name="cuda:1", label="NVIDIA GeForce RTX 2080", memory=8 * GIB, capability=(7, 5))
GTX_16 = Device(name="cuda:0", label="NVIDIA GeForce GTX 1660 Ti", memory=6 * GIB, capability=(7, 5))
MAXWELL = Device(name="cuda:0", label="NVIDIA GeForce GTX 980", memory=4 * GIB, capability=(5, 2))
APPLE = Device(name="mps", label="Apple GPU", memory=32 * GIB)
SONOMA = Device(name="mps", label="Apple GPU", memory=32 * GIB, bf16=True)  # macOS 14
ARC = Device(name="xpu:0", label="Intel Arc A770", memory=16 * GIB, bf16=True)
ARC_2 = Device(name="xpu:1", label="Intel Arc A770", memory=16 * GIB, bf16=True)
BIG = Machine(devices=(H100, RTX, CPU))
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("machine", "device", "dtype", "vae_dtype"),
    [
        (BIG, "cuda:0", HALF, HALF),
        (Machine(devices=(GTX_16, CPU)), "cuda:0", FULL, FULL),
        (Machine(devices=(MAXWELL, CPU)), "cuda:0", FULL, FULL),
        (Machine(devices=(APPLE, CPU)), "mps", HALF, FULL),
        (Machine(devices=(ARC, CPU)), "xpu:0", BRAIN, FULL),
        (Machine(devices=(CPU,)), "cpu", FULL, FULL),
    ],
)
def test_automatic(machine: Machine, device: str, dtype: torch.dtype, vae_dtype: torch.dtype) -> None:
    placement = place(EngineOptions(), machine)
    assert {str(placement.device), str(placement.unet_device), str(placement.text_device)} == {device}
    assert (placement.dtype, placement.vae_dtype, placement.vram) == (dtype, vae_dtype, "normal")


@pytest.mark.parametrize(
    ("machine", "family", "dtype"),
    [
        (BIG, "flux", BRAIN), (BIG, "qwen_image", BRAIN), (BIG, "sdxl", HALF), (BIG, "", HALF),
        (Machine(devices=(GTX_16, CPU)), "flux", FULL), (Machine(devices=(APPLE, CPU)), "flux", HALF),
        (Machine(devices=(SONOMA, CPU)), "flux", BRAIN), (Machine(devices=(SONOMA, CPU)), "sdxl", HALF),
        (Machine(devices=(CPU,)), "flux", FULL),
    ],
)  # fmt: skip
def test_families_that_need_the_range_of_bfloat16(machine: Machine, family: str, dtype: torch.dtype) -> None:
    found = place(EngineOptions(), machine, family)
    assert found.dtype == dtype
    assert place(EngineOptions(dtype="float32"), machine, family).dtype == FULL
    if machine is BIG:
        assert found.vae_dtype == dtype
        assert place(EngineOptions(dtype="float16"), machine, family).dtype == HALF


def test_no_half_flags() -> None:
    assert place(EngineOptions(dtype="float32"), BIG).dtype == FULL
    assert place(EngineOptions(dtype="float32"), BIG).vae_dtype == FULL
    only_vae = place(EngineOptions(vae_dtype="float32"), BIG)
    assert (only_vae.dtype, only_vae.vae_dtype) == (HALF, FULL)
    assert place(EngineOptions(dtype="bfloat16"), Machine(devices=(CPU,))).dtype == BRAIN


def test_parts_on_the_cpu_compute_in_what_it_can() -> None:
    placement = place(EngineOptions(use_cpu=("vae", "text_encoder")), BIG)
    assert (str(placement.unet_device), placement.dtype) == ("cuda:0", HALF)
    assert (str(placement.vae_device), placement.vae_dtype) == ("cpu", FULL)
    assert str(placement.text_device) == "cpu"
    everything = place(EngineOptions(use_cpu=("all",)), BIG)
    assert (str(everything.unet_device), everything.dtype) == ("cpu", FULL)


@pytest.mark.parametrize(
    ("asked", "found"), [("auto", H100), ("cuda", H100), ("cuda:1", RTX), ("1", RTX), ("cpu", CPU), ("CPU", CPU)]
)
def test_devices_by_name_and_number(asked: str, found: Device) -> None:
    assert find_device(asked, BIG) is found


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (EngineOptions(device="cuda:7"), "Accepted: auto, cuda:0 (NVIDIA H100), cuda:1"),
        (EngineOptions(device="7"), "no device '7'"),
        (EngineOptions(device="mps"), "no device 'mps'"),
        (EngineOptions(use_cpu=("unet", "brain")), "Accepted: unet, text_encoder, vae, all"),
        (EngineOptions(dtype="int4"), "Accepted: auto, float32, bfloat16, float16"),
        (EngineOptions(device="cpu", dtype="float16"), "float16 does not work on the CPU"),
        (EngineOptions(device="cuda:1", dtype="bfloat16"), "bfloat16 does not work on NVIDIA GeForce RTX 2080"),
        (EngineOptions(use_cpu=("vae",), vae_dtype="float16"), "--vae-dtype float16 does not work on the CPU"),
    ],
)
def test_what_is_not_here_is_told_with_what_is(options: EngineOptions, says: str) -> None:
    with pytest.raises(SetupError) as caught:
        place(options, BIG)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("label", "dtype"),
    [
        ("NVIDIA GeForce GTX 1650", FULL), ("NVIDIA T1000 8GB", FULL), ("Quadro T2000", FULL), ("NVIDIA T600", FULL),
        ("NVIDIA GeForce MX450", FULL), ("NVIDIA CMP 30HX", FULL), ("Tesla T4", HALF), ("Quadro RTX 4000", HALF),
        ("NVIDIA GeForce RTX 2080", HALF),
    ],
)  # fmt: skip
def test_chips_without_tensor_cores_do_not_compute_in_half_precision(label: str, dtype: torch.dtype) -> None:
    card = Device(name="cuda:0", label=label, memory=4 * GIB, capability=(7, 5))
    assert place(EngineOptions(), Machine(devices=(card, CPU))).dtype == dtype


def test_low_memory_modes_need_a_device_with_memory_of_its_own() -> None:
    assert place(EngineOptions(vram="low"), BIG).vram == "low"
    assert place(EngineOptions(vram="medium"), Machine(devices=(CPU,))).vram == "normal"


@pytest.mark.parametrize("bf16", [True, False])
def test_apples_gpu_has_bfloat16_where_macos_has_it(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in {"cuda": False, "xpu": False, "mps": True, "bf16": bf16}.items():
        monkeypatch.setattr(f"modules.engine.placement.is_{name}_available", lambda answer=answer: answer)
    assert this_machine().devices[0].bf16 == bf16


def test_this_machine_ends_with_its_cpu() -> None:
    machine = this_machine()
    assert machine.devices[-1].name == "cpu"
    assert machine.devices[-1].memory > GIB
    assert find_device("cpu", machine) is machine.devices[-1]


def test_a_thread_uses_its_device() -> None:
    use(torch.device("cpu"))  # nothing to do


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second CUDA device")
def test_events_of_a_thread_are_its_devices() -> None:
    before = torch.cuda.current_device()
    try:
        use(torch.device("cuda:1"))
        event: Any = torch.cuda.Event()
        event.record()
        assert event.device == torch.device("cuda:1")
    finally:
        torch.cuda.set_device(before)


def test_float32_means_float32() -> None:
    use(torch.device("cpu"))
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("devices", "asked", "found"),
    [((ARC, ARC_2, CPU), "1", ARC_2), ((H100, RTX, CPU), "1", RTX), ((APPLE, CPU), "0", APPLE), ((CPU,), "0", CPU)],
)
def test_a_bare_number_counts_devices_of_the_kind_there_is(
    devices: tuple[Device, ...], asked: str, found: Device
) -> None:
    assert find_device(asked, Machine(devices=devices)) == found
