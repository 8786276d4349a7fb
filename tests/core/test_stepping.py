from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modules.core.stepping import Churn, ancestral_step
from tests.samplers.toy import ToyNoise, start


@given(st.floats(0.03, 15), st.floats(0, 0.999), st.floats(0, 1))
def test_an_ancestral_step_ends_at_the_next_noise_level(sigma: float, ratio: float, eta: float) -> None:
    down, up = ancestral_step(sigma, sigma * ratio, eta)
    assert (down**2 + up**2) ** 0.5 == pytest.approx(sigma * ratio, rel=1e-12, abs=1e-12)
    assert up <= eta * sigma * ratio + 1e-12


def test_without_eta_nothing_is_added() -> None:
    assert ancestral_step(3.0, 2.0, 0.0) == (2.0, 0.0)


def test_churn_raises_the_noise_level_within_its_range_only() -> None:
    churn = Churn(s_churn=5.0, s_tmin=0.5, s_tmax=10.0, s_noise=1.0)
    noise = ToyNoise()
    x = start(2.0)
    for sigma in (0.4, 10.1):
        assert churn.raised(x, sigma, 10, noise) == (x, sigma)
    assert noise.draws == 0
    raised, sigma_hat = churn.raised(x, 2.0, 100, noise)
    assert sigma_hat == pytest.approx(2.1)
    torch.testing.assert_close(raised - x, ToyNoise().fresh() * (2.1**2 - 2.0**2) ** 0.5)
    assert churn.raised(x, 2.0, 10, noise)[1] == pytest.approx(2 * 2**0.5)  # the paper's upper limit
