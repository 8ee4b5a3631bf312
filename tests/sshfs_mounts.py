"""A folder that is mounted several times by sshfs, as if on several hosts, for tests/clusters."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")


@contextmanager
def mounted(ssh_config: Path, folder: Path, place: Path, *options: str) -> Iterator[Path]:
    """Mount `folder` at `place` through the SSH server of `ssh_hosts`; no lock on it reaches another mount."""
    server = next(filter(os.path.exists, SFTP_SERVERS), None)
    if shutil.which("sshfs") is None or server is None or not os.path.exists("/dev/fuse"):
        pytest.skip("no sshfs; see tests/setup-machine.sh")
    place.mkdir()
    chosen = ",".join((f"ssh_command=ssh -F {ssh_config}", f"sftp_server={server}", *options))
    subprocess.run(["sshfs", f"{getpass.getuser()}@host1:{folder}", place, "-o", chosen], check=True, timeout=60)
    try:
        yield place
    finally:
        for _ in range(10):
            # A process that was just killed may still be leaving it.
            if subprocess.run(["fusermount3", "-u", place], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["fusermount3", "-u", "-z", place], check=True)
