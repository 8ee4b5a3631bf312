"""An engine's set-up: one thread a library, memory that is kept, files that may be open.

Quick when repeated; runs at connect, when an engine registers, and before each chunk.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from functools import cache
from typing import NamedTuple

from parimg.engine.departure import leave_on_sigterm

GROUP = "PARIMG_ENGINE_GROUP"
"""Variable of an engine's environment that names those it was asked for with."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT_BYTES = 2**29  # an engine keeps at most so much freed memory
REPLACED = "PARIMG_ENGINE_IS_REPLACED"
"""Environment variable of engines whose starter starts another when they die."""
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


class _State:
    """What this process remembers of its set-up."""

    limited: frozenset[str] | None = None
    """The thread-pool libraries that were loaded when threads were last limited."""


_state = _State()


def thread_environment() -> dict[str, str]:
    """Environment variables that hold libraries to one thread from when they are loaded."""
    return dict.fromkeys(_THREAD_VARIABLES, "1")


def prepare_engine() -> None:
    """Make this engine fit for images, whoever started it; quick when repeated.

    Holds OpenCV, BLAS and numba to one thread, and has the C library keep freed memory.
    """
    import numpy as np  # noqa: F401 - every task needs it; better loaded before the first image than with it

    _keep_freed_memory()
    allow_open_files()
    leave_on_sigterm()
    loaded = _heavy_libraries()
    if loaded != _state.limited:
        variables = thread_environment()
        if "numba" in sys.modules:  # it compiles no more if its variable changes while its threads run
            del variables["NUMBA_NUM_THREADS"]
        os.environ.update(variables)
        if cv2 := sys.modules.get("cv2"):
            cv2.setNumThreads(1)
        if numba := sys.modules.get("numba"):
            numba.set_num_threads(1)
        import threadpoolctl

        threadpoolctl.threadpool_limits(1)
        _state.limited = loaded


@cache
def _keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next image instead of giving it back to the system.

    SIFT of a 640 x 480 image otherwise takes 17 000 page faults a time on an engine: 77 ms instead of 46.
    """
    import ctypes
    import platform

    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)  # glibc takes no larger one
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


class Handshake(NamedTuple):
    """What an engine says of itself before its first image."""

    host: str
    pid: int
    disks: str
    """As `disks` names them."""
    group: str
    """Name under which an elastic cluster asked for it, empty for others."""
    is_replaced: bool
    """Whether its own launcher starts another if it dies."""


def handshake() -> Handshake:
    """Make this engine fit for images, and say what the client has to know of it."""
    prepare_engine()
    return Handshake(host(), os.getpid(), disks(), os.environ.get(GROUP, ""), REPLACED in os.environ)


@cache
def allow_open_files() -> None:
    """Have as many files open as the system allows, not the 1 024 of most shells: a region index is one."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _heavy_libraries() -> frozenset[str]:
    return frozenset(sys.modules.keys() & {"cv2", "numba", "numpy", "scipy.linalg", "sklearn", "torch", "mkl"})


@cache
def host() -> str:
    """Name of this engine's host."""
    return socket.gethostname()


@cache
def disks() -> str:
    """Name of what this process sees of disks: one for all processes of a host, but for those in containers."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{host()} {file.read().strip()} {os.readlink('/proc/self/ns/mnt')}"
    return host()
