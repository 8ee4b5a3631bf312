"""One job on a disk that two hosts have: a folder, and three sshfs mounts of it that share no locks and no caches.

The writer takes itself for a process of another host; the minute after which such a one is gone is shortened.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from other_hosts import other_host
from sshfs_mounts import mounted

import parimg
from parimg.cluster import profiles
from parimg.cluster.daemonized import start_daemonized, stop_daemonized
from parimg.errors import JobError, JobLockedError
from parimg.job import owner
from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.job.journal_writer import JournalWriter
from parimg.record import Placement, failed_row

if TYPE_CHECKING:
    from collections.abc import Iterator

GONE_SECONDS = 6.0  # in place of a minute; the counter goes on every 2 s
CACHE_SECONDS = 40.0  # sshfs may show a folder as it was 20 s ago
SIDES = [("a", "b"), ("b", "direct"), ("direct", "served"), ("served", "a")]

WRITER = textwrap.dedent(
    """
    import errno, sys, time
    from parimg.job import owner
    owner._machine = lambda: "boot of node1"
    owner.socket.gethostname = lambda: "node1"
    def no_locks(*args, **options):
        raise OSError(errno.ENOLCK, "No locks available")
    if sys.argv[2] == "no locks":
        owner.FileLock.acquire = no_locks
    from parimg.job.directory import JobDirectory
    from parimg.job.journal_writer import JournalWriter
    from parimg.record import Placement, failed_row
    place = JobDirectory(sys.argv[1])
    task = {"name": "Mean", "columns": {}}
    journal = JournalWriter.create(place, place.reserve(), {"task": task, "total": 10_000})
    for number in range(10_000):
        row = failed_row(number, f"{number}.png", "", "task", "ValueError", "x" * 100)
        journal.append([(row, 1)], Placement(None, None, None))
        journal.commit()
        print(number + 1, flush=True)
        time.sleep(0.02)
    """
)


@pytest.fixture(scope="module")
def sides(ssh_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The folder as its own host has it, and as others have it."""
    folder = tmp_path_factory.mktemp("mounts")
    served = folder / "served"
    served.mkdir()
    with contextlib.ExitStack() as stack:
        yield {
            "served": served,
            "a": stack.enter_context(mounted(ssh_config, served, folder / "a")),
            "b": stack.enter_context(mounted(ssh_config, served, folder / "b")),
            "direct": stack.enter_context(mounted(ssh_config, served, folder / "direct", "direct_io")),
        }


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "GONE_SECONDS", GONE_SECONDS)


@contextlib.contextmanager
def writing(directory: Path, locks: str = "locks") -> Iterator[subprocess.Popen[str]]:
    """A process of another host, as it seems, that has shown at least a hundred records."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), locks], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= 100:
                    break
            assert process.poll() is None
            yield process
        finally:
            process.kill()


def append(journal: JournalWriter, number: int) -> None:
    row = failed_row(number, f"{number}.png", "", "task", "KeyError", "")
    journal.append([(row, 1)], Placement(None, None, None))


def check_all_once(directory: Path, n: int) -> None:
    records = [record for _, record in Journal(str(directory)).completed()]
    assert Counter(record.key for record in records) == Counter(f"{number}.png" for number in range(n))


@pytest.mark.parametrize(("here", "there"), SIDES)
def test_a_job_whose_writer_was_killed_goes_on_from_the_other_side_with_all_that_was_shown(
    sides: dict[str, Path], here: str, there: str
) -> None:
    name = f"from {here} to {there}"
    with writing(sides[here] / name) as process:
        seen = parimg.open_job(sides[there] / name)
        assert seen.state == "running"
        assert seen.writer.startswith(f"process {process.pid} on node1, seen ")
        assert 0 < len(list(seen._journal.keys())) <= 10_000
        with pytest.raises(JobLockedError, match=f"process {process.pid} on node1"):
            JournalWriter.resume(str(sides[there] / name))
        process.kill()
        assert process.stdout is not None
        shown = int(process.stdout.read().splitlines()[-1])
    journal = JournalWriter.resume(str(sides[there] / name))
    recorded = journal.count_by_status()["failed"]
    # The one that was under way may be there, too.
    assert shown <= recorded <= shown + 1
    journal.begin_run()
    append(journal, recorded)
    append(journal, 0)
    journal.end_run("finished", None, 0)
    assert journal._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    journal.close()
    check_all_once(sides[there] / name, recorded + 1)
    files = [file.name for file in (sides["served"] / name).rglob("*") if file.is_file()]
    assert sorted(files) == ["journal.sqlite", "lock"]
    with contextlib.closing(sqlite3.connect(sides["served"] / name / "journal.sqlite")) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert plain.execute("SELECT count(*) FROM records").fetchone() == (recorded + 1,)
    for side in sides.values():
        deadline = time.monotonic() + CACHE_SECONDS
        while parimg.open_job(side / name).state != "finished":
            assert time.monotonic() < deadline
            time.sleep(0.5)
        check_all_once(side / name, recorded + 1)


def test_a_second_writer_is_refused_where_the_disk_has_no_locks(sides: dict[str, Path]) -> None:
    with (
        writing(sides["a"] / "no locks", "no locks") as process,
        pytest.raises(JobLockedError, match=f"process {process.pid} on node1"),
    ):
        JournalWriter.resume(str(sides["b"] / "no locks"))


def test_a_job_that_runs_on_a_mount_is_followed_from_another(
    sides: dict[str, Path], controller: parimg.Controller
) -> None:
    def slow(image: np.ndarray) -> dict[str, int]:
        time.sleep(0.02)
        return {"value": int(image[0, 0])}

    images = [(f"image{number:03d}", np.full((2, 2), number, np.uint8)) for number in range(150)]
    job = controller.map(slow, images, job_dir=sides["direct"] / "map", chunk_size=1)
    followed = parimg.open_job(sides["b"] / "map")
    assert sorted(record["value"] for record in followed) == list(range(150))
    assert sorted(record["value"] for record in job) == list(range(150))
    assert job.counts == {"ok": 150, "failed": 0, "done": 150, "total": 150}
    again = controller.resume(sides["b"] / "map", images=[*images, ("one more", images[7][1])])
    assert again.wait()
    assert again["one more"]["value"] == 7
    assert again.counts == {"ok": 151, "failed": 0, "done": 151, "total": 151}


def test_the_mount_is_known_as_a_shared_disk_and_the_folder_as_a_local_one(sides: dict[str, Path]) -> None:
    from parimg.files.file_systems import file_system_of, try_disk

    assert {name: file_system_of(str(path)).kind for name, path in sides.items() if name != "served"} == {
        "a": "fuse.sshfs",
        "b": "fuse.sshfs",
        "direct": "fuse.sshfs",
    }
    assert file_system_of(str(sides["a"] / "not there" / "yet")).is_shared
    assert not file_system_of(str(sides["served"])).is_shared
    # Processes of one host do see each other's locks.
    assert set(try_disk(str(sides["direct"])).values()) == {"ok"}
    assert not [name for name in os.listdir(sides["served"]) if name.startswith(".")]


def test_a_removed_job_directory_ends_the_run_with_its_cause(sides: dict[str, Path]) -> None:
    place = JobDirectory(str(sides["a"] / "removed"))
    journal = JournalWriter.create(place, place.reserve(), {"task": {"name": "Mean"}})
    append(journal, 0)
    journal.commit()
    assert journal.place.segments
    for file in (sides["a"] / "removed" / "segments").iterdir():
        file.unlink()
    (sides["a"] / "removed" / "segments").rmdir()
    append(journal, 1)
    with pytest.raises(JobError, match=r"cannot be written: .*No such file or directory.*fuse\.sshfs"):
        journal.commit()
    assert journal.count_by_status() == {"ok": 0, "failed": 1}
    journal.close()
    check_all_once(sides["served"] / "removed", 1)


def test_the_doctor_tries_a_lock_of_this_host_on_another(sides: dict[str, Path], tmp_path: Path) -> None:
    """There, `b` lies in the place of `a`: no lock of one reaches the other; `direct` is an empty disk."""
    profiles_folder = Path(os.environ["IPYTHONDIR"])
    with other_host(tmp_path / "keys", "far", hidden=[sides["direct"]], mounted={sides["a"]: sides["b"]}) as host:
        settings = {"hosts": "far:1", "ssh_options": f"-F,{host.ssh_config}", "address": host.here}
        profiles.install("ssh", as_name="doctor", settings=settings)
        start_daemonized("doctor", 1)
        try:
            said = {}
            for name in ("a", "served", "direct"):
                command = [sys.executable, "-m", "parimg.cli", "doctor", str(sides[name]), "--profile", "doctor"]
                done = subprocess.run(command, capture_output=True, text=True, timeout=60)
                assert done.returncode == 0, done.stderr
                said[name] = " ".join(done.stdout.split())
        finally:
            stop_daemonized("doctor")
    assert "fuse.sshfs, which hosts may share" in said["a"]
    assert "seen by far ok" in said["a"]
    assert "tried by far no: it got the lock while this host held it" in said["a"]
    assert "a second writer is kept out by the owner file alone" in said["a"]
    assert "a lock of this host, tried by far ok" in said["served"]  # it sees this folder as it is
    assert "owner file alone" not in said["served"]
    assert "seen by far no: images are sent to it, and outputs come back" in said["direct"]
    assert not [name for name in os.listdir(sides["served"]) if name.startswith(".")]
    assert not list((profiles_folder / "profile_doctor" / "security").glob("cluster-*"))
