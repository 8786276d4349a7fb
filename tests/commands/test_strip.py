from __future__ import annotations

from pathlib import Path

from modules.cli import main
from modules.commands.console import BAD_INPUT, FAILED, FINE
from modules.imaging.png import read_png_text
from tests.commands.desk import Desk


def test_stripped_copies(desk: Desk) -> None:
    target, copies = desk.data / "00001-77.png", desk.data / "copies"
    assert desk.generate("png apple", "--steps", "2", "-o", str(target)) == FINE
    before = target.read_bytes()
    assert main(["strip", str(target)], desk.console()) == FINE
    assert desk.lines[-1] == str(desk.data / "00001-shared.png")
    assert read_png_text(Path(desk.lines[-1])) == {}
    assert main(["strip", str(target), "-o", f"{copies}/"], desk.console()) == FINE
    assert [path.name for path in copies.iterdir()] == ["00001-shared.png"]
    assert main(["strip", str(target), "-o", f"{copies}/"], desk.console()) == BAD_INPUT
    assert main(["strip", str(target), "-o", f"{copies}/", "--force"], desk.console()) == FINE
    assert main(["strip", str(target), "-o", str(target), "--force"], desk.console()) == BAD_INPUT
    assert main(["strip", str(desk.data / "none.png")], desk.console()) == BAD_INPUT
    assert main(["strip", str(target), str(copies / "00001-shared.png"), "-o", "a.png"], desk.console()) == BAD_INPUT
    (desk.data / "broken.png").write_bytes(b"hello")
    assert main(["strip", str(desk.data / "broken.png")], desk.console()) == FAILED
    assert target.read_bytes() == before
