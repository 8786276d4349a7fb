"""Pictures of models that cannot be stepped: the model makes them from beginning to end, and the engine looks on.

Between two of its steps the engine takes its commands, so that an interrupt ends such a picture within one step, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from modules.core.errors import EngineError, OutOfMemory, UnsupportedCheckpoint
from modules.core.generation import GenerationPlan
from modules.core.operations import Exclusive, ModelKey, Picture
from modules.diffusion.backbone import Backbone, Whole
from modules.diffusion.preview import as_pixels
from modules.engine.forward import shortage
from modules.engine.picture import Finished, NotFinite, Stopped

WHOLE_FAMILIES = frozenset({"diffusers"})  # whose models make pictures by themselves
NOT_KEPT = "This kind of model cannot show a picture before its last step: nothing of the stopped one is kept."


class Abandoned(Exception):
    """Raised inside a model that works on a picture which is over already."""


class Onlooker(Protocol):
    """Looks on while a model makes a picture. Called from the engine's thread."""

    def started(self, steps: int) -> None:
        """The picture was begun; it takes about so many steps."""

    def progressed(self, step: int, steps: int) -> None:
        """Step `step` of `steps`, counted from 1, is done."""

    def notice(self, text: str) -> None:
        """Something the person should know."""


def whole_picture(model: ModelKey, plan: GenerationPlan, onlooker: Onlooker, told: set[str]) -> Picture:
    """Make the one picture of `plan`. Returns `Finished`. told: what its job was told already: most of what a model
    leaves undone of a plan holds for all of its pictures.

    One that is not finite is made again in float32, and the onlooker is told; raises NotFinite where that does not
    help, and Stopped when it is stopped: nothing can be kept then.
    """

    def notice(text: str) -> None:
        if text not in told:
            told.add(text)
            onlooker.notice(text)

    while True:
        onlooker.started(plan.steps)
        try:
            rgb = yield Exclusive(model, plan, onlooker.progressed, notice)
            return Finished(rgb=rgb)
        except Stopped as stop:
            if stop.keep:
                onlooker.notice(NOT_KEPT)
            raise
        except NotFinite:
            if model.dtype == "float32":
                raise
            onlooker.notice(f"The picture held NaN in {model.dtype}: it is made again in float32.")
            model = replace(model, dtype="float32")


def made(backbone: Backbone, operation: Exclusive, over: Callable[[], bool]) -> Tensor | Exception:
    """The picture, (H, W, 3) uint8 on the CPU, or what went wrong: Abandoned where nobody waits for it any more.

    over(): whether that is so; asked after each step.
    """

    def stepped(step: int, steps: int) -> None:
        if over():
            raise Abandoned
        operation.stepped(step, steps)

    plan = operation.plan
    try:
        if not isinstance(backbone, Whole):
            raise UnsupportedCheckpoint(
                f"{backbone.info.name} is no longer what it was when the picture was ordered: it is "
                f"{backbone.info.label} now.",
                hint="Order the picture again.",
            )
        image = backbone.run(plan, stepped, operation.notice)
        if not bool(torch.isfinite(image).all()):
            raise NotFinite("picture")
        return as_pixels(image.float()).cpu()
    except Exception as error:  # noqa: BLE001  it goes to the picture that it concerns
        return _meant(shortage(error, f"a picture of {plan.width} x {plan.height} pixels"), backbone)


def _meant(error: Exception, backbone: Backbone) -> Exception:
    """What a library's refusal of a value means for people; other errors as they are."""
    if isinstance(error, ValueError) and not isinstance(error, OutOfMemory):
        return EngineError(f"{backbone.info.label} does not take this: {error}")
    return error
