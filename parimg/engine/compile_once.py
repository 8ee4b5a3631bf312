"""Kernels are compiled by one process of a host; the others load them from numba's cache.

A marker in the host's folder says that a task's kernels are compiled. It is named by all that they depend on, so
that a change of code or of numba, or a move of a module, asks for another.
"""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from glob import glob
from importlib.util import find_spec
from typing import TYPE_CHECKING

from filelock import FileLock

from parimg.engine.setup import host
from parimg.protocol import shared_objects

if TYPE_CHECKING:
    from parimg.tasks.task import Task


def prepare_once_a_host(task: Task) -> None:
    """Prepare a task; the first time ever in one process of this host, which fills the others' disk cache."""
    marker = _marker(type(task))
    if not os.path.exists(marker):
        os.makedirs(os.path.dirname(marker), mode=0o700, exist_ok=True)
        with FileLock(f"{marker}.lock"):
            if not os.path.exists(marker):
                task.prepare()
                with open(marker, "w", encoding="utf-8"):
                    return
    task.prepare()


def is_prepared(task: Task) -> bool:
    """Whether a process of this host has prepared such a task before."""
    return os.path.exists(_marker(type(task)))


def is_being_prepared(task: Task) -> bool:
    """Whether a process of this host is at it for the first time."""
    return not is_prepared(task) and os.path.exists(f"{_marker(type(task))}.lock")


def _marker(kind: type[Task]) -> str:
    about = [_stamps_of_package(), kind.__module__, kind.__qualname__, host()]
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file and not shared_objects.is_loose(kind.__module__):  # whose file an engine does not see
        about.append(_stamp(file))
    digest = hashlib.sha256("\n".join(about).encode()).hexdigest()
    return os.path.join(shared_objects.host_folder(), f"compiled-{kind.__name__}-{digest[:16]}")


@cache
def _stamps_of_package() -> str:
    """Of Python, numba and every module of this package."""
    paths = sorted(glob(os.path.join(sys.modules["parimg"].__path__[0], "**", "*.py"), recursive=True))
    numba = find_spec("numba")  # its file, not its version: that takes a parser of e-mail, 0.1 s
    return "\n".join([sys.version, *map(_stamp, [str(numba and numba.origin), *paths])])


def _stamp(path: str) -> str:
    """What numba's cache takes for a change of a source: its path, time and size."""
    found = os.stat(path)
    return f"{path} {found.st_mtime_ns} {found.st_size}"
