"""An SSH server with its own port and keys, on this machine or in a namespace of it, for tests/clusters."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

HOSTS = ("host1", "host2")

SERVER = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
AcceptEnv PARIMG_TEST_HOST PARIMG_SHARED_DIR
"""

CLIENT = """\
Host {host}
    HostName {address}
    Port {port}
    User {user}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile {folder}/known_hosts
    LogLevel ERROR
    BatchMode yes
    SetEnv PARIMG_TEST_HOST={host} PARIMG_SHARED_DIR={shared}
"""


@contextmanager
def ssh_server(
    folder: Path, hosts: Sequence[str] = HOSTS, address: str = "127.0.0.1", within: Sequence[str] = ()
) -> Iterator[Path]:
    """Run one, by a command that the words `within` begin; yields a file for ``ssh -F`` that knows its names."""
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
    (folder / "sshd_config").write_text(SERVER.format(port=port, folder=folder, address=address))
    known = {"port": port, "folder": folder, "user": getpass.getuser(), "address": address}
    shared = os.environ["PARIMG_SHARED_DIR"]
    blocks = [CLIENT.format(host=host, shared=shared, **known) for host in hosts]
    (folder / "ssh_config").write_text("\n".join(blocks))
    with open(folder / "sshd.log", "ab") as log:
        command = [*within, str(programs["sshd"]), "-D", "-e", "-f", str(folder / "sshd_config")]
        daemon = subprocess.Popen(command, stderr=log)
    try:
        deadline = time.monotonic() + 20
        probe_command = ["ssh", "-F", folder / "ssh_config", hosts[0], "true"]
        while subprocess.run(probe_command, capture_output=True).returncode:
            assert time.monotonic() < deadline, (folder / "sshd.log").read_text()
            time.sleep(0.1)
        yield folder / "ssh_config"
    finally:
        daemon.terminate()
        daemon.wait()
