"""Each guidance against an independent implementation: diffusers' own where there is one, else the formula."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diffusers import QwenImagePipeline
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance
from diffusers.guiders.guider_utils import rescale_noise_cfg
from diffusers.guiders.perturbed_attention_guidance import PerturbedAttentionGuidance
from torch import Tensor

from modules import guidance
from modules.core.guidance import Call, ClassifierFree, compose
from modules.core.operations import Row
from modules.core.sampling import Query
from tests.guidance.test_contract import call, guided, latent, predicted

KINDS = guidance.registry()


def answers(query: Query, asked: Call) -> tuple[Tensor, Tensor, Tensor]:
    """Conditional, unconditional and perturbed prediction of the first prompt."""
    (prompt, _), *_ = asked.texts
    assert asked.negative is not None
    return (
        predicted(Row(query.x, query.sigma, prompt)),
        predicted(Row(query.x, query.sigma, asked.negative)),
        predicted(Row(query.x, query.sigma, prompt, perturbed=True)),
    )


def velocity(x: Tensor, x0: Tensor, sigma: float) -> Tensor:
    """Salimans and Ho 2022, from the variance-exploding form: v = alpha * noise - spread * x0."""
    alpha, spread = 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
    return alpha * (x - x0) / sigma - spread * x0


@pytest.mark.parametrize("sigma", [0.03, 0.7, 14.6])
@pytest.mark.parametrize("phi", [0.3, 1.0])
def test_rescale_is_diffusers_of_velocities(sigma: float, phi: float) -> None:
    query, asked = Query(latent(1).double() * math.sqrt(1 + sigma**2), sigma, 0), call(scale=12.0)
    cond, uncond, _ = answers(query, asked)
    plain = velocity(query.x, uncond + 12 * (cond - uncond), sigma)
    wanted = rescale_noise_cfg(plain, velocity(query.x, cond, sigma), phi)
    found, _ = guided(compose({"rescale": {"phi": phi}}, KINDS)(), query, asked)
    torch.testing.assert_close(velocity(query.x, found.denoised, sigma), wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("sigma", [0.03, 0.7, 1.0])
def test_rescale_of_a_flow_model_is_of_its_velocity(sigma: float) -> None:
    query, asked = Query(latent(1).double(), sigma, 0), replace(call(scale=12.0), flows=True)
    cond, uncond, _ = answers(query, asked)
    guided_v = (query.x - (uncond + 12 * (cond - uncond))) / sigma
    wanted = rescale_noise_cfg(guided_v, (query.x - cond) / sigma, 0.7)
    found, _ = guided(compose({"rescale": {"phi": 0.7}}, KINDS)(), query, asked)
    torch.testing.assert_close((query.x - found.denoised) / sigma, wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("flows", [True, False])
@pytest.mark.parametrize("phi", [0.3, 1.0])
def test_rescale_by_patches_is_qwen_images(phi: float, flows: bool) -> None:
    """The last lines of its pipeline's guidance: norms of the packed predictions."""
    query, asked = Query(latent(1).double()[..., :4], 0.6, 0), replace(call(scale=6.0), flows=flows)
    cond, uncond, _ = answers(query, asked)

    def packed(x0: Tensor) -> Tensor:
        v = (query.x - x0) / 0.6 if flows else velocity(query.x, x0, 0.6)
        n, channels, height, width = v.shape
        found: Tensor = QwenImagePipeline._pack_latents(v, n, channels, height, width)
        return found

    plain = packed(uncond + 6 * (cond - uncond))
    factor = packed(cond).norm(dim=-1, keepdim=True) / plain.norm(dim=-1, keepdim=True)
    found, _ = guided(compose({"rescale": {"phi": phi, "form": 3.0}}, KINDS)(), query, asked)
    torch.testing.assert_close(packed(found.denoised), plain * (phi * factor + 1 - phi), atol=1e-9, rtol=1e-9)


def test_rescale_by_patches_takes_odd_sides() -> None:
    query, asked = Query(latent(1).double(), 0.6, 0), call(scale=6.0)
    assert query.x.shape[-2:] == (6, 5)
    found, _ = guided(compose({"rescale": {"phi": 1.0, "form": 3.0}}, KINDS)(), query, asked)
    cond, _, _ = answers(query, asked)
    lengths = [velocity(query.x, x0, 0.6)[..., 4:, 4:].norm() for x0 in (found.denoised, cond)]
    torch.testing.assert_close(lengths[0], lengths[1])


@pytest.mark.parametrize("phi", [0.3, 1.0])
def test_rescale_of_the_extensions_is_theirs(phi: float) -> None:
    query, asked = Query(latent(1).double() * 3, 3.0, 0), call(scale=12.0)
    cond, uncond, _ = answers(query, asked)
    plain = uncond + 12 * (cond - uncond)
    found, _ = guided(compose({"rescale": {"phi": phi, "form": 1.0}}, KINDS)(), query, asked)
    torch.testing.assert_close(found.denoised, rescale_noise_cfg(plain, cond, phi), atol=1e-9, rtol=1e-9)
    found, _ = guided(compose({"rescale": {"phi": phi, "form": 2.0}}, KINDS)(), query, asked)
    # Mean and deviation, the two things that it changes, lie where phi says, and nothing else is changed
    for statistic in (torch.mean, torch.std):
        wanted = torch.lerp(statistic(plain), statistic(cond), phi)
        torch.testing.assert_close(statistic(found.denoised), wanted, atol=1e-9, rtol=1e-9)
    shape = (plain - plain.mean()) / plain.std()
    torch.testing.assert_close((found.denoised - found.denoised.mean()) / found.denoised.std(), shape)


@pytest.mark.parametrize(("eta", "threshold", "momentum"), [(0.0, 0.0, 0.0), (0.5, 2.0, 0.0), (0.0, 7.5, -0.75)])
def test_apg_is_diffusers_over_a_whole_picture(eta: float, threshold: float, momentum: float) -> None:
    chosen = {"apg": {"eta": eta, "threshold": threshold, "momentum": momentum}}
    whole = compose(chosen, KINDS)()
    buffer = MomentumBuffer(momentum)
    asked = call(scale=9.0)
    for step in range(5):
        query = Query(latent(step).double(), 5.0 - step, step)
        cond, uncond, _ = answers(query, asked)
        # diffusers' "original formulation" is the paper's: from the conditional prediction on
        wanted = normalized_guidance(cond, uncond, 8.0, buffer, eta, threshold, use_original_formulation=True)
        found, rows = guided(whole, query, asked)
        assert len(rows) == 2
        torch.testing.assert_close(found.denoised, wanted, atol=1e-9, rtol=1e-9)


def test_pag_is_diffusers() -> None:
    query, asked = Query(latent(2), 1.5, 0), call(scale=6.0)
    cond, uncond, perturbed = answers(query, asked)
    guider = PerturbedAttentionGuidance(
        guidance_scale=6.0, perturbed_guidance_scale=2.5, perturbed_guidance_layers=[0], perturbed_guidance_start=0.0,
        perturbed_guidance_stop=1.0,
    )  # fmt: skip
    guider.set_state(step=1, num_inference_steps=10, timestep=torch.tensor(1))
    wanted = guider.forward(cond, uncond, perturbed).pred
    found, rows = guided(compose({"pag": {"scale": 2.5}}, KINDS)(), query, asked)
    assert [row.perturbed for row in rows] == [False, False, True]
    torch.testing.assert_close(found.denoised, wanted, atol=1e-5, rtol=1e-5)
    assert math.isclose(sum(row.weight for row in rows), 1.0 - 2.5)


def test_pag_works_without_cfg_and_with_several_prompts() -> None:
    query = Query(latent(3), 1.5, 0)
    asked = call(scale=1.0)
    cond, _, perturbed = answers(query, asked)
    found, rows = guided(compose({"pag": {"scale": 3.0}}, KINDS)(), query, asked)
    assert len(rows) == 2
    torch.testing.assert_close(found.denoised, cond + 3 * (cond - perturbed))
    two = call(1.0, 0.5, scale=4.0)
    plain, _ = guided(ClassifierFree(), query, two)
    found, rows = guided(compose({"pag": {"scale": 3.0}}, KINDS)(), query, two)
    assert len(rows) == 5
    push = sum(
        weight * (predicted(Row(query.x, 1.5, prompt)) - predicted(Row(query.x, 1.5, prompt, perturbed=True)))
        for prompt, weight in two.texts
    )
    torch.testing.assert_close(found.denoised, plain.denoised + 3 * push, atol=1e-5, rtol=1e-5)


def skipped(options: dict[str, float], sigmas: list[float]) -> list[int]:
    """The evaluations that leave the negative prompt out."""
    whole = compose({"skip": options}, KINDS)()
    found = []
    for k, sigma in enumerate(sigmas):
        query, asked = Query(latent(k), sigma, k), call(evaluation=k, evaluations=len(sigmas))
        result, rows = guided(whole, query, asked)
        cond, uncond, _ = answers(query, asked)
        if len(rows) == 1:
            found.append(k)
        torch.testing.assert_close(
            result.denoised, cond if len(rows) == 1 else uncond + 7 * (cond - uncond), atol=1e-5, rtol=1e-5
        )
    return found


def test_the_negative_prompt_is_skipped_as_in_automatic1111() -> None:
    sigmas = [14.0, 9.0, 5.0, 3.0, 2.0, 1.5, 1.0, 0.5, 0.2, 0.1]
    assert skipped({"sigma": 3.0}, sigmas) == [5, 7, 9]  # strictly below, and only the odd ones
    assert skipped({"sigma": 3.0, "all": 1.0}, sigmas) == [4, 5, 6, 7, 8, 9]
    assert skipped({"early": 0.2}, sigmas) == [0, 1, 2]  # the fraction itself included
    assert skipped({"early": 0.05}, sigmas) == [0]
    assert skipped({"early": 0.1, "sigma": 1.2}, sigmas) == [0, 1, 7, 9]
    assert skipped({"early": 1.0}, sigmas) == list(range(10))


def test_several_prompts_without_their_negative_are_composed_around_the_first() -> None:
    """AUTOMATIC1111 puts the first prompt's prediction in the negative one's place, and takes a scale of 1."""
    query, asked = Query(latent(4), 1.0, 0), call(1.0, 0.8, scale=7.0)
    first, second = (predicted(Row(query.x, 1.0, prompt)) for prompt, _ in asked.texts)
    found, rows = guided(compose({"skip": {"sigma": 5.0, "all": 1.0}}, KINDS)(), query, asked)
    assert len(rows) == 2
    torch.testing.assert_close(found.denoised, first + 0.8 * (second - first))
    assert torch.equal(found.unconditional, first)


def test_together_they_are_one_after_another_from_the_inside_out() -> None:
    query, asked = Query(latent(5).double(), 2.0, 0), call(scale=9.0, evaluation=0)
    cond, uncond, perturbed = answers(query, asked)
    chosen = {"skip": {"sigma": 1.0}, "rescale": {"phi": 0.7}, "pag": {"scale": 2.0}, "apg": {"eta": 0.0}}
    found, rows = guided(compose(chosen, KINDS)(), query, asked)
    assert len(rows) == 3
    inner = normalized_guidance(cond, uncond, 8.0, None, 0.0, 0.0, use_original_formulation=True)
    inner = inner + 2.0 * (cond - perturbed)
    wanted = rescale_noise_cfg(velocity(query.x, inner, 2.0), velocity(query.x, cond, 2.0), 0.7)
    torch.testing.assert_close(velocity(query.x, found.denoised, 2.0), wanted, atol=1e-9, rtol=1e-9)


def test_a_sampler_that_asks_for_it_gets_the_unconditional_prediction() -> None:
    query, asked = Query(latent(6), 2.0, 0, uncond=True), call(scale=1.0, evaluation=0)
    _, uncond, _ = answers(query, asked)
    chosen = {"rescale": {"phi": 0.7}, "pag": {"scale": 2.0}, "skip": {"sigma": 1.0}}
    found, rows = guided(compose(chosen, KINDS)(), query, asked)
    assert len(rows) == 3
    assert torch.equal(found.unconditional, uncond)
