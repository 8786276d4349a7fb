"""Where operations are answered with the model in place: texts encoded, rows predicted, latents decoded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from modules.core.errors import OutOfMemory
from modules.core.job import Encoded, MemoryMode, Notice
from modules.core.operations import Decode, Encode, Exclusive, Predict
from modules.diffusion.preview import as_pixels
from modules.engine.batcher import Trajectory, Turn, text_length
from modules.engine.costs import PassCosts
from modules.engine.forward import Forward, shortage, size_of
from modules.engine.memory import empty_cache
from modules.engine.outbox import Outbox
from modules.engine.picture import NotFinite
from modules.engine.resident import Resident
from modules.engine.sidework import Line
from modules.engine.stopwatch import Stopwatch
from modules.engine.task import Task
from modules.engine.texts import Texts
from modules.engine.watch import PictureWatch
from modules.engine.whole import Abandoned, made

PARTED = (
    "There was too little memory for a step's rows together: they were computed one after another, and the last bits "
    "of the picture may differ from the same picture made with more free memory."
)
TILED = (
    "There was too little memory to decode the picture whole: it was decoded in overlapping tiles, and may differ "
    "slightly from the same picture made with more free memory."
)


class Desk:
    """Answers turns. Used from the engine's one thread. costs: is told what passes take. listen(): takes the engine's
    commands in the middle of an operation; False where the engine is to end.

    texts: the encoded prompts it keeps; stopwatch: model time.
    """

    def __init__(
        self,
        *,
        resident: Resident,
        forward: Forward,
        outbox: Outbox,
        line: Line,
        costs: PassCosts,
        clock: Callable[[], float],
        listen: Callable[[], bool],
    ) -> None:
        self.texts = Texts()
        self.stopwatch = Stopwatch(clock)
        self._resident, self._forward = resident, forward
        self._said: list[str] = []  # of memory, to the jobs of the turn
        forward.relieve = self._relieve
        self._outbox, self._line, self._costs, self._clock = outbox, line, costs, clock
        self._listen = listen

    def answer(self, turn: Turn) -> None:
        """Answer a turn's operations; an error goes to the picture that it concerns."""
        tasks = tasks_of(turn.trajectories)
        self._answer(turn)
        for text in self._said:
            for task in tasks:
                self._outbox.send(Notice(job=task.job, text=text))
        self._said.clear()

    def _answer(self, turn: Turn) -> None:
        operation = turn.trajectories[0].operation
        if isinstance(operation, Predict):
            self._predict(turn)
        elif isinstance(operation, Decode):
            self._decode(turn.trajectories[0], operation)
        elif isinstance(operation, Exclusive):
            self._make(turn.trajectories[0], operation)
        else:
            for trajectory in turn.trajectories:
                if isinstance(trajectory.operation, Encode):
                    self._encode(trajectory, trajectory.operation)

    def _predict(self, turn: Turn) -> None:
        backbone, trajectories = self._resident.backbone, turn.trajectories
        predicts = [t.operation for t in trajectories if isinstance(t.operation, Predict)]
        # The shape by which the batcher asks: of the latent, and the tokens of the longest text
        shape = (*predicts[0].rows[0].x.shape, max(text_length(predict) for predict in predicts))
        rows = sum(len(predict.rows) for predict in predicts)
        told = partial(self._costs.measured, turn.group, shape, rows)
        for predict in predicts:
            self._say(self._resident.prepare(predict))
        with self.stopwatch.model(backbone.placement.unet_device, tasks_of(trajectories), told):
            answers = self._forward.answer(backbone, predicts)
        if self._forward.parted:
            for trajectory in trajectories:
                self._watch(trajectory).notice(PARTED)
        now = self._clock()
        for trajectory, answer in zip(trajectories, answers, strict=True):
            if isinstance(answer, Exception):
                trajectory.throw(answer, now)
            else:
                trajectory.advance(answer, now)

    def _encode(self, trajectory: Trajectory, operation: Encode) -> None:
        backbone, task = self._resident.backbone, trajectory.owner
        began = self._clock()
        try:
            with self.stopwatch.model(backbone.placement.text_device, (task,)):
                answer = self.texts.answer(backbone, operation)
            if not task.encoded:
                task.encoded = True
                tokens, negative = (backbone.tokens(text, operation.emphasis) for text in operation.texts[:2])
                seconds = self._clock() - began
                self._outbox.send(Encoded(job=task.job, seconds=seconds, tokens=tokens, negative_tokens=negative))
                for notice in dict.fromkeys(text.notice for text in answer if text.notice):
                    self._outbox.send(Notice(job=task.job, text=notice))
        except Exception as caught:  # noqa: BLE001  it goes to the picture that it concerns
            error = shortage(caught, "the prompt's encoding")
        else:
            trajectory.advance(answer, self._clock())
            return
        empty_cache(backbone.placement.text_device)
        if isinstance(error, OutOfMemory) and self._relieve():
            self._encode(trajectory, operation)
            return
        trajectory.throw(error, self._clock())

    def _decode(self, trajectory: Trajectory, operation: Decode) -> None:
        device = self._resident.backbone.placement.vae_device
        tiled = self._resident.tiled(operation.latent)
        outcome = self._decoded(trajectory.owner, operation, tiled=tiled)
        # Taking turns costs less than tiles would show; bringing layer after layer at every step costs more
        while isinstance(outcome, OutOfMemory):
            empty_cache(device)  # only here has the failed attempt let go of its tensors
            if not self._relieve("low" if tiled else "medium"):
                if tiled:
                    break
                tiled = True
            outcome = self._decoded(trajectory.owner, operation, tiled=tiled)
        if tiled and isinstance(outcome, Tensor) and not self._resident.always_tiled:
            self._watch(trajectory).notice(TILED)
        if isinstance(outcome, Tensor):
            self._learn(operation, outcome)
            trajectory.advance(outcome, self._clock())
            return
        empty_cache(device)
        trajectory.throw(outcome, self._clock())

    def _decoded(self, task: Task, operation: Decode, *, tiled: bool = False) -> Tensor | Exception:
        """(H, W, 3) uint8 on the CPU, or what went wrong."""
        backbone = self._resident.backbone
        try:
            with self.stopwatch.model(backbone.placement.vae_device, (task,)):
                if not bool(torch.isfinite(operation.latent).all()):
                    raise NotFinite("latent")
                image = backbone.decode(
                    operation.latent, fp32=operation.fp32, tiled=tiled, seamless=operation.seamless
                )[0]
                if not bool(torch.isfinite(image).all()):
                    raise NotFinite("picture")
                return as_pixels(image).cpu()
        except Exception as error:  # noqa: BLE001  it goes to the picture that it concerns
            return shortage(error, f"decoding {size_of(operation.latent)}")

    def _make(self, trajectory: Trajectory, operation: Exclusive) -> None:
        backbone, task = self._resident.backbone, trajectory.owner

        def over() -> bool:
            return not self._listen() or trajectory.operation is not operation

        with self.stopwatch.model(backbone.placement.unet_device, (task,)):
            outcome = made(backbone, operation, over)
        if trajectory.operation is not operation or isinstance(outcome, Abandoned):
            return  # stopped meanwhile: it knows already, or the engine ends
        if isinstance(outcome, Tensor):
            trajectory.advance(outcome, self._clock())
            return
        empty_cache(backbone.placement.unet_device)
        if isinstance(outcome, OutOfMemory) and self._relieve():
            self._make(trajectory, operation)
            return
        trajectory.throw(outcome, self._clock())

    def _relieve(self, most: MemoryMode = "low") -> bool:
        """Whether something could be done about short memory: then it is worth to try once more."""
        done = self._resident.relieve(most)
        self._say(done)
        return bool(done)

    def _say(self, text: str) -> None:
        if text and text not in self._said:
            self._said.append(text)

    @staticmethod
    def _watch(trajectory: Trajectory) -> PictureWatch:
        task: Task = trajectory.owner
        return task.live[trajectory]

    def _learn(self, operation: Decode, pixels: torch.Tensor) -> None:
        looks = self._resident.looks(operation.model)
        if looks is not None and looks.colours.wanting:
            latent = operation.latent.cpu()
            self._line.put(lambda: looks.colours.learn(latent, pixels.numpy()))


def tasks_of(trajectories: tuple[Trajectory, ...]) -> list[Task]:
    """Whose the trajectories are, each task once."""
    return list(dict.fromkeys(trajectory.owner for trajectory in trajectories))
