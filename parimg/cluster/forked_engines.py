"""Engines forked from one warm process: imports are done and kernels loaded once a host.

``python -m parimg.cluster.forked_engines N OPTIONS`` starts N engines, with the options of ``ipengine``, and ends
when the last one has. Each is an engine like any other, with its own id, heartbeat and signals, but what it loads
is there already, and one nanny (`shared_nanny`) serves all. ``parimg engines --fork N`` and the launchers run it.

A fork copies the thread that forks and no other, and what the others have locked stays locked for ever. So this
process has one thread and no ZeroMQ context, and refuses to fork if a library has started a thread.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from typing import NoReturn

from ipyparallel.engine.app import IPEngine
from traitlets.config import Config

from parimg.cluster.foreign import find_profile
from parimg.cluster.parent_poller import end_with_parent
from parimg.cluster.shared_nanny import call_nanny, fork_nanny
from parimg.console import say
from parimg.engine.setup import REPLACED, allow_open_files, thread_environment
from parimg.errors import ClusterError

_REGISTERED, _LEAVES = b"r", b"l"
_LOOK_SECONDS = 0.2  # between looks for engines that have ended
_END_SECONDS = 10.0  # in which engines end that are asked to
_LOADED = (
    "ipykernel.ipkernel",
    "ipykernel.debugger",  # each engine loads it, which would be two thirds of its start
    "parimg.engine.runner",
    "parimg.images.described",
    "parimg.images.encode",
)
_OPTIONS = (
    # Hundreds register at once, and each waits for its turn; those whose controller is gone end after 30 s.
    "--IPEngine.timeout=120",
    "--IPEngine.max_heartbeat_misses=20",
    "--log-level=ERROR",
)


class ForkedEngine(IPEngine):  # type: ignore[misc]
    """An engine that calls the nanny of all, and says when it is registered."""

    name = "ipengine"
    nanny_socket = ""
    told = -1  # file descriptor by which the warm process is told what it cannot see

    def start(self) -> None:
        """Run until it is asked to leave, or its controller is gone: ipyparallel then stops the loop under it."""
        try:
            super().start()
        except RuntimeError as error:
            if "Event loop stopped" not in str(error):
                raise

    def _signal_stop(self, sig: int, frame: object) -> None:
        """Note that this end is planned; whoever hears of it may yet make it quick by SIGKILL."""
        os.write(self.told, _LEAVES)
        super()._signal_stop(sig, frame)

    def start_nanny(self, control_url: str) -> tuple[str, socket.socket]:
        """Ask for a nanny; called once the controller has taken this engine."""
        os.write(self.told, _REGISTERED)
        session = Config()
        session.Session = self.config.Session
        return call_nanny(
            self.nanny_socket,
            {
                "pid": os.getpid(),
                "engine_id": self.id,
                "identity": self.bident,
                "control_url": control_url,
                "registration_url": self.registration_url,
                "curve_serverkey": self.curve_serverkey,
                "curve_secretkey": self.curve_secretkey,
                "curve_publickey": self.curve_publickey,
                "config": session,
            },
        )


class WarmProcess:
    """The process that engines are forked from; it has one thread, and what it holds it alone writes.

    Parameters
    ----------
    n : int
        Engines that there should be.
    nanny : int
        Process id of their nanny.
    """

    def __init__(self, n: int, nanny: int) -> None:
        self._wanted = n
        self._nanny = nanny
        self._engines: dict[int, int] = {}  # by process id, the pipe by which it tells what becomes of it
        self._starter = os.getppid()
        self._ends_at: float | None = None
        self.exit_code = 0

    def run(self) -> int | None:
        """Fork engines, and others for those that die, until all have ended.

        Returns
        -------
        int or None
            In each engine the file descriptor by which it tells what becomes of it; None in this process.
        """
        for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signal_number, self._end)
        while True:
            while self._ends_at is None and len(self._engines) < self._wanted:
                if (told := self._fork()) is not None:
                    return told
            if not self._engines:
                return None
            self._look()

    def _fork(self) -> int | None:
        check_one_thread()
        reading, writing = os.pipe()
        # Frozen, what is there now is not walked by an engine's collector, which would copy all of its pages.
        gc.freeze()
        pid = os.fork()
        if pid:
            os.close(writing)
            os.set_blocking(reading, False)
            self._engines[pid] = reading
            return None
        os.close(reading)
        for pipe in self._engines.values():
            os.close(pipe)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for signal_number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, signal.SIG_DFL)
        gc.enable()
        return writing

    def _end(self, *_: object) -> None:
        """Ask all engines to leave; called by a signal, or because who started this process is gone."""
        self._ends_at = self._ends_at or time.monotonic() + _END_SECONDS
        for pid in self._engines:
            os.kill(pid, signal.SIGTERM)

    def _look(self) -> None:
        """Wait for something to have happened, and deal with it."""
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == self._nanny:
            say("parimg engines: their nanny died, so they end", error=True)
            self.exit_code = 1
            self._end()
        elif pid in self._engines:
            self._note_end(pid, os.waitstatus_to_exitcode(status))
        elif self._ends_at is None and os.getppid() != self._starter:
            self._end()
        elif self._ends_at is not None and time.monotonic() > self._ends_at:
            for pid in self._engines:
                os.kill(pid, signal.SIGKILL)
        else:
            time.sleep(_LOOK_SECONDS)

    def _note_end(self, pid: int, code: int) -> None:
        pipe = self._engines.pop(pid)
        told = b""
        with contextlib.suppress(BlockingIOError):  # nothing was told, and a process that it started lives on
            told = os.read(pipe, 100)
        os.close(pipe)
        if self._ends_at is not None:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        if code == 0 or told.endswith(_LEAVES):  # it was told to, or its controller is gone
            self._wanted -= 1
        elif told:
            say(f"parimg engines: process {pid} {how}; another starts", error=True)
        else:
            say(f"parimg engines: process {pid} {how} before the controller took it", error=True)
            self._wanted -= 1
            self.exit_code = 1


def command(n: int, profile: str, cluster_id: str, file: str | None) -> list[str]:
    """The command that adds engines of this host to a running cluster.

    Parameters
    ----------
    n : int
    profile, cluster_id : str
        Of the cluster.
    file : path or None
        Its connection file for engines, instead of these.

    Raises
    ------
    ProfileNotFoundError
        If there is no such profile.
    ClusterError
        If no controller has left its connection file, or processes cannot be forked here.
    """
    if not hasattr(os, "fork"):
        raise ClusterError("this system cannot fork processes; start engines by `ipengine`")
    if file is None:
        folder = find_profile(profile)
        name = f"ipcontroller-{cluster_id}-engine.json" if cluster_id else "ipcontroller-engine.json"
        file = os.path.join(folder, "security", name)
        where = [f"--profile-dir={folder}", f"--cluster-id={cluster_id}"]
    else:
        where = [f"--file={os.path.abspath(file)}"]
    if not os.path.isfile(file):
        raise ClusterError(
            f"no cluster runs here: there is no {file!r}; start its controller first, as by `ipcluster start`"
        )
    return [sys.executable, "-m", __name__, str(n), *where]


def count_here(typed: str) -> int:
    """A number of engines; also as Slurm tells it of all nodes of a job, of which this one is meant.

    Examples
    --------
    >>> count_here("8")
    8
    >>> import os
    >>> os.environ["SLURM_NODEID"] = "2"
    >>> count_here("4(x2),3")
    3
    >>> del os.environ["SLURM_NODEID"]
    """
    if typed.isdecimal():
        return int(typed)
    counts: list[int] = []
    for count, nodes in re.findall(r"(\d+)(?:\(x(\d+)\))?", typed):
        counts += [int(count)] * int(nodes or 1)
    return counts[int(os.environ["SLURM_NODEID"])]


def main(arguments: list[str]) -> NoReturn:
    """Be the warm process, and in its children the engines, to their end.

    Parameters
    ----------
    arguments : list of str
        Number of engines, as `count_here` takes it, and options of ``ipengine``.
    """
    n, options = count_here(arguments[0]), arguments[1:]
    os.environ.update(thread_environment())
    os.environ[REPLACED] = "1"
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # as engines do, before the debugger is loaded
    allow_open_files()
    warm_up()
    with _nanny_of(n) as (nanny, path):
        warm = WarmProcess(n, nanny)
        starter = os.getpid()
        told = warm.run()
        if told is None:
            sys.exit(warm.exit_code)
    end_with_parent(starter)
    _reseed()
    ForkedEngine.nanny_socket, ForkedEngine.told = path, told
    ForkedEngine.launch_instance(_with_defaults(options))
    _exit_in_order()


def _with_defaults(options: list[str]) -> list[str]:
    """Options of an engine and those of ours that a profile did not give: traitlets takes none twice."""
    given = {option.partition("=")[0] for option in options}
    return [*(option for option in _OPTIONS if option.partition("=")[0] not in given), *options]


@contextlib.contextmanager
def _nanny_of(n: int) -> Iterator[tuple[int, str]]:
    """A nanny for n engines, and where they call it; in an engine the end of this leaves it alone."""
    check_one_thread()
    gc.freeze()
    folder = tempfile.mkdtemp(prefix="parimg-nanny-")
    path = os.path.join(folder, "socket")
    here = os.getpid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(n)
        nanny, lifeline = fork_nanny(listener, n)
    try:
        yield nanny, path
    finally:
        os.close(lifeline)
        if os.getpid() == here:
            os.remove(path)
            os.rmdir(folder)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(nanny, 0)


def warm_up() -> None:
    """Load what engines need, and the kernels of the commonest tasks."""
    import numpy as np

    for module in _LOADED:
        import_module(module)
    from parimg.engine.compile_once import prepare_once_a_host
    from parimg.tasks.match_sift import MatchSIFT

    prepare_once_a_host(MatchSIFT(np.ones((2, 128), np.float32)))


def check_one_thread() -> None:
    """Refuse to fork a process of several threads.

    Raises
    ------
    ClusterError
    """
    with contextlib.suppress(FileNotFoundError):  # not Linux
        threads = os.listdir("/proc/self/task")
        if len(threads) > 1:
            raise ClusterError(
                f"engines cannot be forked: this process has {len(threads)} threads, one of a library that was "
                "loaded; start them by `ipengine` instead"
            )


def _exit_in_order() -> NoReturn:
    """End an engine without taking its interpreter apart, which would copy all memory that it shares."""
    atexit._run_exitfuncs()  # noqa: SLF001 - as Python does, but that goes on by freeing every object
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


def _reseed() -> None:
    """Give this engine random numbers of its own; Python's module does so by itself."""
    import numpy as np

    np.random.seed()  # noqa: NPY002 - tasks may use it


if __name__ == "__main__":
    # By its name, under which other modules know it.
    from parimg.cluster import forked_engines  # noqa: PLW0406 - this one is `__main__`

    forked_engines.main(sys.argv[1:])
