"""A job that a test sends from the page, told apart from all others.

A page that has just been opened shows the last picture that anyone made: only a picture of the test's own job says that
the job is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DONE = """([{ ended, jobs, url }, id]) => {
  const job = jobs.get(id);
  const shown = document.querySelector(".stage img.final");
  return job && ended(job) && job.images.some((image) => shown?.src === url(`pictures/${image.picture}`));
}"""


@dataclass(frozen=True)
class Sent:
    """A job as the server took it."""

    page: Any
    id: str

    def wait_for_preview(self) -> None:
        """Until the stage shows a preview of this job."""
        self.page.wait_for_selector(f".stage img.preview[src*='/jobs/{self.id}/']")

    def wait_until_done(self) -> None:
        """Until the job has ended and the stage shows a picture of it."""
        live = self.page.evaluate_handle("import('./inferenz/static/live.js')")
        self.page.wait_for_function(DONE, arg=[live, self.id])  # a predicate must not be async: a promise is truthy


def send(page: Any, act: Callable[[], object]) -> Sent:
    """Does `act`, which makes the page send a job."""
    with page.expect_response(lambda each: each.request.method == "POST" and each.url.endswith("/jobs")) as answer:
        act()
    return Sent(page, answer.value.json()["id"])
