"""One real app for the whole folder: its worker process loads torch once, and is killed only where a test says so."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from modules.app import App, AppConfig, build_app
from modules.core.job import EngineOptions
from modules.executors.worker import WorkerExecutor
from modules.services.views import JobView
from tests.tiny import write_tiny_sd1

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "models" / "Stable-diffusion"
SECONDS = 120  # that anything may take on a machine with much else to do
T = TypeVar("T")
DISK_BYTES = 24 << 20  # of outputs/, where a file system of its own may be mounted for it


@dataclass(frozen=True)
class Whole:
    """The app, its folder, and whether outputs/ is a disk of its own that can be filled."""

    app: App
    folder: Path
    small_disk: bool

    def submit(self, prompt: str = "a red apple on a blue background", **values: Any) -> JobView:
        return self.app.jobs.submit({"prompt": prompt, "checkpoint": "inferenz-starter", "steps": 12, **values})

    def over(self, view: JobView) -> JobView:
        """The job's last view."""
        return until(lambda: self.look(view) if self.look(view).over else None)

    def look(self, view: JobView) -> JobView:
        found = self.app.jobs.get(view.id)
        assert found is not None
        return found

    def make(self, prompt: str = "a red apple on a blue background", **values: Any) -> JobView:
        view = self.over(self.submit(prompt, **values))
        assert view.state == "completed", view.error
        return view

    def files(self, view: JobView) -> list[Path]:
        return [self.app.history.file(image.picture) for image in view.images if image.picture is not None]

    def pixels(self, view: JobView) -> list[NDArray[np.uint8]]:
        return [np.asarray(Image.open(path)) for path in self.files(view)]

    def running(self, view: JobView) -> JobView:
        """The job once it has made a step."""
        return until(lambda: self.look(view) if any(image.step for image in self.look(view).images) else None)

    @property
    def worker(self) -> int:
        """The worker's process id."""
        assert isinstance(self.app.executor, WorkerExecutor)
        executor = self.app.executor
        return until(lambda: executor.process_id)


def until(look: Callable[[], T | None], seconds: float = SECONDS) -> T:
    """What `look` gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def data_folder(folder: Path) -> Path:
    """models/ with a tiny checkpoint, and outputs/."""
    models = folder / "models" / "Stable-diffusion"
    models.mkdir(parents=True)
    (folder / "outputs").mkdir()
    write_tiny_sd1(models / "tiny.safetensors")
    return folder


def config_of(folder: Path, **more: Any) -> AppConfig:
    values: Mapping[str, Any] = {"ckpt_dirs": (STARTER,), "engine": EngineOptions(device="cpu"), **more}
    return AppConfig(data_dir=folder, **values)


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = data_folder(tmp_path_factory.mktemp("whole"))
    outputs = folder / "outputs"
    mounted = sys.platform == "linux" and _done("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", outputs)
    try:
        with build_app(config_of(folder)) as app:
            yield Whole(app, folder, mounted)
    finally:
        if mounted:
            assert _done("umount", outputs)


def _done(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
