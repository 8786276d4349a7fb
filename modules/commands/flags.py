"""The flags that several commands share, and what they make of the app's configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from modules.app import AppConfig, ServerConfig
from modules.core.errors import RequestError
from modules.core.job import EngineOptions

PARTS = ("unet", "text_encoder", "vae", "all")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
LANGUAGES = ("en", "de", "it")
THEMES = ("system", "dark", "light")


def add_folder_flags(parser: argparse.ArgumentParser) -> None:
    """Where models and pictures are."""
    folders = parser.add_argument_group("folders")
    folders.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder that holds models/ and outputs/ (default: the program's own)",
    )
    folders.add_argument(
        "--models-dir", type=Path, action="append", default=[], metavar="DIR",
        help="folder laid out as models/ is; may be given several times",
    )  # fmt: skip
    folders.add_argument(
        "--ckpt-dir", type=Path, action="append", default=[], metavar="DIR",
        help="further folder of checkpoints; may be given several times",
    )  # fmt: skip
    folders.add_argument(
        "--vae-dir", type=Path, action="append", default=[], metavar="DIR",
        help="further folder of VAEs; may be given several times",
    )  # fmt: skip
    folders.add_argument(
        "--text-encoder-dir", type=Path, action="append", default=[], metavar="DIR",
        help="further folder of text encoders; may be given several times",
    )  # fmt: skip
    folders.add_argument(
        "--wildcards-dir", type=Path, action="append", default=[], metavar="DIR",
        help="further folder of wildcard files; may be given several times",
    )  # fmt: skip
    folders.add_argument(
        "--styles-file", type=Path, metavar="FILE", help="table of styles (default: styles.csv in the data folder)"
    )


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    """What computes, and how."""
    device = parser.add_argument_group("device")
    memory = device.add_mutually_exclusive_group()
    memory.add_argument("--medvram", action="store_true", help="one part of the model on the device at a time")
    memory.add_argument(
        "--lowvram", action="store_true", help="the model on the device layer by layer: least memory, slow"
    )
    memory.add_argument("--normalvram", action="store_true", help="all of the model on the device, whatever is free")
    device.add_argument(
        "--device-id",
        metavar="N[,N...]",
        help='number of the device, or a name such as "cuda:1" or "cpu"; the server takes several: 0,1',
    )
    device.add_argument(
        "--use-cpu", nargs="+", choices=PARTS, default=[], metavar="PART", help=f"keep on the CPU: {', '.join(PARTS)}"
    )
    device.add_argument("--precision", choices=PRECISIONS, default="auto", help="compute in this precision")
    device.add_argument("--no-half", action="store_true", help="compute in float32, the same as --precision float32")
    device.add_argument("--no-half-vae", action="store_true", help="decode in float32")
    device.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: one per core)")


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Where the page is served, and to whom."""
    server = parser.add_argument_group("server")
    server.add_argument("--port", type=int, metavar="N", help="port of the page (default: 7860, or the next free one)")
    server.add_argument("--listen", action="store_true", help="be reachable from other machines (needs a login)")
    server.add_argument("--server-name", metavar="HOST", help="listen on this address only")
    server.add_argument("--share", action="store_true", help="open a public Gradio link (needs a login)")
    server.add_argument(
        "--gradio-auth", action="append", default=[], metavar="NAME:PASSWORD",
        help="require a login; several separated by commas or by giving the flag again",
    )  # fmt: skip
    server.add_argument(
        "--gradio-auth-path", type=Path, metavar="FILE", help="file of logins, NAME:PASSWORD, one a line"
    )
    server.add_argument(
        "--insecure", action="store_true", help="be reachable by everyone without a login, all the same"
    )
    server.add_argument(
        "--root-path", default="", metavar="PATH", help="prefix behind a reverse proxy, such as /inferenz"
    )
    server.add_argument("--autolaunch", action="store_true", help="open the page in the browser")
    server.add_argument(
        "--in-process", action="store_true", help="run the engine in the server's process (for debugging)"
    )
    server.add_argument("--lang", choices=LANGUAGES, help="language of the page (default: as the settings say)")
    server.add_argument("--theme", choices=THEMES, help="colours of the page (default: as the settings say)")


def app_config(flags: argparse.Namespace, *, serving: bool) -> AppConfig:
    """The configuration that the flags ask for. Raises RequestError where they contradict each other.

    serving: with a page, a worker process and a queue that outlives them; else in this process.
    """
    defaults = AppConfig()
    folders = (*flags.models_dir, *flags.ckpt_dir, *flags.vae_dir, *flags.text_encoder_dir, *flags.wildcards_dir)
    for folder in folders:
        if not folder.is_dir():
            raise RequestError("folder", f"{folder} is not there", accepted="an existing folder")
    devices = device_ids(getattr(flags, "device_id", None))
    in_process = not serving or flags.in_process
    if len(devices) > 1 and in_process:
        raise RequestError(
            "--device-id", "one process computes on one device",
            accepted="a single device here, or several for a server with worker processes",
        )  # fmt: skip
    return AppConfig(
        data_dir=(flags.data_dir or defaults.data_dir).absolute(),
        models_dirs=tuple(folder.absolute() for folder in flags.models_dir),
        ckpt_dirs=tuple(folder.absolute() for folder in flags.ckpt_dir),
        vae_dirs=tuple(folder.absolute() for folder in flags.vae_dir),
        text_encoder_dirs=tuple(folder.absolute() for folder in flags.text_encoder_dir),
        wildcards_dirs=tuple(folder.absolute() for folder in flags.wildcards_dir),
        styles_file=flags.styles_file.absolute() if flags.styles_file else None,
        engine=engine_options(flags) if hasattr(flags, "device_id") else EngineOptions(),
        devices=devices,
        in_process=in_process,
        durable=serving,
        server=server_config(flags) if serving else ServerConfig(),
    )


def engine_options(flags: argparse.Namespace) -> EngineOptions:
    """What the device flags say."""
    if flags.no_half and flags.precision not in ("auto", "float32"):
        raise RequestError("--no-half", f"contradicts --precision {flags.precision}", accepted="one of the two")
    if flags.threads is not None and not 1 <= flags.threads <= 1024:
        raise RequestError("--threads", f"{flags.threads} is not accepted", accepted="1 to 1024")
    dtype = "float32" if flags.no_half else flags.precision
    return EngineOptions(
        device=device_ids(flags.device_id)[0],
        vram="low" if flags.lowvram else "medium" if flags.medvram else "normal" if flags.normalvram else "auto",
        use_cpu=tuple(dict.fromkeys(flags.use_cpu)),
        dtype=dtype,
        vae_dtype="float32" if flags.no_half or flags.no_half_vae else "auto",
        threads=flags.threads,
    )


def server_config(flags: argparse.Namespace) -> ServerConfig:
    """What the server flags say. Raises RequestError where everyone could reach the page and nobody said so."""
    if flags.port is not None and not 1 <= flags.port <= 65535:
        raise RequestError("--port", f"{flags.port} is not accepted", accepted="1 to 65535")
    host = flags.server_name or ("0.0.0.0" if flags.listen else "127.0.0.1")
    return ServerConfig(
        host=host.strip("[]"),
        port=flags.port,
        share=flags.share,
        users=_users(flags.gradio_auth, flags.gradio_auth_path),
        insecure=flags.insecure,
        autolaunch=flags.autolaunch,
        language=flags.lang,
        theme=flags.theme,
        root_path=flags.root_path,
    )


def device_ids(text: str | None) -> tuple[str, ...]:
    """The devices of --device-id as `EngineOptions.device`, the first one first. Raises RequestError."""
    devices = tuple(_device(part.strip()) for part in text.split(",")) if text is not None else ("auto",)
    bare = {device for device in devices if device.isdecimal()}
    named = {device.partition(":")[2] or "0" for device in devices if device.startswith(("cuda", "xpu"))}
    # A bare number may turn out to be the device that is named beside it
    twice = len(set(devices)) < len(devices) or bool(bare & named)
    if twice or (len(devices) > 1 and "auto" in devices):
        raise RequestError("--device-id", f"{text!r} is not accepted", accepted="each device once, such as 0,1")
    return devices


def _device(text: str) -> str:
    kind, _, number = text.partition(":")
    if text.isdecimal():
        return str(int(text))  # of the kind that the machine has, which only the engine can tell
    if kind in ("auto", "cpu", "cuda", "mps", "xpu") and (not number or number.isdecimal()):
        return text
    raise RequestError(
        "--device-id", f"{text!r} is not accepted", accepted="a number such as 1, cuda:1, xpu:0, mps or cpu"
    )


def _users(given: list[str], path: Path | None) -> tuple[tuple[str, str], ...]:
    pairs = [pair.strip() for text in given for pair in text.split(",")]
    if path is not None:
        try:
            pairs += [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(
                "--gradio-auth-path", f"{path} cannot be read: {error}", accepted="a text file"
            ) from error
    users: dict[str, str] = {}
    for pair in pairs:
        name, colon, password = pair.partition(":")
        if not (name and colon and password):
            # Without the text: it may hold a password, and this may land in a log.
            raise RequestError("--gradio-auth", "a login is not complete", accepted="NAME:PASSWORD")
        if users.setdefault(name, password) != password:
            raise RequestError("--gradio-auth", f"{name} has two passwords", accepted="one login per name")
    return tuple(users.items())
