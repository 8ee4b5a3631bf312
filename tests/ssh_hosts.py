"""An SSH server on this machine with its own port and keys, known under two names, for tests/clusters."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HOSTS = ("host1", "host2")

SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
AcceptEnv PARIMG_TEST_HOST
"""

CLIENT = """\
Host host1 host2
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile {folder}/known_hosts
    LogLevel ERROR
    BatchMode yes
    SetEnv PARIMG_TEST_HOST=%n
"""


@contextmanager
def ssh_server(folder: Path) -> Iterator[Path]:
    """Run one; yields a configuration file for ``ssh -F`` that knows ``host1`` and ``host2``."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    programs = {name: shutil.which(name, path=path) for name in ("sshd", "ssh", "ssh-keygen")}
    if missing := [name for name, found in programs.items() if found is None]:
        pytest.skip(f"no {', '.join(missing)}; see tests/setup-machine.sh")
    if os.getuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where the server confines itself
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(SERVER.format(port=port, folder=folder))
    # A %n is not expanded in SetEnv, so each name has a block of its own.
    blocks = [
        CLIENT.format(port=port, folder=folder, user=getpass.getuser())
        .replace("host1 host2", host)
        .replace("%n", host)
        for host in HOSTS
    ]
    (folder / "ssh_config").write_text("\n".join(blocks))
    with open(folder / "sshd.log", "ab") as log:
        daemon = subprocess.Popen([str(programs["sshd"]), "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        deadline = time.monotonic() + 20
        probe_command = ["ssh", "-F", folder / "ssh_config", "host1", "true"]
        while subprocess.run(probe_command, capture_output=True).returncode:
            assert time.monotonic() < deadline, (folder / "sshd.log").read_text()
            time.sleep(0.1)
        yield folder / "ssh_config"
    finally:
        daemon.terminate()
        daemon.wait()
