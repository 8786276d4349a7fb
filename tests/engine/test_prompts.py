"""What of the prompt language the model really sees, evaluation by evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from modules.core.job import Started
from modules.diffusion.noise import PictureNoise
from tests.engine.small import Bench, SmallBackbone, SmallManager, bench, plan
from tests.engine.watching import latents_of
from tests.passes import denoise, encoded


def seen(texts: tuple[str, ...], *, weight: float = 1.0, **values: Any) -> list[str]:
    """The text of the first row at each evaluation of one picture, of `texts`."""
    passes: list[Tensor] = []
    b = bench(SmallManager(on_pass=lambda _x, _sigmas, text: passes.append(text[0].clone())))
    b.engine.submit("j", plan(cfg_scale=1.0, **values))
    b.run()
    model = _model(b)
    known = {text: encoded(model, [text], 1)[0][0] for text in texts}
    return [next(text for text, encoded in known.items() if torch.equal(encoded, each)) for each in passes]


def _model(b: Bench) -> SmallBackbone:
    (model,) = b.manager.models.values()
    return model


def test_an_edit_switches_where_automatic1111_switches() -> None:
    assert seen(("a cat", "a dog"), prompt="a [cat:dog:2]", steps=6) == ["a cat"] * 3 + ["a dog"] * 3
    assert seen(("a cat", "a dog"), prompt="a [cat:dog:.5]", steps=6) == ["a cat"] * 4 + ["a dog"] * 2


def test_alternation_takes_turns() -> None:
    assert "".join(seen(("a", "b", "c"), prompt="[a|b|c]", steps=6)) == "aabcab"


def test_a_sampler_that_asks_twice_counts_twice() -> None:
    """Four steps of Heun are seven evaluations, the last step asking once; halfway is the fourth of eight."""
    assert "".join(seen(("a", "b"), prompt="[a:b:0.5]", steps=4, sampler="heun")) == "a" * 5 + "b" * 2
    assert "".join(seen(("a", "b"), prompt="[a:b:2]", steps=4, sampler="heun")) == "a" * 3 + "b" * 4


def test_tags_of_networks_are_not_seen() -> None:
    assert seen(("a  cat", "a cat"), prompt="a <lora:x:1> cat", steps=1) == ["a  cat"]


def test_the_negative_prompt_has_stages_too() -> None:
    passes: list[Tensor] = []
    b = bench(SmallManager(on_pass=lambda _x, _sigmas, text: passes.append(text[1].clone())))
    b.engine.submit("j", plan(prompt="p", negative_prompt="[m:n:1]", steps=4))
    b.run()
    model = _model(b)
    known = {text: encoded(model, [text], 1)[0][0] for text in "mn"}
    assert ["m" if torch.equal(each, known["m"]) else "n" for each in passes] == ["m", "m", "n", "n"]
    assert torch.equal(passes[-1], known["n"])


def test_each_text_is_encoded_once_for_all_jobs() -> None:
    b = bench()
    for job in "abc":
        b.engine.submit(job, plan(prompt="[a|b] AND [a:c:2]", negative_prompt="a", seeds=(1, 2), steps=7))
        b.run()
    assert sorted(_model(b).encoded) == ["a", "b", "c"]


@pytest.mark.parametrize("prompt", ["a cat AND a dog", "a cat :0.7 AND a dog :1.4 AND fog :-0.3", "a cat :1.5"])
def test_and_is_the_weighted_sum_of_its_prompts(prompt: str) -> None:
    """Liu et al. 2022, equation 11: uncond + sum of w_i * scale * (cond_i - uncond)."""
    b = bench()
    found = latents_of(b)
    b.engine.submit("j", plan(prompt=prompt, negative_prompt="bad", steps=1, cfg_scale=3.0, seeds=(9,)))
    b.run()
    model = _model(b)
    (started,) = (e for e in b.events if isinstance(e, Started))
    sigma = started.sigmas[0]
    x = PictureNoise(9, (1, 4, 8, 8), started.sigmas).initial() * sigma

    def answer(text: str) -> Tensor:
        return denoise(model, x, torch.tensor([sigma]), encoded(model, [text], 1)[0])

    uncond = answer("bad")
    wanted = uncond.clone()
    for each in prompt.split("AND"):
        text, colon, weight = each.partition(":")
        wanted += 3.0 * (float(weight) if colon else 1.0) * (answer(text.strip()) - uncond)
    torch.testing.assert_close(found["j", 0], wanted, atol=1e-4, rtol=1e-4)


def test_without_guidance_and_needs_its_unconditional_row_all_the_same() -> None:
    b = bench()
    b.engine.submit("j", plan(prompt="a AND b", cfg_scale=1.0, steps=2))
    b.run()
    assert _model(b).passes == [3, 3]


def test_each_picture_of_a_job_has_its_own_prompt() -> None:
    together, alone = bench(), bench()
    both, single = latents_of(together), latents_of(alone)
    together.engine.submit(
        "j", plan(prompt="a cat", prompts=("a cat", "a dog"), seeds=(1, 2), batch_size=2, strict=True)
    )
    alone.engine.submit("j", plan(prompt="a dog", seeds=(2,), strict=True))
    together.run()
    alone.run()
    assert torch.equal(both["j", 1], single["j", 0])


def test_emphasis_is_part_of_what_is_remembered_of_a_text() -> None:
    b = bench()
    for emphasis in ("Original", "Ignore", "Original"):
        b.engine.submit(emphasis + str(len(b.events)), plan(prompt="p", negative_prompt="n", emphasis=emphasis))
        b.run()
    assert _model(b).encoded == ["p", "n"] * 2
