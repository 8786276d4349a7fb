"""How errors reach a browser: one JSON shape, a status that fits, never a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from modules.core.errors import InferenzError, RequestError

log = logging.getLogger(__name__)

STATUS: Mapping[str, int] = {
    "bad_request": 422,
    "checkpoint_missing": 404,
    "metadata": 422,
    "missing": 404,
    "out_of_memory": 503,
    "picture_missing": 404,
    "storage": 507,
    "worker_gone": 503,
}


def error_json(code: str, message: str, *, hint: str = "", field: str = "", status: int = 500) -> JSONResponse:
    """{"error": {code, message, hint, field}} with an HTTP status."""
    # What was refused may be quoted, and JSON may hold halves of surrogate pairs, which no answer can carry
    texts = {"code": code, "message": message, "hint": hint, "field": field}
    body = {"error": {name: text.encode(errors="replace").decode() for name, text in texts.items()}}
    return JSONResponse(body, status_code=status, headers={"Cache-Control": "no-store"})


def answer(error: InferenzError) -> JSONResponse:
    """The answer to one of our own errors."""
    field = error.field if isinstance(error, RequestError) else ""
    fallback = 422 if error.code.startswith("checkpoint") else 500
    return error_json(error.code, error.message, hint=error.hint, field=field, status=STATUS.get(error.code, fallback))


def install(web: FastAPI) -> None:
    """Make every error of our routes leave in that shape."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, InferenzError)
        return answer(error)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = {401: "login", 403: "forbidden", 404: "missing", 413: "too_large"}.get(error.status_code, "http")
        return error_json(code, str(error.detail), status=error.status_code)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return error_json("bad_request", "The body is not JSON.", hint=f"{first['ctx']['error']}.", status=422)
        name = ".".join(str(part) for part in first["loc"][1:]) or "body"
        return error_json("bad_request", f"{name}: {first['msg']}.", field=name, status=422)

    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return error_json("server", "Something went wrong on the server.", hint="The log says more.")

    web.add_exception_handler(InferenzError, ours)
    web.add_exception_handler(HTTPException, http)
    web.add_exception_handler(RequestValidationError, invalid)
    web.add_exception_handler(Exception, unknown)
