from __future__ import annotations

import re
from pathlib import Path

import pytest

from modules import cli
from modules.cli import COMMANDS, main, parser
from modules.commands.console import FINE

DOCUMENT = Path(cli.__file__).parents[1] / "docs" / "command-line.md"


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_flag_is_documented(name: str) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    parts = re.split(r"^## ", document, flags=re.MULTILINE)
    shared = [part for part in parts if part.startswith(("Folders", "Device", "Server" if not name else "`" + name))]
    flags = {flag for action in parser(name)._actions for flag in action.option_strings} - {"-h", "--help"}
    documented = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", "".join(shared)))
    assert flags <= documented
    assert f"`{name}" in document


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == FINE
    assert all(name in capsys.readouterr().out for name in ("generate",))
    assert main(["generate", "--help"]) == FINE
    assert main(["--version"]) == FINE
    assert re.search(r"Inferenz \d+\.\d+", capsys.readouterr().out)
