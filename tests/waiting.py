"""Waiting for what other processes and threads do."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(
    is_so: Callable[[], object], seconds: float = 60.0, about: Callable[[], object] | None = None
) -> None:
    """Return once something is so; `about` adds to the message of the failure what is to be known then."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            told = "" if about is None else f"; {about()}"
            raise AssertionError(f"not so within {seconds:g} s{told}")
        time.sleep(0.02)
