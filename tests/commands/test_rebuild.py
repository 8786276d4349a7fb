from __future__ import annotations

from modules.commands.console import FINE
from tests.commands.desk import Desk
from tests.services.samples import make_png


def test_rebuild_reads_the_pictures_again(desk: Desk) -> None:
    folder = desk.data / "outputs" / "txt2img-images"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"0000{number}-1.png").write_bytes(make_png(number))
    (folder / "broken.png").write_bytes(b"no picture")
    assert desk.main("rebuild") == FINE
    assert "3 files read, 2 pictures" in desk.out.getvalue()
    assert "broken.png" in desk.err.getvalue()
