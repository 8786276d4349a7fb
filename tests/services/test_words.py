"""From what was typed to what each picture is made with."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.core.errors import RequestError
from modules.core.generation import GenerationPlan, GenerationRequest, parse_plan, plan_json
from modules.core.sampling import Sampler
from modules.prompting.styles import Style
from modules.services.notices import notices_of
from modules.services.prompt_view import MOST_ROWS, prompt_view
from tests.fakes.models import SAMPLERS, resolver, words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "animal.txt").write_text("cat\ndog\nfox\n", encoding="utf-8")
    return tmp_path


def planned(folder: Path | None = None, **values: object) -> GenerationPlan:
    return resolver(folder=folder).resolve(values)


def test_each_picture_draws_by_its_own_seed_and_records_its_text(folder: Path) -> None:
    plan = planned(folder, prompt="a __animal__", negative_prompt="{x|y}", seed=5, batch_count=8)
    assert len(plan.prompts) == 8
    assert plan.prompt == plan.prompts[0]
    assert plan.template == "a __animal__"
    for index in range(8):
        alone = planned(folder, prompt="a __animal__", negative_prompt="{x|y}", seed=5 + index)
        mine = plan.only(index)
        assert (mine.prompt, mine.negative_prompt) == (alone.prompt, alone.negative_prompt)
        assert (mine.prompts, mine.template) == ((), "a __animal__")
    assert len(set(plan.prompts)) > 1


def test_some_of_its_pictures(folder: Path) -> None:
    plan = planned(folder, prompt="a __animal__", seed=5, batch_count=8)
    some = plan.picked((2, 5))
    assert some.seeds == (7, 10)
    assert [some.only(i).prompt for i in (0, 1)] == [plan.prompts[2], plan.prompts[5]]
    assert parse_plan(plan_json(some)) == some


def test_without_choices_there_is_no_template() -> None:
    plan = planned(prompt="a cat # a comment\n# another\nand a dog", negative_prompt="x", batch_count=3)
    assert (plan.prompt, plan.prompts, plan.template) == ("a cat\nand a dog", (), "")


def test_switched_off_they_are_text() -> None:
    plan = resolver(dynamic=False).resolve({"prompt": "a {cat|dog} __x__"})
    assert (plan.prompt, plan.template) == ("a {cat|dog} __x__", "")
    assert notices_of(plan) == ()


def test_styles_come_first(folder: Path) -> None:
    words(folder).styles.save(Style(name="wild", prompt="{prompt} with a __animal__ # why", negative_prompt="ugly"))
    plan = planned(folder, prompt="a hat", styles=["wild"], seed=1)
    assert plan.prompt in {f"a hat with a {animal}" for animal in ("cat", "dog", "fox")}
    assert plan.negative_prompt == "ugly"
    with pytest.raises(RequestError, match="styles") as caught:
        planned(folder, styles=["tame"])
    assert caught.value.accepted == "wild"


def test_a_plan_with_texts_for_other_pictures_is_refused(folder: Path) -> None:
    values = plan_json(planned(folder, prompt="{a|b|c|d|e|f}", seed=5, batch_count=3))
    with pytest.raises(RequestError, match="prompts"):
        resolver().resolve({**values, "prompts": ["a", "b"]})


def test_prompts_that_are_too_long_together_are_refused() -> None:
    with pytest.raises(RequestError, match="prompt"):
        planned(prompt="{10$$a|b|c|d|e|f|g|h|i|j}" + "x" * 90_000, seed=1, batch_count=100)


def test_more_prompts_than_anybody_joins_are_refused(folder: Path) -> None:
    joined = " AND ".join(["a"] * 101)
    for asked in (planned, view):
        with pytest.raises(RequestError, match="joins 101 prompts by AND"):
            asked(folder, prompt=joined)
    assert planned(folder, prompt=joined.removesuffix(" AND a")).prompt


def test_unknown_wildcards_and_networks_are_noticed(folder: Path) -> None:
    plan = planned(folder, prompt="a __nope__ __animal__ <lora:x:1>")
    networks, wildcards = notices_of(plan)
    assert "lora:x" in networks
    assert "__nope__" in wildcards


def view(folder: Path, sampler: str = "euler", **values: object) -> dict[str, object]:
    request = GenerationRequest(**values)  # type: ignore[arg-type]
    chosen: Sampler = SAMPLERS[sampler]
    return dict(prompt_view(words(folder), request, chosen, steps=10, seed=1))


def rows(found: dict[str, object], part: int = 0) -> list[tuple[int, int, str]]:
    return [(row["first"], row["last"], row["text"]) for row in found["prompt"]["parts"][part]["rows"]]  # type: ignore[index]


def troubles(found: dict[str, object]) -> list[tuple[str, object, object]]:
    return [(each["problem"], each["start"], each["end"]) for each in found["prompt"]["troubles"]]  # type: ignore[index]


def test_what_each_step_sees(folder: Path) -> None:
    found = view(folder, prompt="a [cat:dog:3] AND hat :0.5")
    assert rows(found) == [(1, 4, "a cat"), (5, 10, "a dog")]  # AUTOMATIC1111's first stage lasts one longer
    assert rows(found, 1) == [(1, 10, "hat")]
    assert found["prompt"]["parts"][1]["weight"] == 0.5  # type: ignore[index]


def test_an_endless_alternation_is_cut_short(folder: Path) -> None:
    request = GenerationRequest(prompt="[a|b]")
    found = prompt_view(words(folder), request, SAMPLERS["euler"], steps=150, seed=1)
    assert len(found["prompt"]["parts"][0]["rows"]) == MOST_ROWS
    assert found["prompt"]["parts"][0]["more"]


def test_troubles_are_told_with_their_places(folder: Path) -> None:
    text = "# (a comment [\na (cat __nope__ <lora:x:1> {"
    assert sorted(troubles(view(folder, prompt=text))) == sorted(
        [
            ("unclosed", text.index("(cat"), text.index("(cat") + 1),
            ("wildcard", text.index("__nope"), text.index(" <lora")),
            ("network", text.index("<lora"), text.index(":1>")),
            ("brace", len(text) - 1, len(text)),
        ]
    )


def test_what_cannot_be_drawn_is_told(folder: Path) -> None:
    (folder / "wildcards" / "loop.txt").write_text("__loop__", encoding="utf-8")
    assert [problem for problem, _, _ in troubles(view(folder, prompt="__loop__"))] == ["undrawable"]
