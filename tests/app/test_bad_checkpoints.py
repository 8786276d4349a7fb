"""Files that cannot be used are refused in a sentence, and the checkpoint that is loaded stays usable."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from modules.core.errors import CheckpointError
from tests.app.conftest import Whole
from tests.tiny import metadata, shapes, write_tiny_sd1


def truncated(path: Path) -> None:
    write_tiny_sd1(path)
    path.write_bytes(path.read_bytes()[:-100_000])


def cut_in_the_header(path: Path) -> None:
    write_tiny_sd1(path)
    path.write_bytes(path.read_bytes()[:2000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 500)


def web_page(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><html><body>Log in to download this file.</body></html>" * 50)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": {}}))


def half_a_model(path: Path) -> None:
    write_tiny_sd1(path, parts=("unet", "text_encoder"))
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = next(name for name, _ in shapes("unet", "original") if name.endswith("out.2.weight"))
    del header[name]
    raw = json.dumps({**header, "__metadata__": metadata()}).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data[8 + size :])


@pytest.fixture(scope="module")
def before(whole: Whole) -> NDArray[np.uint8]:
    """A picture by the checkpoint that stays."""
    return whole.pixels(whole.make(checkpoint="tiny", seed=1, steps=3))[0]


@pytest.mark.parametrize(
    ("spoil", "suffix", "says"),
    [
        (truncated, ".safetensors", "is truncated: 4"),
        (cut_in_the_header, ".safetensors", "truncated"),
        (empty, ".safetensors", "is empty"),
        (foreign, ".safetensors", "not a safetensors file"),
        (web_page, ".safetensors", "not a safetensors file"),
        (pickled, ".ckpt", "is a pickle"),
        (pickled, ".safetensors", "is a pickle"),
        (half_a_model, ".safetensors", "is incomplete"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_and_the_loaded_one_stays(
    spoil: Callable[[Path], None], suffix: str, says: str, whole: Whole, before: NDArray[np.uint8]
) -> None:
    name = f"spoilt-{spoil.__name__}-{suffix[1:]}"
    path = whole.folder / "models" / "Stable-diffusion" / f"{name}{suffix}"
    spoil(path)
    with pytest.raises(CheckpointError) as caught:
        whole.submit(checkpoint=name)
    message = str(caught.value)
    assert says.replace(": 4", "") in message
    assert name in message
    assert "Traceback" not in message
    assert len(message) < 300
    again = whole.make(checkpoint="tiny", seed=1, steps=3)
    assert again.model_source == "resident"
    assert np.array_equal(whole.pixels(again)[0], before)
    path.unlink()


def test_a_file_that_is_gone_or_damaged_when_the_engine_wants_it_fails_its_job_alone(
    whole: Whole, before: NDArray[np.uint8]
) -> None:
    folder = whole.folder / "models" / "Stable-diffusion"
    gone, cut = folder / "gone.safetensors", folder / "cut.safetensors"
    plans = []
    for path in (gone, cut):
        write_tiny_sd1(path, seed=9)
        plans.append(whole.app.jobs.resolve({"checkpoint": path.stem, "steps": 2}))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-1000])
    views = [whole.over(whole.app.jobs.submit_plan(plan)) for plan in plans]
    for view, path, says in zip(views, (gone, cut), ("no such file", "truncated"), strict=True):
        assert view.state == "failed"
        assert view.error is not None
        assert path.stem in view.error.message
        assert says in view.error.message
    again = whole.make(checkpoint="tiny", seed=1, steps=3)
    assert again.model_source == "resident"
    assert np.array_equal(whole.pixels(again)[0], before)
    cut.unlink()
