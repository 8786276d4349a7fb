"""A cold start of `python webui.py`: when it answers, when the page can be used, and what its process holds.

    python -m tests.benchmarks.start [--runs 5] [--without-browser]

Each run is a new process with an empty data folder on the checkpoints of models/; the worker process starts beside it,
as it always does. HTTP: the first answer of status 200. Usable: in a Chromium that is open already, the prompt takes
text and Generate can be clicked. Both count from the start of the process. The browser opens the page when it answers.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks import harness
from tests.benchmarks.tables import against

ROOT = Path(__file__).resolve().parents[2]
HTTP_SECONDS, USABLE_SECONDS, GIVE_UP_SECONDS = 4.0, 6.0, 120.0
POLL_SECONDS = 0.01
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
TORCH_LIBRARIES = ("libtorch", "torch_cpu", "torch_python", "c10.dll", "libc10")

Usable = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start. http, usable: seconds from the start of the process. torch: its libraries in the page's process.

    cpu: seconds that the page's process has computed until then. resident: its bytes, of which own are its alone.
    None for what could not be found out.
    """

    http: float
    usable: float | None
    torch: tuple[str, ...] | None
    cpu: float
    resident: int
    own: int


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def server(folder: Path, port: int) -> Iterator[tuple[float, psutil.Process]]:
    """A running `webui.py` and when it was started, in the seconds of time.perf_counter."""
    command = [sys.executable, str(ROOT / "webui.py"), "--port", str(port), "--data-dir", str(folder)]
    command += ["--models-dir", str(ROOT / "models")]
    with (folder / "server.log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            yield began, psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_http(port: int, process: psutil.Process, folder: Path) -> None:
    """Until the page answers 200. Raises RuntimeError with the server's own words when it ends or never answers."""
    deadline = time.perf_counter() + GIVE_UP_SECONDS
    while time.perf_counter() < deadline and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_SECONDS)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                return
        except ConnectionError:
            pass
        finally:
            connection.close()
        time.sleep(POLL_SECONDS)
    words = (folder / "server.log").read_text(encoding="utf-8", errors="replace")
    raise RuntimeError(f"The server did not answer: {words[-2000:]}")


@contextmanager
def chromium() -> Iterator[Usable | None]:
    """What opens the page in a fresh profile and returns when it can be used; None where there is no Chromium."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=path, args=list(FLAGS))

        def usable(address: str) -> None:
            context: Any = browser.new_context(viewport={"width": 1440, "height": 900})
            context.set_default_timeout(GIVE_UP_SECONDS * 1000)
            page = context.new_page()
            page.goto(address, wait_until="commit")
            page.fill("#prompt textarea", "a red apple")  # waits until it is visible and takes text
            page.click("#generate", trial=True)  # waits until it is visible, enabled and not covered; does not click
            page.wait_for_function("window.inferenz !== undefined")
            context.close()

        yield usable
        browser.close()


def torch_in(process: psutil.Process) -> tuple[str, ...] | None:
    """torch's libraries that a process has mapped; None where the system does not tell."""
    if not hasattr(process, "memory_maps"):
        return None
    paths = {Path(found.path).name for found in process.memory_maps()}
    return tuple(sorted(name for name in paths if name.lower().startswith(TORCH_LIBRARIES)))


def start_once(usable: Usable | None) -> Start:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_port()
        with server(folder, port) as (began, process):
            wait_for_http(port, process, folder)
            answered = time.perf_counter() - began
            if usable is not None:
                usable(f"http://127.0.0.1:{port}/")
            opened = time.perf_counter() - began
            held = _page_process(process)
            sizes, times = held.memory_full_info(), held.cpu_times()
            return Start(
                http=answered, usable=opened if usable else None, torch=torch_in(held),
                cpu=times.user + times.system, resident=sizes.rss, own=sizes.uss,
            )  # fmt: skip


def _page_process(process: psutil.Process) -> psutil.Process:
    """The process that serves: on Windows the first one only waits for the project's own environment."""
    if os.name != "nt":
        return process
    serving = [each for each in (process, *process.children(recursive=True)) if each.net_connections(kind="tcp")]
    return serving[0] if serving else process


def main() -> None:
    parser = harness.arguments(__doc__ or "", runs=5)
    parser.add_argument("--without-browser", action="store_true", help="measure HTTP alone")
    options = parser.parse_args()
    facts = harness.machine()
    with chromium() as usable:
        chosen = None if options.without_browser else usable
        start_once(chosen)  # compiles what was never imported and fills the system's file cache
        starts = [start_once(chosen) for _ in range(options.runs)]
    rows = [against("HTTP 200", statistics.median(each.http for each in starts), unit="s", at_most=HTTP_SECONDS)]
    opened = [each.usable for each in starts if each.usable is not None]
    if opened:
        rows.append(against("usable page", statistics.median(opened), unit="s", at_most=USABLE_SECONDS))
    else:
        rows.append({"": "usable page", "figure": "not measured: no Chromium", "limit": "at most 6 s", "kept": ""})
    cpu = statistics.median(each.cpu for each in starts)
    rows.append(against("... CPU time of the page's process until then", cpu, unit="s"))
    rows.append(_torch_row(starts))
    for what, sizes in (
        ("memory of the page's process, resident", [each.resident for each in starts]),
        ("... of which its own", [each.own for each in starts]),
    ):
        rows.append(against(what, statistics.median(sizes) / 2**20, unit="MiB"))
    title = f"Start of `python webui.py`, median of {options.runs}"
    harness.report(title, rows, facts=facts, output=options.json)


def _torch_row(starts: list[Start]) -> dict[str, object]:
    found = starts[-1].torch
    shown = "not known on this system" if found is None else ", ".join(found) or "none"
    kept = "" if found is None else "**no**" if found else "yes"
    return {"": "torch's libraries in the page's process", "figure": shown, "limit": "none", "kept": kept}


if __name__ == "__main__":
    main()
