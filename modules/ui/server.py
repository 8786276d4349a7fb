"""Serving the page: a free port, a clear word when there is none, a share link that may fail without harm."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import closing
from types import MappingProxyType
from typing import TYPE_CHECKING

import uvicorn

from modules.core.addresses import is_loopback, url_host
from modules.core.errors import SetupError
from modules.ui.ending import EndingServer, EndsStreams

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from modules.app import App, AppConfig

DEFAULT_PORT = 7860
TRIED_PORTS = 50
LOCAL_OF = MappingProxyType({"0.0.0.0": "127.0.0.1", "::": "::1"})  # all addresses -> this machine's own

log = logging.getLogger(__name__)
Say = Callable[[str], None]


def serve(app: App, config: AppConfig, *, say: Say | None = None) -> int:
    """Serve the page of `app` until it is interrupted; returns an exit code.

    say: where messages for the person go, standard output by default. Raises SetupError when a port that was named is
    taken.
    """
    say = say or _print
    server_config = config.server
    wanted = server_config.port or DEFAULT_PORT
    with closing(listen(server_config.host, wanted, port_chosen=server_config.port is not None)) as sock:
        port = sock.getsockname()[1]
        if port != wanted:
            say(f"Port {wanted} is taken, so this is on port {port}.")
        # Names are checked where there is no login: a site that took one of ours has no session (see Guard).
        web = build_web(app, local_only=not server_config.open_to_others and not server_config.users)
        over = asyncio.Event()
        server = EndingServer(
            uvicorn.Config(
                EndsStreams(web, closing=over),
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=2,
                root_path=server_config.root_path,
                proxy_headers=True,
                forwarded_allow_ips="127.0.0.1",
                ws="none",
            ),
            closing=over,
        )
        address = page_address(server_config.host, port)
        say(f"Inferenz is at {address}{'' if is_loopback(server_config.host) else ' and open to your network'}")
        if server_config.share:
            threading.Thread(target=share, args=(port, say), name="share", daemon=True).start()
        if server_config.autolaunch:
            threading.Timer(1.0, webbrowser.open, (address,)).start()
        server.run(sockets=[sock])
    return 0


def page_address(host: str, port: int) -> str:
    """Where a browser on this machine finds a page that listens on `host`."""
    return f"http://{url_host(LOCAL_OF.get(host, host))}:{port}"


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def build_web(app: App, *, local_only: bool) -> ASGIApp:
    """The ASGI app of the page. It answers at once; Gradio comes while it does."""
    from modules.ui.web import create_web

    folder = str(app.config.models[0] / "Stable-diffusion")
    return create_web(app, auth=app.config.server.users, local_only=local_only, folder=folder)


def listen(host: str, port: int, *, port_chosen: bool) -> socket.socket:
    """A bound socket on `port`, or on the next free one where the person did not choose it. Raises SetupError."""
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, port + (1 if port_chosen else TRIED_PORTS)):
        sock = socket.socket(family, socket.SOCK_STREAM)
        # Elsewhere this lets a restart have its port at once; on Windows it would share a port that is in use.
        if os.name != "nt":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, candidate))
            sock.listen(256)
        except OSError as error:
            sock.close()
            reason = error
            continue
        return sock
    if port_chosen:
        raise SetupError(
            f"Port {port} cannot be used on {host}: {reason.strerror}.", hint="Choose another with --port."
        )
    raise SetupError(f"None of the ports {port} to {port + TRIED_PORTS - 1} is free.", hint="Choose one with --port.")


def share(port: int, say: Say, *, tunnel: Callable[[int], str] | None = None) -> None:
    """Open a public link; where that fails the local page stays, and the reason is said.

    tunnel: local port -> public address; Gradio's by default, which downloads its helper program at first use.
    """
    try:
        address = (tunnel or _gradio_tunnel)(port)
    except Exception as error:  # whatever goes wrong on the way out, the local page is not to suffer
        log.info("The share link failed.", exc_info=error)
        say(f"No public link: {_reason(error)} The page stays up on this machine.")
        return
    say(f"Public link, for up to 72 hours: {address}")


def _gradio_tunnel(port: int) -> str:
    from gradio import networking

    return str(
        networking.setup_tunnel(
            local_host="127.0.0.1", local_port=port, share_token=secrets.token_urlsafe(32), share_server_address=None,
            share_server_tls_certificate=None,
        )
    )  # fmt: skip


def _reason(error: Exception) -> str:
    text = str(error).strip().split("\n")[0] or type(error).__name__
    return text if text.endswith(".") else f"{text}."
