"""Plots of whole jobs, from journals made by hand; what is drawn is asked of matplotlib's artists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from made_journals import make_journal, row
from matplotlib import pyplot as plt

import parimg
from parimg.errors import JobError
from parimg.images.readers.part import Described
from parimg.job.job import Job
from parimg.job.plotting import new_axes, plot_record
from parimg.record import Record


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    mpl.use("Agg")
    yield
    plt.close("all")


def lines_of(ax: plt.Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.get_lines()}


def test_numbers_are_drawn_over_the_sequence_with_what_failed_below(tmp_path: Path) -> None:
    rows = [row(n, matches=100 - n) for n in (2, 0, 1)]  # in order of completion
    job = Job(make_journal(tmp_path / "job", [*rows, row(3, status="failed")]))
    [ax] = job.plot()
    lines = lines_of(ax)
    assert lines["matches"] == ([0, 1, 2], [100, 99, 98])
    assert lines["1 failed"][0] == [3]
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == ["0000000.png", "0000001.png", "0000002.png", "0000003.png"]


def test_a_name_with_dollars_is_no_formula(tmp_path: Path) -> None:
    job = Job(make_journal(tmp_path / "job", [row(0, key=r"$\undefined{x}$.png", value=1.0), row(1, value=2.0)]))
    [ax] = job.plot()
    ax.figure.savefig(tmp_path / "plot.png")  # a formula that cannot be read would raise
    assert ax.get_xticklabels()[0].get_text() == r"$\undefined{x}$.png"


def test_only_the_columns_asked_for_are_drawn_and_a_missing_value_is_a_gap(tmp_path: Path) -> None:
    rows = [row(0, a=1, b=5.0), row(1, a=2, b=None), row(2, a=3, b=float("nan"))]
    job = Job(make_journal(tmp_path / "job", rows))
    [ax] = job.plot(columns=["b"])
    x, y = lines_of(ax)["b"]
    assert x == [0, 1, 2]
    assert y[0] == 5
    assert np.isnan(y[1:]).all()
    with pytest.raises(JobError, match="no column 'c'; there is a, b"):
        job.plot(columns=["c"])


def test_many_images_are_a_band_that_holds_every_value(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    journal = make_journal(tmp_path / "job", [row(n, value=float(value)) for n, value in enumerate(values)])
    [ax] = Job(journal).plot()
    [line] = ax.get_lines()
    assert len(line.get_xdata()) == 1000
    [band] = ax.collections
    vertices = band.get_paths()[0].vertices
    assert vertices[:, 1].max() == pytest.approx(values.max())
    assert vertices[:, 1].min() == pytest.approx(values.min())


def test_axes_that_are_given_are_drawn_on_and_nothing_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("shown"))
    job = Job(make_journal(tmp_path / "job", [row(0, value=1)]))
    _, axes = plt.subplots(2, 2)
    assert job.plot(axes[0, 0]) == [axes[0, 0]]
    assert job.plot_timeline(axes[1, 1]) is axes[1, 1]
    assert plt.get_fignums() == [1]


def test_pictures_of_images_fill_the_axes_and_what_is_gone_is_said(tmp_path: Path) -> None:
    image = tmp_path / "there.png"
    cv2.imwrite(str(image), np.full((20, 30), 77, np.uint8))
    rows = [row(0, uri=str(image), key="there.png", mean=77.0), row(1, uri=str(tmp_path / "gone.png"), mean=3.0)]
    journal = make_journal(tmp_path / "job", rows, task=parimg.Convolve("identity"))
    _, axes = plt.subplots(1, 3)
    there, gone, empty = Job(journal).plot(axes)
    [drawn] = there.get_images()
    assert drawn.get_array().shape == (20, 62, 3)  # before and after, with two columns of white between
    assert (drawn.get_array()[:, :30] == 77).all()
    assert (drawn.get_array()[:, 32:] == 77).all()
    assert [text.get_text() for text in gone.texts] == ["the image is not at hand"]
    assert not empty.get_images()
    assert there.get_title().startswith("there.png")


def test_a_job_in_which_all_failed_shows_the_images_with_their_errors(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "job", [row(0, status="failed")], task=parimg.Convolve("identity"))
    [ax] = Job(journal).plot()
    assert ax.get_title() == "0000000.png\nValueError"
    assert ax.texts[0].get_text() == "ValueError: no such level"


def test_a_job_without_records_says_that_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="recorded yet, so there is nothing to draw"):
        Job(make_journal(tmp_path / "job")).plot()


def test_a_long_message_leaves_the_other_pictures_their_room(tmp_path: Path) -> None:
    image = tmp_path / "there.png"
    cv2.imwrite(str(image), np.full((20, 30), 77, np.uint8))
    rows = [row(n, uri=str(image), mean=77.0) for n in range(4)]
    journal = make_journal(tmp_path / "job", rows, task=parimg.Convolve("identity"))
    axes = new_axes(5)
    for ax, record in zip(axes, Job(journal), strict=False):
        plot_record(parimg.Convolve("identity"), record, Described(np.zeros((20, 30), np.uint8)), ax)
    failed = Record("x" * 300, "failed", error="ValueError", message="a long message " * 100)
    plot_record(parimg.Convolve("identity"), failed, None, axes[4])
    axes[0].figure.canvas.draw()
    widths = [ax.get_position(original=True).width for ax in axes]
    assert min(widths) > 0.25
    assert axes[4].texts[0].get_text().startswith("ValueError: a long message a long\n")


def test_each_image_is_a_bar_in_a_short_timeline(tmp_path: Path) -> None:
    rows = [row(0, started=10, decode=1, task=2), row(1, started=14, task=2), row(2, started=11, task=4, engine=1)]
    ax = Job(make_journal(tmp_path / "job", rows)).plot_timeline()
    spans = {
        (round(x.min(), 6), round(x.max(), 6), round(y.mean()))
        for bars in ax.collections
        for x, y in (path.vertices.T for path in bars.get_paths())
    }
    assert {(0, 1, 0), (1, 3, 0), (4, 6, 0), (1, 5, 1)} <= spans
    assert [label.get_text() for label in ax.get_yticklabels()] == ["engine 0", "engine 1"]
    assert ax.get_xlabel() == "seconds of work"


def test_a_long_timeline_of_many_engines_is_one_picture_with_a_row_for_each(tmp_path: Path) -> None:
    chunks = [
        [
            row(100 * engine + n, started=72.0 * n, task=36.0, engine=engine, host=f"node{engine % 3}")
            for n in range(100)
        ]
        for engine in range(60)
    ]
    ax = Job(make_journal(tmp_path / "job", *chunks)).plot_timeline()
    [image] = ax.get_images()
    assert image.get_array().shape == (60, 240)
    assert image.get_array().mean() == pytest.approx(0.5, abs=0.02)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["node0", "node1", "node2"]
    assert ax.get_xlabel() in {"minutes of work", "hours of work"}
    assert ax.get_title(loc="left") == "6000 images on 60 engines, busy 50% of their time"
