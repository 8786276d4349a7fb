"""The engine as executors know it: a protocol, and the dotted string that names the real one.

The page half never imports the torch half; it is found by name, in whatever process it is to run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from modules.core.errors import InferenzError, SetupError
from modules.core.generation import GenerationPlan
from modules.core.job import DeviceStatus, EngineOptions, EngineStatus, OnEvent

ENGINE = "modules.engine.engine:Engine"


class Engine(Protocol):
    """Runs plans and reports events. All methods but `run` may be called from any thread and return at once."""

    def run(self) -> None:
        """Work until `close`; called once, from the engine's own thread."""

    def submit(self, job: str, plan: GenerationPlan) -> None: ...
    def interrupt(self, job: str) -> None: ...
    def skip(self, job: str) -> None: ...
    def configure(self, options: EngineOptions) -> None: ...
    def unload(self) -> None: ...
    def status(self) -> EngineStatus: ...
    def close(self) -> None: ...


EngineFactory = Callable[[EngineOptions, OnEvent], Engine]


def engine_factory(dotted: str) -> EngineFactory:
    """The engine class that "package.module:Class" names. Raises SetupError where it cannot be imported."""
    module, _, name = dotted.partition(":")
    try:
        return cast(EngineFactory, getattr(import_module(module), name))
    except (ImportError, AttributeError, OSError) as error:  # OSError: a shared library of torch is missing
        raise SetupError(
            f"The engine cannot be started: {error}.", hint="Start again with --reinstall to repair the packages."
        ) from error


def options_json(options: EngineOptions) -> dict[str, Any]:
    """JSON-ready; the inverse of `parse_options`."""
    return dataclasses.asdict(options)


def parse_options(values: Mapping[str, Any]) -> EngineOptions:
    """Trusted input: it comes from our own other half."""
    return EngineOptions(**{**values, "use_cpu": tuple(values["use_cpu"])})


def status_json(status: EngineStatus) -> dict[str, Any]:
    """JSON-ready; the inverse of `parse_status`."""
    return dataclasses.asdict(status)


def parse_status(values: Mapping[str, Any]) -> EngineStatus:
    """Trusted input: it comes from our own worker."""
    devices = tuple(DeviceStatus(**{**each, "loaded": tuple(each["loaded"])}) for each in values["devices"])
    return EngineStatus(
        **{
            **values,
            "loaded": tuple(values["loaded"]),
            "options": parse_options(values["options"]),
            "devices": devices,
        }
    )


def told(error: BaseException) -> tuple[str, str, str]:
    """Code, message and hint of an error as a Failed event carries them."""
    if isinstance(error, InferenzError):
        return error.code, error.message, error.hint
    return "engine", f"The engine stopped: {type(error).__name__}: {error}".strip(), ""
