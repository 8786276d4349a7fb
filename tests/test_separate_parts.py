"""A checkpoint without text encoder and VAE, from the app to the file: it makes its whole twin's pictures."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from modules.app import App, AppConfig, build_app
from modules.core.errors import RequestError
from modules.core.infotext import form_values, read_infotext
from modules.core.job import EngineOptions
from tests.tiny import write_part, write_tiny_sd1, write_without


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    whole = write_tiny_sd1(folder / "whole.safetensors", seed=1)
    write_without(whole, folder / "bare.safetensors", "cond_stage_model.", "first_stage_model.")
    return tmp_path


def made(app: App, **values: object) -> tuple[NDArray[np.int16], str]:
    """The picture of a request, and its parameters text."""
    request = {"prompt": "a red apple", "seed": 1, "steps": 3, "strict": True, **values}
    job, end = app.jobs.submit(request).id, time.monotonic() + 60
    while (view := app.jobs.get(job)) is not None and not view.over:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert view is not None
    assert view.state == "completed", view.error
    (picture,) = app.history.of_job(job)
    with Image.open(io.BytesIO(app.history.file(picture.id).read_bytes())) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16), str(image.text["parameters"])  # type: ignore[attr-defined]


def test_a_bare_unet_makes_the_pictures_of_the_whole_checkpoint(data: Path) -> None:
    whole = data / "models" / "Stable-diffusion" / "whole.safetensors"
    config = AppConfig(data_dir=data, engine=EngineOptions(device="cpu", preview_ms=0, trace=False), in_process=True)
    with build_app(config) as app:
        wanted, text = made(app, checkpoint="whole")
        assert "VAE" not in read_infotext(text).fields
        with pytest.raises(RequestError, match="text_encoder: bare has no CLIP-L text encoder and no VAE"):
            app.jobs.submit({"checkpoint": "bare"})
        models = data / "models"
        clip = models / "text_encoder" / "clip_l.safetensors"
        write_part(whole, clip, prefix="cond_stage_model.transformer.text_model.", to="text_model.")
        write_part(whole, models / "VAE" / "mse.safetensors", prefix="first_stage_model.")
        app.catalog.refresh()
        got, text = made(app, checkpoint="bare")
        assert int(np.abs(got - wanted).max()) <= 1  # of 255: two files differ in last bits
        assert wanted.std() > 1
        fields = read_infotext(text).fields
        assert (fields["VAE"], fields["Module 1"], fields["Module 2"]) == ("mse.safetensors", "mse", "clip_l")
        again, _ = made(app, checkpoint="bare", vae=form_values(read_infotext(text))["vae"])
        assert np.array_equal(again, got)
