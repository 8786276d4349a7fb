"""Graphs as ComfyUI writes them, and as nobody sensible does."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from modules.core.metadata import Reading
from modules.metadata import read_texts, registry
from tests.metadata.graphs import Graph, basic, node

READERS = registry()


def read(graph: Any) -> Reading:
    text = graph if isinstance(graph, str) else json.dumps(graph)
    found = read_texts({"prompt": text, "workflow": "{}"}, READERS)
    assert found is not None
    return found


def test_the_graph_it_opens_with() -> None:
    found = read(basic())
    assert (found.program, found.notes) == ("ComfyUI", ())
    assert found.text == (
        "beautiful scenery, bottle\nNegative prompt: text, watermark\nSteps: 20, Sampler: Euler a, "
        "Schedule type: Karras, CFG scale: 8, Seed: 156680208700286, Size: 512x768, Model: v1-5-pruned"
    )


def test_loras_clip_skip_and_a_vae_of_its_own() -> None:
    graph = basic(
        n10=node("LoraLoader", lora_name="style.safetensors", strength_model=0.8, strength_clip=1.0,
                 model=["11", 0], clip=["4", 1]),
        n11=node("LoraLoaderModelOnly", lora_name="first.safetensors", strength_model=1, model=["4", 0]),
        n12=node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["10", 1]),
        n13=node("VAELoader", vae_name="mse.safetensors"),
        n6=node("CLIPTextEncode", text="a cat", clip=["12", 0]),
        n8=node("VAEDecode", samples=["3", 0], vae=["13", 0]),
    )  # fmt: skip
    graph["3"]["inputs"]["model"] = ["10", 0]
    found = read(graph)
    assert found.info.prompt == "a cat <lora:first:1> <lora:style:0.8>"
    assert found.info.fields["Clip skip"] == "2"
    assert found.info.fields["VAE"] == "mse.safetensors"
    assert found.info.fields["Model"] == "v1-5-pruned"


def test_primitives_and_reroutes_are_followed() -> None:
    graph = basic(
        n20=node("PrimitiveInt", value=77),
        n21=node("PrimitiveStringMultiline", value="from a\nprimitive"),
        n22=node("Reroute", **{"": ["21", 0]}),
        n6=node("CLIPTextEncode", text=["22", 0], clip=["4", 1]),
        n23=node("PrimitiveInt", value=640),
    )
    graph["3"]["inputs"]["seed"] = ["20", 0]
    graph["5"]["inputs"]["width"] = ["23", 0]
    found = read(graph)
    assert (found.info.fields["Seed"], found.info.fields["Size"]) == ("77", "640x768")
    assert found.info.prompt == "from a\nprimitive"


def test_sdxl_encoders_and_two_passes() -> None:
    graph = basic(
        n3=node("KSamplerAdvanced", add_noise="enable", noise_seed=5, steps=25, cfg=7.5, sampler_name="dpmpp_2m",
                scheduler="normal", start_at_step=0, end_at_step=20, model=["4", 0], positive=["6", 0],
                negative=["7", 0], latent_image=["5", 0]),
        n30=node("KSamplerAdvanced", add_noise="disable", noise_seed=6, steps=25, cfg=7.5, sampler_name="euler",
                 scheduler="normal", model=["31", 0], positive=["6", 0], negative=["7", 0], latent_image=["3", 0]),
        n31=node("CheckpointLoaderSimple", ckpt_name="refiner.safetensors"),
        n6=node("CLIPTextEncodeSDXL", width=1024, height=1024, text_g="a city", text_l="at night", clip=["4", 1]),
        n7=node("CLIPTextEncodeSDXL", text_g="bad", text_l="bad", clip=["4", 1]),
        n8=node("VAEDecode", samples=["30", 0], vae=["4", 2]),
    )  # fmt: skip
    found = read({name: graph[name] for name in sorted(graph, reverse=True)})
    assert (found.info.prompt, found.info.negative_prompt) == ("a city\nat night", "bad")
    assert (found.info.fields["Seed"], found.info.fields["Sampler"]) == ("5", "DPM++ 2M")
    assert found.info.fields["Schedule type"] == "Normal"
    assert "2 samplers" in found.notes[0]


def test_the_pieces_of_a_custom_sampler() -> None:
    graph = {
        "1": node("UNETLoader", unet_name="flux.safetensors"),
        "2": node("CLIPTextEncodeFlux", clip_l="a fox", t5xxl="a fox", guidance=3.5),
        "3": node("FluxGuidance", guidance=3.5, conditioning=["2", 0]),
        "4": node("BasicGuider", model=["1", 0], conditioning=["3", 0]),
        "5": node("KSamplerSelect", sampler_name="euler"),
        "6": node("BasicScheduler", scheduler="simple", steps=4, denoise=1, model=["1", 0]),
        "7": node("RandomNoise", noise_seed=99),
        "8": node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
        "9": node("SamplerCustomAdvanced", noise=["7", 0], guider=["4", 0], sampler=["5", 0], sigmas=["6", 0],
                  latent_image=["8", 0]),
    }  # fmt: skip
    found = read(graph)
    assert found.text == (
        "a fox\nSteps: 4, Sampler: Euler, Schedule type: Simple, Seed: 99, Size: 1024x1024, Model: flux"
    )


def test_conditionings_that_are_combined() -> None:
    graph = basic(
        n40=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["41", 0]),
        n41=node("ConditioningConcat", conditioning_to=["42", 0], conditioning_from=["43", 0]),
        n42=node("CLIPTextEncode", text="two", clip=["4", 1]),
        n43=node("CLIPTextEncode", text="three", clip=["4", 1]),
        n6=node("CLIPTextEncode", text="one", clip=["4", 1]),
        n44=node("ControlNetApplyAdvanced", positive=["40", 0], negative=["7", 0], strength=1.0),
        n45=node("ConditioningZeroOut", conditioning=["6", 0]),
    )
    graph["3"]["inputs"] |= {"positive": ["44", 0], "negative": ["44", 1]}
    found = read(graph)
    assert (found.info.prompt, found.info.negative_prompt) == ("one AND two BREAK three", "text, watermark")
    graph["3"]["inputs"]["negative"] = ["45", 0]
    assert read(graph).info.negative_prompt == ""


def test_the_words_of_a_saver_come_before_the_graph() -> None:
    texts = {"prompt": json.dumps(basic()), "parameters": "a dog\nSteps: 3, Sampler: Euler, Seed: 1, Version: ComfyUI"}
    found = read_texts(texts, READERS)
    assert found is not None
    assert found.info.prompt == "a dog"


def test_webp_carries_the_graph_in_exif() -> None:
    found = read_texts({"exif:Make": "Prompt:" + json.dumps(basic())}, READERS)
    assert found is not None
    assert found.info.fields["Seed"] == "156680208700286"


def cyclic() -> Graph:
    graph = basic(
        n6=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["7", 0]),
        n7=node("ConditioningSetMask", conditioning=["6", 0]),
        n4=node("LoraLoader", lora_name="l", strength_model=["4", 0], model=["4", 0]),
        n5=node("LatentUpscale", samples=["5", 0]),
    )
    graph["3"]["inputs"]["seed"] = ["3", 0]
    return graph


def test_circles_end() -> None:
    found = read(cyclic())
    assert found.info.fields["Steps"] == "20"
    assert "Seed" not in found.info.fields


def test_a_long_chain_is_no_recursion() -> None:
    chain = {f"c{i}": node("ConditioningSetMask", conditioning=[f"c{i + 1}", 0]) for i in range(15_000)}
    chain["c15000"] = node("CLIPTextEncode", text="the end")
    graph = {**basic(), **chain}
    graph["3"]["inputs"]["positive"] = ["c0", 0]
    assert read(graph).info.prompt == "the end"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not readable"),
        ('{"a":' * 50_000 + "1", "too deeply"),
        ("{" + " " * (2 << 20) + "}", "longer than 2 million"),
        (json.dumps({str(i): 1 for i in range(20_001)}), "20,000 nodes"),
        (json.dumps({"1": node("LoadImage", image="a.png")}), "No node"),
    ],
    ids=["broken", "deep", "long", "many", "none"],
)
def test_graphs_that_cannot_be_read_say_so(text: str, said: str) -> None:
    found = read(text)
    assert (found.program, found.text) == ("ComfyUI", "")
    assert said in found.notes[0]


def test_a_workflow_alone_says_what_is_missing() -> None:
    found = read_texts({"workflow": '{"nodes": []}'}, READERS)
    assert found is not None
    assert "workflow" in found.notes[0]


def test_graphs_with_anything_for_values_raise_nothing() -> None:
    chance = random.Random(0)
    oddities: list[Any] = [None, [], {}, True, -1, 1e999, "x", ["6", 0], [6, "0"], ["nobody", 0], [["6", 0]], "9" * 30]
    for _ in range(300):
        graph: Any = basic()
        for name in list(graph):
            for key in list(graph[name]["inputs"]):
                if chance.random() < 0.4:
                    graph[name]["inputs"][key] = chance.choice(oddities)
            if chance.random() < 0.1:
                graph[name] = chance.choice(oddities)
        read_texts({"prompt": json.dumps(graph)}, READERS)
