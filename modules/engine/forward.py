"""Forward passes: the rows of several pictures through the model at once, and each picture's part handed back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from modules.core.errors import OutOfMemory
from modules.core.operations import Predict, Row, Text
from modules.diffusion.backbone import Backbone, Batch
from modules.diffusion.shortage import is_short
from modules.engine.memory import empty_cache
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

    def __init__(self, max_rows: int, relieve: Callable[[], bool] = lambda: False) -> None:
        """relieve: does something about memory that is short even for one row; False where nothing is left to do."""
        self.max_rows, self.relieve = max_rows, relieve
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
                empty_cache(chosen[0].row.x.device)
                # The rows of a strict picture stay together for as long as anything else can be done
                if (self._strict or count == 1) and self.relieve():
                    self._fitting.clear()
                    continue
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
    """Rows that can share a pass: all of seamless pictures or none, all with further channels or none, and texts that
    can be brought to one length.

    Attention over a context repeated whole is the same attention (the softmax's weights are divided among the copies),
    so unequal lengths are brought to their least common multiple, unless that repeats one more than MAX_REPEAT times.
    Texts that are read with a mask are filled up; others must be equally long.
    """
    found: list[tuple[int, int, list[Place]]] = []
    for place in places:
        length = place.row.text.length
        for index, (common, shortest, bucket) in enumerate(found):
            if not _alike(bucket[0].row, place.row):
                continue
            together, least = _together(place.row.text, common), min(shortest, length)
            if together <= MAX_REPEAT * least:
                found[index] = (together, least, [*bucket, place])
                break
        else:
            found.append((length, length, [place]))
    return [bucket for _, _, bucket in found]


def _alike(one: Row, other: Row) -> bool:
    same = one.seamless == other.seamless and (one.channels is None) == (other.channels is None)
    return same and (one.text.joins != "equal" or one.text.length == other.text.length)


def _together(text: Text, common: int) -> int:
    """The length at which a text shares a pass with others of length `common`."""
    return math.lcm(common, text.length) if text.joins == "repeat" else max(common, text.length)


def joined(texts: Sequence[Text]) -> Text:
    """The texts of a pass as one of as many rows. Raises ValueError for lengths that cannot be brought together."""
    first = texts[0]
    length = first.length
    for text in texts:
        length = _together(text, length)
    if first.joins == "equal" and any(text.length != length for text in texts):
        raise ValueError(f"texts of {sorted({text.length for text in texts})} tokens share no pass")
    pooled = None if first.pooled is None else torch.cat([text.pooled for text in texts if text.pooled is not None])
    if first.joins == "repeat":
        tokens = torch.cat([text.tokens.repeat(1, length // text.length, 1) for text in texts])
        return Text(tokens, pooled, joins=first.joins)
    tokens = torch.cat([functional.pad(text.tokens, (0, 0, 0, length - text.length)) for text in texts])
    masks = [functional.pad(_mask(text), (0, length - text.length)) for text in texts]
    # Without a mask a network attends by its quicker way, and needs not ask the device where texts end
    whole = all(text.mask is None and text.length == length for text in texts)
    return Text(tokens, pooled, None if whole else torch.cat(masks), first.joins)


def _mask(text: Text) -> Tensor:
    if text.mask is not None:
        return text.mask
    return torch.ones(text.tokens.shape[:2], dtype=torch.bool, device=text.tokens.device)


def _run(backbone: Backbone, rows: Sequence[Row]) -> tuple[Tensor, ...]:
    x = torch.cat([row.x for row in rows])
    # On the CPU, where the backbone looks up their timesteps; pinned, so that the copy it makes does not wait
    sigmas = torch.tensor([row.sigma for row in rows], dtype=torch.float32, pin_memory=x.is_cuda)
    channels = [row.channels for row in rows if row.channels is not None]
    perturbed, negative = tuple(row.perturbed for row in rows), tuple(row.negative for row in rows)
    distilled = tuple(row.distilled for row in rows)
    batch = Batch(
        x=x, sigmas=sigmas, text=joined([row.text for row in rows]), seamless=rows[0].seamless,
        perturbed=perturbed if any(perturbed) else (), negative=negative if any(negative) else (),
        distilled=distilled if any(scale is not None for scale in distilled) else (),
        channels=torch.cat(channels) if channels else None,
    )  # fmt: skip
    with threads_for(x, backbone.weight_bytes):
        return tuple(torch.split(backbone.denoise(batch), 1))


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
