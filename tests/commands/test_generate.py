"""`python webui.py generate`: what it makes, where that goes, and how it ends."""

from __future__ import annotations

import io
import json
import re
from functools import partial
from pathlib import Path

import pytest

from modules.app import build_app
from modules.cli import parser
from modules.commands import generate
from modules.commands.console import BAD_INPUT, FAILED, FINE, STOPPED, Console
from modules.core.job import EngineOptions
from modules.executors.local import LocalExecutor
from modules.imaging.pictures import picture_facts
from modules.imaging.png import read_png_text
from tests.commands.desk import Desk, Terminal


def test_a_picture_goes_to_the_history(desk: Desk) -> None:
    assert desk.generate("png apple", "--seed", "7", "--steps", "2") == FINE
    (path,) = map(Path, desk.lines)
    assert path.is_relative_to(desk.data / "outputs" / "txt2img-images")
    assert path.name.endswith("-7.png")
    assert "Seed: 7" in read_png_text(path)["parameters"]
    assert desk.err.getvalue() == ""


def test_a_picture_goes_to_the_file_that_was_named(desk: Desk) -> None:
    target = desk.data / "new" / "apple.png"
    for _ in range(2):
        assert desk.generate("png apple", "--steps", "2", "--size", "64x128", "--output", str(target)) == FINE
    assert desk.lines == [str(target)] * 2
    text = read_png_text(target)["parameters"]
    assert text.startswith("png apple\nSteps: 2, Sampler: ")
    assert "Size: 64x128" in text
    assert not (desk.data / "outputs" / "txt2img-images").exists()
    assert [path.name for path in target.parent.iterdir()] == ["apple.png"]


def test_the_name_says_the_format_and_the_settings_what_goes_in(desk: Desk) -> None:
    target = desk.data / "apple.JPEG"
    assert desk.generate("png apple", "--steps", "2", "--output", str(target)) == FINE
    assert picture_facts(target).format == "JPEG"
    assert picture_facts(target).texts["parameters"].startswith("png apple\nSteps: 2")
    assert '"quality":90' in picture_facts(target).texts["inferenz"]
    assert desk.main("settings", "save_metadata", "false") == FINE
    assert desk.generate("png apple", "--steps", "2", "--output", str(target)) == FINE
    assert picture_facts(target).texts == {}


@pytest.mark.parametrize(
    ("output", "names"),
    [
        ("a.png", ["a.png", "a-2.png", "a-3.png"]),
        ("x{seed}.png", ["x5.png", "x6.png", "x7.png"]),
        ("folder/", ["00001-5.png", "00002-6.png", "00003-7.png"]),
    ],
)
def test_several_pictures(desk: Desk, output: str, names: list[str]) -> None:
    arguments = ("png", "-n", "3", "--batch-size", "2", "--seed", "5", "--steps", "1")
    assert desk.generate(*arguments, "-o", str(desk.data / "made") + "/" + output) == FINE
    assert [Path(line).name for line in desk.lines] == names
    assert all(Path(line).is_file() for line in desk.lines)


def test_variations_do_not_replace_each_other(desk: Desk) -> None:
    """They have one seed, so a name made of it alone would be one name."""
    arguments = (
        "png",
        "-n",
        "3",
        "--seed",
        "5",
        "--steps",
        "1",
        "--variation-seed",
        "9",
        "--variation-strength",
        "0.5",
    )
    assert desk.generate(*arguments, "-o", str(desk.data / "x{seed}.png")) == FINE
    assert [Path(line).name for line in desk.lines] == ["x5.png", "x5-2.png", "x5-3.png"]
    texts = [read_png_text(Path(line))["parameters"] for line in desk.lines]
    for number, text in enumerate(texts):
        assert f"Variation seed: {9 + number}, Variation seed strength: 0.5" in text


def test_json_in_and_out(desk: Desk) -> None:
    request = json.dumps({"prompt": "png \N{RED APPLE}", "steps": 3, "seed": 1})
    assert desk.generate("--json", "--steps", "2", source=request) == FINE
    result = json.loads(desk.lines[0])
    assert (result["state"], result["error"], result["plan"]["steps"]) == ("completed", None, 2)
    assert result["pictures"][0]["seed"] == 1
    assert Path(result["pictures"][0]["path"]).is_file()
    assert desk.generate("--json", source=json.dumps(result["plan"])) == FINE
    again = json.loads(desk.lines[1])["plan"]
    assert again.pop("checkpoint")["name"] == result["plan"]["checkpoint"]["name"]  # its hash may be known by now
    assert again.items() <= result["plan"].items()
    assert desk.generate("--json", "--steps", "2", source=json.dumps(result["plan"])) == BAD_INPUT
    assert json.loads(desk.lines[2])["error"]["field"] == "--json"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_json_goes_through_pipes_that_are_not_utf_8(desk: Desk, encoding: str) -> None:
    """As on Windows: the result is JSON there too, what comes in is UTF-8, with or without a byte order mark."""
    out, source = io.TextIOWrapper(io.BytesIO(), encoding), io.BytesIO('\ufeff{"prompt": "png äpple 🍎"}'.encode())
    executor = LocalExecutor(EngineOptions(), engine="tests.fakes.engines:TinyEngine")
    flags = parser("generate").parse_args(["--json", "--data-dir", str(desk.data)])
    console = Console(out=out, err=desk.err, source=io.TextIOWrapper(source, encoding))
    assert generate.run(flags, console, build=partial(build_app, executor=executor)) == FINE
    out.seek(0)
    assert json.loads(out.read())["plan"]["prompt"] == "png äpple 🍎"
    console.print("🍎.png")


@pytest.mark.parametrize(
    ("arguments", "source", "said"),
    [
        ([], "", "prompt: is missing"),
        (["a", "--size", "64"], "", "--size"),
        (["a", "--size=-64x64"], "", "--size"),
        (["a", "--size", "65x64"], "", "width"),
        (["a", "--steps", "many"], "", "steps"),
        (["a", "--steps", "0"], "", "steps"),
        (["a", "--seed", "-5"], "", "seed"),
        (["a", "-n", "0"], "", "--number"),
        (["a", "-n", "1000"], "", "batch_count"),
        (["a", "--sampler", "Eulr"], "", "Euler"),
        (["a", "--model", "tinny"], "", "tinny"),
        (["a", "--output", "apple.gif"], "", ".png, .jpg"),
        (["a", "--output", "{name}.png"], "", "{seed} and {index}"),
        (["a", "--output", ""], "", "--output"),
        (["a\0b"], "", "U+0000"),
        (["--json"], "{", "not JSON"),
        (["--json"], "[]", "not a JSON object"),
        (["--json"], '{"steps": 0}', "steps"),
        (["a", "--no-half", "--precision", "float16"], "", "contradicts"),
        (["a", "--device-id", "gpu"], "", "--device-id"),
        (["a", "--device-id", "0,1"], "", "--device-id"),
        (["a", "--device-id", "0,"], "", "--device-id"),
        (["a", "--threads", "0"], "", "--threads"),
        (["a", "--ckpt-dir", "/not/there"], "", "/not/there"),
    ],
)
def test_bad_input_ends_with_2_and_says_why(desk: Desk, arguments: list[str], source: str, said: str) -> None:
    assert desk.generate(*arguments, source=source) == BAD_INPUT
    told = desk.err.getvalue()
    assert told.startswith("Error: ")
    assert said in told
    assert "Traceback" not in told
    if "--json" in arguments:
        assert json.loads(desk.lines[0])["error"]["message"]
    else:
        assert desk.lines == []


def test_a_failure_ends_with_1(desk: Desk) -> None:
    assert desk.generate("raise") == FAILED
    assert "an engine that gives up" in desk.err.getvalue()
    assert desk.generate("png", "--output", "/dev/null/apple.png") == FAILED
    assert "/dev/null/apple.png" in desk.err.getvalue()


class Impatient(Terminal):
    """Somebody who presses Ctrl+C as soon as there is progress."""

    def write(self, text: str, /) -> int:
        if "step" in text and "step" not in self.getvalue():
            super().write(text)
            raise KeyboardInterrupt
        return super().write(text)


def test_ctrl_c_ends_with_130(desk: Desk) -> None:
    desk.err = Impatient()
    assert desk.generate("endless") == STOPPED
    assert desk.lines == []


def test_progress_on_a_terminal_and_in_lines(desk: Desk) -> None:
    assert desk.generate("png slow", "--steps", "3", "--verbose") == FINE
    assert "100%" in desk.err.getvalue()
    assert "\r" not in desk.err.getvalue()
    desk.err = Terminal()
    assert desk.generate("png slow", "--steps", "5") == FINE
    drawn = desk.err.getvalue()
    assert re.search(r"\[#*-*\] +\d+%  step \d/5", drawn)
    assert drawn.endswith("\r")
    desk.err = Terminal()
    assert desk.generate("png slow", "--steps", "3", "--quiet") == FINE
    assert desk.err.getvalue() == ""
