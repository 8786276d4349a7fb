"""Starting noise between two seeds, and from a picture of another size, as AUTOMATIC1111 makes them."""

from __future__ import annotations

import torch
from torch import Tensor

NEARLY_EQUAL = 0.9995  # mean cosine above which the angle is too small to divide by


def slerp(strength: float, noise: Tensor, other: Tensor) -> Tensor:
    """From `noise` (strength 0) to `other` (strength 1) along an arc; both (1, C, H, W).

    The arcs are those of the columns, each of H values: AUTOMATIC1111 takes the norm over that axis. Where noises are
    nearly equal it mixes them linearly the other way round, which is kept.
    """
    norms = [each / each.norm(dim=2, keepdim=True) for each in (noise, other)]
    cosine = (norms[0] * norms[1]).sum(2, keepdim=True)
    if float(cosine.mean()) > NEARLY_EQUAL:
        return noise * strength + other * (1 - strength)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    return torch.sin((1 - strength) * angle) / sine * noise + torch.sin(strength * angle) / sine * other


def centred(noise: Tensor, ground: Tensor) -> Tensor:
    """`noise` (1, C, h, w) laid over the middle of `ground` (1, C, H, W); what does not fit is cut off evenly."""
    found = ground.clone()
    rows, columns = (_places(noise.shape[axis], ground.shape[axis]) for axis in (2, 3))
    found[:, :, rows[0], columns[0]] = noise[:, :, rows[1], columns[1]]
    return found


def _places(size: int, room: int) -> tuple[slice, slice]:
    """(where on the ground, what of the noise) along one axis; halves are rounded as AUTOMATIC1111 rounds them."""
    shift = (room - size) // 2
    if shift >= 0:
        return slice(shift, shift + size), slice(0, size)
    width = size + 2 * shift
    return slice(0, width), slice(-shift, -shift + width)
