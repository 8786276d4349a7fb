from __future__ import annotations

import os
from pathlib import Path

import pytest

from modules.executors.environment import cores, worker_environment


def test_threads_wait_asleep_one_per_core() -> None:
    assert worker_environment({}) == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(cores())}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_somebody_has_set_is_left_alone(name: str) -> None:
    assert worker_environment({name: "7", "OMP_NUM_THREADS": "3"}) == {}


def test_no_more_threads_than_a_container_may_use(tmp_path: Path) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text("50000 100000\n")
    assert cores(limit) == 1
    limit.write_text("max 100000\n")
    assert cores(limit) == cores(tmp_path / "missing")
    assert 1 <= cores(limit) <= (os.cpu_count() or 1)
