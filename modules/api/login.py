"""The login: a small page, a signed cookie, and a gate before everything else.

Names and passwords come from the command line (`--gradio-auth`). The cookie is an end time, a number of its own and
the name under an HMAC-SHA-256 whose key lives as long as the server: a restart ends every session, a logout this one.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import html
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modules.api.errors import error_json
from modules.api.limits import TooLarge, limited, told_length
from modules.api.people import USER

COOKIE = "inferenz_session"
SESSION_SECONDS = 30 * 24 * 3600
KNOWN_ADDRESSES = 1000
MAX_FORM_BYTES = 4_000

# (texts of the login page's language) -> its document; the page's own look, so it comes from the page.
LoginPage = Callable[[Request, str], str]


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """Signs and reads session cookies. users: name -> password."""

    users: Mapping[str, str]
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    now: Callable[[], float] = time.time
    ended: dict[str, int] = field(default_factory=dict, repr=False)  # signature -> when its cookie would have ended

    def check(self, name: str, password: str) -> bool:
        """Whether the password is this person's; takes the same time for a name that does not exist."""
        expected = self.users.get(name, "\0")
        return hmac.compare_digest(expected.encode(), password.encode()) and name in self.users

    def issue(self, name: str) -> str:
        """A cookie value for a person who has logged in."""
        text = f"{int(self.now()) + SESSION_SECONDS}:{secrets.token_hex(8)}:{name}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=") + "." + self._sign(text)

    def read(self, cookie: str) -> str | None:
        """The person's name, or None for a cookie that is forged, damaged or too old."""
        until, name = self._parts(cookie)
        return name if until > self.now() and name in self.users else None

    def end(self, cookie: str) -> None:
        """Log out: this cookie, and every copy of it, is no session any more. Others of the same person stay."""
        until, _ = self._parts(cookie)
        for signature in [each for each, last in self.ended.items() if last <= self.now()]:
            del self.ended[signature]
        if until > self.now():
            self.ended[cookie.partition(".")[2]] = until

    def _parts(self, cookie: str) -> tuple[int, str]:
        """End time and name of a cookie that is ours and not ended; (0, "") of any other."""
        body, _, signature = cookie.partition(".")
        try:
            text = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
        except ValueError:
            return 0, ""
        if signature in self.ended or not hmac.compare_digest(self._sign(text).encode(), signature.encode()):
            return 0, ""
        until, _, name = text.split(":", 2)
        return int(until), name

    def _sign(self, text: str) -> str:
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


class SlowDown:
    """Waiting times after failed logins: none for the first three, then doubling to 30 s, per address.

    A second count over all addresses starts at thirty failures, against guesses from many places. It does not hold up
    an address from which somebody has logged in before: else one guesser could keep everyone outside.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failed: dict[str, tuple[int, float]] = {}
        self._known: OrderedDict[str, None] = OrderedDict()  # addresses that logged in, the latest last

    def seconds(self, address: str) -> float:
        """How long this address has to wait before its next guess is looked at."""
        return max(self._wait(address, 3), 0.0 if address in self._known else self._wait("", 30))

    def failed(self, address: str) -> None:
        if len(self._failed) > 10_000:
            self._failed = {key: entry for key, entry in self._failed.items() if self._now() - entry[1] < 600}
        for key in (address, ""):
            count, last = self._failed.get(key, (0, 0.0))
            kept = count if self._now() - last < 600 else 0
            self._failed[key] = (kept + 1, self._now())

    def succeeded(self, address: str) -> None:
        self._failed.pop(address, None)
        self._known[address] = None
        self._known.move_to_end(address)
        if len(self._known) > KNOWN_ADDRESSES:
            self._known.popitem(last=False)

    def _wait(self, key: str, free: int) -> float:
        count, last = self._failed.get(key, (0, 0.0))
        if count < free:
            return 0.0
        return max(0.0, min(30.0, 2.0 ** (count - free)) - (self._now() - last))


class LoginGate:
    """Wraps the whole ASGI app: without a valid session a page becomes the login page and anything else a 401."""

    def __init__(self, inner: ASGIApp, *, sessions: Sessions, page: LoginPage, slow: SlowDown | None = None) -> None:
        self._inner = inner
        self._sessions = sessions
        self._page = page
        self._slow = slow or SlowDown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._inner(scope, receive, send)
            return
        request = Request(scope, receive) if scope["type"] == "http" else None
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        name = self._sessions.read(_cookie(scope))
        if request and path == "/inferenz/login":
            await (await self._login(request, name))(scope, receive, send)
        elif request and path == "/inferenz/logout" and request.method == "POST":
            self._sessions.end(_cookie(scope))
            await _logged_out()(scope, receive, send)
        elif name is not None or path.startswith("/inferenz/static/"):
            await self._inner({**scope, USER: name or ""}, receive, send)
        elif request and request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            await RedirectResponse(f"{scope.get('root_path', '')}/inferenz/login", 303)(scope, receive, send)
        else:
            await error_json("login", "Log in first.", status=401)(scope, receive, send)

    async def _login(self, request: Request, name: str | None) -> Response:
        home = f"{request.scope.get('root_path', '')}/"
        if request.method != "POST":
            return RedirectResponse(home, 303) if name else HTMLResponse(self._page(request, ""))
        address = request.client.host if request.client else ""
        # Before the look at the waiting time: else many logins whose bodies come late would all be let through it
        try:
            body = await _body(request)
        except TooLarge as error:
            return error_json("too_large", error.detail, status=413)
        wait = self._slow.seconds(address)
        if wait > 0:
            page = HTMLResponse(self._page(request, "login.slow"), 429)
            page.headers["Retry-After"] = str(int(wait) + 1)
            return page
        form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        person, password = form.get("name", [""])[0], form.get("password", [""])[0]
        if not self._sessions.check(person, password):
            self._slow.failed(address)
            await asyncio.sleep(0.3)  # a guess costs time even where the address changes
            return HTMLResponse(self._page(request, "login.wrong"), 401)
        self._slow.succeeded(address)
        answer = RedirectResponse(home, 303)
        secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
        answer.set_cookie(
            COOKIE, self._sessions.issue(person), max_age=SESSION_SECONDS, httponly=True, samesite="lax", secure=secure
        )
        return answer


def login_document(*, title: str, name: str, password: str, submit: str, problem: str, css: str, language: str) -> str:
    """The login page: one form, no script."""
    e = html.escape
    alert = f'<p class="problem" role="alert">{e(problem)}</p>' if problem else ""
    return (
        f'<!doctype html><html lang="{e(language)}"><head><meta charset="utf-8"><title>Inferenz</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="static/favicon.svg">'
        f'<style>{css}</style><link rel="stylesheet" href="static/login.css"></head><body>'
        '<main><p class="brand"><i></i>Inferenz</p>'
        f'<h1>{e(title)}</h1>{alert}<form method="post" action="login">'
        f'<label>{e(name)}<input name="name" autocomplete="username" autofocus required></label>'
        f'<label>{e(password)}<input name="password" type="password" autocomplete="current-password" required></label>'
        f"<button>{e(submit)}</button></form></main></body></html>"
    )


def _logged_out() -> Response:
    answer = RedirectResponse("login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _cookie(scope: Scope) -> str:
    raw = b"; ".join(value for name, value in scope["headers"] if name == b"cookie").decode("latin-1")
    try:
        found = SimpleCookie(raw).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


async def _body(request: Request) -> bytes:
    if told_length(request.scope) > MAX_FORM_BYTES:
        raise TooLarge(MAX_FORM_BYTES)
    return await Request(request.scope, limited(request.receive, MAX_FORM_BYTES)).body()
