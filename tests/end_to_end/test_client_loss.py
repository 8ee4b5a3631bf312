"""The client ends in the middle of a job, one way or another: the journal is whole, the next client goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import parimg
from parimg.errors import JobError, JobLockedError

N = 600  # images, of which two engines do a hundred a second
SUBMIT = f"""
import sys, time, numpy as np, parimg
def slowly(image):
    time.sleep(0.02)
    return int(image[0])
images = {{f"{{n:04d}}": np.full(1, n) for n in range({N})}}
ctl = parimg.start(n=2)
job = ctl.map(slowly, images, job_dir=sys.argv[1])
job.wait()
"""
IMAGES = f"{{f'{{n:04d}}': np.full(1, n) for n in range({N})}}"


def images() -> dict[str, object]:
    import numpy as np

    return {f"{n:04d}": np.full(1, n) for n in range(N)}


def wait_for_records(job_dir: Path, n: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(JobError):
            if parimg.open_job(job_dir).progress >= n:
                return
        time.sleep(0.05)
    raise AssertionError(f"no {n} records after 60 s")


@contextlib.contextmanager
def client_in_terminal(job_dir: Path) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """A terminal, and the client that runs in it."""
    command = [sys.executable, "-c", SUBMIT, str(job_dir)]
    terminal = [sys.executable, "-c", f"import pty; pty.spawn({command!r})"]
    with subprocess.Popen(terminal, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        wait_for_records(job_dir, 10)
        [client] = psutil.Process(process.pid).children()
        yield process, client
        process.kill()


@pytest.mark.parametrize("end", ["SIGTERM", "closed terminal"])
def test_whatever_ends_the_client_the_journal_is_whole_and_the_next_client_goes_on(
    controller: parimg.Controller, tmp_path: Path, end: str
) -> None:
    job_dir = tmp_path / "job"
    with client_in_terminal(job_dir) as (terminal, client):
        family = client.children(recursive=True)
        with pytest.raises(
            JobLockedError, match=rf"is being written by process {client.pid} on {os.uname().nodename}"
        ):
            controller.resume(job_dir, images=images())
        if end == "closed terminal":
            terminal.kill()
        else:
            client.send_signal(signal.SIGTERM)
        psutil.wait_procs([client], timeout=20)
        assert not client.is_running()
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []
    killed = parimg.open_job(job_dir)
    assert killed.state == "interrupted"
    before = {record.key: record for record in killed}
    assert 10 <= len(before) < N
    resumed = controller.resume(job_dir, images=images())
    assert resumed.wait(60)
    after = {record.key: record for record in resumed}
    assert {key: record["value"] for key, record in after.items()} == {f"{n:04d}": n for n in range(N)}
    assert {key: after[key] for key in before} == before


def test_a_kernel_that_is_restarted_goes_on_with_its_job(tmp_path: Path) -> None:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", env=os.environ | {"PYTHONPATH": os.getcwd()})
    try:
        cell = SUBMIT.replace("sys.argv[1]", repr(str(tmp_path / "job"))).replace("job.wait()", "")
        answer = client.execute_interactive(cell, timeout=60, output_hook=lambda message: None)
        assert answer["content"]["status"] == "ok", answer["content"]
        wait_for_records(tmp_path / "job", 10)
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        again = (
            "import numpy as np, parimg\n"
            "with parimg.start(n=2) as ctl:\n"
            f"    job = ctl.resume({str(tmp_path / 'job')!r}, images={IMAGES})\n"
            "    assert job.wait(60)"
        )
        answer = client.execute_interactive(again, timeout=90, output_hook=lambda message: None)
        assert answer["content"]["status"] == "ok", answer["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    job = parimg.open_job(tmp_path / "job")
    assert job.state == "finished"
    assert job.counts == {"ok": N, "failed": 0, "done": N, "total": N}
    assert len({record.pid for record in job}) >= 3  # engines of two clusters


def test_a_client_that_is_killed_leaves_no_folder_of_its_cluster(tmp_path: Path) -> None:
    program = "import parimg, time; ctl = parimg.start(1); print('up', flush=True); time.sleep(99)"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        assert len(list(tmp_path.glob("parimg-cluster-*"))) == 1
        client.kill()
    deadline = time.monotonic() + 30
    while list(tmp_path.glob("parimg-cluster-*")):
        assert time.monotonic() < deadline, "it is there after 30 s"
        time.sleep(0.1)
    time.sleep(1)
    assert list(tmp_path.glob("parimg-cluster-*")) == []
