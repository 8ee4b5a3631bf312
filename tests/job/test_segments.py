"""A job on a disk that hosts share, here only by its name; `tests/clusters/test_two_mounts.py` has a real one."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from fake_job import Jobs, check_whole, names
from fake_pool import FakePool

from parimg.errors import JobError
from parimg.files import file_systems
from parimg.files.file_systems import FileSystem
from parimg.job import journal_writer, local_copy, segments
from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.job.journal_writer import JournalWriter
from parimg.job.segments import list_segments
from parimg.record import Placement, failed_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOWHERE = Placement(None, None, None)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_copy, "file_system_of", lambda _: FileSystem("nfs4", True))


@pytest.fixture
def place(tmp_path: Path) -> JobDirectory:
    return JobDirectory(str(tmp_path / "job"))


def create(place: JobDirectory) -> JournalWriter:
    return JournalWriter.create(place, place.reserve(), {"task": {"name": "Mean"}})


@pytest.fixture
def writer(shared: None, place: JobDirectory, monkeypatch: pytest.MonkeyPatch) -> Iterator[JournalWriter]:
    """Each chunk is a segment, and each four are one."""
    monkeypatch.setattr(journal_writer, "_HELD_SECONDS", 0.0)
    monkeypatch.setattr(segments, "MERGED", 4)
    journal = create(place)
    yield journal
    with contextlib.suppress(sqlite3.ProgrammingError):
        journal.close()


def append(journal: JournalWriter, *numbers: int, error: str = "ValueError") -> None:
    journal.append([(failed_row(n, f"{n}.png", "", "task", error, ""), 1) for n in numbers], NOWHERE)


def abandon(journal: JournalWriter) -> None:
    """Leave it as a killed process does."""
    journal._connection.close()
    journal._owned.release()


def keys(place: JobDirectory) -> list[str]:
    return [record.key for _, record in Journal(place.path).completed()]


def test_each_chunk_is_in_the_directory_once_it_is_written(writer: JournalWriter, place: JobDirectory) -> None:
    reader = Journal(place.path)
    for n in range(3):
        append(writer, n)
        assert reader.count_by_status() == {"ok": 0, "failed": n + 1}
        assert [segment[:2] for segment in list_segments(place.segments)] == [(k, k) for k in range(1, n + 2)]
    writer.set_meta("total", 7)
    assert reader.meta("total") == 7
    assert writer.reader().count_by_status() == {"ok": 0, "failed": 3}


def test_what_is_held_back_is_seen_by_nobody(
    writer: JournalWriter, place: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_writer, "_HELD_SECONDS", 60.0)
    append(writer, 0)
    append(writer, 1)
    assert keys(place) == []
    assert writer.reader().count_by_status() == {"ok": 0, "failed": 0}
    assert set(writer.recorded(["0.png", "1.png", "2.png"])) == {"0.png", "1.png"}
    writer.commit()
    assert keys(place) == ["0.png", "1.png"]
    assert [segment[:2] for segment in list_segments(place.segments)] == [(1, 1)]


def test_segments_are_merged_and_readers_at_any_point_see_the_same(
    writer: JournalWriter, place: JobDirectory, tmp_path: Path
) -> None:
    """Rows take the place of earlier ones, within a merged segment and across."""
    copies = []
    for n in range(21):
        append(writer, n % 5, n + 100, error="KeyError" if n % 2 else "ValueError")
        # A reader that looks for the first time here, and then again at the end.
        scratch = tmp_path / f"{n}.sqlite"
        local_copy.copy_journal(place, str(scratch))
        connection = sqlite3.connect(scratch, isolation_level=None, uri=True)
        segments.fold(connection, place.segments)
        copies.append(connection)
    assert [segment[:2] for segment in list_segments(place.segments)] == [(1, 16), (17, 20), (21, 21)]
    expected = [(f"{n + 100}.png",) for n in range(21)] + [(f"{n}.png",) for n in (0, 1, 2, 3, 4)]
    for connection in copies:
        segments.fold(connection, place.segments)
        assert sorted(connection.execute("SELECT key FROM records")) == sorted(expected)
        # The last of those that had the same key: 15 to 20 of `n`.
        latest = connection.execute("SELECT key, error FROM records WHERE position < 100 ORDER BY seq").fetchall()
        assert latest == [
            ("1.png", "ValueError"),
            ("2.png", "KeyError"),
            ("3.png", "ValueError"),
            ("4.png", "KeyError"),
            ("0.png", "ValueError"),
        ]
        connection.close()


def test_a_run_that_ended_leaves_one_plain_file(writer: JournalWriter, place: JobDirectory) -> None:
    for n in range(6):
        append(writer, n)
    reader, inside = Journal(place.path), writer.reader()
    look = inside.completed()
    assert next(look)[1].key == "0.png"  # it is just looking while the run ends
    writer.end_run("finished", None, 0)
    writer.close()
    assert [record.key for _, record in look] == [f"{n}.png" for n in range(1, 6)]
    assert os.listdir(place.segments) == []
    with contextlib.closing(sqlite3.connect(place.journal)) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert plain.execute("SELECT count(*) FROM records").fetchone() == (6,)
    for journal in (reader, inside):
        assert journal.last_run().state == "finished"
    assert not os.path.exists(local_copy._copies_of(place))


@pytest.mark.parametrize("local", [False, True])
def test_a_killed_run_goes_on_on_either_kind_of_disk(
    writer: JournalWriter, place: JobDirectory, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    for n in range(6):
        append(writer, n)
    abandon(writer)
    if local:
        monkeypatch.undo()
    for n in (6, 7):
        again = JournalWriter.resume(place.path)
        again.begin_run()
        append(again, n)
        assert again.run == n - 4
        again.commit()
        assert keys(place) == [f"{n}.png" for n in range(n + 1)]
        assert os.listdir(place.segments) == [] or not local
        abandon(again)
    JournalWriter.resume(place.path).close()
    assert keys(place) == [f"{n}.png" for n in range(8)]


def test_a_run_that_was_killed_on_its_own_disk_goes_on_where_that_is_shared(
    place: JobDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its write-ahead log holds what its journal does not."""
    journal = create(place)
    append(journal, 0, 1)
    shutil.copytree(place.path, tmp_path / "killed", ignore=shutil.ignore_patterns("owner", "*-shm"))
    journal.close()
    killed = JobDirectory(str(tmp_path / "killed"))
    assert os.path.getsize(f"{killed.journal}-wal") > 0
    monkeypatch.setattr(local_copy, "file_system_of", lambda _: FileSystem("nfs4", True))
    assert keys(killed) == ["0.png", "1.png"]
    again = JournalWriter.resume(killed.path)
    append(again, 2)
    again.commit()
    assert keys(killed) == ["0.png", "1.png", "2.png"]
    again.close()
    assert not os.path.exists(f"{killed.journal}-wal")
    assert keys(killed) == ["0.png", "1.png", "2.png"]


def test_a_new_journal_that_lacks_its_name_only_gets_it(writer: JournalWriter, place: JobDirectory) -> None:
    """A process that dies between the removal of an old log and the rename leaves it."""
    append(writer, 0)
    writer.close()
    os.rename(place.journal, place.unfinished_journal)
    with open(place.journal, "wb") as file:
        file.write(b"an old one that lacks its log")
    with pytest.raises(JobError, match="cannot be read"):
        Journal(place.path)
    local_copy.finish_replacing(place)
    assert keys(place) == ["0.png"]


def test_a_missing_segment_is_told_before_the_job_goes_on(writer: JournalWriter, place: JobDirectory) -> None:
    for n in range(3):
        append(writer, n)
    abandon(writer)
    os.remove(list_segments(place.segments)[1].path)
    assert keys(place) == ["0.png"]
    with pytest.raises(JobError, match=r"the segment 2 of the journal is missing in .*segments"):
        JournalWriter.resume(place.path)


def test_a_damaged_segment_is_told_by_its_path(writer: JournalWriter, place: JobDirectory) -> None:
    append(writer, 0)
    abandon(writer)
    path = list_segments(place.segments)[0].path
    with open(path, "r+b") as file:
        file.write(b"zeros" * 100)
    with pytest.raises(JobError, match=r"the segment '.*00000001-00000001\.sqlite' of the journal cannot be read"):
        keys(place)


def test_a_segment_that_cannot_be_written_ends_the_run_and_shows_nothing(
    writer: JournalWriter, place: JobDirectory
) -> None:
    append(writer, 0)
    shutil.rmtree(place.segments)
    with pytest.raises(JobError, match=r"cannot be written: .*No such file.*\(nfs4, .* MiB free\)"):
        append(writer, 1)
    assert writer.count_by_status() == {"ok": 0, "failed": 1}


def test_a_job_on_a_shared_disk_runs_and_ends_like_any_other(shared: None, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    keys = names(300)
    try:
        check_whole(jobs.run(keys, FakePool(3), chunk_size=2), keys)
        # Hundreds of chunks within a second are a few segments.
        with contextlib.closing(sqlite3.connect(tmp_path / "job" / "journal.sqlite")) as plain:
            assert plain.execute("PRAGMA user_version").fetchone()[0] < 30
    finally:
        jobs.close()


def test_a_removed_job_takes_its_segments_with_it(writer: JournalWriter, place: JobDirectory) -> None:
    append(writer, 0)
    abandon(writer)
    place.remove()
    assert not os.path.exists(place.path)


def test_journals_are_not_kept_on_a_shared_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARIMG_SCRATCH", str(tmp_path))
    assert file_systems.scratch_folder() == str(tmp_path)
    monkeypatch.setattr(file_systems, "file_system_of", lambda _: FileSystem("lustre", True))
    with pytest.raises(JobError, match="on lustre; set PARIMG_SCRATCH to one"):
        file_systems.scratch_folder()
