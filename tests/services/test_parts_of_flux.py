"""Text encoders and VAEs of models that have several: each file goes where its kind fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from modules.core.checkpoint import ModelInfo
from modules.core.errors import CheckpointMissing, RequestError
from modules.core.family import Part
from modules.services.parts import choose_parts, complete, places

FLUX = (
    Part(name="text_encoder", kind="clip_l", usual="clip_l.safetensors"),
    Part(name="text_encoder_2", kind="t5", usual="t5xxl_fp16.safetensors"),
    Part(name="vae", kind="kl16", usual="ae.safetensors"),
)
SD3 = (
    Part(name="text_encoder", kind="clip_l", usual="clip_l.safetensors"),
    Part(name="text_encoder_2", kind="clip_g", usual="clip_g.safetensors"),
    Part(name="text_encoder_3", kind="t5", usual="t5xxl_fp16.safetensors", optional=True),
    Part(name="vae", kind="kl16", usual="sd3_vae.safetensors"),
)
SDXL = (*SD3[:2], Part(name="vae", kind="kl4", usual="sdxl_vae.safetensors"))
Z_IMAGE = (Part(name="text_encoder", kind="qwen3", usual="qwen_3_4b.safetensors"), FLUX[2])


def model(family: str, *components: str, **transformer: Any) -> ModelInfo:
    return ModelInfo(
        name=f"my {family}", path=f"/models/my {family}.safetensors", family=family, label=family, supported=True,
        components=("transformer", *components), config={"transformer": transformer},
    )  # fmt: skip


def encoder(name: str, kind: str, **config: Any) -> ModelInfo:
    return ModelInfo(
        name=name, path=f"/{name}", family="text_encoder", label="Text encoder", supported=True, variant=kind,
        config={"text_encoder": config},
    )  # fmt: skip


def vae(name: str, kind: str = "kl16") -> ModelInfo:
    return ModelInfo(name=name, path=f"/{name}.safetensors", family="vae", label="VAE", supported=True, variant=kind)


CLIP_L = encoder("clip_l", "clip_l", hidden_size=768, num_hidden_layers=12, max_position_embeddings=77)
CLIP_G = encoder("clip_g", "clip_g", hidden_size=1280, num_hidden_layers=32, max_position_embeddings=77)
T5 = encoder("t5xxl_fp16", "t5", d_model=4096, num_layers=24)
T5_FP8 = replace(encoder("a-t5xxl_fp8_e4m3fn", "t5", d_model=4096, num_layers=24), quantisation="fp8")
T5_BASE = encoder("a-t5-base", "t5", d_model=768, num_layers=12)


class Shelf:
    """Files by what is known of them, and what every model needs."""

    def __init__(self, parts: Sequence[Part], *files: ModelInfo) -> None:
        self.parts, self.files = parts, files

    def needs(self, info: ModelInfo) -> Sequence[Part]:
        return self.parts

    def vaes(self) -> list[ModelInfo]:
        return [file for file in self.files if file.family == "vae"]

    def text_encoders(self) -> list[ModelInfo]:
        return [file for file in self.files if file.family == "text_encoder"]

    def find_vae(self, text: str) -> ModelInfo:
        return self._find(text, self.vaes())

    def find_text_encoder(self, text: str) -> ModelInfo:
        return self._find(text, self.text_encoders())

    def _find(self, text: str, files: list[ModelInfo]) -> ModelInfo:
        found = next((file for file in files if file.name == text), None)
        if found is None:
            raise CheckpointMissing(text)
        return found


def chosen(info: ModelInfo, files: Shelf, *text_encoders: str, vae: str = "Automatic") -> dict[str, str]:
    parts = choose_parts(info, vae=vae, text_encoder=text_encoders or "Automatic", files=files)
    return {name: file.name for name, file in parts.named}


def test_every_part_is_found_by_its_kind_and_width_the_unpacked_first() -> None:
    files = Shelf(FLUX, T5_FP8, T5_BASE, T5, CLIP_G, CLIP_L, vae("sd3_vae"), vae("ae"), vae("kl-f8", "kl4"))
    flux = model("flux", joint_attention_dim=4096, pooled_projection_dim=768)
    wanted = {"text_encoder": "clip_l", "text_encoder_2": "t5xxl_fp16", "vae": "ae"}
    assert chosen(flux, files) == wanted
    second = places(flux, files)[1]
    assert [file.name for file in second.fitting] == ["t5xxl_fp16", "a-t5xxl_fp8_e4m3fn"]
    assert chosen(flux, files, "a-t5xxl_fp8_e4m3fn") == {**wanted, "text_encoder_2": "a-t5xxl_fp8_e4m3fn"}
    assert chosen(flux, files, "t5xxl_fp16", "clip_l") == wanted
    assert chosen(model("flux", "text_encoder", "text_encoder_2", "vae"), files) == {}
    assert chosen(model("flux", "vae"), files, "t5xxl_fp16", vae="ae") == wanted


def test_what_is_missing_is_named_all_at_once_with_what_would_fit() -> None:
    flux = model("flux", joint_attention_dim=4096)
    with pytest.raises(RequestError) as refused:
        choose_parts(flux, vae="Automatic", text_encoder="Automatic", files=Shelf(FLUX, CLIP_L, T5_BASE))
    assert refused.value.field == "text_encoder"
    assert "my flux has no T5 text encoder and no VAE of its own" in str(refused.value)
    assert "models/text_encoder, such as t5xxl_fp16.safetensors" in refused.value.accepted
    assert "models/VAE, such as ae.safetensors" in refused.value.accepted
    assert not complete(flux, Shelf(FLUX, CLIP_L))
    assert complete(flux, Shelf(FLUX, CLIP_L, T5, vae("ae")))


def test_two_files_of_one_kind_and_files_of_no_kind_are_refused() -> None:
    files = Shelf(FLUX, CLIP_L, T5, T5_FP8, CLIP_G, vae("ae"), vae("mse", "kl4"))
    flux = model("flux", joint_attention_dim=4096)
    with pytest.raises(RequestError, match="t5xxl_fp16 and a-t5xxl_fp8_e4m3fn are both a T5 text encoder"):
        chosen(flux, files, "t5xxl_fp16", "a-t5xxl_fp8_e4m3fn")
    with pytest.raises(RequestError, match=r"text_encoder: clip_g is CLIP-G, and my flux needs CLIP-L and T5"):
        chosen(flux, files, "clip_g")
    with pytest.raises(RequestError, match=r"vae: mse is 4 latent channels, and my flux needs 16 latent channels"):
        chosen(flux, files, vae="mse")
    with pytest.raises(RequestError, match="my flux takes no VAE from another file, such as ae"):
        chosen(flux, Shelf((), vae("ae")), vae="ae")


def test_an_optional_text_encoder_is_used_where_there_is_one() -> None:
    sd3 = model("sd3", "vae", joint_attention_dim=4096)
    clips = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
    assert chosen(sd3, Shelf(SD3, CLIP_L, CLIP_G)) == clips
    assert chosen(sd3, Shelf(SD3, CLIP_L, CLIP_G, T5)) == {**clips, "text_encoder_3": "t5xxl_fp16"}


def test_vaes_of_one_shape_are_told_apart_by_their_names() -> None:
    four = (vae("mse", "kl4"), vae("xl/fixed", "kl4"))
    sdxl = replace(model("sdxl", "text_encoder", "text_encoder_2"), config={"unet": {"cross_attention_dim": 2048}})
    assert chosen(sdxl, Shelf(SDXL, *four)) == {"vae": "xl/fixed"}
    with pytest.raises(RequestError, match="has no VAE of its own, and there is no file that fits"):
        chosen(sdxl, Shelf(SDXL, four[0]))
    assert chosen(sdxl, Shelf(SDXL, four[0]), vae="mse") == {"vae": "mse"}
    sixteen = (vae("ae"), vae("sd3_vae"))
    sd3 = model("sd3", "text_encoder", "text_encoder_2", joint_attention_dim=4096)
    assert chosen(sd3, Shelf(SD3, *sixteen)) == {"vae": "sd3_vae"}
    assert chosen(model("z_image", "text_encoder"), Shelf(Z_IMAGE, *sixteen)) == {"vae": "ae"}


def test_language_models_are_told_apart_by_their_width() -> None:
    small, right = encoder("qwen_0.6b", "qwen3", hidden_size=1024), encoder("qwen_4b", "qwen3", hidden_size=2560)
    z_image = model("z_image", "vae", cap_feat_dim=2560)
    assert chosen(z_image, Shelf(Z_IMAGE, small, right)) == {"text_encoder": "qwen_4b"}
    with pytest.raises(RequestError, match="a Qwen3 file in models/text_encoder, such as qwen_3_4b"):
        chosen(z_image, Shelf(Z_IMAGE, small))
    with pytest.raises(RequestError, match=r"qwen_0\.6b has a width of 1024, and my z_image needs 2560"):
        chosen(z_image, Shelf(Z_IMAGE, small, right), "qwen_0.6b")


def test_a_vae_named_after_its_checkpoint_is_taken_whatever_else_it_says() -> None:
    own = replace(vae("my flux.vae"), path="/models/my flux.vae.safetensors")
    flux = model("flux", "text_encoder", "text_encoder_2", "vae")
    assert chosen(flux, Shelf(FLUX, vae("ae"), own)) == {"vae": "my flux.vae"}
    assert chosen(flux, Shelf(FLUX, vae("ae"), own), vae="None") == {}
