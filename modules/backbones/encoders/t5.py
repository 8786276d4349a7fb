"""T5's encoder (Raffel et al. 2020): of SD3, Flux and Chroma."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from modules.backbones.encoders.encoded import EncodedText
from modules.backbones.encoders.loading import load_module, wide_text_dtype
from modules.core.checkpoint import Header, ModelInfo, Names
from modules.core.generation import Emphasis
from modules.diffusion.arena import Arena
from modules.diffusion.backbone import Placement
from modules.prompting.folders import folder_of
from modules.prompting.t5 import T5Tokenizer
from modules.prompting.whole import Reading

EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")  # one table under two names; files have either or both


class Reader(Protocol):
    """What is needed of a tokenizer."""

    def tokens(self, text: str, *, brackets: bool = True) -> tuple[str, ...]: ...

    def read(self, text: str, length: int, *, brackets: bool = True) -> Reading: ...


@functools.cache
def t5_tokenizer() -> T5Tokenizer:
    """The bundled tokenizer, built once (0.2 s)."""
    return T5Tokenizer.load()


class T5Encoder:
    """A loaded T5 encoder.

    module: what takes part in offloading. length: tokens of every answer, filled up or cut: 256 for SD3, 512 for Flux
    and Chroma. masked: whether padding is kept from being attended to, as Chroma was trained; SD3 and Flux read it.
    spare: how many padding tokens the mask of the answer lets through all the same; 1 for Chroma.
    """

    def __init__(
        self,
        module: T5EncoderModel,
        tokenizer: Reader,
        placement: Placement,
        *,
        length: int = 512,
        masked: bool = False,
        spare: int = 0,
    ) -> None:
        self.module = module
        self.width, self.length = int(module.config.d_model), length
        self._tokenizer, self._placement = tokenizer, placement
        self._masked, self._spare = masked, spare

    def tokens(self, text: str, emphasis: Emphasis = "Original") -> tuple[str, ...]:
        """The token texts of a prompt, also those that find no room."""
        return self._tokenizer.tokens(text, brackets=emphasis != "None")

    @torch.inference_mode()
    def encode(self, text: str, emphasis: Emphasis = "Original", length: int | None = None) -> EncodedText:
        """Encode a prompt. length: instead of the family's.

        "Original" and "No norm" multiply each token by its weight. Neither restores a mean: T5's states lie around
        zero, so that their mean measures nothing, and dividing by it could do anything.
        """
        reading = self._tokenizer.read(text, length or self.length, brackets=emphasis != "None")
        device = self._placement.text_device
        places = torch.arange(len(reading.ids), device=device).unsqueeze(0)
        real = places < reading.real
        ids = torch.tensor([reading.ids], device=device)
        hidden: Tensor = self.module(input_ids=ids, attention_mask=real if self._masked else None).last_hidden_state
        if emphasis in ("Original", "No norm") and any(weight != 1 for weight in reading.weights):
            weights = torch.tensor(reading.weights, dtype=torch.float32, device=hidden.device)
            hidden = hidden.float() * weights.unsqueeze(-1)
        target = self._placement.unet_device
        seen = (places < reading.real + self._spare).to(target) if self._masked else None
        return EncodedText(hidden.to(device=target, dtype=self._placement.dtype), seen, reading.left_out)


def load_t5(
    described: ModelInfo | Header,
    names: Names,
    config: Mapping[str, Any],
    placement: Placement,
    *,
    length: int = 512,
    masked: bool = False,
    spare: int = 0,
    component: str = "text_encoder",
    tokenizer: Reader | None = None,
    arena: Arena | None = None,
) -> T5Encoder:
    """The T5 encoder in file `described`; not yet put to use. See `T5Encoder` and `load_clip`.

    Raises CheckpointError.
    """
    given = next((names[name] for name in EMBEDDINGS if name in names), None)
    both = dict(names) if given is None else {**names, **dict.fromkeys(EMBEDDINGS, given)}
    module = load_module(
        T5EncoderModel,
        _build,
        described,
        names=both,
        config=config,
        placement=placement,
        dtype=wide_text_dtype(placement),
        as_stored=True,
        arena=arena,
    )
    module.encoder.set_input_embeddings(module.shared)  # else a table in another dtype would be there twice
    if tokenizer is None:
        folder = folder_of(Path(described.path), component)
        tokenizer = T5Tokenizer.from_folder(folder) if folder else t5_tokenizer()
    return T5Encoder(module, tokenizer, placement, length=length, masked=masked, spare=spare)


def _build(config: Mapping[str, Any]) -> T5EncoderModel:
    return T5EncoderModel(T5Config(**config))
