"""What every guidance must keep to, run over the whole registry: a new file is tested unasked."""

from __future__ import annotations

import inspect
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modules import guidance
from modules.core.errors import RequestError
from modules.core.guidance import Call, ClassifierFree, Guidance, GuidanceKind, Guided, compose
from modules.core.guidance_text import guidance_fields, read_guidance
from modules.core.operations import ModelKey, Row, Text
from modules.core.sampling import Query

KINDS = guidance.registry()
KEY = ModelKey("one", 1)

each = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def text(seed: int) -> Tensor:
    return torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(seed))


def latent(seed: int) -> Tensor:
    return torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(seed))


def call(*weights: float, scale: float = 7.0, evaluation: int = 3, evaluations: int = 10) -> Call:
    texts = tuple((Text(text(n)), weight) for n, weight in enumerate(weights or (1.0,)))
    return Call(
        model=KEY, texts=texts, negative=Text(text(99)), scale=scale, evaluation=evaluation, evaluations=evaluations
    )


def predicted(row: Row) -> Tensor:
    """A stand-in for a model: depends on everything in a row."""
    level = row.text.tokens.mean() + (0.3 if row.perturbed else 0.0)
    return torch.tanh(row.x * level) + level * row.x.roll(1, -1) / (1 + row.sigma)


def guided(whole: Guidance, query: Query, asked: Call) -> tuple[Guided, tuple[Row, ...]]:
    rows = whole.rows(query, asked)
    return whole.combine(query, asked, [predicted(row) for row in rows]), rows


@each
def test_declared_options_are_the_functions(kind: GuidanceKind) -> None:
    parameters = list(inspect.signature(kind.wrap).parameters.values())
    assert parameters[0].kind is not inspect.Parameter.KEYWORD_ONLY
    taken = {one.name: one.default for one in parameters[1:] if one.kind is one.KEYWORD_ONLY}
    assert taken == {name: option.default for name, option in kind.options.items()}
    assert len(taken) == len(parameters) - 1
    for option in kind.options.values():
        assert option.low <= option.default <= option.high
        assert math.isfinite(option.low)
        assert math.isfinite(option.high)
    assert re.fullmatch("[a-z0-9]+", kind.name), "a form's field joins kind and option by an underscore"


@each
@pytest.mark.parametrize("weights", [(1.0,), (0.7,), (1.0, 0.5)])
def test_at_its_defaults_it_changes_nothing(kind: GuidanceKind, weights: tuple[float, ...]) -> None:
    query, asked = Query(latent(1), 2.0, 0), call(*weights)
    plain, _ = guided(ClassifierFree(), query, asked)
    idle, _ = guided(kind.wrap(ClassifierFree()), query, asked)
    torch.testing.assert_close(idle.denoised, plain.denoised, atol=1e-5, rtol=1e-5)
    assert kind.checked({name: option.default for name, option in kind.options.items()}) == {}


@each
@pytest.mark.parametrize("uncond", [False, True])
@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_every_option_works_at_both_ends(kind: GuidanceKind, uncond: bool, scale: float) -> None:
    for name, option in kind.options.items():
        for value in {option.low, option.high} - {option.default}:
            make = compose({kind.name: {name: value}}, KINDS)
            whole = make()
            for evaluation in range(3):
                query = Query(latent(evaluation), 3.0 - evaluation, evaluation, uncond=uncond)
                asked = call(1.0, 0.5, scale=scale, evaluation=evaluation)
                handed = query.x.clone()
                found, rows = guided(whole, query, asked)
                for tensor in (found.denoised, found.conditional, found.unconditional):
                    assert tensor.shape == query.x.shape, f"{name}={value}"
                    assert bool(torch.isfinite(tensor).all())
                assert torch.equal(query.x, handed), "changed in place"
                assert all(row.x is query.x and row.sigma == query.sigma for row in rows)
            assert make() is not whole, "a picture's guidance is its own"


@each
def test_each_option_changes_the_picture(kind: GuidanceKind) -> None:
    """At some value, in some evaluation."""

    def run(whole: Guidance) -> Tensor:
        found = [guided(whole, Query(latent(k), 2.0, k), call(evaluation=k))[0].denoised for k in range(4)]
        return torch.cat(found)

    for name, option in kind.options.items():
        # What an option does may need another: "all" says which evaluations `sigma` concerns, "form" how phi rescales
        others = {"all": {"sigma": 15.0}, "form": {"phi": 0.7}}.get(name, {})
        plain = run(compose({kind.name: others}, KINDS)())
        values = {option.low, option.high} | (set() if option.whole else {0.999 * option.default + 0.001 * option.high})
        runs = [run(compose({kind.name: {**others, name: value}}, KINDS)()) for value in values - {option.default}]
        assert any(not torch.allclose(plain, found, atol=1e-3) for found in runs), name


@each
def test_what_is_wrong_is_named(kind: GuidanceKind) -> None:
    for name, option in kind.options.items():
        for value in (option.high + 1, option.low - 1, math.nan):
            with pytest.raises(RequestError) as refused:
                guidance.resolve({kind.name: {name: value}}, KINDS)
            assert refused.value.field == f"guidance.{kind.name}.{name}"
            assert refused.value.accepted.endswith(f"from {option.low:g} to {option.high:g}")
    with pytest.raises(RequestError) as refused:
        guidance.resolve({kind.name: {"nonsense": 1.0}}, KINDS)
    assert set(refused.value.accepted.split(", ")) == set(kind.options)


@each
def test_the_parameters_text_carries_it(kind: GuidanceKind) -> None:
    for name, option in kind.options.items():
        for value in {option.low, option.high, option.default, 1e-05 + option.low}:
            if option.whole and value != int(value):
                continue
            written = guidance_fields({kind.name: {name: value}})
            assert read_guidance(written) == {kind.name: {name: value}}


@each
def test_documented(kind: GuidanceKind) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "guidance.md").read_text(encoding="utf-8")
    for name in kind.options:
        assert f"`{kind.name}.{name}`" in page
    assert (kind.wrap.__doc__ or "").strip()


def test_an_onion_in_the_registrys_order() -> None:
    assert list(KINDS) == ["apg", "pag", "rescale", "skip"]
    values = {"skip": {"sigma": 2.0}, "CFG rescale": {"phi": 0.7}, "PAG": {"scale": 3.0}, "apg": {"eta": 1.0}}
    assert list(guidance.resolve(values, KINDS).items()) == [
        ("pag", {"scale": 3.0}), ("rescale", {"phi": 0.7}), ("skip", {"sigma": 2.0})
    ]  # fmt: skip


def test_unknown_and_doubled_names_are_refused() -> None:
    with pytest.raises(RequestError, match=r"guidance\.pagg: there is no such guidance\. Accepted: pag"):
        guidance.resolve({"pagg": {"scale": 1.0}}, KINDS)
    with pytest.raises(RequestError, match="is there twice"):
        guidance.resolve({"skip": {"sigma": 1.0}, "ngms": {"sigma": 2.0}}, KINDS)
    with pytest.raises(RequestError, match="there is no such guidance"):
        compose({"PAG": {"scale": 1.0}, "other": {}}, KINDS)


def test_no_torch_is_imported() -> None:
    program = "import sys; from modules import guidance; guidance.registry(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
