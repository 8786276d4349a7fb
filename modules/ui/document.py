"""HTML documents around and before Gradio's: what the first paint needs, and the page that is there while it starts."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modules.ui.texts import Texts
from modules.ui.tokens import system_css

# Gradio's own cards for social networks: another program's name, and pictures on other servers.
_CARDS = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')

# The same rule as static/theme.js: the person's choice, else this run's or the stored one, else the system's.
_THEME = """(() => {
  let wanted = null;
  try { wanted = localStorage.getItem("inferenz.theme"); } catch {}
  wanted ??= ["dark", "light"].includes("%s") ? "%s" : null;
  wanted ??= matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.classList.add(wanted === "dark" ? "dark" : "light");
})();"""

# Ink where the system asks for it, until the script has put the person's choice over it.
_GROUND = "html,body{background:var(--page);color:var(--text)}"

_STARTING = """
@font-face { font-family: "Inferenz Inter"; src: url("inferenz/static/inter.woff2") format("woff2");
    font-weight: 100 900; font-display: swap; }
* { box-sizing: border-box; }
body { display: grid; place-items: center; min-height: 100dvh; margin: 0; padding: 16px; font: 15px/1.5 var(--font); }
main { display: grid; justify-items: center; gap: 12px; max-width: 420px; text-align: center; }
i { width: 14px; height: 14px; margin-bottom: 12px; border-radius: 50%; background: var(--accent);
    box-shadow: 0 0 0 4px var(--accent-soft); animation: pulse 1.4s ease-in-out infinite; }
h1 { margin: 0; font-size: 20px; font-weight: 600; letter-spacing: -0.01em; }
p { margin: 0; color: var(--muted); text-wrap: pretty; }
.failed i { background: var(--danger); box-shadow: 0 0 0 4px var(--danger-soft); animation: none; }
@keyframes pulse { 50% { box-shadow: 0 0 0 12px var(--accent-soft); } }
@media (prefers-reduced-motion: reduce) { i { animation: none; } }
"""

_POLL = """(async () => {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    const answer = await fetch("inferenz/page", { cache: "no-store" }).then((each) => each.json()).catch(() => null);
    if (answer && answer.state !== "starting") return location.reload();
  }
})();"""


def starting_document(texts: Texts, *, theme: str, failed: bool) -> str:
    """What "/" answers until Gradio is there: it asks for the page's state and loads itself anew when that changes."""
    key = "starting.failed" if failed else "starting"
    after = "" if failed else f'<script>{_POLL}</script><noscript><meta http-equiv="refresh" content="2"></noscript>'
    return (
        f'<!doctype html><html lang="{html.escape(texts.language)}"><head><meta charset="utf-8"><title>Inferenz</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="inferenz/static/favicon.svg">'
        f"{first_paint(theme)}<style>{_STARTING}</style></head>"
        f'<body><main role="status" class="{"failed" if failed else ""}"><i></i><h1>{html.escape(texts(key))}</h1>'
        f"<p>{html.escape(texts(f'{key}.text'))}</p></main>{after}</body></html>"
    )


def first_paint(theme: str) -> str:
    """Head elements that give a document its colours before any other file has come. theme: "dark", "light" or
    "system"."""
    return f"<style>{system_css()}{_GROUND}</style><script>{_THEME % (theme, theme)}</script>"


class Dressed:
    """Wraps Gradio's app: its document gets our language and first paint, and loses the cards of another program.

    head: gives the elements for the document's head, asked at every load. They are put in here and not through Gradio,
    which inserts what it is given only when its own code runs, long after the first paint.
    """

    def __init__(self, inner: ASGIApp, *, language: str, head: Callable[[], str]) -> None:
        self._inner = inner
        self._language = language.encode()
        self._head = head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path != "/" or scope["method"] != "GET":
            await self._inner(scope, receive, send)
            return
        # The document is changed, so it must not come compressed.
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        start: Message = {}
        body = bytearray()

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await self._answer(start, bytes(body), send)

        await self._inner({**scope, "headers": headers}, receive, dressed)

    async def _answer(self, start: Message, body: bytes, send: Send) -> None:
        kind = dict(start["headers"]).get(b"content-type", b"")
        if kind.startswith(b"text/html"):
            body = _CARDS.sub(b"", body).replace(b'lang="en"', b'lang="' + self._language + b'"', 1)
            head = await asyncio.to_thread(self._head)
            body = body.replace(b"<head>", b"<head>" + head.encode(), 1)
        kept = [(name, value) for name, value in start["headers"] if name not in (b"content-length", b"etag")]
        await send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})
