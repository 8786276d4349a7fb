"""Every exception that Inferenz raises on purpose.

    InferenzError
    ├── RequestError            a field of a request, setting or command line is wrong: names it and what is accepted
    ├── CheckpointError         a model file cannot be used
    │   ├── CheckpointMissing       no file of that name
    │   ├── NotAMatch               the file is not of this family or kind at all
    │   ├── CorruptCheckpoint       it is of this kind, but truncated, damaged or incomplete
    │   ├── UnsupportedCheckpoint   recognised, and not supported (the family is named)
    │   └── UnsafeCheckpoint        a pickle: loading it could run code
    ├── EngineError             the engine could not finish a job
    │   ├── OutOfMemory             the device has not enough free memory
    │   └── WorkerGone              the worker process ended while a job was in it
    ├── StorageError            a picture, index or setting could not be written or read
    │   └── PictureMissing          the history has no such picture, or its file is gone
    ├── MetadataError           what a picture says of itself is broken, or too large to be read
    └── SetupError              the machine or installation is not usable as it is

A message says what happened, to what, and what to do about it, in one or two sentences without a stack trace.
"""

from __future__ import annotations


class InferenzError(Exception):
    """Base of all errors meant for people. `hint` says what to do next and may be empty."""

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class RequestError(InferenzError):
    """A value that cannot be accepted. `field` is the name in the request; `accepted` what would have been right."""

    code = "bad_request"

    def __init__(self, field: str, problem: str, *, accepted: str = "") -> None:
        super().__init__(f"{field}: {problem}.", hint=f"Accepted: {accepted}." if accepted else "")
        self.field = field
        self.problem = problem
        self.accepted = accepted


class CheckpointError(InferenzError):
    code = "checkpoint"


class CheckpointMissing(CheckpointError):
    code = "checkpoint_missing"


class NotAMatch(CheckpointError):
    code = "checkpoint_foreign"


class CorruptCheckpoint(CheckpointError):
    code = "checkpoint_corrupt"


class UnsupportedCheckpoint(CheckpointError):
    code = "checkpoint_unsupported"


class UnsafeCheckpoint(CheckpointError):
    code = "checkpoint_unsafe"


class EngineError(InferenzError):
    code = "engine"


class OutOfMemory(EngineError):
    code = "out_of_memory"


class WorkerGone(EngineError):
    code = "worker_gone"


class StorageError(InferenzError):
    code = "storage"


class PictureMissing(StorageError):
    code = "picture_missing"


class MetadataError(InferenzError):
    code = "metadata"


class SetupError(InferenzError):
    code = "setup"
