"""What is watched of a pipeline of diffusers while it works: its steps, and the random numbers it draws unasked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

Stepped = Callable[[int, int], None]


class Steps:
    """Counts the steps of one picture. planned: how many the pipeline was asked for, its stages together."""

    def __init__(self, planned: int, stepped: Stepped) -> None:
        self.done, self._planned, self._stepped = 0, planned, stepped

    def __call__(self, pipeline: Any) -> None:
        """One step is done. `pipeline` may know better how many there are."""
        self.done += 1
        self._stepped(self.done, max(self.done, int(getattr(pipeline, "_num_timesteps", None) or self._planned)))


@contextmanager
def told(
    pipeline: Any, accepted: Mapping[str, inspect.Parameter], values: dict[str, Any], steps: Steps
) -> Iterator[None]:
    """While it lasts, `steps` is called after each of the pipeline's steps, by whatever way the pipeline has.

    values: the arguments of the call, to which the callbacks are added. A pipeline in stages has a callback, or none,
    for each: a stage without one is heard by its scheduler.
    """
    stages = [name.removesuffix("num_inference_steps") for name in accepted if name.endswith("num_inference_steps")]
    with ExitStack() as stack:
        for stage in stages or [""]:
            named = f"{stage}callback_on_step_end"
            if named in accepted:
                values[named] = _end(pipeline, steps)
            elif not stage and {"callback", "callback_steps"} <= accepted.keys():
                values["callback"], values["callback_steps"] = lambda index, time, latents: steps(pipeline), 1
            elif (scheduler := getattr(pipeline, f"{stage}scheduler", None)) is not None:
                stack.enter_context(_after(scheduler, lambda: steps(pipeline)))
        yield


def _end(pipeline: Any, steps: Steps) -> Callable[..., dict[str, Any]]:
    def end(stage: Any, index: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        steps(pipeline)
        return tensors

    return end


@contextmanager
def _after(scheduler: Any, step: Callable[[], None]) -> Iterator[None]:
    """While it lasts, `step` is called after each of the scheduler's: for pipelines that call nobody back."""
    inner = scheduler.step

    def outer(*values: Any, **named: Any) -> Any:
        answer = inner(*values, **named)
        step()
        return answer

    scheduler.step = outer
    try:
        yield
    finally:
        del scheduler.step  # the class's own again


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """While it lasts, what is drawn without a generator follows `seed` as well; then all is as it was before.

    Some pipelines forget to hand on the generator they are given, or let a language model write with dice.
    """
    devices = [device] if device.type == "cuda" and torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
