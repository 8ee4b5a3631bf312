"""Memory of this process: how much it has, its peak, and a limit to it.

Looks at this process only; `parimg.engine` uses it around each image.
"""

from __future__ import annotations

import contextlib
import os
import sys
from functools import cache

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

_RESET_PEAK = b"5"  # of proc(5), clear_refs


def peak() -> int:
    """Peak resident memory of this process since `reset_peak`, bytes; 0 where the system does not tell."""
    if resource is None:
        return 0
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else 1024 * found


def reset_peak() -> None:
    """Begin a new peak, where the system can (Linux); elsewhere the peak is that of the process's life."""
    descriptor = _clear_refs()
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, _RESET_PEAK, 0)


@cache
def _clear_refs() -> int | None:
    # Kept open: with the file at hand, a reset and a look take 1.5 us together.
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return None
