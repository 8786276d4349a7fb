"""What all trainings share: the clock, the learning rate, averages, and state that survives an interruption."""

from __future__ import annotations

import copy
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from models.starter_training.optimiser import Optimiser
from models.starter_training.precision import quick

WARM_UP = 60  # steps
SAVE_SECONDS = 180
TAIL = 0.3  # of the time, at the end, in which the learning rate falls


def accelerator() -> Accelerator:
    """This process's place in the run: a device, the type in which it computes, and its fellows."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    gpu = torch.cuda.is_available()
    half = quick(torch.device("cuda" if gpu else "cpu")) == torch.bfloat16
    return Accelerator(mixed_precision="bf16" if half else "no", cpu=not gpu)


class Run:
    """One training's time, state and average. file: where the state is kept.

    minutes: how long all sessions together may take; it may be raised later, and the run goes on.
    """

    def __init__(self, here: Accelerator, file: Path, model: nn.Module, minutes: float, *, decay: float) -> None:
        self.here, self.file, self.model = here, file, model
        self.average: Any = copy.deepcopy(model).requires_grad_(False).eval()
        self.step, self.pictures = 0, 0
        self._minutes, self._decay = minutes, decay
        self._spent, self._saved = 0.0, time.monotonic()
        self._began = time.monotonic()
        self._stopped = False
        for name in ("SIGTERM", "SIGINT"):
            signal.signal(getattr(signal, name), lambda *_: setattr(self, "_stopped", True))

    def resume(self, optimiser: Optimiser) -> bool:
        """Go on from the file, if there is one."""
        if not self.file.is_file():
            return False
        state = torch.load(self.file, map_location=self.here.device.type, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        optimiser.load(state["optimiser"])
        self.step, self.pictures, self._spent = state["step"], state["pictures"], state["minutes"]
        self._began = time.monotonic()
        return True

    @property
    def minutes(self) -> float:
        """Spent so far, in all sessions."""
        return self._spent + (time.monotonic() - self._began) / 60

    def rate(self, top: float, done: float) -> float:
        """The learning rate: up in the first steps, level, and down over the last part of the time by a cosine."""
        tail = max(0.0, (done - (1 - TAIL)) / TAIL)
        return top * min(1.0, (self.step + 1) / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(tail, 1))))

    def done(self) -> float:
        """The share of the time that is over, the same in every process; 1 and more where it is to end."""
        share = 2.0 if self._stopped else self.minutes / self._minutes
        shares = self.here.reduce(torch.tensor([share], device=self.here.device), reduction="mean")
        return float(shares)

    def train(
        self,
        optimiser: Optimiser,
        top: float,
        step: Callable[[float], tuple[Tensor, int]],
        look: Callable[[], Mapping[str, float]],
    ) -> None:
        """Train until the time is over. top: the highest learning rate.

        step(done): a step's loss, and how many pictures it is of in this process. look(): what is said of the average
        whenever it is saved; asked in the main process only.
        """
        named = list(self.model.named_parameters())
        while (done := self.done()) < 1:
            loss, count = step(done)
            self.here.backward(loss)
            self.here.clip_grad_norm_(self.model.parameters(), 2.0)
            optimiser.step(self.rate(top, done))
            self.averaged(named)
            self.pictures += count * self.here.num_processes
            if self.step % 50 == 0:
                self.say(loss=float(loss.detach()), rate=self.rate(top, done))
            if self.due():
                self.save(optimiser)
                if self.here.is_main_process:
                    self.say(**look())
        self.save(optimiser)

    @property
    def stopped(self) -> bool:
        """Somebody wants it to end; what is there is saved."""
        return self._stopped

    @torch.no_grad()
    def averaged(self, named: Iterable[tuple[str, Tensor]]) -> None:
        """Count a step and take the weights into the average."""
        self.step += 1
        weight = 1 - min(self._decay, (self.step + 1) / (self.step + 20))
        fresh = [value.detach() for _, value in named]
        torch._foreach_lerp_(list(self.average.parameters()), fresh, weight)

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved > SAVE_SECONDS

    def save(self, optimiser: Optimiser) -> None:
        """Write the state: the new one takes the place of the old one whole, or not at all."""
        self._saved = time.monotonic()
        if not self.here.is_main_process:
            return
        state = {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "optimiser": optimiser.state(),
            "step": self.step, "pictures": self.pictures, "minutes": self.minutes,
        }  # fmt: skip
        beside = self.file.with_suffix(".part")
        torch.save(state, beside)
        os.replace(beside, self.file)

    def say(self, **values: float) -> None:
        """A line of progress."""
        if self.here.is_main_process:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            print(f"{self.minutes:7.1f} min  step {self.step}  pictures {self.pictures}  {shown}", flush=True)
