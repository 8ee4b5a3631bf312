"""File systems: which kind a path lies on, whether several hosts share it, and where a local one is.

SQLite and locks of the operating system are made for disks of one host. Called by the journal, and by
``parimg doctor``.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from filelock import FileLock

from parimg.errors import JobError
from parimg.files.permissions import check_private

# Linux's, macOS's and Windows' names; whatever runs in user space may be a network disk, but for `fuseblk`, NTFS.
_SHARED = re.compile(
    r"(nfs|lustre|gpfs|beegfs|cifs|smb|9p|fuse$|fuse\.|afs|ceph|gluster|pvfs|orangefs|panfs|wekafs|virtiofs|"
    r"vboxsf|prl_fs|drvfs|webdav|afpfs|macfuse|osxfuse)",
    re.IGNORECASE,
)
# Takes the lock that this process holds, if the disk lets it.
_TRY_LOCK = "import sys, filelock; filelock.FileLock(sys.argv[1]).acquire(timeout=0.2)"


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What a path lies on."""

    kind: str
    """As the system names it: ``ext4``, ``nfs4``, ``fuse.sshfs``; empty if it cannot be found out."""
    is_shared: bool
    """Whether other hosts may have it, too."""


def file_system_of(path: str) -> FileSystem:
    """The file system of a path, which need not be there yet.

    Examples
    --------
    >>> file_system_of("/proc/self/status").is_shared
    False
    """
    import psutil

    path = os.path.realpath(path)
    kind, found = "", ""
    disks = []
    with contextlib.suppress(OSError, psutil.Error):  # some sandboxes hide them
        disks = psutil.disk_partitions(all=True)
    for disk in disks:
        place = disk.mountpoint
        # The last of several that are mounted on one place is the one that is seen.
        if len(place) >= len(found) and (path == place or path.startswith(os.path.join(place, ""))):
            found, kind = place, "network" if "remote" in disk.opts.split(",") else disk.fstype
    return FileSystem(kind, kind == "network" or _SHARED.match(kind) is not None)


def scratch_folder() -> str:
    """A private folder on a disk of this host: PARIMG_SCRATCH, else the user's cache, else among temporary files.

    Raises
    ------
    JobError
        If there is none, or other users can write it.
    """
    import platformdirs

    given = os.environ.get("PARIMG_SCRATCH")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    usual = [platformdirs.user_cache_dir("parimg"), os.path.join(tempfile.gettempdir(), f"parimg-{user}")]
    tried = []
    for folder in [given] if given else usual:
        kind = file_system_of(folder)
        tried.append(f"{folder!r} on {kind.kind}")
        if not kind.is_shared:
            with contextlib.suppress(OSError):
                os.makedirs(folder, mode=0o700, exist_ok=True)
                check_private(folder)
                return folder
            tried[-1] += ", which cannot be written"
    raise JobError(f"no folder on a local disk for journals: {', '.join(tried)}; set PARIMG_SCRATCH to one")


def try_disk(folder: str) -> dict[str, str]:
    """Find out what a disk can do, in a folder that is there: ``ok``, or what went wrong, by what was tried.

    Examples
    --------
    >>> sorted(try_disk(tempfile.mkdtemp()))
    ['a file made once only', 'a lock between processes of this host', 'a rename over a file', 'fsync']
    """
    stem = os.path.join(folder, f".parimg-{secrets.token_hex(4)}")
    first, second = f"{stem}.1", f"{stem}.2"

    def make_once() -> None:
        for expected in (False, True):
            try:
                os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                if expected:
                    return
                raise
        raise OSError("a file that is there was made again (O_EXCL)")

    def rename() -> None:
        with open(second, "wb") as file:
            file.write(b"whole")
        os.replace(second, first)
        with open(first, "rb") as file:
            if file.read() != b"whole":
                raise OSError("what was renamed has another content")

    def sync() -> None:
        with open(first, "ab") as file:
            file.write(b".")
            os.fsync(file.fileno())

    def lock() -> None:
        with FileLock(f"{stem}.lock", timeout=0.5):
            command = [sys.executable, "-c", _TRY_LOCK, f"{stem}.lock"]
            if subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0:  # noqa: S603
                raise OSError("a second process got the lock, too")

    tests = {
        "a file made once only": make_once,
        "a rename over a file": rename,
        "fsync": sync,
        "a lock between processes of this host": lock,
    }
    found = {}
    for name, test in tests.items():
        try:
            test()
            found[name] = "ok"
        except (OSError, NotImplementedError) as error:
            found[name] = f"no: {error}"
    for path in (first, second, f"{stem}.lock"):
        with contextlib.suppress(OSError):
            os.remove(path)
    return found
