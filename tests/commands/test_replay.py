from __future__ import annotations

import json
import re

from modules.commands.console import BAD_INPUT, DIFFERENT, FAILED, FINE
from modules.imaging.png import png_with_text, read_png_text
from tests.commands.desk import Desk
from tests.services.samples import make_png
from tests.tiny import write_tiny_sd1


def test_a_replay_is_identical_or_tells_the_difference(desk: Desk) -> None:
    target = desk.data / "apple.png"
    assert desk.generate("png apple", "--steps", "2", "--seed", "4", "--size", "64x64", "-o", str(target)) == FINE
    assert desk.replay(str(target)) == FINE
    assert desk.lines[-1] == f"{target}: identical"
    assert not (desk.data / "outputs" / "txt2img-images").exists()

    changed = desk.data / "changed.png"
    changed.write_bytes(png_with_text(make_png(shade=255), read_png_text(target)))
    assert desk.replay(str(target), str(changed)) == DIFFERENT
    assert desk.lines[-2] == f"{target}: identical"
    assert re.fullmatch(
        rf"{re.escape(str(changed))}: different \(largest difference \d+ of 255, mean [\d.]+, [\d.]+% of the pixels\)",
        desk.lines[-1],
    )
    assert desk.replay(str(changed), "--json") == DIFFERENT
    (found,) = json.loads(desk.lines[-1])["pictures"]
    assert (found["path"], found["verdict"], found["error"]) == (str(changed), "different", None)
    assert found["difference"]["largest"] > 4


def test_replays_that_cannot_be_are_told_and_the_others_go_on(desk: Desk) -> None:
    target, plain, broken = (desk.data / name for name in ("apple.png", "plain.png", "broken.png"))
    assert desk.generate("png apple", "--steps", "2", "--size", "64x64", "-o", str(target)) == FINE
    plain.write_bytes(make_png())
    broken.write_bytes(b"hello")
    assert desk.replay(str(plain), str(target)) == BAD_INPUT
    assert "nothing of how it was made" in desk.err.getvalue()
    assert desk.lines[-1] == f"{target}: identical"
    assert desk.replay(str(broken), str(plain), "--json") == FAILED
    first, second = json.loads(desk.lines[-1])["pictures"]
    assert (first["error"]["code"], second["error"]["code"]) == ("storage", "bad_request")
    models = desk.data / "models" / "Stable-diffusion"
    (models / "tiny.safetensors").unlink()
    write_tiny_sd1(models / "other.safetensors", seed=1)
    assert desk.replay(str(target)) == BAD_INPUT
    assert "tiny" in desk.err.getvalue().splitlines()[-1]
