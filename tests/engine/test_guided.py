"""Guidance in the engine: what is asked of the model, and pictures of mixed guidance side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from modules.core.job import Failed, Started
from modules.diffusion.noise import PictureNoise
from tests.engine.small import bench, plan
from tests.engine.watching import latents_of, pixels, psnr
from tests.passes import denoise

MIXED: list[dict[str, Any]] = [
    {"guidance": {"pag": {"scale": 3.0}}},
    {"guidance": {"apg": {"eta": 0.0, "momentum": -0.5}}, "sampler": "heun"},
    {"guidance": {"skip": {"sigma": 5.0}}, "prompt": "a red apple AND a table :0.5"},
    {"guidance": {"rescale": {"phi": 0.7}, "pag": {"scale": 2.0}, "skip": {"early": 0.3}}},
    {"guidance": {}, "cfg_scale": 1.0},
]


def test_pictures_of_mixed_guidance_in_company_are_those_made_alone() -> None:
    plans = [plan(seeds=(n,), steps=6, **values) for n, values in enumerate(MIXED)]
    alone, singles = [bench() for _ in plans], {}
    for n, (b, one) in enumerate(zip(alone, plans, strict=True)):
        singles[n] = latents_of(b)
        b.engine.submit(str(n), one)
        b.run()
    company = bench()
    together = latents_of(company)
    for n, one in enumerate(plans):
        company.engine.submit(str(n), one)
    company.run()
    (model,) = company.manager.models.values()
    assert max(model.passes) > 4, "they shared passes"
    for n in range(len(plans)):
        assert psnr(singles[n][str(n), 0], together[str(n), 0]) >= 60
        assert np.abs(pixels(alone[n].picture(str(n))) - pixels(company.picture(str(n)))).max() <= 1


@pytest.mark.parametrize("values", MIXED[:4])
def test_strict_pictures_are_the_same_to_the_last_bit(values: dict[str, Any]) -> None:
    found = []
    for company in (False, True):
        b = bench()
        latents = latents_of(b)
        if company:
            b.engine.submit("other", plan(seeds=(8, 9), batch_size=2, guidance={"pag": {"scale": 1.0}}))
        b.engine.submit("mine", plan(strict=True, seeds=(3, 4), batch_size=2, **values))
        b.run()
        found.append([latents["mine", n] for n in range(2)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("values", "passes"),
    [
        ({"guidance": {"pag": {"scale": 3.0}}}, [3, 3, 3, 3]),
        ({"guidance": {"pag": {"scale": 3.0}}, "cfg_scale": 1.0}, [2, 2, 2, 2]),
        ({"guidance": {"skip": {"sigma": 15.0}}}, [2, 1, 2, 1]),
        ({"guidance": {"skip": {"early": 0.25}}}, [1, 1, 2, 2]),
        # Heun asks twice a step, the last one once: 7 evaluations, counted as 8
        ({"guidance": {"skip": {"early": 0.5}}, "sampler": "heun"}, [1, 1, 1, 1, 1, 2, 2]),
    ],
)
def test_rows_that_are_asked(values: dict[str, Any], passes: list[int]) -> None:
    b = bench()
    b.engine.submit("j", plan(steps=4, **values))
    b.run()
    (model,) = b.manager.models.values()
    assert model.passes == passes


def test_perturbed_guidance_is_the_formula() -> None:
    b = bench()
    found = latents_of(b)
    b.engine.submit("j", plan(steps=1, cfg_scale=3.0, seeds=(9,), guidance={"pag": {"scale": 2.0}}))
    b.run()
    (model,) = b.manager.models.values()
    (started,) = (e for e in b.events if isinstance(e, Started))
    sigma = started.sigmas[0]
    x = PictureNoise(9, (1, 4, 8, 8), started.sigmas).initial() * sigma
    sigmas, (text, none) = torch.tensor([sigma]), model.encode(["a red apple", ""], 1)
    cond, uncond = denoise(model, x, sigmas, text), denoise(model, x, sigmas, none)
    perturbed = denoise(model, x, sigmas, text, perturbed=(True,))
    wanted = uncond + 3.0 * (cond - uncond) + 2.0 * (cond - perturbed)
    torch.testing.assert_close(found["j", 0], wanted, atol=1e-4, rtol=1e-4)


def test_a_guidance_unknown_here_is_refused_by_name() -> None:
    b = bench()
    b.engine.submit("j", plan(guidance={"elsewhere": {"x": 1.0}}))
    b.run()
    (failure,) = (e for e in b.events if isinstance(e, Failed))
    assert "guidance.elsewhere" in failure.message
    assert "pag" in failure.hint
