"""A Slurm of two nodes on this machine, with its own munge, ports and folders, for tests/clusters."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NODES = ("n1", "n2")
CPUS = 2  # of each node

# A module whose function takes half a second an image, and writes down each that it saw.
SLOW = """\
import os, time

def slow(image):
    with open("log", "a") as file:
        file.write(f"{image.sum()}\\n")
    time.sleep(0.5)
    return {"sum": int(image.sum()), "job": os.environ["SLURM_JOB_ID"]}
"""

CONFIGURATION = """\
ClusterName=parimg
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs={cpus}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm(folder: Path) -> Iterator[Path]:
    """Run one, and have ``SLURM_CONF`` name it; yields a folder that is another one on the second node."""
    programs = ("slurmctld", "slurmd", "munged", "sbatch")
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"no {', '.join(missing) or 'root'}: Slurm takes it; see tests/setup-machine.sh")
    for name in ("state", "not-shared", *NODES):
        (folder / name).mkdir()
    (folder / "munge.key").touch(mode=0o600)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    configuration = CONFIGURATION.format(host=socket.gethostname(), folder=folder, ports=_free_ports(4), cpus=CPUS)
    (folder / "slurm.conf").write_text(configuration)
    files = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("key", "pid", "log", "seed")]
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files]
    daemons: list[subprocess.Popen[bytes]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            # The second node has a disk of its own in the place of one folder.
            script = f"mount -t tmpfs none {folder}/not-shared && exec slurmd -D -N n2"
            own_disk = ["unshare", "--mount", "sh", "-c", script]
            if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
                own_disk = ["slurmd", "-D", "-N", "n2"]  # as in a container without that right
            for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], own_disk):
                with open(folder / "daemons.log", "ab") as log:
                    daemons.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
                if command is munged:
                    _wait((folder / "munge.socket").exists, "munged")
            _wait(lambda: _lines("sinfo", "-h", "-N", "-o", "%T") == ["idle", "idle"], "two idle nodes")
            yield folder / "not-shared"
        finally:
            subprocess.run(["scancel", "--full", "--user=root", "--signal=KILL"], check=False, timeout=30)
            subprocess.run(["scancel", "--user=root"], check=False, timeout=30)
            for daemon in reversed(daemons):
                daemon.send_signal(signal.SIGTERM)
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()


def queue(state: str = "") -> list[str]:
    """The queue's jobs, each as ``name|state|time limit|tasks``, of one state or all."""
    chosen = [f"--states={state}"] if state else []
    return _lines("squeue", "-h", "-o", "%j|%T|%l|%C", *chosen)


def wait_for_empty_queue(seconds: float = 30) -> None:
    _wait(lambda: not queue(), "an empty queue", seconds)


def _wait(is_so: object, what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"no {what} after {seconds:g} s"
        time.sleep(0.1)


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.split("\n")[:-1]


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
