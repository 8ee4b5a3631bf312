"""Which disks hosts share."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from parimg.files.file_systems import FileSystem, file_system_of, try_disk

if TYPE_CHECKING:
    from pathlib import Path


def mounts(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, str]) -> None:
    disks = [SimpleNamespace(mountpoint=place, fstype=kind, opts="rw") for place, kind in found]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: disks)


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "virtiofs"],
)
def test_network_disks_are_shared(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mounts(monkeypatch, ("/", "ext4"), ("/net", kind))
    assert file_system_of("/net/jobs/1") == FileSystem(kind, True)
    assert file_system_of("/network/jobs/1") == FileSystem("ext4", False)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "NTFS", "fuseblk"])
def test_disks_of_this_host_are_not(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mounts(monkeypatch, ("/", "nfs4"), ("/tmp", kind))
    assert file_system_of("/tmp/jobs/1") == FileSystem(kind, False)


def test_the_last_mount_on_a_place_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts(monkeypatch, ("/", "ext4"), ("/home", "autofs"), ("/home", "nfs4"))
    assert file_system_of("/home/user") == FileSystem("nfs4", True)


def test_a_disk_of_this_host_can_do_all_and_is_left_clean(tmp_path: Path) -> None:
    assert set(try_disk(str(tmp_path)).values()) == {"ok"}
    assert os.listdir(tmp_path) == []


def test_what_a_disk_cannot_do_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    assert try_disk(str(tmp_path)) == {
        "a file made once only": "ok",
        "a rename over a file": "ok",
        "fsync": "no: [Errno 5] Input/output error",
        "a lock between processes of this host": "ok",
    }
