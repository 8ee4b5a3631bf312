"""Who may write a job: on one host, on several, on disks without locks."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, NoReturn

import pytest
from filelock import FileLock

from parimg.errors import JobLockedError
from parimg.job import owner
from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.job.journal_writer import JournalWriter
from parimg.job.owner import Owner, OwnerWatch
from parimg.record import Placement, failed_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROW = failed_row(0, "0.png", "", "task", "ValueError", "")


@pytest.fixture
def place(tmp_path: Path) -> JobDirectory:
    made = JobDirectory(str(tmp_path / "job"))
    os.mkdir(made.path)
    return made


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second in place of a minute."""
    monkeypatch.setattr(owner, "GONE_SECONDS", 1.0)
    monkeypatch.setattr(owner, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(owner, "BEAT_SECONDS", 0.1)


def elsewhere(beat: int = 0) -> Owner:
    """A process of another host."""
    return Owner("node7", "boot of node7", 4711, "100", "token of node7", beat)


def write(path: str, content: Owner) -> None:
    with open(path, "wb") as file:
        file.write(content.encode())


@pytest.fixture
def writer_elsewhere(place: JobDirectory) -> Iterator[threading.Event]:
    """A writer on another host, which lives until the event is set."""
    ended = threading.Event()
    write(place.owner, elsewhere())

    def beat() -> None:
        n = 0
        while not ended.wait(0.1):
            n += 1
            write(place.owner, elsewhere(n))

    thread = threading.Thread(target=beat)
    thread.start()
    yield ended
    ended.set()
    thread.join()


def no_locks(self: FileLock, **_: object) -> NoReturn:
    """What `flock` says on some network disks."""
    raise OSError(errno.ENOLCK, "No locks available")


# -- one host ------------------------------------------------------------------------------------------------


def test_the_owner_file_names_the_writer_and_goes_with_it(place: JobDirectory) -> None:
    owned = place.acquire()
    assert OwnerWatch(place.owner).describe() == f"process {os.getpid()} on {socket.gethostname()}"
    owned.release()
    assert not os.path.exists(place.owner)
    assert OwnerWatch(place.owner).describe() == ""


def test_any_number_of_readers_never_refuse_a_writer(place: JobDirectory) -> None:
    """They used to take the lock for an instant."""
    ended = threading.Event()
    answers: set[bool] = set()

    def read() -> None:
        watch = OwnerWatch(place.owner)
        while not ended.is_set():
            answers.add(watch.look() is None)

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for _ in range(50):
        place.acquire().release()
    ended.set()
    for reader in readers:
        reader.join()
    assert answers == {True, False}


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_second_writer_of_the_same_host_is_refused_also_without_locks(
    place: JobDirectory, monkeypatch: pytest.MonkeyPatch, has_locks: bool
) -> None:
    if not has_locks:
        monkeypatch.setattr(FileLock, "acquire", no_locks)
    owned = place.acquire()
    with pytest.raises(JobLockedError, match=f"is being written by process {os.getpid()} on"):
        place.acquire()
    owned.release()
    place.acquire().release()


def test_a_process_that_has_the_number_of_a_dead_writer_is_not_taken_for_it(place: JobDirectory) -> None:
    write(place.owner, dataclasses.replace(Owner.me(), started="12"))
    assert OwnerWatch(place.owner).look() is None
    place.acquire().release()


def test_a_writer_that_nobody_waited_for_is_gone(place: JobDirectory) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write(place.owner, dataclasses.replace(Owner.me(), pid=process.pid, started=owner._start(process.pid)))
    watch = OwnerWatch(place.owner)
    assert watch.look() is not None
    process.kill()
    deadline = time.monotonic() + 20
    while watch.look() is not None and time.monotonic() < deadline:
        time.sleep(0.01)  # a zombie, because it was not waited for
    assert watch.look() is None
    process.communicate()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "a"}'])
def test_a_damaged_owner_file_keeps_a_writer_out_for_a_minute_only(place: JobDirectory, content: str) -> None:
    """It may be one that is just being made."""
    with open(place.owner, "w") as file:
        file.write(content)
    assert str(OwnerWatch(place.owner).look()) == "process 0 on an unknown host"
    begin = time.monotonic()
    place.acquire().release()
    assert time.monotonic() - begin >= 1.0


@pytest.mark.usefixtures("hasty")
def test_the_counter_is_raised_and_the_file_keeps_its_length(place: JobDirectory) -> None:
    owned = place.acquire()
    seen = set()
    sizes = set()
    while len(seen) < 12:
        found = Owner.read(place.owner)
        assert found is not None
        seen.add(found.beat)
        sizes.add(os.path.getsize(place.owner))
        time.sleep(0.02)
    owned.release()
    assert len(sizes) == 1


# -- several hosts -------------------------------------------------------------------------------------------


def test_a_writer_on_another_host_is_seen_with_its_last_sign(place: JobDirectory) -> None:
    write(place.owner, elsewhere())
    os.utime(place.owner, (time.time() - 3, time.time() - 3))
    watch = OwnerWatch(place.owner)
    assert watch.look() == elsewhere()
    assert watch.describe() in {"process 4711 on node7, seen 3 s ago", "process 4711 on node7, seen 4 s ago"}


def test_a_job_that_another_host_runs_is_running_not_interrupted(tmp_path: Path) -> None:
    place = JobDirectory(str(tmp_path / "job"))
    writer = JournalWriter.create(place, place.reserve(), {"task": {"name": "Mean"}})
    writer.close()
    write(place.owner, elsewhere())
    assert Journal(place.path).is_being_written()


@pytest.mark.usefixtures("hasty")
def test_a_writer_on_another_host_is_gone_once_its_counter_stood_still(place: JobDirectory) -> None:
    write(place.owner, elsewhere())
    watch = OwnerWatch(place.owner)
    assert watch.look() is not None
    time.sleep(0.6)
    write(place.owner, elsewhere(1))
    assert watch.look() is not None
    time.sleep(0.6)
    assert watch.look() is not None  # 1.2 s since it was first seen, but it moved
    time.sleep(0.6)
    assert watch.look() is None


def test_a_sign_of_yesterday_is_not_waited_for_by_those_who_only_look(place: JobDirectory) -> None:
    write(place.owner, elsewhere())
    os.utime(place.owner, (time.time() - 86_400,) * 2)
    watch = OwnerWatch(place.owner)
    assert watch.look() is None
    assert watch.lives(elsewhere(), forget=False)  # a clock may be wrong: a writer waits its minute


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("has_locks", [True, False])
def test_a_second_writer_on_another_host_is_refused_while_the_first_lives(
    place: JobDirectory, writer_elsewhere: threading.Event, monkeypatch: pytest.MonkeyPatch, has_locks: bool
) -> None:
    if not has_locks:
        monkeypatch.setattr(FileLock, "acquire", no_locks)
    with pytest.raises(JobLockedError, match="is being written by process 4711 on node7, seen 0 s ago"):
        place.acquire()


@pytest.mark.usefixtures("hasty")
def test_a_second_writer_takes_over_after_the_first_gave_no_sign(
    place: JobDirectory, writer_elsewhere: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    writer_elsewhere.set()
    owned = place.acquire()
    found = Owner.read(place.owner)
    assert found is not None
    assert found.pid == os.getpid()
    assert "last written by process 4711 on node7; waiting up to 1 s" in capsys.readouterr().err
    owned.release()
    assert os.listdir(place.path) == ["lock"]


def test_a_writer_that_was_taken_over_while_its_host_stood_still_writes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = JobDirectory(str(tmp_path / "job"))
    writer = JournalWriter.create(place, place.reserve(), {})
    writer.append([(ROW, 1)], Placement(None, None, None))
    write(place.owner, elsewhere())
    writer._owned._beaten_at -= 100  # as if it had slept
    with pytest.raises(JobLockedError, match="taken over by process 4711 on node7, because process"):
        writer.append([(ROW, 1)], Placement(None, None, None))
    writer.close()
    assert Owner.read(place.owner) == elsewhere()  # which is not its own to remove


def test_of_many_that_take_over_at_once_one_gets_it(place: JobDirectory) -> None:
    """Processes of several hosts, on a disk without locks."""
    write(place.owner, dataclasses.replace(Owner.me(), started="12"))
    script = """
        import errno, sys
        from filelock import FileLock
        from parimg.errors import JobLockedError
        from parimg.job.directory import JobDirectory
        def no_locks(self, **_):
            raise OSError(errno.ENOLCK, "No locks available")
        FileLock.acquire = no_locks
        place = JobDirectory(sys.argv[1])
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            place.acquire()
            print("got it", flush=True)
        except JobLockedError:
            print("refused", flush=True)
        sys.stdin.readline()
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), place.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = sorted(process.stdout.readline() for process in processes if process.stdout is not None)
    for process in processes:
        process.communicate("\n")
    assert told == ["got it\n"] + ["refused\n"] * 5


def test_an_owner_file_is_plain_json(place: JobDirectory) -> None:
    owned = place.acquire()
    with open(place.owner) as file:
        assert json.load(file)["host"] == socket.gethostname()
    owned.release()
