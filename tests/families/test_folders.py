"""Folders in diffusers' layout whose pipelines are computed here: the family's, with the configuration they bring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from modules.core.family import Family, identify
from modules.core.plugin import Registry
from tests.families.published import SD2_UNET, SDXL_UNET, build, header_of, under, vae
from tests.families.record_headers import shapes_of

FOLDERS: Mapping[str, tuple[str, str, str, dict[str, Any], dict[str, Any]]] = {
    "FluxPipeline": ("flux", "dev", "FluxTransformer2DModel",
                     {"num_layers": 1, "num_single_layers": 1, "guidance_embeds": True}, {"shift": 3.0}),
    "FluxKontextPipeline": ("flux", "kontext", "FluxTransformer2DModel",
                            {"num_layers": 1, "num_single_layers": 1, "guidance_embeds": True}, {"shift": 3.0}),
    "StableDiffusion3Pipeline": ("sd3", "", "SD3Transformer2DModel", {"num_layers": 2}, {"shift": 3.0}),
    "ChromaPipeline": ("chroma", "", "ChromaTransformer2DModel", {"num_layers": 1, "num_single_layers": 1}, {}),
    "ZImagePipeline": ("z_image", "", "ZImageTransformer2DModel", {"n_layers": 2}, {"shift": 6.0}),
    "QwenImagePipeline": ("qwen_image", "", "QwenImageTransformer2DModel", {"num_layers": 2}, {}),
    "StableDiffusionXLPipeline": ("sdxl", "", "UNet2DConditionModel", SDXL_UNET,
                                  {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
    "StableDiffusionPipeline": ("sd2", "", "UNet2DConditionModel", SD2_UNET, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_a_pipeline_that_is_computed_here(name: str, families: Registry[Family]) -> None:
    family, variant, kind, config, scheduler = FOLDERS[name]
    component = "unet" if kind.startswith("UNet") else "transformer"
    model = build(kind, config=config)
    saved = json.loads(json.dumps({"_class_name": kind, **dict(model.config)}))  # type: ignore[arg-type]
    shapes = {**under(f"{component}.", shapes_of(model)), **under("vae.", vae())}
    configs = {
        "model_index": {"_class_name": name},
        component: saved,
        "vae": {"_class_name": "AutoencoderKL", "scaling_factor": 0.5},
        "scheduler": {"_class_name": "SomeScheduler", **scheduler},
    }
    info = identify(header_of(shapes, "some-folder", configs=configs), families)
    assert (info.family, info.variant, info.supported, info.problem) == (family, variant, True, "")
    assert (info.name, info.layout, info.components) == ("some-folder", "diffusers", (component, "vae"))
    assert info.config["vae"] == {"scaling_factor": 0.5}
    assert not [key for part in info.config.values() for key in part if key.startswith("_")]
    assert {key: info.config["scheduler"][key] for key in scheduler} == scheduler
    expected = {"sdxl": "v", "sd2": "epsilon"}.get(family, "flow")  # a scheduler that says nothing predicts noise
    assert info.prediction == expected
    assert info.config["scheduler"].get("zero_terminal_snr") == (True if family == "sdxl" else None)
