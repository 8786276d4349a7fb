"""How far a job is, on a terminal as a bar that is drawn over itself, elsewhere as a few plain lines."""

from __future__ import annotations

from modules.commands.console import Console
from modules.services.views import JobView

BAR = 24  # columns of the bar itself


class ProgressLine:
    """Told each snapshot. verbose: plain lines where there is no terminal. quiet: nothing at all."""

    def __init__(self, console: Console, *, verbose: bool = False, quiet: bool = False) -> None:
        self._console = console
        self._drawing = console.err.isatty() and not quiet
        self._lines = verbose and not quiet
        self._last = ""
        self._notices = 0
        self._quiet = quiet

    def show(self, view: JobView) -> None:
        """Draw, or tell what is new."""
        for notice in () if self._quiet else view.notices[self._notices :]:
            self._clear()
            self._console.say(notice)
        self._notices = len(view.notices)
        text = line(view)
        if text == self._last:
            return
        if self._drawing:
            self._draw(text)
        elif self._lines:
            self._console.say(text)
        self._last = text

    def finish(self) -> None:
        """Leave the terminal as it was."""
        self._clear()

    def _draw(self, text: str) -> None:
        width = self._console.width()
        self._console.err.write("\r" + text[: width - 1].ljust(min(len(self._last), width - 1)))
        self._console.err.flush()

    def _clear(self) -> None:
        if self._drawing and self._last:
            self._console.err.write("\r" + " " * min(len(self._last), self._console.width() - 1) + "\r")
            self._console.err.flush()
            self._last = ""


def line(view: JobView) -> str:
    """One line about a job."""
    if view.state == "queued":
        return "waiting"
    if view.state == "loading":
        return f"loading {view.plan.checkpoint.name}"
    done = sum(image.state == "done" for image in view.images)
    running = [image for image in view.images if image.state == "running"]
    filled = round(view.progress * BAR)
    parts = [f"[{'#' * filled}{'-' * (BAR - filled)}] {view.progress:4.0%}"]
    if len(view.images) > 1:
        parts.append(f"picture {min(done + 1, len(view.images))}/{len(view.images)}")
    if running and not view.over:
        parts.append(f"step {running[0].step}/{running[0].steps}")
    if view.steps_per_second:
        pace = view.steps_per_second
        parts.append(f"{pace:.2f} it/s" if pace >= 1 else f"{1 / pace:.2f} s/it")
    if view.eta is not None:
        parts.append(f"{view.eta:.0f} s left")
    return "  ".join(parts)
