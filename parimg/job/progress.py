"""A progress bar for a job, in terminals and notebooks: images, failures, engines.

It looks at the job a few times a second and needs nothing from it but its public face, so it stands below `Job`,
which draws it in `wait_interactive`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol

_REFRESH_SECONDS = 0.2


class Watched(Protocol):
    """What the bar looks at: a `parimg.Job`."""

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def counts(self) -> dict[str, int | None]:
        """Images: ``failed, done, total``."""

    @property
    def engines(self) -> int | None:
        """Engines at work, None where that is not known."""

    def ready(self) -> bool:
        """Whether it has ended."""


@contextlib.contextmanager
def show_progress(job: Watched) -> Iterator[None]:
    """Show a bar while the body runs.

    Parameters
    ----------
    job : Job
        Of this process or another; its counts are looked at a few times a second.

    Examples
    --------
    >>> with show_progress(job):  # doctest: +SKIP
    ...     for record in job:
    ...         ...
    """
    from tqdm.auto import tqdm

    counts = job.counts
    bar = tqdm(
        total=counts["total"],
        initial=counts["done"] or 0,
        desc=job.name,
        unit="img",
        smoothing=0.1,
        leave=True,
    )
    ended = threading.Event()

    def refresh() -> None:
        counts = job.counts
        bar.total = counts["total"]
        bar.n = counts["done"] or 0
        said = [f"failed={counts['failed']}"] if counts["failed"] else []
        engines = job.engines
        if engines is not None:
            said.append(f"engines={engines}" if engines else "waiting for an engine")
        bar.set_postfix_str(", ".join(said))

    def follow() -> None:
        while not ended.wait(_REFRESH_SECONDS):
            refresh()

    thread = threading.Thread(target=follow, name="parimg-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        refresh()
        bar.close()
