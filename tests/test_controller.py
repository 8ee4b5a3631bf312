"""The controller: starting, closing, and what a user may type wrong."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

import parimg
from parimg.errors import ClusterError, EmptySourceError, JobError, SourceError, TaskError

ONE = {"one": np.ones(1)}

pytestmark = pytest.mark.cluster


def test_start_listens_on_the_loopback_interface_only(controller: parimg.Controller) -> None:
    family = psutil.Process().children(recursive=True)
    listening = {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_engines_of_an_embedded_cluster_have_one_thread(controller: parimg.Controller) -> None:
    for about in controller.inspect().values():
        assert set(about["threads"].values()) == {1}


def test_close_ends_all_processes_and_removes_the_folder() -> None:
    with parimg.start(n=1) as controller:
        processes = [psutil.Process(about["pid"]) for about in controller.inspect().values()]
        folder = controller._cluster._folder
        assert os.path.isdir(folder)
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    assert not os.path.exists(folder)
    assert repr(controller) == "<Controller of an embedded cluster: closed>"


def test_close_stops_a_running_job_in_order() -> None:
    with parimg.start(n=1) as controller:
        job = controller.map(lambda image: time.sleep(0.1), ((str(number), np.ones(1)) for number in range(1000)))
        next(iter(job))
    assert job.state == "interrupted"
    assert 1 <= job.progress < 1000


def test_a_closed_controller_says_so() -> None:
    with parimg.start(n=1) as controller:
        pass
    with pytest.raises(ClusterError, match="this controller is closed"):
        controller.map(np.max, ONE)


def test_two_jobs_run_at_the_same_time(controller: parimg.Controller) -> None:
    jobs = [
        controller.map(
            lambda image, factor=factor: float(image[0] * factor), {str(n): np.full(1, n) for n in range(30)}
        )
        for factor in (2, 3)
    ]
    for factor, job in zip((2, 3), jobs, strict=True):
        assert [record["value"] for record in job.get(60)] == [n * factor for n in range(30)]


def test_jobs_may_be_submitted_from_any_thread(controller: parimg.Controller) -> None:
    found: list[list[object]] = []
    thread = threading.Thread(
        target=lambda: found.append([r["value"] for r in controller.map(np.max, ONE).get(60)])
    )
    thread.start()
    thread.join()
    assert found == [[1.0]]


def test_functions_of_a_file_that_engines_cannot_import_are_sent_whole(
    controller: parimg.Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_the_user.py").write_text(
        "FACTOR = 7\ndef scaled(image):\n    return float(image[0]) * FACTOR\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import of_the_user

    assert controller.map(of_the_user.scaled, ONE).get(60)[0]["value"] == 7.0


def test_a_large_array_in_a_lambda_becomes_a_shared_object(controller: parimg.Controller) -> None:
    table = np.arange(100_000.0)
    job = controller.map(lambda image: float(table[int(image[0])]), {str(n): np.full(1, n) for n in range(5)})
    assert [record["value"] for record in job.get(60)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    sizes = sorted(path.stat().st_size for path in (Path(job.directory) / "shared").iterdir())
    assert len(sizes) == 2
    assert sizes[0] < 10_000 < table.nbytes < sizes[1]


def test_a_finished_job_resumed_runs_nothing(controller: parimg.Controller) -> None:
    job = controller.map(lambda image: time.time(), ONE)
    first = job.get(60)
    assert controller.resume(job.directory, images=ONE).get(60) == first


def test_resume_with_retry_runs_failed_images_again_and_replaces_their_records(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    flag = tmp_path / "mended"

    def picky(image: np.ndarray) -> int:
        if image[0] == 2 and not flag.exists():
            raise ValueError("not yet")
        return int(image[0])

    images = {str(number): np.full(1, number) for number in range(4)}
    job = controller.map(picky, images)
    job.wait(60)
    assert [record.key for record in job.failures] == ["2"]
    flag.touch()
    assert controller.resume(job.directory, images=images).counts["failed"] == 1  # left alone
    again = controller.resume(job.directory, images=images, retry="failed")
    again.wait(60)
    assert again.counts == {"ok": 4, "failed": 0, "done": 4, "total": 4}
    assert again["2"]["value"] == 2


def test_a_job_of_arrays_wants_them_again_on_resume(controller: parimg.Controller) -> None:
    job = controller.map(np.max, ONE)
    job.wait(60)
    with pytest.raises(SourceError, match="again"):
        controller.resume(job.directory)


def test_an_unknown_retry_is_refused(controller: parimg.Controller, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"retry must be 'failed' or None \(got 'all'\)"):
        controller.resume(tmp_path, retry="all")


def test_a_directory_that_holds_a_job_is_not_overwritten(controller: parimg.Controller, tmp_path: Path) -> None:
    controller.map(np.max, ONE, job_dir=tmp_path / "job").wait(60)
    with pytest.raises(JobError, match="holds a job already"):
        controller.map(np.max, ONE, job_dir=tmp_path / "job")


def test_a_function_is_no_task_and_the_message_names_map(controller: parimg.Controller) -> None:
    with pytest.raises(TaskError, match=r"task must be a parimg task .*ctl\.map"):
        controller.submit(np.max, ONE)


def test_a_typo_in_a_glob_is_told_before_a_job_is_made(controller: parimg.Controller, tmp_path: Path) -> None:
    with pytest.raises(EmptySourceError):
        controller.map(np.max, str(tmp_path / "*.pgn"), job_dir=tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_a_task_that_cannot_be_pickled_leaves_no_job_behind(controller: parimg.Controller, tmp_path: Path) -> None:
    lock = threading.Lock()
    with pytest.raises(TaskError, match="cannot be sent to engines"):
        controller.map(lambda image: lock.locked(), ONE, job_dir=tmp_path / "job")
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_a_senseless_number_of_engines_is_refused(n: object) -> None:
    with pytest.raises(ClusterError, match="n must be a number of engines of at least 1"):
        parimg.start(n=n)


def test_start_works_inside_a_running_event_loop() -> None:
    code = (
        "import asyncio, numpy as np, parimg\n"
        "async def main():\n"
        "    with parimg.start(n=1) as ctl:\n"
        "        job = await ctl.map(np.max, {'one': np.ones(1)})\n"
        "        print(job['one']['value'])\n"
        "asyncio.run(main())\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "1.0\n", result.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_engines_keep_freed_memory_from_image_to_image(controller: parimg.Controller) -> None:
    def count_page_faults(image: np.ndarray) -> int:
        import resource

        def allocate() -> int:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            blocks = [np.ones(2**21, np.uint8) for _ in range(8)]
            del blocks
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        allocate()
        return allocate()

    counts = [record["value"] for record in controller.map(count_page_faults, {"one": np.ones(1)}).get(60)]
    assert max(counts) < 100  # of 4096 pages


def test_a_finished_job_is_one_plain_file_that_can_be_copied(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    job = controller.map(
        np.max, {str(number): np.full(1, number) for number in range(20)}, job_dir=tmp_path / "job"
    )
    assert len(list(job)) == 20
    assert not list((tmp_path / "job").glob("journal.sqlite-*"))
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "job" / "journal.sqlite", tmp_path / "copy")
    copied = parimg.open_job(tmp_path / "copy")
    assert copied.state == "finished"
    assert [record["value"] for record in copied.in_order()] == list(range(20))


def test_images_that_a_folder_got_meanwhile_are_run_on_resume_and_come_last_in_order(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    def write(*levels: int) -> None:
        for level in levels:
            cv2.imwrite(str(tmp_path / f"{level}.png"), np.full((4, 4), level, np.uint8))

    write(2, 4, 6)
    job = controller.map(np.max, str(tmp_path), job_dir=tmp_path / "job")
    job.wait(60)
    write(1, 3, 5)
    resumed = controller.resume(tmp_path / "job")
    assert sorted(record["value"] for record in resumed.in_order()) == [1, 2, 3, 4, 5, 6]
    assert len({record.position for record in resumed}) == 6
    assert resumed[-1].ok


def test_images_added_by_a_resume_that_was_cut_short_are_run_by_the_next_one(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    def write(name: str, n: int) -> Path:
        (tmp_path / name).mkdir()
        for number in range(n):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.full((4, 4), number, np.uint8))
        return tmp_path / name

    first, second = write("first", 3), write("second", 40)

    def slow(image: np.ndarray) -> int:
        time.sleep(0.05)
        return int(image.max())

    assert controller.map(slow, first, job_dir=tmp_path / "job", chunk_size=1).wait(60)
    job = controller.resume(tmp_path / "job", images=second)
    next(record for record in job if "second" in record.key)
    job.abort()
    assert job.wait(60)
    assert 3 < parimg.open_job(tmp_path / "job").progress < 43
    assert job.counts["total"] == 43
    assert parimg.open_job(tmp_path / "job").counts["total"] == 43
    job = controller.resume(tmp_path / "job", images=second)  # once more, and now it is a part of what is known
    next(record for record in job if "second" in record.key)
    job.abort()
    assert job.counts["total"] == 43
    resumed = controller.resume(tmp_path / "job")
    assert len(resumed.get(60)) == 43
    assert resumed.state == "finished"
    assert sorted(record["value"] for record in resumed) == sorted([*range(3), *range(40)])
    assert controller.resume(tmp_path / "job", images=second).get(60) == resumed.get()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"retries": -1}, JobError),
        ({"no_option": 1}, JobError),
        ({"images": "no_such_folder"}, SourceError),
        ({}, SourceError),  # it was made of arrays
    ],
)
def test_a_resume_that_is_refused_leaves_the_job_as_it_was(
    controller: parimg.Controller, tmp_path: Path, wrong: dict[str, Any], error: type[Exception]
) -> None:
    images = {str(number): np.full(1, number) for number in range(3)}
    job = controller.map(np.max, images, job_dir=tmp_path / "job")
    assert job.wait(60)
    with pytest.raises(error):
        controller.resume(tmp_path / "job", **wrong)
    opened = parimg.open_job(tmp_path / "job")
    assert (opened.state, opened.writer, len(opened._journal.seconds_by_run())) == ("finished", "", 1)
    assert controller.resume(tmp_path / "job", images=images).wait(60)


def test_a_run_that_cannot_begin_is_no_running_job(
    controller: parimg.Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(controller._supervisor, "watch", no_thread)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        controller.map(np.max, ONE, job_dir=tmp_path / "job")
    opened = parimg.open_job(tmp_path / "job")
    assert (opened.state, opened.writer) == ("failed", "")
    monkeypatch.undo()
    assert controller.resume(tmp_path / "job", images=ONE).get(60)[0].ok


def test_modules_beside_a_script_travel_with_functions_that_use_them(
    controller: parimg.Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_script.py").write_text("def stat(image):\n    return float(image[0]) + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import beside_the_script

    stat = beside_the_script.stat
    for function in (
        lambda image: stat(image) * 1,
        lambda image: beside_the_script.stat(image) * 1,
        functools.partial(stat),
    ):
        assert controller.map(function, ONE).get(60)[0]["value"] == 2.0


def test_a_job_that_close_cuts_short_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with parimg.start(n=1) as controller:
        job = controller.map(lambda image: time.sleep(0.2), {str(number): np.ones(1) for number in range(50)})
    assert f"to go on: parimg resume {job.directory}" in capsys.readouterr().err
    with pytest.raises(JobError, match="not all images have a record"):
        job.get()


def test_a_controller_that_is_never_closed_ends_with_its_process(tmp_path: Path) -> None:
    code = "import os, parimg; ctl = parimg.start(n=1); print(ctl._cluster._folder, *ctl.client.ids)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not os.path.exists(result.stdout.split()[0])
    assert result.stderr in {"", "starting 1 engine ...\n"}


def test_columns_of_an_unknown_type_are_refused_at_once(controller: parimg.Controller, tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True, eq=False)
    class Count(parimg.Task):
        columns = {"pixels": "integer"}  # noqa: RUF012 - as users write it

        def __call__(self, image: np.ndarray) -> dict[str, int]:
            return {"pixels": image.size}

    with pytest.raises(TaskError, match="column 'pixels' of Count has type 'integer'"):
        controller.submit(Count(), ONE, job_dir=tmp_path / "job")
    with pytest.raises(JobError, match="listeners must be a list"):
        controller.map(np.max, ONE, listeners=print, job_dir=tmp_path / "job")
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engines": (2, 8)}, r"wants a profile, which says where more come from; .*start\(8\) takes as many"),
        ({"engines": (8, 2), "profile": "local"}, r"the least and the most, as \(2, 64\) \(got \(8, 2\)\)"),
        ({"engines": (0, 2), "profile": "local"}, "must be the least and the most"),
        ({"engines": (True, 2), "profile": "local"}, "must be the least and the most"),
        ({"engines": 4, "profile": "local"}, r"as \(2, 64\) \(got 4\)"),
        ({"engines": "2:8", "profile": "local"}, "must be the least and the most"),
        ({"n": 2, "engines": (2, 8), "profile": "local"}, r"n engines or a range of them \(got n=2"),
        ({"profile": "local"}, r"start\(64, profile='local'\), or engines=\(2, 64\)"),
    ],
)
def test_a_wrong_range_of_engines_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        parimg.start(**options)
