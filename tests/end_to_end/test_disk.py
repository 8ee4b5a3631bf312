"""Disks that fill, directories that vanish, results too large, errors too many: told clearly, kept in bounds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import parimg
from parimg.dispatch import recording
from parimg.errors import JobError

MIB = 2**20


def named(n: int) -> Iterator[tuple[str, np.ndarray]]:
    return ((f"image{number:06d}", np.full(1, number)) for number in range(n))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("a small file system takes a mount: Linux, and root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_ends_the_job_clearly_and_it_goes_on_when_there_is_room(
    controller: parimg.Controller, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2 * MIB))
    job = controller.map(
        lambda image: np.full(4096, image[0]), named(200), job_dir=small_disk / "job", chunk_size=5
    )
    with pytest.raises(
        JobError, match=r"cannot be written: .*MiB free.; what was recorded stays; .*parimg resume"
    ):
        job.wait(60)
    assert job.state == "failed"
    kept = parimg.open_job(job.directory)
    assert 0 < kept.progress < 200
    before = {record.key: record for record in kept[:]}
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = controller.resume(job.directory, images=dict(named(200)))
    assert again.wait(60)
    assert again.counts == {"ok": 200, "failed": 0, "done": 200, "total": 200}
    assert {key: again[key] for key in before} == before


def test_a_disk_without_any_room_is_told_before_anything_is_sent(
    controller: parimg.Controller, small_disk: Path
) -> None:
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(8 * MIB))
    with pytest.raises(JobError, match=r"job directory .* cannot be written"):
        controller.map(np.max, named(3), job_dir=small_disk / "job")


@pytest.mark.parametrize("come_back", [False, True])
def test_a_directory_that_vanishes_is_noticed(
    controller: parimg.Controller, tmp_path: Path, come_back: bool
) -> None:
    job = controller.map(lambda image: time.sleep(0.02), named(2000), job_dir=tmp_path / "job", chunk_size=5)
    next(iter(job))
    shutil.copytree(tmp_path / "job", tmp_path / "copy")
    if come_back:  # in one go: in between, the directory would be missing
        (tmp_path / "job").rename(tmp_path / "away")
        (tmp_path / "copy").rename(tmp_path / "job")
    else:
        shutil.rmtree(tmp_path / "job")
    with pytest.raises(JobError, match=f"was {'replaced' if come_back else 'removed'} while the job ran"):
        job.wait(60)
    if not come_back:
        with pytest.raises(JobError, match=r"journal\.sqlite' was removed"):
            list(job)


def test_results_too_large_for_a_record_fail_their_image_only(controller: parimg.Controller) -> None:
    def grow(image: np.ndarray) -> object:
        return [lambda: 1, lambda: "x" * 2**25, lambda: np.zeros(2**29, np.uint8), lambda: 2][image[0]]()

    job = controller.map(grow, named(4))
    found = [(record.status, record.error) for record in job.get(120)]
    assert found == [("ok", None), ("failed", "ResultError"), ("failed", "ResultError"), ("ok", None)]
    assert "as JSON, more than 16777216; return arrays" in job["image000001"].message


def test_large_results_do_not_add_up_in_one_answer(controller: parimg.Controller) -> None:
    """12 arrays of 50 MiB: a chunk would bring 600 MiB at once, and take as much again to unpack."""
    client = psutil.Process()
    before = client.memory_info().rss
    job = controller.map(lambda image: np.full(50 * MIB, image[0], np.uint8), named(12), chunk_size=12)
    most = 0
    while not job.ready():
        most = max(most, client.memory_info().rss - before)
        time.sleep(0.01)
    assert job.wait()
    assert most < 700 * MIB
    assert all(record["value"][-1] == record.position for record in job)
    shutil.rmtree(job.directory)


def test_very_many_errors_leave_no_journal_without_bounds(
    controller: parimg.Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_MOST_TRACES", 100)

    def fail(image: np.ndarray) -> None:
        raise ValueError("no good" + " at all" * 200)

    job = controller.map(fail, named(30_000), chunk_size=1000)
    assert job.wait(120)
    assert job.counts["failed"] == 30_000
    first, *_, last = job
    assert "in fail" in first.traceback
    assert len(first.message) > 1000
    assert last.traceback is None
    assert last.message == ("no good" + " at all" * 200)[:200]
    assert os.path.getsize(Path(job.directory) / "journal.sqlite") < 30_000 * 700
    assert repr(job.failures) == "<30000 failures: 30000 ValueError>"
