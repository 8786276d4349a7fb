"""The worker process: an engine behind a pair of pipes. Started as `python -m modules.executors.worker_main`.

Frames come in on standard input and go out on what was standard output; from then on everything that prints, Python
or C, prints to standard error. When the input closes, the server is gone, and the process ends at once, even in the
middle of a computation: no orphan keeps a device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import sys
import threading
from importlib import import_module
from queue import SimpleQueue
from typing import Any, BinaryIO

from modules.core.generation import parse_plan
from modules.core.job import EngineStatus, Event, Failed, event_json
from modules.executors.engine import Engine, engine_factory, parse_options, status_json, told
from modules.executors.frames import FrameError, read_frame, write_frame

STATUS_SECONDS = 0.5
HEARTBEATS = 10  # looks at the status after which it is sent though nothing has changed: a sign of life
PREWARM_NICENESS = 10

log = logging.getLogger(__name__)
Outgoing = tuple[dict[str, Any], bytes]


def main() -> int:
    """Run until the server says so (0), closes the pipe, or the engine fails (1)."""
    source, sink = _pipes()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    leave_console()
    first = read_frame(source)
    if first is None:
        return 0
    start = first[0]
    worker = Worker(source)
    writer = threading.Thread(target=worker.write, args=(sink,), name="frames-out", daemon=True)
    writer.start()
    threading.Thread(target=worker.read, name="frames-in", daemon=True).start()
    threading.Thread(target=worker.obey, name="commands", daemon=True).start()
    status = worker.run(start)
    worker.outgoing.put(None)
    writer.join(5)
    return status


class Worker:
    """Brings the pipes and the engine together."""

    def __init__(self, source: BinaryIO) -> None:
        self.outgoing: SimpleQueue[Outgoing | None] = SimpleQueue()
        self._source = source
        self._commands: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._ready = threading.Event()
        self._engine: Engine | None = None
        self._over = threading.Event()

    def run(self, start: dict[str, Any]) -> int:
        """Make the engine that the first frame names, and let it work in this thread."""
        try:
            dotted = start["engine"]
            if start.get("prewarm"):
                _prewarm(dotted.partition(":")[0])
            engine = engine_factory(dotted)(parse_options(start["options"]), self._event)
            self._engine = engine
            self._ready.set()
            self._send("ready", pid=os.getpid(), status=status_json(engine.status()))
            threading.Thread(target=self._watch, args=(engine,), name="status", daemon=True).start()
            engine.run()
        except Exception as error:
            log.exception("The engine stopped.")
            code, message, hint = told(error)
            self._send("fatal", code=code, message=message, hint=hint)
            return 1
        finally:
            self._over.set()
        return 0

    def read(self) -> None:
        """Take frames in, at all times, so that the end of the pipe is noticed even while the engine is being made."""
        try:
            while (frame := read_frame(self._source)) is not None:
                if frame[0]["kind"] == "close" and self._engine is None:
                    break
                self._commands.put(frame[0])
        except (OSError, FrameError):
            log.exception("The server's frames cannot be read.")
        sys.stderr.flush()
        os._exit(0)  # sys.exit would wait for the engine's computation

    def obey(self) -> None:
        """Do as the frames say, once there is an engine."""
        self._ready.wait()
        engine = self._engine
        assert engine is not None
        while True:
            command = self._commands.get()
            try:
                _obey(engine, command)
            except Exception as error:
                log.exception("The command %s failed.", command["kind"])
                if command["kind"] == "submit":
                    code, message, hint = told(error)
                    self._event(Failed(job=command["job"], code=code, message=message, hint=hint))

    def write(self, sink: BinaryIO) -> None:
        """Send what waits, so that no event ever makes the engine wait for the server."""
        try:
            while (frame := self.outgoing.get()) is not None:
                write_frame(sink, *frame)
        except OSError:
            os._exit(0)  # nobody reads: the server is gone
        except Exception:
            # Mute it would be taken for a worker that computes, for ever: dead, it is replaced
            log.exception("A frame cannot be written.")
            sys.stderr.flush()
            os._exit(1)

    def _event(self, event: Event) -> None:
        self.outgoing.put(({"kind": "event", **event_json(event)}, event.payload))

    def _send(self, kind: str, **values: Any) -> None:
        self.outgoing.put(({"kind": kind, **values}, b""))

    def _watch(self, engine: Engine) -> None:
        last: EngineStatus | None = None
        unsent = 0
        while not self._over.wait(STATUS_SECONDS):
            now = engine.status()
            unsent += 1
            if last is None or unsent >= HEARTBEATS or _changed(last, now):
                self._send("status", status=status_json(now))
                last, unsent = now, 0


def leave_console() -> None:
    """Ctrl+C in the terminal is the server's to handle: it lets running pictures finish or not, then closes the pipe.

    So is Ctrl+Break, which on Windows reaches every process of the terminal, whatever its group.
    """
    for name in ("SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _obey(engine: Engine, command: dict[str, Any]) -> None:
    match command["kind"]:
        case "submit":
            engine.submit(command["job"], parse_plan(command["plan"]))
        case "interrupt":
            engine.interrupt(command["job"])
        case "skip":
            engine.skip(command["job"])
        case "configure":
            engine.configure(parse_options(command["options"]))
        case "unload":
            engine.unload()
        case "close":
            engine.close()


def _changed(last: EngineStatus, now: EngineStatus) -> bool:
    """Whether the status is worth a frame: memory that changed by less than 16 MiB is not."""
    moved = abs(last.memory_used - now.memory_used) > 2**24
    return moved or dataclasses.replace(now, memory_used=last.memory_used) != last


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The frames' own ends of the pipes; descriptors 0 and 1 are then harmless to whoever uses them."""
    incoming, outgoing = os.dup(0), os.dup(1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(incoming, os.O_BINARY)
        msvcrt.setmode(outgoing, os.O_BINARY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    return os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb")


def _prewarm(module: str) -> None:
    """Import the engine gently, so that the page, which starts at the same time, is served first.

    Where niceness belongs to a thread (Linux), the importing thread alone is nice; elsewhere nothing is gained or lost.
    """

    def load() -> None:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PREWARM_NICENESS)
        with contextlib.suppress(ImportError, OSError):  # told by engine_factory, which tries again
            import_module(module)

    thread = threading.Thread(target=load, name="prewarm")
    thread.start()
    thread.join()


if __name__ == "__main__":
    sys.exit(main())
