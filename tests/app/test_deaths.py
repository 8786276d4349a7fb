"""A killed worker, a killed server, a full disk: what is lost is told, and everything else goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from modules.app import build_app
from tests.app.conftest import ROOT, Whole, config_of, data_folder, until
from tests.fakes.executor import ScriptedExecutor

SERVER = """
import sys, time
from pathlib import Path
from tests.app.conftest import config_of
from modules.app import build_app

app = build_app(config_of(Path(sys.argv[1]), ckpt_dirs=()))
job = app.jobs.submit({"prompt": "a", "steps": 150, "batch_count": 100, "seed": 1}, "ada").id
while not any(image.step for image in app.jobs.get(job).images):
    time.sleep(0.01)
print(app.executor.process_id, job, flush=True)
time.sleep(600)
"""


def test_a_killed_worker_fails_what_it_was_in_and_the_queue_goes_on(whole: Whole) -> None:
    long = [whole.submit(checkpoint="tiny", steps=150, batch_count=50) for _ in range(8)]
    waiting = whole.submit(checkpoint="tiny", steps=3, seed=5)
    for view in long:
        whole.running(view)
    assert whole.look(waiting).state == "queued"
    psutil.Process(whole.worker).kill()
    for view in long:
        ended = whole.over(view)
        assert ended.state == "failed"
        assert ended.error is not None
        assert ended.error.code == "worker_gone"
        assert "was killed" in ended.error.message
        assert "is started again" in ended.error.message
    assert whole.over(waiting).state == "completed"
    assert whole.make(seed=3).state == "completed"
    assert whole.app.executor.status().restarts == 1


def test_a_killed_server_takes_its_worker_along_and_its_queue_is_there_at_the_next_start(tmp_path: Path) -> None:
    folder = data_folder(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    try:
        assert server.stdout is not None
        worker, job = server.stdout.readline().split()
        process = psutil.Process(int(worker))
        server.kill()
        server.wait()
        server.stdout.close()
        process.wait(30)
    finally:
        server.kill()
        server.wait()
    executor = ScriptedExecutor()
    with build_app(config_of(folder, ckpt_dirs=()), executor=executor) as app:
        assert executor.submitted == [job]
        assert [view.owner for view in app.jobs.active()] == ["ada"]
        assert not list((folder / "outputs").rglob("*.tmp"))


def test_a_full_disk_fails_the_job_keeps_its_pictures_and_saves_them_later(whole: Whole) -> None:
    if not whole.small_disk:
        pytest.skip("mounting a small file system is not permitted here")
    outputs = whole.folder / "outputs"
    view = whole.submit(checkpoint="tiny", steps=150, batch_size=2, batch_count=2, seed=901)
    whole.running(view)
    filler = outputs / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1 << 16))
            except OSError:
                break
    ended = whole.over(view)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error.code == "storage"
    assert "No space left" in ended.error.message or "full" in ended.error.message
    assert ended.unsaved >= 1
    assert not [path for path in outputs.rglob("*.png*") if path.stat().st_size == 0]
    filler.unlink()
    saved = until(lambda: whole.app.jobs.retry_saves(view.id))
    assert saved == ended.unsaved
    assert len(whole.files(whole.look(view))) == saved
    written = [path.name for path in outputs.rglob("*.png") if path.stem.partition("-")[2] in ("901", "902")]
    assert len(written) == saved, written  # each once
    assert whole.make(seed=3).state == "completed"
