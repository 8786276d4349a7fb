"""From the typed prompt to the one a picture is made with: styles, then comments, then choices and wildcards.

The order is AUTOMATIC1111's, where styles are put in first and may therefore hold choices themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modules.core.errors import RequestError
from modules.core.generation import MAX_PROMPT_CHARACTERS, GenerationRequest
from modules.prompting.comments import without_comments
from modules.prompting.dynamic import Template, Wildcards
from modules.prompting.networks import without_tags
from modules.prompting.stages import check_parts
from modules.prompting.styles import with_styles
from modules.services.styles import Styles

MAX_CHARACTERS = 4_000_000  # of all prompts of one request together


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One text per picture. template, negative_template: what they were drawn from; "" where nothing was drawn."""

    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    template: str = ""
    negative_template: str = ""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What prompts are made of besides what was typed. dynamic(): whether choices and wildcards are drawn."""

    styles: Styles
    wildcards: Wildcards
    dynamic: Callable[[], bool]

    def templates(self, request: GenerationRequest) -> tuple[Template, Template]:
        """Prompt and negative prompt with styles and without comments. Raises RequestError or StorageError."""
        typed = (request.prompt, request.negative_prompt)
        if request.styles:
            typed = with_styles(*typed, self.styles.chosen(request.styles))
        texts = tuple(without_comments(text) for text in typed)
        fields = ("prompt", "negative_prompt")
        for field, text in zip(fields, texts, strict=True):
            if len(text) > MAX_PROMPT_CHARACTERS:
                raise RequestError(
                    field, f"is {len(text):,} characters long with its styles",
                    accepted=f"text of at most {MAX_PROMPT_CHARACTERS:,} characters",
                )  # fmt: skip
        first, second = (Template(text, self.wildcards, field=field) for field, text in zip(fields, texts, strict=True))
        return first, second

    def drawn(self, request: GenerationRequest, seeds: Sequence[int]) -> Drawn:
        """The texts of every picture. Raises RequestError (prompt, negative_prompt, styles) or StorageError."""
        prompt, negative = self.templates(request)
        dynamic = self.dynamic()
        found = Drawn(
            prompts=_each(prompt, seeds, dynamic),
            negative_prompts=_each(negative, seeds, dynamic),
            template=prompt.text if dynamic and prompt.dynamic else "",
            negative_template=negative.text if dynamic and negative.dynamic else "",
        )
        for text in set(found.prompts):
            check_parts(without_tags(text))
        characters = sum(map(len, set(found.prompts))) + sum(map(len, set(found.negative_prompts)))
        if characters > MAX_CHARACTERS:
            raise RequestError(
                "prompt", f"becomes {characters:,} characters for {len(seeds)} pictures",
                accepted=f"at most {MAX_CHARACTERS:,} in all",
            )  # fmt: skip
        return found


def _each(template: Template, seeds: Sequence[int], dynamic: bool) -> tuple[str, ...]:
    if not (dynamic and template.dynamic):
        return (template.text,) * len(seeds)
    return tuple(template.draw(seed, index) for index, seed in enumerate(seeds))
