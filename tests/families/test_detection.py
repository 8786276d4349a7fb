"""What a header alone tells: recorded headers of every family, tiny files of both layouts, and the starter."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from modules.core.checkpoint import Defaults, Header, ModelInfo, TensorInfo, read_header
from modules.core.errors import CorruptCheckpoint, NotAMatch, UnsupportedCheckpoint
from modules.core.family import Family, identify, recognise
from modules.core.plugin import Registry
from modules.families.text_encoder import identify_text_encoder
from modules.families.vae import identify_vae
from tests.tiny import shapes, write_tiny_sd1

HEADERS = Path(__file__).parent / "headers"
STARTER = Path(__file__).parents[2] / "models" / "Stable-diffusion" / "inferenz-starter.safetensors"


def header_of(
    shapes: Mapping[str, list[int]], name: str = "model", metadata: Mapping[str, str] | None = None
) -> Header:
    tensors, end = {}, 0
    for key, shape in shapes.items():
        begin, count = end, 1
        for side in shape:
            count *= side
        end = begin + count * 2
        tensors[key] = TensorInfo("F16", tuple(shape), (begin, end))
    return Header(path=Path(f"{name}.safetensors"), tensors=tensors, metadata=metadata or {}, size=end, mtime_ns=1)


def recorded(name: str) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = json.loads(gzip.decompress((HEADERS / f"{name}.json.gz").read_bytes()))
    return shapes


def described(name: str, families: Registry[Family], metadata: Mapping[str, str] | None = None) -> ModelInfo:
    return identify(header_of(recorded(name), name, metadata), families)


@pytest.mark.parametrize(
    ("name", "layout", "components"),
    [
        ("sd1-original", "original", ("unet", "text_encoder", "vae")),
        ("sd1-ema-and-weights", "original", ("unet", "text_encoder", "vae")),
        ("sd1-ema-only", "original", ("unet", "text_encoder", "vae")),
        ("sd1-no-vae", "original", ("unet", "text_encoder")),
        ("sd1-no-text-encoder", "original", ("unet", "vae")),
        ("sd1-unet-diffusers", "diffusers", ("unet",)),
        ("sd1-diffusers", "diffusers", ("unet", "text_encoder", "vae")),
    ],
)
def test_stable_diffusion_1(name: str, layout: str, components: tuple[str, ...], families: Registry[Family]) -> None:
    info = described(name, families)
    assert (info.family, info.supported, info.problem) == ("sd1", True, "")
    assert (info.layout, info.components, info.dtype, info.prediction) == (layout, components, "F16", "epsilon")
    assert (info.defaults.width, info.defaults.height) == (512, 512)
    unet = info.config["unet"]
    assert unet["block_out_channels"] == [320, 640, 1280, 1280]
    assert (unet["layers_per_block"], unet["attention_head_dim"], unet["cross_attention_dim"]) == (2, 8, 768)
    if "text_encoder" in components:
        text = info.config["text_encoder"]
        assert (text["num_hidden_layers"], text["num_attention_heads"], text["intermediate_size"]) == (12, 12, 3072)
    if "vae" in components:
        assert info.config["vae"]["block_out_channels"] == [128, 256, 512, 512]
        assert info.config["vae"]["layers_per_block"] == 2


@pytest.mark.parametrize(
    ("name", "family", "says"),
    [
        ("vae-diffusers", "vae", "models/VAE"),
        ("vae-original", "vae", "models/VAE"),
        ("controlnet-diffusers", "controlnet", "models/ControlNet"),
        ("clip-l", "text_encoder", "models/text_encoder"),
    ],
)
def test_what_is_not_supported_is_named(name: str, family: str, says: str, families: Registry[Family]) -> None:
    info = described(name, families)
    assert (info.family, info.supported) == (family, False)
    assert says in info.problem
    with pytest.raises(UnsupportedCheckpoint, match=name):
        recognise(header_of(recorded(name), name), families)


@pytest.mark.parametrize(
    ("keys", "family", "says"),
    [
        (("lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight",), "lora", "this is a LoRA"),
        (("unet.down_blocks.1.attentions.0.to_q.lora_A.weight",), "lora", "this is a LoRA"),
        (("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a",), "lora", "this is a LoHa"),
        (("lora_unet_mid_block_attentions_0_proj_in.lokr_w1",), "lora", "this is a LoKr"),
        (("control_model.input_hint_block.0.weight",), "controlnet", "ControlNet"),
        (("emb_params",), "embedding", "models/embeddings"),
        (("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"), "upscaler", "models/ESRGAN"),
        (("1.weight", "3.conv.0.weight"), "taesd", "VAE-approx"),
        (
            ("double_blocks.0.img_attn.qkv.weight", "double_stream_modulation_img.lin.weight"),
            "diffusers",
            "this is Flux.2, which runs from a folder in diffusers' layout",
        ),
        # of a model that is known by what is left of it
        (("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",), "sd3", "is incomplete"),
        (("double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"), "flux", "is incomplete"),
    ],
)
def test_pieces_are_named(keys: tuple[str, ...], family: str, says: str, families: Registry[Family]) -> None:
    info = identify(header_of({key: [4, 4] for key in keys}), families)
    assert (info.family, info.supported) == (family, False)
    assert says in info.problem


def test_an_unknown_file_says_what_its_keys_look_like(families: Registry[Family]) -> None:
    header = header_of({"layers.0.wq": [4, 4], "layers.0.wk": [4, 4]}, "strange")
    info = identify(header, families)
    assert (info.family, info.supported) == ("unknown", False)
    assert "layers.0.wq" in info.problem
    assert "2 tensors" in info.problem
    with pytest.raises(NotAMatch, match=r"strange.*layers\.0\.wq"):
        recognise(header, families)


def test_a_file_without_tensors_is_unknown(families: Registry[Family]) -> None:
    assert "no tensors" in identify(header_of({}), families).problem


def test_missing_tensors_are_named(families: Registry[Family]) -> None:
    shapes = recorded("sd1-original")
    del shapes["model.diffusion_model.output_blocks.5.0.in_layers.2.weight"]
    del shapes["first_stage_model.decoder.up.2.upsample.conv.bias"]
    info = identify(header_of(shapes, "holed"), families)
    assert not info.supported
    assert info.problem.startswith("holed.safetensors is incomplete: up_blocks.1.resnets.2.conv1.weight of the unet is")
    with pytest.raises(CorruptCheckpoint, match="up_blocks"):
        recognise(header_of(shapes, "holed"), families)


def test_every_single_missing_tensor_is_noticed(families: Registry[Family]) -> None:
    """Whatever tensor a Stable Diffusion 1 file lacks, it is not taken for whole, nor for another family that loads."""
    shapes = recorded("sd1-diffusers")
    for name in list(shapes)[::7]:
        rest = {key: shape for key, shape in shapes.items() if key != name}
        assert not identify(header_of(rest), families).supported, name


@pytest.mark.parametrize("told", ["v", "v_prediction", "V"])
def test_v_prediction_is_read_from_the_metadata(told: str, families: Registry[Family]) -> None:
    assert described("sd1-original", families, {"modelspec.prediction_type": told}).prediction == "v"


def test_metadata_that_contradicts_the_shapes_is_an_error(families: Registry[Family]) -> None:
    info = described("sd1-original", families, {"config": json.dumps({"unet": {"attention_head_dim": 7}})})
    assert "cannot be split into 7 attention heads" in info.problem


def test_a_vocabulary_too_small_for_the_tokenizer_is_an_error(families: Registry[Family]) -> None:
    shapes = recorded("sd1-original")
    shapes["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"] = [30000, 768]
    assert "30,000 tokens" in identify(header_of(shapes), families).problem


@pytest.mark.parametrize("config", ["not json", "[1, 2]", '{"unet": 3}', '{"other": {"a": 1}}'])
def test_other_tools_config_metadata_is_ignored(config: str, families: Registry[Family]) -> None:
    assert described("sd1-original", families, {"config": config}).supported


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_a_tiny_file_is_described_by_its_shapes_and_metadata(
    layout: str, tmp_path: Path, families: Registry[Family]
) -> None:
    path = tmp_path / "tiny.safetensors"
    write_tiny_sd1(path, layout="original" if layout == "original" else "diffusers")
    info = identify(read_header(path), families)
    assert (info.supported, info.layout, info.defaults.width, info.dtype) == (True, layout, 64, "F32")
    assert info.config["unet"]["attention_head_dim"] == 2


def test_the_starter(families: Registry[Family]) -> None:
    info = identify(read_header(STARTER), families)
    assert (info.family, info.supported, info.dtype) == ("sd1", True, "F16")
    assert (info.defaults.width, info.defaults.height) == (128, 128)
    assert (info.config["unet"]["attention_head_dim"], info.config["vae"]["norm_num_groups"]) == (8, 32)


def test_vae_files() -> None:
    assert identify_vae(header_of(recorded("vae-original"))).layout == "original"
    assert identify_vae(header_of(recorded("vae-diffusers"))).layout == "diffusers"
    assert identify_vae(header_of(recorded("sd1-original"))).supported
    assert identify_vae(header_of(recorded("vae-16-channels"))).variant == "kl16"
    assert "no decoder" in identify_vae(header_of(recorded("clip-l"))).problem
    assert "VAE-approx" in identify_vae(header_of({"decoder.layers.1.weight": [4]})).problem


def test_a_checkpoint_may_say_what_it_wants(families: Registry[Family]) -> None:
    told = {"width": 512, "height": 768, "cfg_scale": 5, "sampler": "Euler a", "clip_skip": 2}
    wants = described("sd1-original", families, {"inferenz.defaults": json.dumps(told)}).defaults
    assert wants == Defaults(width=512, height=768, cfg_scale=5.0, sampler="Euler a", clip_skip=2)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("{", "Expecting property name"),
        ("[5]", "is not a JSON object"),
        ('{"cfg_scale": 400}', "cfg_scale: 400 is not accepted. Accepted: a number from 1.0 to 30.0"),
        ('{"cfg_scale": NaN}', "cfg_scale"),
        ('{"steps": 30, "width": 500}', "width: 500 is not accepted"),
        ('{"seed": 1}', "seed: there is no such default"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_cannot_be_used_of_it_is_set_aside_with_the_reason(
    told: str, reason: str, families: Registry[Family], caplog: pytest.LogCaptureFixture
) -> None:
    info = described("sd1-original", families, {"inferenz.defaults": told})
    assert info.supported
    assert info.defaults == Defaults()
    assert reason in caplog.text


def test_the_starter_wants_less_guidance_and_its_own_size(families: Registry[Family]) -> None:
    info = recognise(read_header(STARTER), families)
    assert info.defaults == Defaults(width=128, height=128, cfg_scale=4.0)
    assert int.from_bytes(STARTER.read_bytes()[:8], "little") % 8 == 0


def test_text_encoder_files() -> None:
    info = identify_text_encoder(header_of(recorded("clip-l")))
    assert (info.supported, info.components) == (True, ("text_encoder",))
    assert (info.config["text_encoder"]["hidden_size"], info.config["text_encoder"]["num_hidden_layers"]) == (768, 12)
    assert identify_text_encoder(header_of(recorded("sd1-original"))).config == info.config
    holed = {name: shape for name, shape in recorded("clip-l").items() if "layers.7.mlp.fc1.bias" not in name}
    assert "layers.7.mlp.fc1.bias" in identify_text_encoder(header_of(holed)).problem
    assert "no text encoder" in identify_text_encoder(header_of(recorded("vae-original"))).problem


def test_a_small_unet_alone_is_known_by_its_metadata_only(families: Registry[Family]) -> None:
    small = {name: list(shape) for name, shape in shapes("unet", "original")}
    told = {
        "modelspec.architecture": "stable-diffusion-v1",
        "config": json.dumps({"unet": {"attention_head_dim": 2, "norm_num_groups": 4}}),
    }
    assert identify(header_of(small, metadata=told), families).components == ("unet",)
    assert not identify(header_of(small), families).supported
