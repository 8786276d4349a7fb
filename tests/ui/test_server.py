"""Ports, the refusal to be open without a login, and a share link that fails."""

from __future__ import annotations

import socket

import pytest

from modules.app import ServerConfig
from modules.core.errors import RequestError, SetupError
from modules.ui.server import listen, page_address, share


def test_a_taken_port_gives_the_next_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with listen("127.0.0.1", port, port_chosen=False) as found:
            assert port < found.getsockname()[1] < port + 50


def test_a_taken_port_that_was_chosen_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"Port {port} cannot be used"):
            listen("127.0.0.1", port, port_chosen=True)


@pytest.mark.parametrize(("host", "shared"), [("0.0.0.0", False), ("::", False), ("my-computer", False), ("::1", True)])
def test_nothing_is_open_to_others_without_a_login(host: str, shared: bool) -> None:
    with pytest.raises(RequestError, match="without a login"):
        ServerConfig(host=host, share=shared)
    assert ServerConfig(host=host, share=shared, users=(("ada", "x"),)).open_to_others


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_this_machine_needs_no_login(host: str) -> None:
    assert not ServerConfig(host=host).open_to_others


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.2", "http://127.0.0.2:7860"), ("::1", "http://[::1]:7860"), ("[::1]", "http://[::1]:7860"),
     ("0.0.0.0", "http://127.0.0.1:7860"), ("::", "http://[::1]:7860"), ("localhost", "http://localhost:7860")],
)  # fmt: skip
def test_the_address_that_is_told_can_be_opened(host: str, address: str) -> None:
    assert page_address(host, 7860) == address


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine")
def test_an_address_in_brackets_is_listened_on() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("IPv6 is switched off on this machine")
    with listen("[::1]", 0, port_chosen=True) as found:
        assert found.getsockname()[0] == "::1"


def test_a_failed_share_link_says_why_and_harms_nothing() -> None:
    said: list[str] = []

    def no_tunnel(port: int) -> str:
        raise OSError(f"no way out from port {port}\nsecond line")

    share(7860, said.append, tunnel=no_tunnel)
    assert said == ["No public link: no way out from port 7860. The page stays up on this machine."]


def test_a_share_link_is_told() -> None:
    said: list[str] = []
    share(7860, said.append, tunnel=lambda port: f"https://example.test/{port}")
    assert said == ["Public link, for up to 72 hours: https://example.test/7860"]
