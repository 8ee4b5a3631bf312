"""Run a module of ipyparallel, and end with the process that started it.

``python -m parimg.cluster.parent_poller CLIENT_PID ipyparallel.engine`` is how an embedded cluster starts
its controller and engines: a client that is killed cannot stop them, so they watch for it themselves. So do the
processes that they start by `multiprocessing`, as ipyparallel's controller its schedulers, and what those start.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import spawn
from typing import Any

FAREWELL = "PARIMG_FAREWELL"
"""Variable with a command, as JSON, that one of the processes runs when the client is gone."""
_LOOK_SECONDS = 1.0


def main() -> None:
    """Take the client's process id and the module's name off the command line, and become that module."""
    # Not os.getppid(): the client may have died before this line.
    farewell = json.loads(os.environ.pop(FAREWELL, "[]"))
    _end_after(_await_parent, int(sys.argv[1]), farewell=farewell)
    _have_children_watch()
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def end_with_parent(parent: int) -> None:
    """End this process when it is no child of `parent` any more: SIGTERM, and ten seconds later for good."""
    _end_after(_await_parent, parent)


def _have_children_watch() -> None:
    """Have the processes that this one starts by fork, forkserver or spawn watch for its end."""
    if hasattr(os, "register_at_fork"):  # Windows has none, and no fork; threads do not survive one
        os.register_at_fork(after_in_child=lambda: end_with_parent(os.getppid()))
    prepare = spawn.get_preparation_data
    # There is no public way into a process that is spawned, or that another forks for us: the mapping that
    # prepares it is the first that it unpickles.
    spawn.get_preparation_data = lambda name: _Preparation(prepare(name))


class _Preparation(dict[str, Any]):
    """What multiprocessing hands to a new process, which begins to watch when it unpickles that."""

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], dict[str, Any]], tuple[dict[str, Any]]]:
        return _take_up, (dict(self),)


def _take_up(preparation: dict[str, Any]) -> dict[str, Any]:
    _end_after(_await_starter)
    _have_children_watch()
    return preparation


def _end_after(wait: Callable[..., None], *arguments: int, farewell: Sequence[str] = ()) -> None:
    def watch() -> None:
        wait(*arguments)
        if farewell:
            nowhere = subprocess.DEVNULL
            with contextlib.suppress(OSError):
                subprocess.Popen(  # noqa: S603 - our own command
                    farewell, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
                )
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10 * _LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parimg-parent-poller", daemon=True).start()


def _await_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)


def _await_starter() -> None:
    """Wait for the end of the process that asked for this one: its parent is the forkserver, maybe."""
    while (starter := multiprocessing.parent_process()) is None:  # not told yet
        time.sleep(_LOOK_SECONDS / 10)
    starter.join()


if __name__ == "__main__":
    # By its name, under which other processes unpickle what is defined here.
    from parimg.cluster import parent_poller  # noqa: PLW0406 - this one is `__main__`

    parent_poller.main()
