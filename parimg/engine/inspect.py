"""What an engine says of itself when `parimg doctor` asks."""

from __future__ import annotations

import contextlib
import os

from parimg import __version__
from parimg.engine.setup import host


def inspect_engine() -> dict[str, object]:
    """What `parimg doctor` reports of an engine."""
    import platform

    threads: dict[str, int] = {}
    with contextlib.suppress(ImportError):
        import cv2

        threads["opencv"] = cv2.getNumThreads()
    with contextlib.suppress(ImportError):
        import numba

        threads["numba"] = numba.get_num_threads()
    import psutil
    import threadpoolctl

    for pool in threadpoolctl.threadpool_info():  # numpy and scipy each bring a BLAS
        name = pool["internal_api"]
        threads[name] = max(threads.get(name, 0), pool["num_threads"])
    memory = psutil.virtual_memory()
    return {
        "host": host(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "parimg": __version__,
        "threads": threads,
        "memory_available": memory.available,
        "memory_used": psutil.Process().memory_info().rss,
    }
