"""Plots and reports of a job that runs, here and from another process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import noise_pictures
import pytest
from matplotlib import pyplot as plt

import parimg

if TYPE_CHECKING:
    import numpy as np


@pytest.fixture
def running(controller: parimg.Controller, tmp_path: Path) -> Iterator[parimg.Job]:
    """A job with some records that would run for a minute more."""

    def slowly(image: np.ndarray) -> dict[str, float]:
        time.sleep(0.3)
        return {"mean": float(image.mean())}

    mpl.use("Agg")
    photos = noise_pictures.write_pictures(tmp_path / "photos", range(6))
    names = [str(path) for path in sorted(photos.iterdir())] * 60
    keyed = ((f"{n:03}", plt.imread(name)) for n, name in enumerate(names))
    job = controller.submit(parimg.Function(slowly), keyed, chunk_size=1)
    while job.progress < 6:
        time.sleep(0.05)
    yield job
    job.abort()
    plt.close("all")


def test_a_running_job_is_drawn_and_reported_and_runs_on(running: parimg.Job, tmp_path: Path) -> None:
    [ax] = running.plot()
    assert len(ax.get_lines()[0].get_xdata()) >= 6
    assert "images on " in running.plot_timeline().get_title(loc="left")
    parimg.write_report(running, tmp_path / "here.html")
    assert "running" in (tmp_path / "here.html").read_text(encoding="utf-8")
    command = [sys.executable, "-m", "parimg.cli", "report", running.directory, "-o", str(tmp_path / "there.html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "running" in (tmp_path / "there.html").read_text(encoding="utf-8")
    before = running.progress
    while running.progress == before:
        time.sleep(0.05)
    assert running.state == "running"
