"""What a benchmark ran on: one line for the docs."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform


def describe_machine(*packages: str) -> str:
    """Processor, cores, versions and date.

    Parameters
    ----------
    *packages : str
        Distributions whose versions matter, beside parimg's own dependencies.
    """
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = {line.partition(":")[2].strip() for line in file if line.startswith("model name")}
    named = ("ipyparallel", "numpy", "numba", "opencv-python-headless", *packages)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in named)
    today = dt.datetime.now(tz=dt.UTC).date()
    return f"{', '.join(models)}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}; {today}"
