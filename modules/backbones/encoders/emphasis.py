"""What attention weights do to the states of a text encoder."""

from __future__ import annotations

import torch
from torch import Tensor


def weigh(hidden: Tensor, weights: Tensor, *, restore: bool = True) -> Tensor:
    """AUTOMATIC1111's "Original" emphasis: multiply each token by its weight, then restore the mean of the chunk.

    restore False: "No norm", without the latter. hidden: (chunks, 77, width); weights: (chunks, 77), float32. A chunk
    whose weights are all 1 is left as it is.
    """
    if bool((weights == 1).all()):
        return hidden
    before = hidden.float()
    after = before * weights.unsqueeze(-1)
    if not restore:
        return after.to(hidden.dtype)
    scale = before.mean(dim=(1, 2), keepdim=True) / after.mean(dim=(1, 2), keepdim=True)
    plain = (weights == 1).all(dim=1).reshape(-1, 1, 1)
    return torch.where(plain, before, after * scale).to(hidden.dtype)
