"""Run a module of ipyparallel, and end with the process that started it.

``python -m parimg.cluster.parent_poller CLIENT_PID ipyparallel.engine`` is how an embedded cluster starts
its controller and engines: a client that is killed cannot stop them, so they watch for it themselves.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

_LOOK_SECONDS = 1.0


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10 * _LOOK_SECONDS)
    os._exit(1)


def _start_watching(parent: int) -> None:
    threading.Thread(target=_watch, args=(parent,), name="parimg-parent-poller", daemon=True).start()


def main() -> None:
    """Take the client's process id and the module's name off the command line, and become that module."""
    # Not os.getppid(): the client may have died before this line.
    _start_watching(int(sys.argv[1]))
    # ipyparallel's controller forks its schedulers, and threads do not survive a fork.
    os.register_at_fork(after_in_child=lambda: _start_watching(os.getppid()))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
