"""Which SDXL models were trained on EDM's noise levels (Karras et al. 2022), and how they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modules.core.checkpoint import Header
from modules.families.layouts.describe import says


@dataclass(frozen=True, kw_only=True)
class Edm:
    """prediction: "edm", or "v" for the opposite sign. scheduler: the noise levels, as diffusers' schedulers name them.

    steps, cfg_scale: what the publisher recommends.
    """

    prediction: str
    scheduler: dict[str, Any]
    steps: int
    cfg_scale: float


# Playground v2.5 (Li et al. 2024) and CosXL (Stability AI 2024), by their published configurations and model cards
PLAYGROUND = Edm(
    prediction="edm", scheduler={"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}, steps=50, cfg_scale=3.0
)
COSXL = Edm(
    prediction="v", scheduler={"sigma_min": 0.002, "sigma_max": 120.0, "sigma_data": 1.0}, steps=25, cfg_scale=5.0
)
LATENT_MEAN, LATENT_DEVIATION = "edm_mean", "edm_std"  # tensors of Playground's file: (4,) each, by channel


def edm_levels(header: Header) -> Edm | None:
    """Those of a file that marks them, of a folder whose scheduler has them, or of a name that says them; else None."""
    scheduler = header.configs.get("scheduler", {})
    if str(scheduler.get("_class_name", "")).startswith("EDM"):
        known = COSXL if scheduler.get("prediction_type") == "v_prediction" else PLAYGROUND
        # What a configuration leaves out has the default of diffusers' class, which is Playground's
        told = {name: scheduler.get(name, value) for name, value in PLAYGROUND.scheduler.items()}
        return Edm(prediction=known.prediction, scheduler=told, steps=known.steps, cfg_scale=known.cfg_scale)
    if header.configs:
        return None
    if LATENT_MEAN in header.tensors or says(header, "playground-?v?2-?5"):
        return PLAYGROUND
    return COSXL if "edm_vpred.sigma_max" in header.tensors or says(header, "cos-?xl") else None
