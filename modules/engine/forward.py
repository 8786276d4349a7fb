"""Forward passes: the rows of several pictures through the model at once, and each picture's part handed back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modules.core.errors import OutOfMemory
from modules.core.operations import Predict, Row
from modules.diffusion.backbone import Backbone
from modules.engine.memory import is_short
from modules.engine.threads import threads_for

MAX_REPEAT = 4  # a text is repeated at most so often to reach a common length; beyond, a pass of its own is cheaper


@dataclass(frozen=True)
class Place:
    """A row and where its answer goes: the picture's and the row's place."""

    picture: int
    number: int
    row: Row


Answers = tuple[Tensor, ...]


class Forward:
    """Answers predictions; learns how many rows fit where memory was short. Used from the engine's one thread."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self._strict = False
        self.parted = False  # the last answer was to a strict picture whose rows did not fit into one pass
        self._fitting: dict[tuple[bool, tuple[int, ...]], int] = {}

    def forget(self) -> None:
        """Try full passes again: another model is in place, or memory was given back."""
        self._fitting.clear()

    def answer(self, backbone: Backbone, predicts: Sequence[Predict]) -> list[Answers | Exception]:
        """Per prediction its rows' x0, or the error that concerns it alone. All latents have one shape."""
        places = [Place(p, n, row) for p, predict in enumerate(predicts) for n, row in enumerate(predict.rows)]
        found: dict[tuple[int, int], Tensor] = {}
        errors: dict[int, Exception] = {}
        self._strict = any(predict.strict for predict in predicts)
        self.parted = False
        for bucket in buckets(places):
            self._bucket(backbone, bucket, found, errors)
        return [
            errors[p] if p in errors else tuple(found[p, n] for n in range(len(predict.rows)))
            for p, predict in enumerate(predicts)
        ]

    def _bucket(
        self,
        backbone: Backbone,
        places: Sequence[Place],
        found: dict[tuple[int, int], Tensor],
        errors: dict[int, Exception],
    ) -> None:
        waiting = list(places)
        while waiting:
            # What was learnt from others must not decide how a strict picture's rows are computed
            kind = (self._strict, tuple(waiting[0].row.x.shape))
            count = min(len(waiting), self.max_rows, self._fitting.get(kind, self.max_rows))
            self.parted = self.parted or (self._strict and kind in self._fitting)
            chosen = waiting[:count]
            outcome = _attempted(backbone, chosen)
            if isinstance(outcome, OutOfMemory):
                # Only here has the failed attempt let go of its tensors
                give_back(chosen[0].row.x.device)
                if count > 1:
                    self._fitting[kind] = count // 2
                    continue
            if not isinstance(outcome, Exception):
                found.update({(p.picture, p.number): answer for p, answer in zip(chosen, outcome, strict=True)})
            elif len({place.picture for place in chosen}) > 1:
                self._singly(backbone, chosen, found, errors)
            else:
                errors[chosen[0].picture] = outcome
            waiting = waiting[count:]

    def _singly(
        self,
        backbone: Backbone,
        places: Sequence[Place],
        found: dict[tuple[int, int], Tensor],
        errors: dict[int, Exception],
    ) -> None:
        """Picture by picture, to find whose row the pass failed on."""
        for picture in dict.fromkeys(place.picture for place in places):
            self._bucket(backbone, [place for place in places if place.picture == picture], found, errors)


def buckets(places: Sequence[Place]) -> list[list[Place]]:
    """Rows that can share a pass: texts whose least common multiple repeats none of them more than MAX_REPEAT times,
    and either all of seamless pictures or none.

    Attention over a context repeated whole is the same attention (the softmax's weights are divided among the copies),
    so unequal lengths are brought to their least common multiple.
    """
    found: list[tuple[int, int, list[Place]]] = []
    for place in places:
        length = place.row.text.shape[1]
        for index, (common, shortest, bucket) in enumerate(found):
            together, least = math.lcm(common, length), min(shortest, length)
            if together <= MAX_REPEAT * least and bucket[0].row.seamless == place.row.seamless:
                found[index] = (together, least, [*bucket, place])
                break
        else:
            found.append((length, length, [place]))
    return [bucket for _, _, bucket in found]


def _run(backbone: Backbone, rows: Sequence[Row]) -> tuple[Tensor, ...]:
    length = math.lcm(*(row.text.shape[1] for row in rows))
    x = torch.cat([row.x for row in rows])
    text = torch.cat([row.text.repeat(1, length // row.text.shape[1], 1) for row in rows])
    # On the CPU, where the backbone looks up their timesteps; pinned, so that the copy it makes does not wait
    sigmas = torch.tensor([row.sigma for row in rows], dtype=torch.float32, pin_memory=x.is_cuda)
    perturbed = tuple(row.perturbed for row in rows)
    with threads_for(x, backbone.weight_bytes):
        flags = perturbed if any(perturbed) else ()
        answers = backbone.denoise(x, sigmas, text, seamless=rows[0].seamless, perturbed=flags)
        return tuple(torch.split(answers, 1))


def _attempted(backbone: Backbone, places: Sequence[Place]) -> Answers | Exception:
    try:
        return _run(backbone, [place.row for place in places])
    except Exception as error:  # noqa: BLE001  it goes to the picture that it concerns
        return shortage(error, size_of(places[0].row.x))


def size_of(latent: Tensor) -> str:
    """A latent's size in words."""
    return f"a latent of {latent.shape[-1]} x {latent.shape[-2]}"


def shortage(error: Exception, what: str) -> Exception:
    """The error itself, or OutOfMemory with what to do where it is one of memory. what: there was no memory for."""
    if not is_short(error):
        return error
    return OutOfMemory(
        f"The device has too little free memory for {what}.",
        hint="Make a smaller picture, close other programs that use the device, or start with --medvram or --lowvram.",
    )


def give_back(device: torch.device) -> None:
    """Return cached memory to the device, for others and for larger blocks."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif device.type == "xpu":
        torch.xpu.empty_cache()
