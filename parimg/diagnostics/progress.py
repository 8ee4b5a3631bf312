"""A progress bar for a job, in terminals and notebooks: images, failures, engines."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parimg.job import Job

_REFRESH_SECONDS = 0.2


@contextlib.contextmanager
def show_progress(job: Job) -> Iterator[None]:
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
        total=counts["total"], initial=counts["done"] or 0, desc=job.name, unit="img", smoothing=0.1, leave=True
    )
    ended = threading.Event()

    def refresh() -> None:
        counts = job.counts
        bar.total = counts["total"]
        bar.n = counts["done"] or 0
        state = {"failed": counts["failed"]} if counts["failed"] else {}
        if job.engines:
            state["engines"] = job.engines
        elif not job.ready():
            bar.set_postfix_str("waiting for an engine")
            return
        bar.set_postfix(state)

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
