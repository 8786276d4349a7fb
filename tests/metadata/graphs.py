"""ComfyUI graphs as it writes them, small."""

from __future__ import annotations

from typing import Any

Graph = dict[str, dict[str, Any]]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def basic(**changes: dict[str, Any]) -> Graph:
    """The graph that ComfyUI opens with; keywords replace or add nodes, n4 being node "4"."""
    graph = {
        "3": node(
            "KSampler", seed=156680208700286, steps=20, cfg=8.0, sampler_name="euler_ancestral", scheduler="karras",
            denoise=1.0, model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0],
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="folder\\v1-5-pruned.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "6": node("CLIPTextEncode", text="beautiful scenery, bottle", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="text, watermark", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
    }  # fmt: skip
    return {**graph, **{name.removeprefix("n"): value for name, value in changes.items()}}
