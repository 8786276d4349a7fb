"""Packed files, written by the formats' own writers, loaded into real networks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.hooks import apply_layerwise_casting
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modules.backbones.packed import bitsandbytes
from modules.backbones.packed.gguf_file import data_start
from modules.backbones.packed.linear import PackedLinear
from modules.backbones.packed.values import Packed
from modules.backbones.parameters import KEPT_WHOLE
from modules.backbones.weights import Storage, fill, map_tensors, skeleton, weight_bytes
from modules.core.checkpoint import Header, Names, Source, TensorInfo, read_header
from modules.core.errors import CorruptCheckpoint, NotAMatch, UnsupportedCheckpoint
from tests.backbones.packed.test_values import RECORDED

CPU = torch.device("cpu")
KINDS = {"Q8_0": GGMLQuantizationType.Q8_0, "Q4_0": GGMLQuantizationType.Q4_0, "Q5_1": GGMLQuantizationType.Q5_1}


class Attention(nn.Module):
    """Three projections that original files keep in one, a norm, a convolution and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = nn.Linear(64, 32), nn.Linear(64, 32), nn.Linear(64, 32)
        self.norm, self.conv, self.table = nn.LayerNorm(32), nn.Conv2d(4, 32, 2), nn.Embedding(6, 32)
        self.shift = nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, 64) -> (N, 40)."""
        mixed = self.norm(self.to_q(x) * self.to_k(x) + self.to_v(x)) + self.table(torch.arange(len(x)))
        seen = self.conv(mixed.reshape(-1, 4, 2, 4)).mean((2, 3))
        return torch.cat((seen, self.shift(x)), 1)


NAMES: Names = {
    **{f"to_{each}.weight": Source("qkv.weight", rows=(i * 32, i * 32 + 32)) for i, each in enumerate("qkv")},
    **{f"to_{each}.bias": Source("qkv.bias", rows=(i * 32, i * 32 + 32)) for i, each in enumerate("qkv")},
    **{f"{each}.{leaf}": f"{each}.{leaf}" for each in ("norm", "conv") for leaf in ("weight", "bias")},
    "table.weight": "table.weight",
    "shift.weight": Source("shift.weight", change="swap_halves"),
    "shift.bias": Source("shift.bias", change="swap_halves"),
}
PACKED = ("qkv.weight", "shift.weight", "conv.weight", "table.weight")


def values(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The tensors of a file of this layout."""
    generator = torch.Generator().manual_seed(4)
    shapes = {
        "qkv.weight": (96, 64), "qkv.bias": (96,), "norm.weight": (32,), "norm.bias": (32,),
        "conv.weight": (32, 4, 2, 2), "conv.bias": (32,), "table.weight": (6, 32),
        "shift.weight": (8, 64), "shift.bias": (8,),
    }  # fmt: skip
    return {name: (torch.randn(shape, generator=generator) * 0.2).to(dtype) for name, shape in shapes.items()}


def by_hand(tensors: Mapping[str, Tensor]) -> Attention:
    """The network with these values, put there one by one."""
    model = Attention().eval().requires_grad_(False)
    state = {f"{name}.{leaf}": tensors[f"{name}.{leaf}"] for name in ("norm", "conv") for leaf in ("weight", "bias")}
    for leaf in ("weight", "bias"):
        parts = tensors[f"qkv.{leaf}"].chunk(3)
        state |= {f"to_{each}.{leaf}": part for each, part in zip("qkv", parts, strict=True)}
        state[f"shift.{leaf}"] = tensors[f"shift.{leaf}"].roll(4, 0)
    model.load_state_dict({**state, "table.weight": tensors["table.weight"]})
    return model


def load(header: Header, storage: Storage = "file", dtype: torch.dtype = torch.float32) -> Attention:
    model = skeleton(Attention, {}, lambda _: Attention())
    tensors = map_tensors(header, NAMES.values())
    fill(model, tensors, names=NAMES, device=CPU, dtype=dtype, source=header.path.name, storage=storage)
    return model


def write_fp8(path: Path, *, scaled: bool) -> Mapping[str, Tensor]:
    tensors, expected = values(), values()
    for name in PACKED:
        scale = torch.tensor(0.01) if scaled and name in ("qkv.weight", "shift.weight") else torch.tensor(1.0)
        tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
        expected[name] = tensors[name].float() * scale
        if scaled and scale != 1:
            tensors[name.replace("weight", "scale_weight")] = scale
    save_file({**tensors, "scaled_fp8": torch.empty(2).to(torch.float8_e4m3fn)}, path)
    return expected


def write_gguf(path: Path, kind: str) -> Mapping[str, Tensor]:
    writer = GGUFWriter(path, "flux")
    writer.add_array("tokens", ["a", "bc", ""])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_float32("something", 0.5)
    expected = {}
    for name, value in values().items():
        number = KINDS[kind] if name in PACKED and value.shape[-1] % 32 == 0 else GGMLQuantizationType.F16
        data = quants.quantize(value.numpy(), number) if number != GGMLQuantizationType.F16 else value.half().numpy()
        writer.add_tensor(name, data, raw_dtype=number)
        expected[name] = torch.from_numpy(quants.dequantize(np.asarray(data), number).copy()).reshape(value.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def gguf_header(path: Path) -> Header:
    """The header as the `gguf` package reads it."""
    reader, stat = GGUFReader(path), path.stat()
    tensors = {}
    for each in reader.tensors:
        start = int(each.data_offset) - int(reader.data_offset)
        shape = tuple(int(side) for side in reversed(each.shape))
        tensors[each.name] = TensorInfo(each.tensor_type.name, shape, (start, start + int(each.n_bytes)))
    return Header(path=path, tensors=tensors, metadata={}, size=stat.st_size, mtime_ns=stat.st_mtime_ns)


def answer(model: nn.Module, x: Tensor | None = None) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(torch.linspace(-1, 1, 5 * 64).reshape(5, 64).sin() if x is None else x)
        return found


@pytest.mark.parametrize("storage", ["file", "compute"])
@pytest.mark.parametrize("scaled", [False, True])
def test_fp8_files(tmp_path: Path, scaled: bool, storage: Storage) -> None:
    expected = write_fp8(tmp_path / "model.safetensors", scaled=scaled)
    model = load(read_header(tmp_path / "model.safetensors"), storage)
    torch.testing.assert_close(answer(model), answer(by_hand(expected)), rtol=0, atol=0)
    assert isinstance(model.to_q, PackedLinear) == (storage == "file")
    assert type(model.shift) is nn.Linear  # turned around
    assert type(model.conv.weight) is nn.Parameter


@pytest.mark.parametrize("storage", ["file", "compute"])
@pytest.mark.parametrize("kind", KINDS)
def test_gguf_files(tmp_path: Path, kind: str, storage: Storage) -> None:
    expected = write_gguf(tmp_path / "model.gguf", kind)
    header = gguf_header(tmp_path / "model.gguf")
    assert data_start(header.path) == int(GGUFReader(header.path).data_offset)
    model = load(header, storage)
    torch.testing.assert_close(answer(model), answer(by_hand(expected)), rtol=1e-5, atol=1e-6)
    assert isinstance(model.to_q, PackedLinear) == (storage == "file")


def test_a_packed_model_is_as_small_as_its_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "Q4_0")
    header = gguf_header(tmp_path / "model.gguf")
    model, mapped = load(header), map_tensors(header, ["qkv.weight"])["qkv.weight"]
    assert isinstance(mapped, Packed)
    assert weight_bytes(model.to_q, model.to_k, model.to_v) == 96 * 64 // 32 * 18 + 96 * 4
    assert isinstance(model.to_k, PackedLinear)


@pytest.mark.parametrize("kind", ["nf4", "fp4_nested"])
def test_files_of_bitsandbytes(kind: str) -> None:
    header = read_header(RECORDED)
    name = f"{kind}.weight"
    model = skeleton(nn.Sequential, {"rows": 64}, lambda _: nn.Sequential(nn.Linear(128, 64, bias=False)))
    names = {"0.weight": Source(name, rows=(66, 130))}
    fill(model, map_tensors(header, names.values()), names=names, device=CPU, dtype=torch.float32, source="file")
    assert isinstance(model[0], PackedLinear)
    torch.testing.assert_close(model[0].weight[-4:], load_file(RECORDED)[f"{name}.expected"][-4:], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("storage", ["file", "fp8"])
def test_folders_of_several_files(tmp_path: Path, storage: Storage) -> None:
    tensors = values(torch.bfloat16)
    (tmp_path / "model_index.json").write_text("{}")
    shards = {"one": list(tensors)[:4], "two": list(tensors)[4:]}
    infos: dict[str, TensorInfo] = {}
    sizes = 0
    for shard, held in shards.items():
        path = tmp_path / f"{shard}.safetensors"
        save_file({name: tensors[name] for name in held}, path)
        sizes += path.stat().st_size
        infos |= {
            f"unet.{name}": replace(info, file=str(path), name=name) for name, info in read_header(path).tensors.items()
        }
    newest = max(path.stat().st_mtime_ns for path in tmp_path.iterdir())
    header = Header(
        path=tmp_path / "model_index.json", tensors=infos, metadata={}, size=sizes, mtime_ns=newest, configs={}
    )
    names = {
        own: f"unet.{part}" if isinstance(part, str) else replace(part, name=f"unet.{part.name}")
        for own, part in NAMES.items()
    }
    model = skeleton(Attention, {}, lambda _: Attention())
    mapped = map_tensors(header, names.values())
    fill(model, mapped, names=names, device=CPU, dtype=torch.bfloat16, source="folder", storage=storage)
    if storage == "file":
        expected = by_hand({name: value.float() for name, value in tensors.items()})
        assert all(torch.equal(value.float(), expected.get_parameter(name)) for name, value in model.named_parameters())
        qkv = mapped["unet.qkv.weight"]
        assert isinstance(qkv, Tensor)
        assert model.to_v.weight.data_ptr() == qkv[64:].data_ptr()  # a view of the file
    else:
        assert isinstance(model.to_q, PackedLinear)
        assert torch.equal(model.to_q.weight.float(), tensors["qkv.weight"][:32].to(torch.float8_e4m3fn).float())
    os.utime(tmp_path / "two.safetensors", ns=(newest + 1, newest + 10**9))
    with pytest.raises(CorruptCheckpoint, match=r"two\.safetensors was changed"):
        map_tensors(header, names.values())


def flux() -> FluxTransformer2DModel:
    torch.manual_seed(6)
    model: FluxTransformer2DModel = FluxTransformer2DModel(
        num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, in_channels=4,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8), guidance_embeds=False,
    )  # fmt: skip
    return model.eval()


def flux_answer(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    with torch.inference_mode():
        found: Tensor = model(
            hidden_states=torch.randn(1, 16, 4, generator=generator).to(torch.bfloat16),
            encoder_hidden_states=torch.randn(1, 5, 32, generator=generator).to(torch.bfloat16),
            pooled_projections=torch.randn(1, 32, generator=generator).to(torch.bfloat16),
            timestep=torch.tensor([0.5], dtype=torch.bfloat16),
            img_ids=torch.zeros(16, 3),
            txt_ids=torch.zeros(5, 3),
            return_dict=False,
        )[0]
        return found


def test_storing_in_8_bits_is_layerwise_casting(tmp_path: Path) -> None:
    """Against diffusers' own, which casts whole layers by hooks."""
    reference = flux().to(torch.bfloat16)
    save_file(reference.state_dict(), tmp_path / "flux.safetensors")
    header = read_header(tmp_path / "flux.safetensors")
    names = {name: name for name in header.tensors}
    model = skeleton(FluxTransformer2DModel, {}, lambda _: flux())
    arguments = {"names": names, "device": CPU, "dtype": torch.bfloat16, "source": "flux"}
    fill(model, map_tensors(header, names), storage="fp8", **arguments)  # type: ignore[arg-type]
    assert weight_bytes(model) < 0.8 * weight_bytes(reference)
    whole = flux_answer(reference)
    pattern = (*KEPT_WHOLE, *reference._skip_layerwise_casting_patterns)
    apply_layerwise_casting(reference, torch.float8_e4m3fn, torch.bfloat16, skip_modules_pattern=pattern)
    cast = flux_answer(reference)
    found = flux_answer(model)
    assert not torch.equal(found, whole)
    # diffusers rounds biases too
    torch.testing.assert_close(found, cast, rtol=0.05, atol=0.05)
    for name, layer in model.named_modules():
        if isinstance(layer, PackedLinear):
            assert torch.equal(layer.weight, reference.get_submodule(name).weight.to(torch.bfloat16)), name


def test_values_beyond_8_bits_stay_whole(tmp_path: Path) -> None:
    tensors = values(torch.bfloat16)
    tensors["qkv.weight"][70, 3] = 1000.0
    save_file(tensors, tmp_path / "model.safetensors")
    model = load(read_header(tmp_path / "model.safetensors"), "fp8", torch.bfloat16)
    assert isinstance(model.to_q, PackedLinear)
    assert type(model.to_v) is nn.Linear
    assert answer(model, torch.ones(5, 64, dtype=torch.bfloat16)).isfinite().all()


def test_rows_that_are_no_whole_blocks_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    sides = {"quant_map": torch.linspace(-1, 1, 16), "absmax": torch.arange(1.0, 4.0)}
    text = b'{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [12, 16]}'
    state = torch.tensor(list(text), dtype=torch.uint8)
    tensors = {
        "w.weight": torch.arange(96, dtype=torch.uint8).reshape(96, 1),
        f"w.weight.{bitsandbytes.STATES[0]}": state,
    }
    save_file({**tensors, **{f"w.weight.{name}": side for name, side in sides.items()}}, path)
    names = {"0.weight": Source("w.weight", rows=(3, 7))}
    model = skeleton(nn.Sequential, {"rows": 4}, lambda _: nn.Sequential(nn.Linear(16, 4, bias=False)))
    mapped = map_tensors(read_header(path), names.values())
    fill(model, mapped, names=names, device=CPU, dtype=torch.float32, source="file")
    assert type(model[0]) is nn.Linear
    whole = mapped["w.weight"]
    assert isinstance(whole, Packed)
    assert torch.equal(model[0].weight, whole.unpack(torch.float32)[3:7])


def damage(change: Callable[[dict[str, Tensor]], object], path: Path) -> Header:
    tensors = {name: value for name, value in load_file(RECORDED).items() if not name.endswith("expected")}
    change(tensors)
    save_file(tensors, path)
    return read_header(path)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda t: t.pop("nf4.weight.quant_map"), CorruptCheckpoint, "nf4.weight is damaged: its scales, table"),
        (lambda t: t.pop("nf4.weight.quant_state.bitsandbytes__nf4"), CorruptCheckpoint, "its scales, table or desc"),
        (lambda t: t.update({"nf4.weight.absmax": torch.ones(3)}), CorruptCheckpoint, "3 magnitudes where"),
        (lambda t: t.pop("nf4.weight.absmax"), UnsupportedCheckpoint, "is packed as U8 in a way that is not known"),
        (lambda t: t.update({"nf4.weight": torch.ones(4, 4, dtype=torch.int8)}) or t.pop("nf4.weight.absmax"),
         UnsupportedCheckpoint, "is packed as I8"),
    ],
)  # fmt: skip
def test_damaged_packed_weights_are_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        map_tensors(damage(change, tmp_path / "model.safetensors"), ["nf4.weight"])


def test_scales_that_do_not_fit_and_formats_that_are_unknown_are_refused(tmp_path: Path) -> None:
    weight = torch.ones(4, 4).to(torch.float8_e4m3fn)
    save_file({"a.weight": weight, "a.scale_weight": torch.ones(3)}, tmp_path / "a.safetensors")
    with pytest.raises(CorruptCheckpoint, match=r"a\.weight is damaged: scales of shape \[3\]"):
        map_tensors(read_header(tmp_path / "a.safetensors"), ["a.weight"])
    for name, accepted in (("float8_e4m3fn", True), ("mxfp8", False)):
        text = torch.tensor(list(json.dumps({"format": name}).encode()), dtype=torch.uint8)
        tensors = {"a.weight": weight.clone(), "a.weight_scale": torch.tensor(2.0), "a.comfy_quant": text}
        save_file(tensors, tmp_path / f"{name}.safetensors")
        header = read_header(tmp_path / f"{name}.safetensors")
        if accepted:
            mapped = map_tensors(header, ["a.weight"])["a.weight"]
            assert isinstance(mapped, Packed)
            assert torch.equal(mapped.unpack(torch.float32), torch.full((4, 4), 2.0))
        else:
            with pytest.raises(UnsupportedCheckpoint, match="mxfp8"):
                map_tensors(header, ["a.weight"])


def test_broken_gguf_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, "Q8_0")
    header, whole = gguf_header(path), path.read_bytes()
    unknown = {**header.tensors, "qkv.weight": replace(header.tensors["qkv.weight"], dtype="IQ1_M")}
    with pytest.raises(UnsupportedCheckpoint, match="IQ1_M"):
        map_tensors(replace(header, tensors=unknown), ["qkv.weight"])
    few = {**header.tensors, "qkv.weight": replace(header.tensors["qkv.weight"], shape=(96, 32))}
    with pytest.raises(CorruptCheckpoint, match=r"qkv\.weight is damaged: 6528 bytes where"):
        map_tensors(replace(header, tensors=few), ["qkv.weight"])
    for content, error, said in (
        (whole[:-3000], CorruptCheckpoint, "truncated"),
        (whole[:150], CorruptCheckpoint, "ends inside its header"),
        (b"GGUF", CorruptCheckpoint, "ends inside its header"),
        (b"", CorruptCheckpoint, "is empty"),
        (b"GGML" + whole[4:], NotAMatch, "not a GGUF file"),
    ):
        path.write_bytes(content)
        with pytest.raises(error, match=said):
            map_tensors(replace(header, mtime_ns=0), header.tensors)


def test_missing_tensors_and_rows_are_named(tmp_path: Path) -> None:
    save_file(values(), tmp_path / "model.safetensors")
    header = read_header(tmp_path / "model.safetensors")
    with pytest.raises(CorruptCheckpoint, match=r"has no tensor absent\.weight"):
        map_tensors(header, ["absent.weight"])
    model = skeleton(Attention, {}, lambda _: Attention())
    names = {**NAMES, "to_v.weight": Source("qkv.weight", rows=(80, 112))}
    with pytest.raises(CorruptCheckpoint, match=r"qkv\.weight has the shape \[96, 64\] where rows 80 to 112"):
        fill(model, map_tensors(header, names.values()), names=names, device=CPU, dtype=torch.float32, source="m")
