"""How far a job is: a bar in terminals and notebooks, a line now and then in a log.

It looks at the job a few times a second and needs nothing from it but its public face, so it stands below `Job`,
which draws it in `wait_interactive`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from parimg.console import print_line
from parimg.job.failures import Failures

_REFRESH_SECONDS = 0.2
_LOG_SECONDS = 30.0  # between lines in a file or pipe


class Watched(Protocol):
    """What is looked at: a `parimg.Job`."""

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def counts(self) -> dict[str, int | None]:
        """Images: ``failed, done, total``."""

    @property
    def failures(self) -> Failures:
        """The failed images."""

    @property
    def tiles(self) -> tuple[int, int] | None:
        """Tiles that are done, and all, of the images that are run by tiles now."""

    @property
    def engines(self) -> int | None:
        """Engines at work, None where that is not known."""

    def ready(self) -> bool:
        """Whether it has ended."""


def tell_commonest(job: Watched, *, message: bool = True) -> str:
    """The commonest error of a job, `` (most ImageMissingError: there is no ...)``, empty without failures."""
    group = job.failures.commonest
    if group is None:
        return ""
    return f" (most {group.error}{f': {_on_one_line(group.message, 60)}' if message else ''})"


def _on_one_line(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}..."


@contextlib.contextmanager
def show_progress(job: Watched) -> Iterator[None]:
    """Show how far a job is while the body runs.

    In a terminal or a notebook that is a bar, elsewhere a line each half minute, one when no engine is left,
    and one at the end.

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
    show, close = _bar(job) if _shows_bars() else _log(job)
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(_REFRESH_SECONDS):
            show()

    thread = threading.Thread(target=follow, name="parimg-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        close()


def _shows_bars() -> bool:
    """Whether standard error is a terminal or a notebook's."""
    return sys.stderr.isatty() or _is_in_notebook()


def _is_in_notebook() -> bool:
    return type(sys.stderr).__module__.startswith("ipykernel")


def _told(job: Watched) -> list[str]:
    """What is said of failures and engines."""
    failed = job.counts["failed"]
    tiles = job.tiles  # read once: another thread may end the image
    said = [f"tiles={tiles[0]}/{tiles[1]}"] if tiles else []
    said += [f"failed={failed}{tell_commonest(job, message=False)}"] if failed else []
    engines = job.engines
    if engines is not None:
        said.append(f"engines={engines}" if engines else "waiting for an engine")
    return said


def _bar(job: Watched) -> tuple[Callable[[], None], Callable[[], None]]:
    if _is_in_notebook():
        from tqdm.auto import tqdm
    else:  # tqdm.auto goes by whether some kernel was made in this process, wherever standard error goes
        from tqdm import tqdm

    counts = job.counts
    bar: Any = tqdm(
        total=counts["total"],
        initial=counts["done"] or 0,
        desc=job.name,
        unit="img",
        smoothing=0.1,
        leave=True,
    )

    def show() -> None:
        counts = job.counts
        bar.total = counts["total"]
        bar.n = counts["done"] or 0
        bar.set_postfix_str(", ".join(_told(job)))

    def close() -> None:
        show()
        bar.close()

    return show, close


def _log(job: Watched) -> tuple[Callable[[], None], Callable[[], None]]:
    due = time.monotonic() + _LOG_SECONDS
    has_engines = True

    def write() -> None:
        counts = job.counts
        of = "" if counts["total"] is None else f"/{counts['total']}"
        print_line(", ".join([f"{job.name}: {counts['done']}{of} images", *_told(job)]))

    def show() -> None:
        nonlocal due, has_engines
        had_engines, has_engines = has_engines, job.engines != 0
        if time.monotonic() >= due or (had_engines and not has_engines):
            due = time.monotonic() + _LOG_SECONDS
            write()

    return show, write
