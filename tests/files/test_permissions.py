"""Files and folders that others can write are not unpickled from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import parimg
from parimg.errors import JobError, TaskError
from parimg.files.permissions import check_private
from parimg.protocol import shared_objects


def named() -> dict[str, np.ndarray]:
    return {str(number): np.full(1, number) for number in range(3)}


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o500])
def test_what_only_its_owner_can_write_is_trusted(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert check_private(str(tmp_path)) is None


@pytest.mark.parametrize("mode", [0o777, 0o707, 0o1777])
def test_what_everybody_can_write_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(
        JobError, match=rf"can be written by other users \(mode {mode:o}\).*`chmod go-w {tmp_path}`"
    ):
        check_private(str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_what_belongs_to_another_user_or_group_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(JobError, match=r"belongs to another user \(uid 12345\)"):
        check_private(str(tmp_path))
    os.chown(tmp_path, 0, 12345)
    tmp_path.chmod(0o770)
    with pytest.raises(JobError, match="can be written by other users"):
        check_private(str(tmp_path))
    os.chown(tmp_path, 0, 0)  # root's own group, which has no other member
    assert check_private(str(tmp_path)) is None


@pytest.mark.parametrize("part", ["", "journal.sqlite"])
def test_a_job_that_others_can_write_is_not_resumed_but_can_be_looked_at(
    controller: parimg.Controller, tmp_path: Path, part: str
) -> None:
    job = controller.map(np.max, named(), job_dir=tmp_path / "job")
    assert job.wait(60)
    (tmp_path / "job" / part).chmod(0o777)
    with pytest.raises(JobError, match="can be written by other users"):
        controller.resume(tmp_path / "job", images=named())
    assert len(parimg.open_job(tmp_path / "job").get()) == 3


def test_a_job_is_not_made_in_a_directory_that_others_can_write(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job").chmod(0o777)
    with pytest.raises(JobError, match="can be written by other users"):
        controller.map(np.max, named(), job_dir=tmp_path / "job")
    assert os.listdir(tmp_path / "job") == []


def test_a_task_that_others_can_write_is_not_unpickled_by_engines(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    job = controller.map(lambda image: 1, named(), job_dir=tmp_path / "job")
    assert job.wait(60)
    (tmp_path / "job" / "shared").chmod(0o777)
    controller.client[:].apply_sync(shared_objects._find.cache_clear)
    more = {**named(), "3": np.ones(1)}
    with parimg.start(n=1) as fresh:  # whose engine has not loaded the task before
        again = fresh.resume(job.directory, images=more)
        with pytest.raises(TaskError, match="can be written by other users"):
            again.wait(60)


def test_an_object_put_into_the_cache_by_another_hand_is_not_taken(tmp_path: Path) -> None:
    [ref] = shared_objects.write_task(str(tmp_path), parimg.Function(np.max))
    (tmp_path / ref.digest).write_bytes(b"cos\nsystem\n(S'echo taken'\ntR.")
    with pytest.raises(shared_objects.SharedObjectMissing):
        shared_objects.load_task(ref, str(tmp_path))
