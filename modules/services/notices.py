"""What the person who asked for pictures should know of them before they are made."""

from __future__ import annotations

from modules.core.generation import GenerationPlan
from modules.prompting.dynamic import read
from modules.prompting.networks import tags


def notices_of(plan: GenerationPlan) -> tuple[str, ...]:
    """Sentences for the job's page and for answers of the API; mostly none."""
    texts = dict.fromkeys((plan.prompt, *plan.prompts, plan.negative_prompt, *plan.negative_prompts))
    networks = dict.fromkeys(f"{tag.kind}:{tag.name}" for text in texts for tag in tags(text))
    found = []
    if networks:
        found.append(f"Networks are not supported yet: the picture is made without {', '.join(networks)}.")
    if plan.template or plan.negative_template:
        unknown = dict.fromkeys(spot.name for text in texts for spot in read(text).spots if spot.kind == "wildcard")
        if unknown:
            listed = ", ".join(f"__{name}__" for name in unknown)
            found.append(f"There is no wildcard of this name, so it stays in the text: {listed}.")
    return tuple(found)
