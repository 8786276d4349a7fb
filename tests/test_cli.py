from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modules import cli
from modules.app import build_app
from modules.cli import COMMANDS, main, parser
from modules.commands import generate, replay
from modules.commands.console import BAD_INPUT, DIFFERENT, FAILED, FINE, STOPPED, Console
from modules.commands.flags import app_config
from modules.core.checkpoint import read_header
from modules.core.errors import RequestError
from modules.core.job import EngineOptions
from modules.executors.local import LocalExecutor
from modules.imaging.pictures import picture_facts
from modules.imaging.png import png_with_text, read_png_text
from tests.services.samples import make_png
from tests.tiny import write_tiny_sd1

DOCUMENT = Path(cli.__file__).parents[1] / "docs" / "command-line.md"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass
class Desk:
    """A data folder with one model, and a console whose texts can be read."""

    data: Path
    out: io.StringIO = field(default_factory=io.StringIO)
    err: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        models = self.data / "models" / "Stable-diffusion"
        models.mkdir(parents=True)
        write_tiny_sd1(models / "tiny.safetensors")

    def console(self, source: str = "") -> Console:
        return Console(out=self.out, err=self.err, source=io.StringIO(source))

    def main(self, *arguments: str, source: str = "") -> int:
        return main([*arguments, "--data-dir", str(self.data)], self.console(source))

    def generate(self, *arguments: str, source: str = "") -> int:
        """The real command with an engine that needs no torch."""
        executor = LocalExecutor(EngineOptions(), engine="tests.fakes.engines:TinyEngine")
        flags = parser("generate").parse_args([*arguments, "--data-dir", str(self.data)])
        return generate.run(flags, self.console(source), build=partial(build_app, executor=executor))

    def replay(self, *arguments: str) -> int:
        executor = LocalExecutor(EngineOptions(), engine="tests.fakes.engines:TinyEngine")
        flags = parser("replay").parse_args([*arguments, "--data-dir", str(self.data)])
        return replay.run(flags, self.console(), build=partial(build_app, executor=executor))

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


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


def test_models_are_listed(desk: Desk) -> None:
    assert desk.main("models") == FINE
    assert "Checkpoints: 1" in desk.lines
    assert any("tiny.safetensors" in line and "Stable Diffusion 1" in line for line in desk.lines)
    assert desk.main("models", "--json") == FINE
    assert json.loads(desk.lines[-1])["checkpoints"][0]["name"] == "tiny"


def test_settings_are_shown_and_changed(desk: Desk) -> None:
    assert desk.main("settings", "preview_ms", "100") == FINE
    assert desk.main("settings", "preview_ms", "--json") == FINE
    assert desk.main("settings", "preview_ms", "--reset") == FINE
    assert desk.lines == ["preview_ms = 100", '{"preview_ms": 100}', "preview_ms = 250"]
    assert desk.main("settings") == FINE
    assert "strict = false" in desk.lines
    assert desk.main("settings", "--reset") == FINE
    assert desk.main("settings", "preview_ms", "often") == BAD_INPUT
    assert desk.main("settings", "previw_ms") == BAD_INPUT
    assert desk.main("settings", "preview_ms", "1", "--reset") == BAD_INPUT


def test_convert_refuses_what_it_would_spoil(desk: Desk, tmp_path: Path) -> None:
    console = desk.console()
    source = tmp_path / "old.ckpt"
    assert main(["convert", str(source)], console) == BAD_INPUT
    source.write_bytes(b"PK")
    (tmp_path / "old.safetensors").touch()
    assert main(["convert", str(source)], console) == BAD_INPUT
    assert "--force" in desk.err.getvalue()
    assert main(["convert", str(source), str(tmp_path / "new.bin")], console) == BAD_INPUT


def test_convert_replaces_only_when_forced_and_only_by_something_whole(desk: Desk, tmp_path: Path) -> None:
    source, target = tmp_path / "old.ckpt", tmp_path / "old.safetensors"
    target.write_bytes(b"what was there")
    source.write_bytes(b"no pickle")
    assert main(["convert", "--force", str(source)], desk.console()) == FAILED
    assert target.read_bytes() == b"what was there"
    torch = pytest.importorskip("torch")
    name = "text_model.embeddings.token_embedding.weight"  # of a text encoder
    torch.save({name: torch.ones(2, 2)}, source)
    assert main(["convert", "--force", str(source)], desk.console()) == FINE
    assert read_header(target).tensors[name].shape == (2, 2)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["old.ckpt", "old.safetensors"]


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


def test_rebuild_reads_the_pictures_again(desk: Desk) -> None:
    folder = desk.data / "outputs" / "txt2img-images"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"0000{number}-1.png").write_bytes(make_png(number))
    (folder / "broken.png").write_bytes(b"no picture")
    assert desk.main("rebuild") == FINE
    assert "3 files read, 2 pictures" in desk.out.getvalue()
    assert "broken.png" in desk.err.getvalue()


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


def test_a_reader_that_leaves_is_no_error(desk: Desk) -> None:
    class Closed(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    desk.out = Closed()
    call: Callable[[], int] = partial(desk.main, "settings")
    assert call() == STOPPED


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


def test_logins_from_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "logins").write_text("anna:secret\n", encoding="utf-8-sig")
    arguments = ["--listen", "--gradio-auth-path", str(tmp_path / "logins")]
    assert app_config(parser().parse_args(arguments), serving=True).server.users == (("anna", "secret"),)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without telling it")
def test_a_server_that_is_terminated_closes_what_is_open() -> None:
    program = """
import time
from modules.commands.serve import end_when_terminated
end_when_terminated()
try:
    print("open", flush=True)
    time.sleep(60)
finally:
    print("closed", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=DOCUMENT.parents[1], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        child.terminate()
        assert child.stdout.read() == "closed\n"
    assert child.returncode == 128 + 15


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


def test_flags_that_automatic1111_has_and_nobody_needs_here_are_left_out_with_a_word(desk: Desk) -> None:
    # --listen without a login ends the server before it starts
    assert desk.main("--xformers", "--listen", "--disable-nan-check") == BAD_INPUT
    told = desk.err.getvalue()
    assert "Left out, as there is no need of it here: --xformers --disable-nan-check" in told
    assert "Error: --listen" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--medvrm"], "Error: --medvrm: there is no such flag. Accepted: --medvram, perhaps."),
        (["--zzz=3"], "Error: --zzz: there is no such flag. Accepted: what --help lists."),
        (["--port", "7999", "models"], "Error: models: is a command and stands first."),
        (["generate", "a red", "apple"], "Error: apple: is not expected here."),
        (["generate", "a fox", "--xformers"], "Error: --xformers: there is no such flag."),
    ],
)
def test_what_no_flag_takes_is_a_sentence_and_no_wall(arguments: list[str], told: str, desk: Desk) -> None:
    assert desk.main(*arguments) == BAD_INPUT
    assert desk.err.getvalue().startswith(told)
    assert "usage:" not in desk.err.getvalue()
