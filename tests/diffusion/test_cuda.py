"""Noise source "NV" against what a CUDA device draws, where there is one."""

from __future__ import annotations

import pytest
import torch

from modules.diffusion.philox import PhiloxStream
from tests.diffusion.record_cuda import EDGE, recorded

# The device computes in float32: of the few numbers near 0 whose first word is nearly 2**32 that leaves five digits.
ROUNDING = 2e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_equal_to_the_devices_numbers() -> None:
    streams: dict[tuple[object, ...], PhiloxStream] = {}
    for entry in recorded(torch.device("cuda")):
        stream = streams.setdefault((entry["seed"], *entry["shape"]), PhiloxStream(entry["seed"]))
        own = stream.normal(entry["shape"]).flatten().double()
        expected = torch.tensor(entry["first"] + entry["last"], dtype=torch.float64)
        torch.testing.assert_close(torch.cat([own[:EDGE], own[-EDGE:]]), expected, rtol=0, atol=ROUNDING)
        assert float(own.sum()) == pytest.approx(entry["sum"], abs=1e-6 * own.numel())
