"""Qwen language models as text encoders: Qwen2.5-VL's language part (Qwen-Image) and Qwen3 (Z-Image).

Of Qwen2.5-VL only the language part is loaded, as a Qwen2 model: its three position numbers are equal where there is
no picture, and then its rotary embedding is Qwen2's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2Model, Qwen3Config, Qwen3Model

from modules.backbones.encoders.encoded import EncodedText
from modules.backbones.encoders.loading import load_module, wide_text_dtype
from modules.core.checkpoint import Header, ModelInfo, Names
from modules.core.generation import Emphasis
from modules.diffusion.arena import Arena
from modules.diffusion.backbone import Placement
from modules.prompting.folders import folder_of
from modules.prompting.qwen import SPECIAL, SPECIAL_QWEN3, QwenTokenizer, Template
from modules.prompting.whole import Reading, whole

Kind = Literal["qwen2_5_vl", "qwen3"]
ROPE_THETA = 1_000_000.0  # of all Qwen2.5 and Qwen3 models; a header does not tell
_KNOWN = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "attention_bias",
)  # fmt: skip


class Reader(Protocol):
    """What is needed of a tokenizer."""

    def tokens(self, text: str, *, brackets: bool = True) -> tuple[str, ...]: ...

    def read(self, text: str, template: Template, *, brackets: bool = True) -> Reading: ...


@functools.cache
def qwen_tokenizer(kind: Kind) -> QwenTokenizer:
    """The bundled tokenizer, built once (half a second)."""
    return QwenTokenizer.load(_special(kind))


class QwenEncoder:
    """A loaded Qwen language model.

    module: what takes part in offloading. template: what stands around a prompt. layer: which state is taken, -1 for
    the last with its norm (Qwen-Image), -2 for the one before the last layer (Z-Image).
    """

    def __init__(
        self,
        module: Qwen2Model | Qwen3Model,
        tokenizer: Reader,
        placement: Placement,
        *,
        template: Template,
        layer: Literal[-1, -2],
    ) -> None:
        self.module = module
        self.width = int(module.config.hidden_size)
        self._tokenizer, self._placement = tokenizer, placement
        self._template, self._layer = template, layer

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[str, ...]:
        """The token texts of a prompt, without its template, also those that find no room."""
        return self._tokenizer.tokens(text, brackets=emphasis != "None")

    @torch.inference_mode()
    def encode(self, text: str, emphasis: Emphasis = "Original") -> EncodedText:
        """Encode a prompt: as many states as it has tokens, and no mask.

        Brackets are read as everywhere; their weights are left out (see `QwenTokenizer.read`).
        """
        reading = self._tokenizer.read(text, self._template, brackets=emphasis != "None")
        ids = torch.tensor([reading.ids], device=self._placement.text_device)
        answer = self.module(input_ids=ids, use_cache=False, output_hidden_states=self._layer != -1)
        hidden: Tensor = answer.last_hidden_state if self._layer == -1 else answer.hidden_states[self._layer]
        seen = hidden[:, self._template.dropped :]
        return EncodedText(
            seen.to(device=self._placement.unet_device, dtype=self._placement.dtype), left_out=reading.left_out,
            weightless=emphasis in ("Original", "No norm") and whole(text).weighted,
        )  # fmt: skip


def load_qwen(
    described: ModelInfo | Header,
    names: Names,
    config: Mapping[str, Any],
    placement: Placement,
    *,
    kind: Kind,
    template: Template,
    component: str = "text_encoder",
    tokenizer: Reader | None = None,
    arena: Arena | None = None,
) -> QwenEncoder:
    """The language model in file `described`; not yet put to use. Raises CheckpointError.

    names: parameters of transformers' Qwen2Model or Qwen3Model ("layers.0.self_attn.q_proj.weight") -> tensors. config:
    of their configuration classes, or a Qwen2.5-VL folder's, whose language part is taken. See `load_clip`.
    """
    build = _qwen2 if kind == "qwen2_5_vl" else _qwen3
    model: type[Qwen2Model | Qwen3Model] = Qwen2Model if kind == "qwen2_5_vl" else Qwen3Model
    dtype = wide_text_dtype(placement)
    module = load_module(
        model,
        build,
        described,
        names=names,
        config=_language(config),
        placement=placement,
        dtype=dtype,
        as_stored=True,
        arena=arena,
    )
    if tokenizer is None:
        folder = folder_of(Path(described.path), component)
        tokenizer = QwenTokenizer.from_folder(folder, _special(kind)) if folder else qwen_tokenizer(kind)
    return QwenEncoder(module, tokenizer, placement, template=template, layer=-1 if kind == "qwen2_5_vl" else -2)


def _special(kind: Kind) -> tuple[str, ...]:
    return SPECIAL if kind == "qwen2_5_vl" else SPECIAL_QWEN3


def _language(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the language model needs of a configuration, old or new, of the whole Qwen2.5-VL or of itself."""
    own = config.get("text_config") or config
    rope = own.get("rope_parameters") or {}
    theta = float(own.get("rope_theta") or rope.get("rope_theta") or ROPE_THETA)
    known = {name: own[name] for name in _KNOWN if own.get(name) is not None}
    return known | {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


def _qwen2(config: Mapping[str, Any]) -> Qwen2Model:
    return Qwen2Model(Qwen2Config(**config))


def _qwen3(config: Mapping[str, Any]) -> Qwen3Model:
    return Qwen3Model(Qwen3Config(**config))
