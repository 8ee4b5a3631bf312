"""The one place that writes to the terminal outside the command line."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_SLOW_SECONDS = 0.5


def print_line(text: str) -> None:
    """Report something to the user on standard error, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def report(text: str) -> None:
    """Report what is going on, unless ``IPP_NONINTERACTIVE`` is set, as for ipyparallel's own progress bars."""
    if os.environ.get("IPP_NONINTERACTIVE", "") in {"", "0"}:
        print_line(text)


@contextlib.contextmanager
def report_if_slow(text: str) -> Iterator[None]:
    """Report what the body does if that takes more than half a second."""
    timer = threading.Timer(_SLOW_SECONDS, report, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
