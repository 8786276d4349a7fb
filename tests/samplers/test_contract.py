"""What every sampler must keep to, run over the whole registry: a new file is tested unasked."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modules import samplers, schedules
from modules.core.sampling import NoiseLevels, Query, Sampler, sigmas_for
from tests.samplers import toy

LEVELS = NoiseLevels.scaled_linear()
SAMPLERS = samplers.registry()
SCHEDULES = schedules.registry()
# AUTOMATIC1111's names and order.
LABELS = (
    "DPM++ 2M, DPM++ SDE, DPM++ 2M SDE, DPM++ 2M SDE Heun, DPM++ 2S a, DPM++ 3M SDE, Euler a, Euler, LMS, Heun, DPM2, "
    "DPM2 a, DPM fast, DPM adaptive, Restart, HeunPP2, IPNDM, IPNDM_V, DEIS, LCM, DDPM, DDIM, DDIM CFG++, PLMS, UniPC, "
    "TCD, ER-SDE, SA-Solver"
)
UNUSUAL = {"plms": {0: 2}, "heunpp2": {-2: 2}}  # how often these ask in the first step, in the last but one

each = pytest.mark.parametrize("kind", SAMPLERS.values(), ids=list(SAMPLERS))


class SeededNoise:
    """Independent normal noise."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.generator = torch.Generator().manual_seed(5)

    def fresh(self) -> Tensor:
        return torch.randn(1, 4, 2, 3, generator=self.generator, dtype=self.dtype)

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        assert sigma > sigma_next > 0
        return self.fresh()


def answered(kind: Sampler, x: Tensor, sigmas: tuple[float, ...], **options: float) -> tuple[Tensor, list[Query]]:
    """Run on the toy denoiser; every tensor handed over is checked to be unchanged at the end."""
    sampling = kind.run(x, sigmas, SeededNoise(x.dtype), **options)
    handed: list[tuple[Tensor, Tensor]] = [(x, x.clone())]
    queries: list[Query] = []
    query = next(sampling)
    while True:
        queries.append(query)
        answer = toy.answer(query)
        given = answer if query.uncond else (answer,)
        handed += [(tensor, tensor.clone()) for tensor in (query.x, *given)]
        try:
            query = sampling.send(answer)
        except StopIteration as end:
            for tensor, before in handed:
                assert torch.equal(tensor, before), "changed in place"
            result: Tensor = end.value
            return result, queries


def own_sigmas(kind: Sampler, steps: int) -> tuple[float, ...]:
    return sigmas_for(kind, SCHEDULES[kind.schedule], steps, LEVELS)


def test_list_is_as_people_know_it() -> None:
    assert ", ".join(kind.label for kind in SAMPLERS.values()) == LABELS


@each
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 20])
def test_questions_and_answers(kind: Sampler, steps: int) -> None:
    sigmas = own_sigmas(kind, steps)
    assert len(sigmas) == steps + 1
    result, queries = answered(kind, torch.randn(1, 4, 2, 3) * sigmas[0], sigmas)
    assert result.shape == (1, 4, 2, 3)
    assert result.dtype == torch.float32
    assert bool(torch.isfinite(result).all())
    assert [query.step for query in queries] == sorted(query.step for query in queries)
    if kind.adaptive:
        assert queries[0].step == 0
        assert queries[-1].step < steps
    else:
        # A step asks `evaluations` times, the last one once: at sigma 0 there is nothing to ask.
        often = dict.fromkeys(range(steps - 1), kind.evaluations) | {steps - 1: 1}
        often |= {step % steps: count for step, count in UNUSUAL.get(kind.name, {}).items() if steps > 1}
        assert dict(Counter(query.step for query in queries)) == often
    for query in queries:
        assert isinstance(query.sigma, float)
        assert sigmas[-2] * 0.999999 <= query.sigma <= sigmas[0 if kind.own_levels else query.step]
        assert query.x.shape == (1, 4, 2, 3)
        assert query.x.dtype == torch.float32
        assert query.uncond == (kind.name == "ddim_cfgpp")
    if not kind.own_levels:
        assert {query.step: query.sigma for query in reversed(queries)} == dict(enumerate(sigmas[:-1]))


@each
def test_ends_without_noise(kind: Sampler) -> None:
    """Sigma 0 is reached exactly: where the model knows the one right answer, that answer is the result.

    Those that do not go there end at the smallest positive sigma, with noise of that size.
    """
    sigmas = own_sigmas(kind, 5)
    answer = torch.tensor([0.5, -2.0, 0.0, 1.0]).reshape(1, 4, 1, 1).expand(1, 4, 2, 3)
    start = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(3))
    sampling = kind.run(answer + start * sigmas[0], sigmas, SeededNoise(torch.float32))
    query = next(sampling)
    try:
        while True:
            query = sampling.send((answer, answer) if query.uncond else answer)
    except StopIteration as end:
        result = end.value
    left = 0 if kind.ends_at_zero else sigmas[-2]
    torch.testing.assert_close(result, answer + start * left, rtol=0, atol=2e-5)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_dtype(kind: Sampler, dtype: torch.dtype) -> None:
    sigmas = own_sigmas(kind, 3)
    result, queries = answered(kind, torch.ones(1, 4, 2, 3, dtype=dtype) * sigmas[0], sigmas)
    assert {result.dtype, *(query.x.dtype for query in queries)} == {dtype}


@each
def test_declared_options_are_the_functions(kind: Sampler) -> None:
    parameters = inspect.signature(kind.run).parameters
    taken = {name: one for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
    assert {name: one.default for name, one in taken.items()} == {
        name: option.default for name, option in kind.options.items()
    }
    for option in kind.options.values():
        assert option.low <= option.default <= option.high
        assert math.isfinite(option.high)


@each
def test_options_work_at_both_ends(kind: Sampler) -> None:
    sigmas = own_sigmas(kind, 6)
    for name, option in kind.options.items():
        for value in (option.low, option.high):
            options = kind.checked_options({name: value})
            result, _ = answered(kind, torch.ones(1, 4, 2, 3) * sigmas[0], sigmas, **options)
            assert bool(torch.isfinite(result).all()), f"{name}={value}"


@each
def test_deterministic_samplers_draw_nothing(kind: Sampler) -> None:
    sigmas = own_sigmas(kind, 20)  # enough for one that starts anew to do so
    noise = toy.ToyNoise()
    counted = {"between": 0}

    class Counting:
        def fresh(self) -> Tensor:
            return noise.fresh()

        def between(self, sigma: float, sigma_next: float) -> Tensor:
            counted["between"] += 1
            return noise.between(sigma, sigma_next)

    sampling = kind.run(toy.start(sigmas[0]), sigmas, Counting())
    query = next(sampling)
    try:
        while True:
            query = sampling.send(toy.answer(query))
    except StopIteration:
        pass
    assert (noise.draws + counted["between"] == 0) == kind.deterministic


@each
def test_own_schedule_exists(kind: Sampler) -> None:
    assert kind.schedule in SCHEDULES
    assert kind.schedule != schedules.AUTOMATIC


@each
def test_documented(kind: Sampler) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "samplers.md").read_text(encoding="utf-8")
    assert f"| {kind.label} |" in page
    for name in kind.options:
        assert f"`{name}`" in page
    assert (kind.run.__doc__ or "").strip()


def test_no_torch_is_imported() -> None:
    """The list of samplers and schedules, and sigmas, are there for a page that never loads torch."""
    program = (
        "import sys; from modules import samplers, schedules; from modules.core.sampling import NoiseLevels\n"
        "samplers.registry(); kinds = schedules.registry(); levels = NoiseLevels.scaled_linear()\n"
        "[kind.run(20, levels) for kind in kinds.values() if kind.name != 'automatic']\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
