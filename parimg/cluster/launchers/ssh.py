"""Engines on hosts that are reached by SSH, all hosts at once, one connection a host.

What engines need travels through the connection's stdin, so neither a file nor a command line holds the cluster's
key. Stdin is their lifeline, too: when the connection ends, so do they. The other side is `ssh_host`, beside this.
Used by ipyparallel under the name ``parimg-ssh``, and by `parimg.start` inside an allocation that is not Slurm's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time

import psutil
from ipyparallel.cluster.launcher import EngineLauncher, LocalEngineSetLauncher, LocalProcessLauncher
from traitlets import Bool, Dict, Float, Integer, List, Unicode

from parimg.cluster.launchers.ssh_host import ENDED, STARTED
from parimg.errors import ClusterError

_LOOK_SECONDS = 0.1
_LINES = 5  # of a host that are quoted


class SSHHostLauncher(LocalProcessLauncher, EngineLauncher):  # type: ignore[misc]
    """The connection to one host, and the engines there that end with it."""

    command = List(Unicode())
    host = Unicode().tag(to_dict=True)
    n = Integer(1).tag(to_dict=True)
    fork = Bool(False)

    def find_args(self) -> list[str]:
        """``ssh HOST PYTHON ...``; the password-like part comes by stdin."""
        return list(self.command)

    def start(self) -> int:
        """Begin to connect."""
        request = json.dumps(
            {"n": self.n, "environment": self.get_env(), "arguments": self.engine_args, "fork": self.fork}
        )
        os.makedirs(os.path.dirname(self.output_file), exist_ok=True)
        stdin = _endless_pipe(request.encode() + b"\n")
        try:
            with open(self.output_file, "ab") as log:
                process = self._popen_process = subprocess.Popen(  # noqa: S603 - the user's own command
                    self.find_args(), stdin=stdin, stdout=log, stderr=log, start_new_session=True
                )
        finally:
            os.close(stdin)
        self.pid = process.pid
        self.process = psutil.Process(process.pid)
        self.notify_start(process.pid)
        self._start_waiting()
        return process.pid

    def _log_output(self, stop_data: object = None) -> None:
        """Leave the file, which says how many engines live, and why none came."""

    def lines(self) -> list[str]:
        """What the host said."""
        try:
            with open(self.output_file, encoding="utf-8", errors="replace") as file:
                return [line.strip() for line in file if line.strip()]
        except OSError:
            return []

    def has_begun(self) -> bool:
        """Whether the host has started its engines."""
        return any(line.startswith(STARTED) for line in self.lines())

    def has_ended(self) -> bool:
        """Whether the connection is gone, and with it the engines."""
        return self._wait_thread is None or not self._wait_thread.is_alive()

    def living(self) -> int:
        """Engines that are starting or run there."""
        if self.has_ended():
            return 0
        return self.n - sum(line.startswith(ENDED) for line in self.lines())


class SSHEnginesLauncher(LocalEngineSetLauncher):  # type: ignore[misc]
    """Engines on several hosts, new ones where there are fewest of what the host takes."""

    entrypoint_name = "parimg-ssh"
    launcher_class = SSHHostLauncher

    hosts = Dict(config=True, help="How many engines each host takes, as {'node1': 4, 'me@node2': 8}")
    ssh_command = List(Unicode(), default_value=["ssh"], config=True, help="ssh with its options, or blaunch")
    remote_python = Unicode(sys.executable, config=True, help="Python on the hosts")
    fork = Bool(False, config=True, help="Fork the engines of a host from one process")
    host_timeout = Float(20.0, config=True, help="Seconds in which every host must have started its engines")

    async def start(self, n: int) -> list[int]:
        """Start n engines.

        Raises
        ------
        ClusterError
            If the hosts take fewer, or one of them starts none: with what it said.
        """
        self.n = n
        for host, count in self._distribute(n).items():
            self.launchers[host] = self._launcher(host, count)
        pids = [launcher.start() for launcher in self.launchers.values()]
        begun = dict(self.launchers)
        self.notify_start(pids)
        try:
            await self._await_hosts(begun)
        except ClusterError:
            await self.stop()
            raise
        return pids

    def _launcher(self, host: str, n: int) -> SSHHostLauncher:
        remote = shlex.join([self.remote_python, "-m", "parimg.cluster.launchers.ssh_host"])
        log = f"ipengine-{self.cluster_id}-{self.engine_set_id}-{host.replace(os.sep, '_')}.log"
        launcher = SSHHostLauncher(
            work_dir=self.work_dir,
            parent=self,
            log=self.log,
            profile_dir=self.profile_dir,
            cluster_id=self.cluster_id,
            environment=self.environment,
            identifier=host,
            output_file=os.path.join(self.profile_dir, "log", log),
            command=[*self.ssh_command, host, remote],
            host=host,
            n=n,
            fork=self.fork,
        )
        launcher.engine_args = [*self.cluster_args, *self.engine_args]
        launcher.on_stop(self._notice_engine_stopped)
        return launcher

    def _distribute(self, n: int) -> dict[str, int]:
        """How many new engines each host gets."""
        living = dict.fromkeys(self.hosts, 0)
        for engine_set in getattr(self.parent, "engines", {}).values():
            for launcher in getattr(engine_set, "launchers", {}).values():
                if getattr(launcher, "host", None) in living:
                    living[launcher.host] += launcher.living()
        free = {host: int(most) - living[host] for host, most in self.hosts.items()}
        if n > sum(free.values()):
            most = sum(map(int, self.hosts.values()))
            raise ClusterError(
                f"the hosts take {most} engines ({self.hosts}), {sum(living.values())} are there, so "
                f"not {n} more; set more by `parimg profiles install ssh --set hosts=a:4,b:8`"
            )
        new = dict.fromkeys(self.hosts, 0)
        for _ in range(n):
            host = min(
                (host for host in free if new[host] < free[host]),
                key=lambda host: (living[host] + new[host]) / int(self.hosts[host]),
            )
            new[host] += 1
        return {host: count for host, count in new.items() if count}

    def poll(self) -> int | None:
        """None while there are engines, or some are coming."""
        return None if any(launcher.living() for launcher in self.launchers.values()) else 0

    async def _await_hosts(self, launchers: dict[str, SSHHostLauncher]) -> None:
        deadline = time.monotonic() + self.host_timeout
        waiting = dict(launchers)
        while waiting:
            waiting = {host: launcher for host, launcher in waiting.items() if not launcher.has_begun()}
            for host, launcher in waiting.items():
                ended = launcher.has_ended()
                if ended or time.monotonic() > deadline:
                    said = " | ".join(launcher.lines()[-_LINES:]) or "it said nothing"
                    what = "ended" if ended else f"started no engine in {self.host_timeout:g} s"
                    command = shlex.join(launcher.find_args())
                    raise ClusterError(f"host {host!r} has no engine: `{command}` {what}: {said}")
            await asyncio.sleep(_LOOK_SECONDS)


def _endless_pipe(data: bytes) -> int:
    """File descriptor from which data are read, and then nothing for as long as anyone has it open.

    A pipe would end with the process that holds its other side, and ``ipcluster start --daemonize`` ends at once.
    This one's reader is its writer, too.
    """
    with tempfile.TemporaryDirectory(prefix="parimg-ssh-") as folder:
        path = os.path.join(folder, "stdin")
        os.mkfifo(path, 0o600)
        pipe = os.open(path, os.O_RDWR)
    os.write(pipe, data)  # a pipe takes 64 KiB at once
    return pipe
