"""Every sampler against others' numbers: those of k-diffusion and diffusers that record.py wrote, else slow.py's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from modules import samplers
from modules.core.sampling import Sampler
from tests.samplers import slow, toy

REFERENCE: dict[str, Any] = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))
TOLERANCE = {
    "k-diffusion": 1e-12,
    "diffusers": 1e-10,
    # Both compute in float32 whatever they are given.
    ("diffusers", "euler"): 1e-5,
    ("diffusers", "dpmpp_2m"): 1e-5,
    # Its closed form of the integrals loses digits in small steps.
    ("diffusers", "sa_solver+orders"): 1e-9,
    # Each step's length comes from an error estimate, a difference of nearly equal numbers.
    ("k-diffusion", "dpm_adaptive"): 1e-10,
}
SLOW = ("ddpm", "ddim_cfgpp", "plms", "ipndm", "ipndm_v", "deis", "heunpp2", "restart", "tcd", "er_sde")
PAIRS = [(source, name) for source, names in REFERENCE["results"].items() for name in names]


@pytest.mark.parametrize(("source", "name"), PAIRS)
def test_equals_reference(source: str, name: str) -> None:
    kind = samplers.registry()[name.partition("+")[0]]
    options = kind.checked_options(toy.VARIANTS.get(name, {}))
    tolerance = TOLERANCE.get((source, name), TOLERANCE[source])
    cases = REFERENCE["results"][source][name]
    assert len(cases) >= len(toy.SPACINGS) * (len(toy.STEPS) - 1)
    for case, values in cases.items():
        spacing, steps = case.split("/")
        sigmas = REFERENCE["spacings"][spacing][steps]
        result, _ = toy.drive(kind, toy.start(sigmas[0]), sigmas, **options)
        expected = torch.tensor(values, dtype=torch.float64).reshape(toy.SHAPE)
        difference = float((result - expected).abs().max())
        assert difference <= tolerance, case


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("spacing", toy.SPACINGS)
def test_equals_its_paper(name: str, spacing: str) -> None:
    kind = samplers.registry()[name]
    for steps in toy.STEPS:
        sigmas = REFERENCE["spacings"][spacing][str(steps)]
        assert _apart(kind, name, sigmas) <= 1e-10, steps


@pytest.mark.parametrize("gamma", [0.0, 0.7, 1.0])
def test_tcd_equals_its_paper_for_every_gamma(gamma: float) -> None:
    sigmas = REFERENCE["spacings"]["normal"]["5"]
    assert _apart(samplers.registry()["tcd"], "tcd", sigmas, gamma=gamma) <= 1e-10


@pytest.mark.parametrize("options", [{}, {"order": 2}, {"order": 2, "lower_order_final": 0}, {"lower_order_final": 0}])
def test_unipc_with_varying_coefficients_equals_its_paper(options: dict[str, float]) -> None:
    unipc = samplers.registry()["unipc"]
    varying = replace(unipc, run=partial(unipc.run, bh=3))
    for spacing in toy.SPACINGS:
        for steps in toy.STEPS:
            sigmas = REFERENCE["spacings"][spacing][str(steps)]
            assert _apart(varying, "unipc_v", sigmas, **options) <= 1e-10, (spacing, steps)


def _apart(kind: Sampler, name: str, sigmas: Sequence[float], **options: float) -> float:
    """The largest difference between a sampler and its slow twin."""
    noise = toy.ToyNoise()

    def ask(x: slow.Array, sigma: float) -> tuple[slow.Array, slow.Array]:
        latent = torch.from_numpy(x)
        return toy.denoise(latent, sigma).numpy(), toy.unconditional(latent, sigma).numpy()

    result, _ = toy.drive(kind, toy.start(sigmas[0]), sigmas, **options)
    expected = getattr(slow, name)(toy.start(sigmas[0]).numpy(), sigmas, ask, lambda: noise.fresh().numpy(), **options)
    return float(abs(result.numpy() - expected).max())


def test_every_sampler_has_a_reference() -> None:
    recorded = {name.partition("+")[0] for _, name in PAIRS}
    assert recorded | set(SLOW) == set(samplers.registry())
