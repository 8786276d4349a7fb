from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from modules.app import HIDDEN, ROOT, App, AppConfig, build_app, program_version
from modules.core.errors import CheckpointMissing
from modules.services.views import JobView
from tests.fakes.executor import ScriptedExecutor
from tests.services.samples import make_png
from tests.tiny import write_tiny_sd1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    write_tiny_sd1(folder / "tiny.safetensors")
    return tmp_path


def over(app: App, job: str) -> JobView:
    end = time.monotonic() + 20
    while True:
        view = app.jobs.get(job)
        assert view is not None
        if view.over:
            return view
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_engine_hears_of_settings(data: Path) -> None:
    executor = ScriptedExecutor()
    with build_app(AppConfig(data_dir=data), executor=executor) as app:
        app.settings.update({"preview_ms": 111, "cache_gb": 2, "keep_partial": True})
        assert (executor.options.preview_ms, executor.options.cache_bytes) == (111, 2 * 2**30)
        assert executor.options.taesd.endswith("VAE-approx")
    assert executor.closed
    app.close()


def test_the_app_opens_on_the_model_that_is_there(data: Path) -> None:
    with build_app(AppConfig(data_dir=data), executor=ScriptedExecutor()) as app:
        plan = app.jobs.resolve({"prompt": "a red apple"})
        assert (plan.checkpoint.name, plan.family, plan.width) == ("tiny", "sd1", 64)
        with pytest.raises(CheckpointMissing):
            app.jobs.submit({"checkpoint": "another"})


def test_a_queue_goes_on_after_a_restart_and_a_second_server_leaves_it_alone(data: Path) -> None:
    config = AppConfig(data_dir=data)
    first = ScriptedExecutor()
    with build_app(config, executor=first) as app:
        job = app.jobs.submit({"prompt": "a red apple"}, "ada").id
        second = ScriptedExecutor()
        with build_app(config, executor=second) as beside:
            assert second.submitted == []
            assert beside.jobs.active() == ()
        assert first.submitted == [job]
    third = ScriptedExecutor()
    with build_app(config, executor=third) as again:
        assert third.submitted == [job]
        third.begin(job)
        assert [view.owner for view in again.jobs.active()] == ["ada"]


def test_a_disk_that_is_full_keeps_no_page_from_opening(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = AppConfig(data_dir=data)
    with build_app(config, executor=ScriptedExecutor()):
        pass
    day = config.outputs / "txt2img-images" / "2026-01-31"
    day.mkdir(parents=True)
    (day / "00000-1.png").write_bytes(make_png(0))
    full = "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    hidden = config.outputs / HIDDEN
    with closing(sqlite3.connect(hidden / "state.sqlite3")) as state, state:
        state.execute("INSERT INTO jobs (id, state, plan, created, ended) VALUES ('old', 'failed', '{}', 1, 1)")
        state.execute(f"CREATE TRIGGER full BEFORE DELETE ON jobs {full}")
    with closing(sqlite3.connect(hidden / "pictures.sqlite3")) as index, index:
        index.execute(f"CREATE TRIGGER full BEFORE INSERT ON pictures {full}")
    with build_app(config, executor=ScriptedExecutor()) as app:
        app.history.wait()
        assert "disk is full" in app.history.progress().error
        assert app.history.count() == 0
        said = " ".join(record.getMessage() for record in caplog.records)
        assert "Old jobs could not be forgotten" in said
        assert "New pictures could not be put into the gallery" in said


def test_the_command_line_leaves_the_queue_alone(data: Path) -> None:
    config = AppConfig(data_dir=data)
    with build_app(config, executor=ScriptedExecutor()) as app:
        app.jobs.submit({})
    executor = ScriptedExecutor()
    with build_app(AppConfig(data_dir=data, durable=False), executor=executor):
        assert executor.submitted == []


def test_nothing_of_the_app_imports_torch_or_gradio() -> None:
    code = (
        "import sys, modules.app, modules.cli; "
        "sys.exit(', '.join({'torch', 'diffusers', 'transformers', 'gradio', 'fastapi'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_version_is_known() -> None:
    assert program_version()[0].isdigit()
