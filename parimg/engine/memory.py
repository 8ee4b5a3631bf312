"""Memory of this process: how much it has, its peak, and a limit to it.

Looks at this process only; `parimg.engine.runner` uses it around each image.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from collections.abc import Iterator
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
            os.write(descriptor, _RESET_PEAK)


@cache
def _clear_refs() -> int | None:
    # Kept open: with the file at hand, a reset and a look take 1.5 us together.
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return None


def occupied() -> tuple[int, int]:
    """Address space and resident memory of this process now, bytes; zeros where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            pages, resident = (int(number) for number in file.read().split()[:2])
    except OSError:
        return 0, 0
    return pages * mmap.PAGESIZE, resident * mmap.PAGESIZE


def address_limit(most: int) -> int | None:
    """The limit to address space under which this process occupies at most `most` bytes.

    Libraries reserve several times the address space that they occupy, so what is reserved already does not count.
    None where the system has no such limit.

    Raises
    ------
    MemoryError
        If the process occupies that much already.
    """
    reserved, resident = occupied()
    if resource is None or not reserved:
        return None
    if resident >= most:
        raise MemoryError(f"the process occupies {resident / 2**20:.0f} MiB before its first image")
    return reserved + most - resident


@contextlib.contextmanager
def limited(address_space: int | None) -> Iterator[None]:
    """Have allocations beyond this address space fail with MemoryError while the body runs."""
    if address_space is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [limit for limit in (address_space, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
