"""What a server is started with: flags of the server and of the device."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from modules.cli import main, parser
from modules.commands.console import BAD_INPUT
from modules.commands.flags import app_config
from modules.core.errors import RequestError
from tests.commands.desk import Desk

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--listen"],
        ["--share"],
        ["--server-name", "0.0.0.0"],
        ["--server-name", "192.168.1.5"],
        ["--server-name", "my-computer"],
        ["--listen", "--gradio-auth", "ada"],
        ["--listen", "--gradio-auth", "ada:"],
        ["--listen", "--gradio-auth", ":secret"],
        ["--listen", "--gradio-auth", "ada:x,ada:y"],
        ["--gradio-auth-path", "/not/there"],
        ["--port", "0"],
        ["--port", "seven"],
        ["--port", "65536"],
        ["--medvram", "--lowvram"],
        ["--use-cpu", "everything"],
        ["--lang", "klingon"],
        ["--list"],
        ["genrate"],
        ["xyz"],
    ],
)
def test_a_server_that_must_not_start(desk: Desk, arguments: list[str]) -> None:
    assert main(arguments, desk.console()) == BAD_INPUT
    assert "secret" not in desk.err.getvalue()
    assert desk.lines == []


def config(*arguments: str) -> Any:
    return app_config(parser().parse_args(arguments), serving=True)


def test_server_flags(tmp_path: Path) -> None:
    logins = tmp_path / "logins"
    logins.write_text("eve:a:b\n\n")
    server = config("--listen", "--gradio-auth", "ada:1,bob:2", "--gradio-auth-path", str(logins)).server
    assert (server.host, server.users) == ("0.0.0.0", (("ada", "1"), ("bob", "2"), ("eve", "a:b")))
    assert config().server.host == "127.0.0.1"
    assert config("--server-name", "localhost").server.users == ()
    assert config("--server-name", "::1").server.host == "::1"
    assert config("--share", "--insecure").server.share
    assert config("--lang", "de", "--theme", "dark", "--port", "80").server.port == 80
    with pytest.raises(RequestError, match="everyone who finds the page"):
        config("--share")


def test_logins_from_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "logins").write_text("anna:secret\n", encoding="utf-8-sig")
    arguments = ["--listen", "--gradio-auth-path", str(tmp_path / "logins")]
    assert app_config(parser().parse_args(arguments), serving=True).server.users == (("anna", "secret"),)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"device": "auto", "vram": "auto", "dtype": "auto", "vae_dtype": "auto"}),
        (["--device-id", "1"], {"device": "1"}),
        (["--device-id", "cpu"], {"device": "cpu"}),
        (["--device-id", "1,0"], {"device": "1"}),
        (["--lowvram"], {"vram": "low"}),
        (["--normalvram"], {"vram": "normal"}),
        (["--medvram", "--no-half-vae"], {"vram": "medium", "vae_dtype": "float32", "dtype": "auto"}),
        (["--no-half"], {"dtype": "float32", "vae_dtype": "float32"}),
        (["--precision", "bfloat16"], {"dtype": "bfloat16"}),
        (["--use-cpu", "vae", "text_encoder"], {"use_cpu": ("vae", "text_encoder")}),
        (["--threads", "2"], {"threads": 2}),
    ],
)
def test_device_flags(arguments: Sequence[str], expected: dict[str, Any]) -> None:
    engine = config(*arguments).engine
    assert {name: getattr(engine, name) for name in expected} == expected


def test_several_devices_are_for_a_server_with_workers() -> None:
    assert config("--device-id", "0, cuda:1").devices == ("0", "cuda:1")
    assert config().devices == ("auto",)
    for arguments in (["--device-id", "0,1", "--in-process"], ["--device-id", "0,cuda:0"], ["--device-id", "auto,1"]):
        with pytest.raises(RequestError, match="--device-id"):
            config(*arguments)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without telling it")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])  # the second plays Windows' Ctrl+Break
def test_a_server_that_is_terminated_closes_what_is_open(name: str) -> None:
    program = """
import signal
import time
signal.SIGBREAK = signal.SIGUSR1
from modules.commands.serve import end_when_terminated
end_when_terminated()
try:
    print("open", flush=True)
    time.sleep(60)
finally:
    print("closed", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        child.send_signal(getattr(signal, name))
        assert child.stdout.read() == "closed\n"
    assert child.returncode == 128 + getattr(signal, name)
