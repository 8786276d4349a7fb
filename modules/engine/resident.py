"""The model that is in place now: brought by the manager, pinned while pictures use it, let go after."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from modules.core.errors import CheckpointError
from modules.core.generation import ModelChoice
from modules.core.job import EngineOptions, MemoryMode
from modules.core.operations import ModelKey, Predict
from modules.diffusion.backbone import Backbone, Placement, Whole
from modules.diffusion.preview import renderer_for
from modules.engine.estimate import Work
from modules.engine.picture import Canvas
from modules.engine.room import Fit
from modules.engine.task import Task
from modules.engine.watch import Looks

MOST_LOOKS = 8  # models whose looks are kept: with TAESD each has a decoder of 5 MB on the device

logger = logging.getLogger(__name__)


class Brought(Protocol):
    """A model that the manager brought. source: where from; seconds: how long it took; fit: how its work fits."""

    @property
    def backbone(self) -> Backbone: ...
    @property
    def source(self) -> Literal["resident", "memory", "file"]: ...
    @property
    def seconds(self) -> float: ...
    @property
    def fit(self) -> Fit: ...


class Manager(Protocol):
    """Keeps loaded checkpoints under a memory budget; `modules.engine.manager:ModelManager`. Not thread-safe."""

    @property
    def placement(self) -> Placement: ...
    def key(self, choice: ModelChoice) -> ModelKey: ...
    def bring(self, choice: ModelChoice, work: Work | None = None) -> Brought: ...
    def fit(self, key: ModelKey, work: Work | None = None) -> Fit: ...
    def relieve(self, key: ModelKey, work: Work, most: MemoryMode = "low") -> str: ...
    def pin(self, key: ModelKey) -> None: ...
    def unpin(self, key: ModelKey) -> None: ...
    def unload(self) -> None: ...
    def loaded(self) -> tuple[str, ...]: ...
    def keys(self) -> Collection[ModelKey]: ...
    def configure(self, options: EngineOptions) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """How the model in place came. seconds: of bringing it alone. notice: what went wrong without stopping it."""

    source: Literal["resident", "memory", "file"]
    seconds: float
    notice: str = ""


class Resident:
    """Holds at most one model in place. Used from the engine's one thread."""

    def __init__(self, manager: Manager, clock: Callable[[], float]) -> None:
        self.manager = manager
        self._clock = clock
        self._backbone: Backbone | None = None
        self._exact: Backbone | None = None
        self._pinned: ModelKey | None = None
        self._model: ModelKey | None = None  # as the task in place names it
        self._fits: dict[tuple[int, int], Fit] = {}  # by height and width of a latent: how it fits
        self._work = Work(width=512, height=512)
        self.always_tiled = False  # the person wants it so
        self._looks: OrderedDict[ModelKey, Looks] = OrderedDict()

    @property
    def backbone(self) -> Backbone:
        """The model in place."""
        if self._backbone is None:
            raise RuntimeError("no model is in place")
        return self._backbone

    def enter(self, model: ModelKey, task: Task, options: EngineOptions) -> Arrival:
        """Put a model in place. Raises CheckpointError and whatever loading raises; then none is in place.

        A key other than the task's own is its float32 twin, the retry after a NaN.
        """
        self.leave()
        began = self._clock()
        with torch.inference_mode(False):  # weights made in inference mode could never be changed in place
            self.always_tiled, self._work = options.tiled_vae, work_of(task)
            brought = self.manager.bring(task.plan.model, self._work)
            # Its own key: options that changed since the job began may have brought it in another precision
            self._pinned = brought.backbone.key
            self.manager.pin(self._pinned)
            self._backbone = brought.backbone
            if model != task.model and brought.backbone.key.dtype != model.dtype:
                self._exact = self._backbone = brought.backbone.upcast()
        seconds = self._clock() - began
        self._model = task.model
        self._fits = {self._sides(self._work): brought.fit}
        notices = (brought.fit.notice, self._choose_looks(task.model, options))
        return Arrival(source=brought.source, seconds=seconds, notice=" ".join(filter(None, notices)))

    @property
    def fit(self) -> Fit | None:
        """How the largest work fits for which the model in place was asked; None where none is in place."""
        return max(self._fits.values(), key=lambda fit: fit.choice.whole, default=None)

    def prepare(self, predict: Predict) -> str:
        """Make room for passes over latents of a size that was not asked for yet. Returns what people should know."""
        height, width = predict.rows[0].x.shape[-2:]
        if (height, width) in self._fits or self._pinned is None or self._exact is not None:
            return ""
        downscale = self.backbone.downscale
        tokens = max(row.text.length for row in predict.rows)
        work = Work(width=width * downscale, height=height * downscale, rows=len(predict.rows), tokens=tokens)
        fit = self._fits[height, width] = self.manager.fit(self._pinned, work)
        if work.latent_pixels > self._work.latent_pixels:
            self._work = work
        return fit.notice

    def tiled(self, latent: Tensor) -> bool:
        """Whether a latent is decoded in tiles from the start."""
        fit = self._fits.get((latent.shape[-2], latent.shape[-1]))
        return self.always_tiled or (fit is not None and fit.choice.tiled)

    def relieve(self, most: MemoryMode = "low") -> str:
        """Do something about memory that ran out; see `ModelManager.relieve`."""
        if self._pinned is None or self._exact is not None:
            return ""
        return self.manager.relieve(self._pinned, self._work, most)

    def _sides(self, work: Work) -> tuple[int, int]:
        return work.height // self.backbone.downscale, work.width // self.backbone.downscale

    def _choose_looks(self, model: ModelKey, options: EngineOptions) -> str:
        if not (options.preview_ms or options.trace) or isinstance(self.backbone, Whole):
            return ""
        if model in self._looks:
            self._looks.move_to_end(model)
            return ""
        side = max(8, options.preview_size // 8)
        try:
            colours, renderer = renderer_for(self.backbone, options.taesd, side=side)
            notice = ""
        except CheckpointError as error:
            colours, renderer = renderer_for(self.backbone)
            notice = str(error)
        self._looks[model] = Looks(colours=colours, renderer=renderer)
        while len(self._looks) > MOST_LOOKS:
            self._looks.popitem(last=False)
        return notice

    def leave(self) -> None:
        """Let go of the model in place; the manager may keep it loaded."""
        self._backbone = self._model = None
        self._fits = {}
        if self._exact is not None:
            self._exact.close()
            self._exact = None
        if self._pinned is not None:
            self.manager.unpin(self._pinned)
            self._pinned = None

    def canvas(self, model: ModelKey) -> Canvas:
        """What a picture must know of the model in place."""
        backbone = self.backbone
        return Canvas(
            levels=backbone.noise_levels,
            channels=backbone.latent_channels,
            downscale=backbone.downscale,
            device=backbone.placement.unet_device,
        )

    def looks(self, model: ModelKey) -> Looks | None:
        """How a model's latents are shown, or None where nobody wants to see them."""
        return self._looks.get(model)

    def forget_looks(self) -> None:
        """Let go of how previews are made, but for the model in place: the others were given up."""
        for model in [model for model in self._looks if model != self._model]:
            del self._looks[model]

    def change_looks(self, options: EngineOptions) -> None:
        """Choose anew how previews are made: an option for them changed. The model in place has its own at once."""
        self._looks.clear()
        if self._model is None:
            return
        try:
            notice = self._choose_looks(self._model, options)
        except Exception:
            logger.exception("Previews cannot be made with the new options.")
            return
        if notice:
            logger.warning("%s", notice)


def work_of(task: Task) -> Work:
    """What a job asks of its model, as far as its plan tells: the rows of one of its pictures."""
    plan = task.plan
    rows = 2 if plan.cfg_scale * task.sampler.cfg_factor != 1 else 1
    return Work(width=plan.width, height=plan.height, rows=rows)
