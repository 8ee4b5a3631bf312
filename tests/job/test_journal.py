"""The journal: what is written, by whom, and what a reader of the same or another process sees."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from filelock import FileLock

from parimg.errors import JobError, JobLockedError
from parimg.job.directory import JobDirectory, jobs_folder
from parimg.job.journal import Journal
from parimg.job.journal_writer import JournalWriter
from parimg.record import Placement, Row, Status, encode_values, failed_row

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Placement(engine=2, host="node1", pid=77)
NOWHERE = Placement(None, None, None)


def ok_row(position: int, key: str | None = None, **values: object) -> Row:
    columns, arrays = encode_values(values)
    name = key or f"{position}.png"
    return Row(
        position,
        name,
        f"/images/{name}",
        "ok",
        None,
        None,
        None,
        None,
        100.0 + position,
        0.25,
        0.5,
        columns,
        arrays,
    )


def bad_row(position: int, message: str = "it has 0 bytes") -> Row:
    key = f"{position}.png"
    return failed_row(position, key, f"/images/{key}", "decode", "ImageEmptyError", message)


def create(folder: str, **meta: object) -> JournalWriter:
    return JournalWriter.create(JobDirectory(folder), JobDirectory(folder).reserve(), meta)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "job")


@pytest.fixture
def writer(folder: str) -> Iterator[JournalWriter]:
    journal = create(folder, task={"name": "Mean"})
    yield journal
    with contextlib.suppress(sqlite3.ProgrammingError):
        journal.close()


@contextlib.contextmanager
def another_process(script: str, folder: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `script`, with `folder` in it, after the imports it needs."""
    preamble = """
        import os, signal, sys
        from parimg.job.directory import JobDirectory
        from parimg.job.journal_writer import JournalWriter
        from parimg.record import Placement, Row
        folder = sys.argv[1]
        place = JobDirectory(folder)
        def rows(numbers, arrays=None):
            return [
                (Row(n, f"{n}.png", "", "ok", *[None] * 4, 0.0, 0.0, 0.0, '{"n":%d}' % n, arrays), 1)
                for n in numbers
            ]
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(preamble) + textwrap.dedent(script), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


# -- written and read ----------------------------------------------------------------------------------------


def test_a_record_comes_back_with_all_that_was_written(writer: JournalWriter, folder: str) -> None:
    row = ok_row(3, matches=812, pairs=np.array([[1, 2], [3, 4]], np.int32))
    writer.append([(row, 2)], HERE)
    journal = Journal(folder)
    [(_, record)] = journal.completed()
    assert (record.key, record.uri, record.position, record.status) == ("3.png", "/images/3.png", 3, "ok")
    assert record.columns == {"matches": 812}
    assert record["pairs"].tolist() == [[1, 2], [3, 4]]
    assert record["pairs"].dtype == np.int32
    assert (record.attempts, record.engine, record.host, record.pid) == (2, 2, "node1", 77)
    assert (record.started, record.decode_seconds, record.task_seconds) == (103.0, 0.25, 0.5)
    assert (record.stage, record.error, record.message, record.traceback) == (None, None, None, None)


def test_a_failed_record_comes_back_with_its_reason(writer: JournalWriter, folder: str) -> None:
    row = failed_row(0, "a.png", "/images/a.png", "task", "ValueError", "no\nlight", "Traceback ...")
    writer.append([(row, 1)], NOWHERE)
    record = Journal(folder).find(key="a.png")
    assert record is not None
    assert (record.status, record.stage, record.error, record.message) == (
        "failed",
        "task",
        "ValueError",
        "no\nlight",
    )
    assert record.traceback == "Traceback ..."
    assert (record.engine, record.host, record.pid) == (None, None, None)
    assert not record.columns
    assert not record.arrays


def test_records_are_found_by_key_and_by_position(writer: JournalWriter) -> None:
    writer.append([(ok_row(7, "a b?.png"), 1), (ok_row(8), 1)], HERE)
    by_key = writer.find("a b?.png")
    assert by_key is not None
    assert by_key.position == 7
    assert [record.key for record in writer.slice(range(1))] == ["a b?.png"]
    assert writer.find("none.png") is None
    assert writer.slice(range(2, 3)) == []


def test_counts_tell_ok_from_failed(writer: JournalWriter) -> None:
    assert writer.count_by_status() == {"ok": 0, "failed": 0}
    writer.append([(ok_row(0), 1), (bad_row(1), 1), (ok_row(2), 1)], HERE)
    assert writer.count_by_status() == {"ok": 2, "failed": 1}


def test_records_are_read_in_the_order_of_writing_or_in_that_of_the_source(writer: JournalWriter) -> None:
    writer.append([(ok_row(2), 1), (bad_row(0), 1)], HERE)
    writer.append([(ok_row(1), 1)], HERE)
    assert [record.position for _, record in writer.completed()] == [2, 0, 1]
    assert [(place, record.position) for place, record in writer.in_order()] == [(0, 0), (1, 1), (2, 2)]
    assert [record.position for record in writer.failed()] == [0]


def test_reading_goes_on_after_a_given_place(writer: JournalWriter) -> None:
    writer.append([(ok_row(n), 1) for n in (4, 3, 2, 1, 0)], HERE)
    places = [place for place, _ in writer.completed()]
    assert places == sorted(places)
    assert [record.position for _, record in writer.completed(after=places[2])] == [1, 0]
    assert [record.position for _, record in writer.in_order(after=2)] == [3, 4]
    assert list(writer.completed(after=places[-1])) == []


def test_more_records_than_a_reader_holds_at_once_are_all_read(writer: JournalWriter) -> None:
    writer.append([(ok_row(n), 1) for n in range(1203)], HERE)
    assert [place for place, _ in writer.in_order()] == list(range(1203))
    assert len({place for place, _ in writer.completed()}) == 1203


def test_a_row_takes_the_place_of_the_earlier_record_of_its_image(writer: JournalWriter) -> None:
    writer.append([(bad_row(0), 1), (ok_row(1), 1)], HERE)
    last = max(place for place, _ in writer.completed())
    writer.append([(ok_row(0, value=5), 3)], HERE)
    assert writer.count_by_status() == {"ok": 2, "failed": 0}
    assert [record.key for _, record in writer.in_order()] == ["0.png", "1.png"]
    # A reader that has seen the old record is given the new one.
    [(_, record)] = writer.completed(after=last)
    assert (record.key, record["value"], record.attempts, record.error) == ("0.png", 5, 3, None)
    assert list(writer.failed()) == []


def test_a_chunk_that_cannot_be_written_leaves_nothing_of_it(writer: JournalWriter) -> None:
    def rows() -> Iterator[tuple[Row, int]]:
        yield ok_row(0), 1
        raise ValueError("damaged answer")

    with pytest.raises(ValueError, match="damaged answer"):
        writer.append(rows(), HERE)
    assert writer.count_by_status() == {"ok": 0, "failed": 0}
    writer.append([(ok_row(0), 1)], HERE)
    assert writer.count_by_status() == {"ok": 1, "failed": 0}


def test_a_full_disk_is_told_as_such_and_what_was_written_stays(writer: JournalWriter) -> None:
    writer.append([(ok_row(0), 1)], HERE)
    writer._connection.execute("PRAGMA max_page_count = 40")  # 160 KiB
    with pytest.raises(JobError, match=r"cannot be written: .*full .*MiB free.; what was recorded stays"):
        writer.append([(ok_row(n, noise=np.zeros(20_000, np.uint8)), 1) for n in range(1, 30)], HERE)
    assert writer.count_by_status() == {"ok": 1, "failed": 0}


def test_recorded_tells_run_and_status_of_the_keys_that_have_a_record(writer: JournalWriter) -> None:
    writer.append([(ok_row(n), 1) for n in range(0, 1500, 2)], HERE)
    writer.append([(bad_row(1), 1)], HERE)
    found = writer.recorded([f"{n}.png" for n in range(1500)])
    assert len(found) == 751
    assert found["0.png"] == (1, "ok", 0)
    assert found["1.png"] == (1, "failed", 1)
    assert "3.png" not in found
    assert found["1498.png"] == (1, "ok", 1498)
    assert writer.recorded([]) == {}


def test_meta_keeps_json_values_and_knows_no_others(writer: JournalWriter, folder: str) -> None:
    writer.set_meta("total", 47)
    writer.set_meta("total", 48)
    writer.set_meta("source", {"glob": "a/*.png", "keys": [1, None]})
    journal = Journal(folder)
    assert journal.meta("total") == 48
    assert journal.meta("source") == {"glob": "a/*.png", "keys": [1, None]}
    assert journal.meta("task") == {"name": "Mean"}
    assert journal.meta("nothing") is None


def test_times_are_summed_and_the_last_one_known(writer: JournalWriter) -> None:
    assert writer.serial_seconds() == 0.0
    assert writer.last_written() is None
    writer.append([(ok_row(5), 1), (ok_row(2), 1)], HERE)
    assert writer.serial_seconds() == 1.5
    assert writer.last_written() == 105.0


def test_a_folder_name_with_special_characters_is_no_hindrance(tmp_path: Path) -> None:
    folder = str(tmp_path / "50% of? #1 ü")
    writer = create(folder)
    writer.append([(ok_row(0), 1)], HERE)
    assert [record.key for _, record in Journal(folder).completed()] == ["0.png"]
    writer.close()


def test_a_new_job_directory_is_readable_by_its_owner_only(writer: JournalWriter, folder: str) -> None:
    assert os.stat(folder).st_mode & 0o777 == 0o700


def test_a_job_without_a_directory_gets_one_named_by_time_and_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARIMG_JOBS_DIR", str(tmp_path / "jobs"))
    assert jobs_folder() == str(tmp_path / "jobs")
    made = [JobDirectory.make("Match/SIFT ü").path for _ in range(3)]
    assert len(set(made)) == 3
    for path in made:
        assert re.fullmatch(r"\d{8}-\d{6}-MatchSIFT(-[12])?", os.path.basename(path))
        assert os.path.dirname(path) == str(tmp_path / "jobs")
        assert os.listdir(path) == []
        assert os.stat(path).st_mode & 0o777 == 0o700


# -- runs ----------------------------------------------------------------------------------------------------


def test_a_resumed_journal_goes_on_with_a_new_run(folder: str) -> None:
    first = create(folder)
    assert first.run == 1
    first.append([(ok_row(2), 1), (bad_row(0), 1)], HERE)
    first.end_run("interrupted", None, 0)
    first.close()

    second = JournalWriter.resume(folder)
    second.begin_run()
    assert second.run == 2
    second.append([(bad_row(3), 1), (ok_row(1), 1)], HERE)
    second.append([(ok_row(0), 1)], HERE)
    assert second.recorded(["0.png", "2.png", "3.png"]) == {
        "0.png": (2, "ok", 0),
        "2.png": (1, "ok", 2),
        "3.png": (2, "failed", 3),
    }
    second.end_run("finished", None, 4)
    second.close()

    journal = Journal(folder)
    assert [record.position for _, record in journal.completed()] == [2, 3, 1, 0]
    assert [place for place, _ in journal.in_order()] == [0, 1, 2, 3]
    assert [record.position for record in journal.failed()] == [3]
    assert len(journal.seconds_by_run()) == 2
    assert all(end is not None and end >= start for start, end in journal.seconds_by_run())


def test_the_last_run_tells_who_ran_it_and_how_it_ended(writer: JournalWriter, folder: str) -> None:
    journal = Journal(folder)
    begun = journal.last_run()
    assert (begun.run, begun.state, begun.ended, begun.reason) == (1, "running", None, None)
    assert (begun.host, begun.pid) == (socket.gethostname(), os.getpid())
    assert abs(begun.started - time.time()) < 60
    assert journal.seconds_by_run() == [(begun.started, None)]
    writer.end_run("failed", "TaskError: no engine can prepare it", 3)
    ended = journal.last_run()
    assert (ended.state, ended.reason, ended.duplicates) == (
        "failed",
        "TaskError: no engine can prepare it",
        3,
    )
    assert ended.ended >= begun.started


# -- one writer, any readers ---------------------------------------------------------------------------------


def test_a_second_writer_is_told_host_and_process_of_the_first_until_that_is_killed(folder: str) -> None:
    script = """
        writer = JournalWriter.create(place, place.reserve(), {})
        writer.append(rows([0]), Placement(None, None, None))
        print("holding", flush=True)
        sys.stdin.read()
    """
    with another_process(script, folder) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(JobLockedError, match=f"process {holder.pid} on {socket.gethostname()}") as caught:
            JournalWriter.resume(folder)
        assert "open_job" in str(caught.value)
        assert Journal(folder).is_being_written()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert not Journal(folder).is_being_written()
        writer = JournalWriter.resume(folder)
        writer.begin_run()
        assert writer.run == 2
        assert writer.recorded(["0.png"]) == {"0.png": (1, "ok", 0)}
        writer.close()


def test_a_journal_is_being_written_until_its_writer_closes_it(writer: JournalWriter, folder: str) -> None:
    journal = Journal(folder)
    assert journal.is_being_written()
    writer.close()
    assert not journal.is_being_written()


def test_a_reader_follows_a_writer_of_another_process(folder: str) -> None:
    script = """
        writer = JournalWriter.create(place, place.reserve(), {})
        print("ready", flush=True)
        for line in sys.stdin:
            first = int(line)
            writer.append(rows([first, first + 1]), Placement(0, "h", 1))
            print("written", flush=True)
        writer.end_run("finished", None, 0)
        writer.close()
    """
    with another_process(script, folder) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        journal = Journal(folder)
        seen = 0
        found = []
        for first in (0, 2, 4):
            other.stdin.write(f"{first}\n")
            other.stdin.flush()
            assert other.stdout.readline() == "written\n"
            news = list(journal.completed(after=seen))
            seen = news[-1][0]
            found.append([record["n"] for _, record in news])
            assert journal.count_by_status() == {"ok": first + 2, "failed": 0}
        assert found == [[0, 1], [2, 3], [4, 5]]
        assert journal.last_run().state == "running"
        other.stdin.close()
        other.wait(timeout=20)
        assert journal.last_run().state == "finished"


def test_a_reader_in_the_middle_of_an_iteration_does_not_hold_up_the_writer(
    writer: JournalWriter, folder: str
) -> None:
    writer.append([(ok_row(n), 1) for n in range(600)], HERE)
    iteration = Journal(folder).in_order()
    assert next(iteration)[0] == 0
    writer.append([(ok_row(n), 1) for n in range(600, 700)], HERE)
    assert writer.count_by_status() == {"ok": 700, "failed": 0}
    assert [place for place, _ in iteration] == list(range(1, 600))


def test_an_iteration_may_be_read_by_another_thread(writer: JournalWriter) -> None:
    writer.append([(ok_row(n), 1) for n in range(3)], HERE)
    iteration = writer.in_order()
    found = [next(iteration)[0]]
    thread = threading.Thread(target=lambda: found.extend(place for place, _ in iteration))
    thread.start()
    thread.join()
    assert found == [0, 1, 2]


def test_a_writer_killed_while_it_appends_leaves_whole_chunks(folder: str) -> None:
    # The chunk exceeds SQLite's cache of 2 MB, so part of it has reached the file when the process dies.
    script = """
        writer = JournalWriter.create(place, place.reserve(), {})
        def deadly():
            yield from rows(range(60, 75), bytes(200_000))
            os.kill(os.getpid(), signal.SIGKILL)
        for chunk in range(3):
            writer.append(rows(range(20 * chunk, 20 * chunk + 20)), Placement(0, "h", 1))
        writer.append(deadly(), Placement(0, "h", 1))
    """
    with another_process(script, folder) as other:
        assert other.wait(timeout=30) == -signal.SIGKILL
    assert os.path.getsize(os.path.join(folder, "journal.sqlite-wal")) > 1_000_000
    journal = Journal(folder)
    assert [place for place, _ in journal.in_order()] == list(range(60))
    writer = JournalWriter.resume(folder)
    assert writer.last_run().state == "running"  # nobody wrote its end
    writer.append([(ok_row(60), 1)], HERE)
    assert writer.count_by_status() == {"ok": 61, "failed": 0}
    assert writer._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    writer.close()


def test_a_closed_journal_is_one_plain_file(writer: JournalWriter, folder: str) -> None:
    writer.append([(ok_row(0), 1)], HERE)
    writer.close()
    assert sorted(name for name in os.listdir(folder) if name.startswith("journal")) == ["journal.sqlite"]
    assert Journal(folder).count_by_status() == {"ok": 1, "failed": 0}


def test_an_open_reader_does_not_keep_a_writer_from_closing(writer: JournalWriter, folder: str) -> None:
    writer.append([(ok_row(n), 1) for n in range(600)], HERE)
    journal = Journal(folder)
    iteration = journal.completed()
    next(iteration)
    writer.close()
    assert len(list(iteration)) == 599
    assert not journal.is_being_written()
    resumed = JournalWriter.resume(folder)
    resumed.begin_run()
    assert resumed.run == 2
    resumed.close()


# -- refused -------------------------------------------------------------------------------------------------


def test_a_folder_without_a_journal_is_no_job(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is not a job"):
        Journal(str(tmp_path))
    with pytest.raises(JobError, match="is not a job"):
        JournalWriter.resume(str(tmp_path))
    with pytest.raises(JobError, match="is not a job"):
        Journal(str(tmp_path / "nowhere"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "content", [b"", b"no database at all, but longer than a header of one hundred bytes" * 4]
)
def test_a_file_that_is_no_journal_is_told_by_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.sqlite").write_bytes(content)
    with pytest.raises(JobError, match=r"journal\.sqlite' cannot be read"):
        Journal(str(tmp_path))


@pytest.mark.parametrize("found", [1, "2", None])
def test_a_journal_of_another_format_is_refused_with_both_formats(
    writer: JournalWriter, folder: str, found: object
) -> None:
    writer.set_meta("format", found)
    writer.close()
    with pytest.raises(JobError, match=f"has format {found!r}, .*; this parimg reads format 3: "):
        Journal(folder)


def test_a_directory_that_holds_a_job_is_not_made_into_another(writer: JournalWriter, folder: str) -> None:
    writer.append([(ok_row(0), 1)], HERE)
    writer.close()
    with pytest.raises(JobError, match=r"holds a job already.*resume"):
        create(folder)
    assert Journal(folder).count_by_status() == {"ok": 1, "failed": 0}


def test_a_directory_that_holds_other_files_is_not_made_into_a_job(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    with pytest.raises(JobError, match=r"must be new or empty; it holds a\.png, b\.png"):
        create(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


def test_a_directory_that_another_client_is_filling_is_refused(folder: str) -> None:
    lock = JobDirectory(folder).reserve()
    with pytest.raises(JobLockedError, match=f"process {os.getpid()} on"):
        JobDirectory(folder).reserve()
    lock.release()
    create(folder).close()


def test_a_job_made_while_another_waits_for_the_lock_is_not_replaced(tmp_path: Path) -> None:
    """Two processes are given the same job_dir at the same moment; the job of the first is a short one."""
    made = create(str(tmp_path / "made"))
    made.append([(ok_row(0), 1)], HERE)
    made.close()
    folder = tmp_path / "job"
    folder.mkdir()
    refused: list[str] = []

    def create_too() -> None:
        try:
            create(str(folder)).close()
        except JobError as error:
            refused.append(str(error))

    with FileLock(folder / "lock"):
        second = threading.Thread(target=create_too)
        second.start()
        time.sleep(0.1)  # it has seen that there is no job, and waits
        shutil.copy(tmp_path / "made" / "journal.sqlite", folder)
    second.join()
    assert Journal(str(folder)).count_by_status() == {"ok": 1, "failed": 0}
    assert len(refused) == 1
    assert "holds a job already" in refused[0]


@pytest.mark.parametrize("part", ["", "below"])
def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path, part: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(JobError, match="cannot be written"):
        JobDirectory(str(tmp_path / "file" / part)).reserve()


def test_a_job_whose_lock_cannot_be_taken_is_refused(writer: JournalWriter, folder: str) -> None:
    writer.close()
    os.remove(os.path.join(folder, "lock"))
    os.mkdir(os.path.join(folder, "lock"))
    with pytest.raises(JobError, match="cannot be written"):
        JournalWriter.resume(folder)


def test_half_a_journal_of_a_killed_client_is_made_anew(folder: str) -> None:
    os.makedirs(folder)
    Path(folder, "journal.sqlite.new").write_bytes(b"half a journal")
    writer = create(folder)
    assert writer.run == 1
    writer.close()


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_text_with_zero_bytes_and_emoji_is_kept(writer: JournalWriter, status: Status) -> None:
    text = "a\0b \U0001f600 'quoted' \"twice\""
    row = Row(0, text, text, status, None, text, text, text, 0.0, 0.0, 0.0, "{}", None)
    writer.append([(row, 1)], HERE)
    record = writer.find(key=text)
    assert record is not None
    assert (record.key, record.uri, record.error, record.message, record.traceback) == (text,) * 5


def test_a_path_that_is_no_unicode_has_its_record(writer: JournalWriter) -> None:
    """A file name in another encoding, as POSIX allows; its key is escaped by the source already."""
    uri = os.fsdecode(b"/images/caf\xe9.png")
    writer.append([(failed_row(0, "caf\\udce9.png", uri, "decode", "ImageEmptyError", "it has 0 bytes"), 1)], HERE)
    record = writer.find(key="caf\\udce9.png")
    assert record is not None
    assert record.uri.startswith("/images/caf")
    assert record.uri.endswith(".png")
