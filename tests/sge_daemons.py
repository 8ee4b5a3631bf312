"""A Grid Engine of one host on this machine, with its own ports and folders, for tests/clusters."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

INSTALLED, RESOURCES = Path("/usr/lib/gridengine"), Path("/usr/share/gridengine/util/resources")
SLOTS = 4

BOOTSTRAP = """\
admin_user root
default_domain none
ignore_fqdn true
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params {cell}/spool/database
binary_path /usr/sbin
qmaster_spool_dir {cell}/spool/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""

CONFIGURATION = """\
execd_spool_dir {cell}/spool
gid_range 20000-20100
shell_start_mode unix_behavior
login_shells sh
min_uid 0
min_gid 0
"""

LIMITS = ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")
QUEUE = f"""\
qname all.q
hostlist localhost
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH INTERACTIVE
ckpt_list NONE
pe_list NONE
rerun FALSE
slots {SLOTS}
tmpdir /tmp
shell /bin/sh
prolog NONE
epilog NONE
shell_start_mode unix_behavior
starter_method NONE
suspend_method NONE
resume_method NONE
terminate_method NONE
notify 00:00:60
owner_list NONE
user_lists NONE
xuser_lists NONE
subordinate_list NONE
complex_values NONE
projects NONE
xprojects NONE
calendar NONE
initial_state default
""" + "".join(f"{kind}_{limit} INFINITY\n" for limit in LIMITS for kind in ("s", "h"))


@contextmanager
def grid_engine(root: Path) -> Iterator[None]:
    """Run one, and have ``SGE_ROOT`` name it."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    if not (INSTALLED / "sge_qmaster").exists() or shutil.which("qsub", path=path) is None or os.getuid() != 0:
        pytest.skip("no Grid Engine, or not root; see tests/setup-machine.sh")
    cell = root / "default"
    for folder in ("common", "spool/qmaster", "spool/localhost", "spool/database"):
        (cell / folder).mkdir(parents=True)
    for folder in ("bin", "lib", "util", "utilbin"):
        (root / folder).symlink_to(Path("/var/lib/gridengine", folder))
    (cell / "common" / "bootstrap").write_text(BOOTSTRAP.format(cell=cell))
    (cell / "common" / "act_qmaster").write_text("localhost\n")
    (cell / "common" / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
    (root / "configuration").write_text(CONFIGURATION.format(cell=cell))
    (root / "queue").write_text(QUEUE)
    daemons: list[subprocess.Popen[bytes]] = []
    with pytest.MonkeyPatch.context() as patch, open(root / "daemons.log", "ab") as log:
        patch.setenv("PATH", path)
        patch.setenv("SGE_ROOT", str(root))
        patch.setenv("SGE_CELL", "default")
        for name, port in zip(("SGE_QMASTER_PORT", "SGE_EXECD_PORT"), _free_ports(), strict=True):
            patch.setenv(name, str(port))

        def run(*command: str | Path) -> None:
            subprocess.run(command, stdout=log, stderr=log, timeout=30)

        def start(program: str) -> None:
            # With SGE_ND it stays in the foreground.
            command, env = [INSTALLED / program], os.environ | {"SGE_ND": "1"}
            daemons.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

        try:
            run(INSTALLED / "spoolinit", "berkeleydb", "libspoolb", cell / "spool" / "database", "init")
            defaults = INSTALLED / "spooldefaults"
            run(defaults, "configuration", root / "configuration")
            run(defaults, "complexes", RESOURCES / "centry")
            run(defaults, "usersets", RESOURCES / "usersets")
            run(defaults, "managers", "root")
            start("sge_qmaster")
            _wait(lambda: _output("qconf", "-sh") != "", "qmaster", root)
            run("qconf", "-as", "localhost")
            # Jobs are looked at every second, in place of fifteen.
            (root / "schedule").write_text(_output("qconf", "-ssconf").replace("0:0:15", "0:0:1"))
            run("qconf", "-Msconf", root / "schedule")
            start("sge_execd")
            _wait(lambda: "localhost" in _output("qconf", "-sel"), "execution host", root)
            run("qconf", "-Aq", root / "queue")
            _wait(lambda: "lx-amd64" in _output("qstat", "-f"), "queue", root)
            yield
        finally:
            run("qdel", "-f", "-u", "*")
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                try:
                    daemon.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()


def sge_jobs() -> list[str]:
    """States of the tasks in the queue."""
    return [line.split()[4] for line in _output("qstat", "-g", "d").splitlines()[2:]]


def wait_for_no_jobs(seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while sge_jobs():
        assert time.monotonic() < deadline, f"after {seconds:g} s there are {_output('qstat')}"
        time.sleep(0.2)


def _wait(is_so: object, what: str, root: Path) -> None:
    deadline = time.monotonic() + 40
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"no {what}: {(root / 'daemons.log').read_text()[-2000:]}"
        time.sleep(0.3)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def _free_ports() -> list[int]:
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
