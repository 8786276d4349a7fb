"""Every sampler against the numbers of k-diffusion and diffusers that record.py wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from modules import samplers
from tests.samplers import toy

REFERENCE: dict[str, Any] = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))
TOLERANCE = {
    "k-diffusion": 1e-12,
    "diffusers": 1e-10,
    # Both compute in float32 whatever they are given.
    ("diffusers", "euler"): 1e-5,
    ("diffusers", "dpmpp_2m"): 1e-5,
}
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


def test_every_sampler_has_a_reference() -> None:
    recorded = {name.partition("+")[0] for _, name in PAIRS}
    assert recorded == set(samplers.registry())
