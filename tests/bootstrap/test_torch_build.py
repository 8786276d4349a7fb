"""Which index each kind of machine gets torch from."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.bootstrap.torch_build import TORCH_WHEELS, choose_build
from tests.bootstrap.fakes import Computer

CAPABILITY = "nvidia-smi --query-gpu=compute_cap --format=csv,noheader"


def pages(*builds: str, platform: str = "manylinux_2_28_x86_64", version: str = "2.13.0") -> dict[str, str]:
    wheel = f"torch-{version}%2B{{0}}-cp311-cp311-{platform}.whl"
    return {f"{TORCH_WHEELS}/": "builds"} | {
        f"{TORCH_WHEELS}/{build}/torch/": f'<a href="/whl/{build}/{wheel.format(build)}">' for build in builds
    }


def chosen(computer: Computer) -> str:
    return choose_build(computer.machine(), "2.13.0").index.removeprefix(TORCH_WHEELS).lstrip("/")


@pytest.mark.parametrize(
    ("cuda", "capability", "expected"),
    [
        ((13, 0), "9.0\n", "cu130"),
        ((12, 4), "8.6\n", "cu128"),
        ((13, 0), "9.0\n6.1\n", "cu126"),
        ((12, 8), "", "cu128"),
        ((11, 8), "", ""),
    ],
)
def test_nvidia(tmp_path: Path, cuda: tuple[int, int], capability: str, expected: str) -> None:
    there = pages("cu130", "cu128", "cu126", "cpu")
    assert chosen(Computer(root=tmp_path, cuda=cuda, outputs={CAPABILITY: capability}, pages=there)) == expected


def test_nvidia_without_a_driver_library_in_reach(tmp_path: Path) -> None:
    outputs = {"nvidia-smi": "| Driver Version: 580.65   CUDA Version: 13.0 |"}
    assert chosen(Computer(root=tmp_path, outputs=outputs, pages=pages("cu130", "cpu"))) == "cu130"


def test_windows_with_nvidia(tmp_path: Path) -> None:
    there = pages("cu130", platform="win_amd64")
    computer = Computer(root=tmp_path, platform="win32", architecture="amd64", cuda=(13, 0), pages=there)
    assert chosen(computer) == "cu130"


def test_amd(tmp_path: Path) -> None:
    assert chosen(Computer(root=tmp_path, amd=True, pages=pages("rocm7.0", "rocm6.4", "cpu"))) == "rocm7.0"


def test_neither(tmp_path: Path) -> None:
    assert chosen(Computer(root=tmp_path, pages=pages("cpu", "cu130"))) == "cpu"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_the_default_index_serves_the_cpu_elsewhere_unasked(tmp_path: Path, platform: str) -> None:
    computer = Computer(root=tmp_path, platform=platform, pages=pages("cpu"))
    assert chosen(computer) == ""
    assert computer.fetched == []


@pytest.mark.parametrize(
    "there", [pages("cpu", version="2.12.1"), pages("cpu", platform="manylinux_2_28_aarch64"), pages("cu130")]
)
def test_an_index_without_the_wheel_is_not_taken(tmp_path: Path, there: dict[str, str]) -> None:
    assert chosen(Computer(root=tmp_path, pages=there)) == ""


def test_an_unreachable_host_is_not_asked_for_every_build(tmp_path: Path) -> None:
    computer = Computer(root=tmp_path, cuda=(13, 0))
    assert chosen(computer) == ""
    assert len(computer.fetched) == 2


def test_torch_index_url_comes_first(tmp_path: Path) -> None:
    index = "https://example.invalid/whl/xpu"
    build = choose_build(Computer(root=tmp_path, cuda=(13, 0), environ={"TORCH_INDEX_URL": index}).machine(), "2.13.0")
    assert (build.index, build.chosen) == (index, True)
