"""The transformers of the families that are loaded here, in the layout they were published in or in diffusers'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from modules.core.checkpoint import Header
from modules.families.layouts import flux, qwen_image, sd3, z_image
from modules.families.layouts.network import Inner, Network, absent, excess, through
from modules.families.layouts.shapes import Config, Shapes, Table


@dataclass(frozen=True)
class _Kind:
    """original: a name that only the original layout has, "" where there is but one. config, table: see the modules.

    needless: tensors of published files that the class does not have.
    """

    original: str
    config: Callable[[Shapes, Mapping[str, Any]], Config]
    table: Callable[[Config], Table]
    needless: tuple[str, ...] = ()


_KINDS = {
    "flux": _Kind("img_in.weight", partial(flux.config, chroma=False), partial(flux.original, chroma=False)),
    "chroma": _Kind("img_in.weight", partial(flux.config, chroma=True), partial(flux.original, chroma=True)),
    "sd3": _Kind("x_embedder.proj.weight", sd3.config, sd3.original),
    "z_image": _Kind("x_embedder.weight", z_image.config, z_image.original, needless=("norm_final.weight",)),
    "qwen_image": _Kind("", qwen_image.config, qwen_image.original),
}


def transformer(header: Header, kind: str, inner: Inner, told: Mapping[str, Any]) -> tuple[str, Network] | None:
    """The layout and the transformer of `kind` whose tensors, without prefix, are `inner`; None for another kind.

    Raises CorruptCheckpoint.
    """
    known = _KINDS.get(kind)
    if known is None:
        return None
    config = known.config(Shapes(header, inner), told)
    original = known.original in inner
    table: Mapping[str, Any] = known.table(config)
    if not original:
        table = {name: name for name in table}
    inner = {name: full for name, full in inner.items() if name not in known.needless}
    network = Network(
        kind=kind,
        config=config,
        names=through(table, inner),
        missing=absent(table, inner),
        unknown=excess(table, inner),
    )
    return "original" if original else "diffusers", network
