"""Two callables in turn, and what they ran on.

Every benchmark that imports this takes `--cpu native`, `avx2` or `sse4`: it then runs as on a processor that has
no more, both sides alike.
"""

import datetime as dt
import importlib.metadata
import os
import platform
import statistics
import time
from typing import NamedTuple

import processor

processor.mask_as_asked()


class Pair(NamedTuple):
    """Median seconds of both, and how many times faster ours is."""

    ours: float
    theirs: float
    ratio: float


def run_in_turn(ours, theirs, rounds=9):
    """Run A B A B ... after one run of each that does not count."""
    seconds = ([], [])
    for counted in [False] + [True] * rounds:
        for function, taken in zip((ours, theirs), seconds, strict=True):
            start = time.perf_counter()
            function()
            if counted:
                taken.append(time.perf_counter() - start)
    medians = [statistics.median(taken) for taken in seconds]
    return Pair(*medians, medians[1] / medians[0])


def print_setting(*packages):
    """Print processor, versions and date, for the docs; and what of the processor is used."""
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    today = dt.datetime.now(dt.UTC).date()
    print(f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}; {today}")
    processor.print_mask()


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
