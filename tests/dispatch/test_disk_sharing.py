"""Hosts that share no disk with the client, as the dispatcher sees them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from fake_job import Jobs, Listed, check_whole, names, wait_until
from fake_pool import Die, FakePool, at_chunks

from parimg import events
from parimg.errors import ClusterError, ImageMissingError, TooManyFailures
from parimg.protocol.disk_sharing import ALL_SEEN, NONE_SEEN, DiskQuestion, SeenDisks
from parimg.sources.as_source import Image


class Files(Listed):
    """A source of files."""

    def __init__(self, folder: Path, keys: Iterable[str]) -> None:
        super().__init__(keys)
        self.folder = folder

    def __iter__(self) -> Iterator[Image]:
        return (Image(key, str(self.folder / key)) for key in self.keys)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Forty files, each of which holds its name."""
    folder = tmp_path / "images"
    folder.mkdir()
    keys = names(40)
    for key in keys:
        (folder / key).write_text(key)
    return Files(folder, keys)


def contents(pool: FakePool, host: str | None = None) -> dict[str, object]:
    """What was sent to engines of a host, of each image the last."""
    return {
        key: content
        for engine, chunk in pool.chunks
        if host in {None, pool.disks(engine)[0]}
        for _, key, _, content in chunk.images
    }


def test_each_host_is_asked_once_before_its_first_chunk(
    jobs: Jobs, files: Files, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = FakePool(4, hosts=2, sees={"host0": NONE_SEEN, "host1": ALL_SEEN})
    run = jobs.run(files, pool)
    check_whole(run, files.keys)
    assert sorted(host for host, _ in pool.asked) == ["host0", "host1"]
    assert {(seen.host, seen.job, seen.images) for seen in run.of_kind(events.DisksSeen)} == {
        ("host0", False, False),
        ("host1", True, True),
    }
    assert all(content == key.encode() for key, content in contents(pool, "host0").items())
    assert set(contents(pool, "host1").values()) <= {None}
    told = capfd.readouterr().err
    assert told.count("host0 does not see the image") == 1
    assert "images are sent to it by message" in told


def test_a_host_that_is_this_one_is_not_asked(jobs: Jobs, files: Files) -> None:
    pool = FakePool(2)
    check_whole(jobs.run(files, pool), files.keys)
    assert pool.asked == []
    assert set(contents(pool).values()) == {None}


def test_nobody_is_asked_about_arrays_and_urls(jobs: Jobs) -> None:
    class Others(Listed):
        def __iter__(self) -> Iterator[Image]:
            return (
                Image(key, "", np.zeros(3)) if number % 2 else Image(key, f"s3://bucket/{key}")
                for number, key in enumerate(self.keys)
            )

    pool = FakePool(2, sees={"host0": NONE_SEEN})
    check_whole(jobs.run(Others(names(20)), pool), names(20))
    assert pool.asked == []


def test_always_ships_to_every_host_and_asks_none(jobs: Jobs, files: Files) -> None:
    pool = FakePool(2, hosts=2, sees={"host1": ALL_SEEN})
    check_whole(jobs.run(files, pool, ship="always"), files.keys)
    assert pool.asked == []
    assert contents(pool) == {key: key.encode() for key in files.keys}


@pytest.mark.parametrize(
    ("seen", "unseen"),
    [
        (NONE_SEEN, r"host0 does not see the image '.*/images/good-0', nor the output folder '.*/out'"),
        (SeenDisks(True, False, True), r"host0 does not see the image '.*/images/good-0'; ship='never'"),
        (SeenDisks(True, True, False), r"host0 does not see the output folder '.*/out', or may not write there;"),
    ],
)
def test_never_ends_the_job_with_one_error_that_names_host_and_folder(
    jobs: Jobs, files: Files, tmp_path: Path, seen: SeenDisks, unseen: str
) -> None:
    pool = FakePool(1, sees={"host0": seen})
    run = jobs.run(files, pool, ship="never", output=str(tmp_path / "out"))
    assert run.dispatcher.state == "failed"
    with pytest.raises(ClusterError, match=unseen):
        raise run.dispatcher.error
    assert f"parimg resume {run.directory} --ship auto" in str(run.dispatcher.error)
    assert pool.chunks == []
    assert os.listdir(tmp_path / "out") == []


def test_a_file_that_the_client_cannot_read_travels_as_its_error(jobs: Jobs, files: Files) -> None:
    os.remove(files.folder / "good-7")
    pool = FakePool(1, sees={"host0": NONE_SEEN})
    jobs.run(files, pool)
    found = contents(pool)
    error = found.pop("good-7")
    assert isinstance(error, ImageMissingError)
    assert "good-7' does not exist" in str(error)
    assert len(found) == 39


def test_images_that_neither_the_client_nor_a_host_sees_end_the_job_as_ever(jobs: Jobs) -> None:
    run = jobs.run(Listed(names(60, "missing")), FakePool(1, sees={"host0": NONE_SEEN}), ship="never")
    with pytest.raises(TooManyFailures, match="the first 20 images that host0 was given are all missing there"):
        raise run.dispatcher.error


def test_files_come_back_where_the_output_folder_is_not_seen_and_the_client_writes_them(
    jobs: Jobs, files: Files, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    pool = FakePool(2, hosts=2, sees={"host0": SeenDisks(True, True, False)}, writes=out)
    run = jobs.run(files, pool, output=out)
    check_whole(run, files.keys)
    assert {(pool.disks(engine)[0], chunk.returns_files) for engine, chunk in pool.chunks} == {
        ("host0", True),
        ("host1", False),
    }
    came_back = set(contents(pool, "host0"))
    assert came_back
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        key: key for key in came_back
    }


def test_a_file_that_the_client_cannot_write_is_a_failed_record(jobs: Jobs, files: Files, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "good-3").mkdir(parents=True)
    pool = FakePool(1, sees={"host0": SeenDisks(True, True, False)}, writes=str(out))
    records = jobs.run(files, pool, output=str(out)).records()
    failed = [record for record in records.values() if not record.ok]
    assert [(record.key, record.stage, record.error) for record in failed] == [
        ("good-3", "task", "IsADirectoryError")
    ]
    assert failed[0].columns == {}
    assert sum(path.is_file() for path in out.iterdir()) == 39


def test_an_engine_that_dies_of_the_question_does_not_keep_its_host_waiting(jobs: Jobs, files: Files) -> None:
    pool = FakePool(1, sees={"host0": NONE_SEEN})
    pool.is_paused = True
    run = jobs.begin(files, pool)
    wait_until(lambda: bool(pool.asked))
    pool.end(0)
    pool.go_on()
    check_whole(run.end(), files.keys)
    assert pool.asked == [("host0", 0), ("host0", 1)]


def test_a_question_that_is_lost_is_asked_again(jobs: Jobs, files: Files, tmp_path: Path) -> None:
    class Lossy(FakePool):
        def look_at_disks(self, question: DiskQuestion, engine_id: int) -> Future[SeenDisks]:
            self.asked.append(("host0", engine_id))
            return super().look_at_disks(question, engine_id) if len(self.asked) > 1 else Future()

    pool = Lossy(1, sees={"host0": NONE_SEEN})
    check_whole(jobs.run(files, pool, output=str(tmp_path / "out")), files.keys)
    assert {engine for _, engine in pool.asked} == {0}
    assert os.listdir(tmp_path / "out") == []


def test_images_of_a_dead_engine_are_read_again_for_a_host_that_does_not_see_them(
    jobs: Jobs, files: Files
) -> None:
    pool = FakePool(2, at_chunks([3, 5], Die()), sees={"host0": NONE_SEEN})
    check_whole(jobs.run(files, pool), files.keys)
    assert all(content == key.encode() for _, chunk in pool.chunks for _, key, _, content in chunk.images)


def test_a_chunk_takes_no_more_bytes_than_arrays_do(jobs: Jobs, tmp_path: Path) -> None:
    keys = names(12)
    for key in keys:
        (tmp_path / key).write_bytes(bytes(5 * 2**20))
    pool = FakePool(2, sees={"host0": NONE_SEEN})
    check_whole(jobs.run(Files(tmp_path, keys), pool, chunk_size=12), keys)
    assert [len(chunk.images) for _, chunk in pool.chunks] == [4, 4, 4]  # the first to reach 16 MiB


def test_a_slow_source_keeps_no_host_from_being_asked(jobs: Jobs, files: Files) -> None:
    may_go_on = threading.Event()

    class Slow(Files):
        def __iter__(self) -> Iterator[Image]:
            may_go_on.wait()
            return super().__iter__()

    slow = Slow(files.folder, files.keys)
    pool = FakePool(1, sees={"host0": NONE_SEEN})
    run = jobs.begin(slow, pool)
    wait_until(lambda: run.dispatcher._looked_at > 0)
    assert pool.asked == []
    may_go_on.set()
    check_whole(run.end(), files.keys)
