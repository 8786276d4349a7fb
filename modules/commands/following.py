"""A job that a command started, shown on the terminal until it is over."""

from __future__ import annotations

from modules.app import App
from modules.commands.console import Console
from modules.commands.progress import ProgressLine
from modules.services.views import JobView

LOOK_SECONDS = 0.1  # between looks at the job: quick enough for a bar, and Ctrl+C is noticed on every system


def follow(app: App, view: JobView, console: Console, *, verbose: bool = False, quiet: bool = False) -> JobView:
    """Show the job until it is over. Ctrl+C ends it within a step, once more at once."""
    progress = ProgressLine(console, verbose=verbose, quiet=quiet)
    stopping = False
    with app.jobs.subscribe() as subscription:
        while not view.over:
            try:
                view = subscription.get(LOOK_SECONDS) or app.jobs.get(view.id) or view
                progress.show(view)
            except KeyboardInterrupt:
                if stopping:
                    progress.finish()
                    raise
                stopping = True
                app.jobs.interrupt(view.id)
    progress.finish()
    return view
