"""What jobs, records and failures show in a notebook, of journals that were made by hand and of a real job."""

from __future__ import annotations

from pathlib import Path

import noise_pictures
import numpy as np
import pytest

import parimg

EVIL = "<script>alert(1)</script>"


def fails_for_small(image: np.ndarray) -> dict[str, object]:
    if image.size < 10:
        raise ValueError(f"too small {EVIL}")
    return {"mean": float(image.mean()), EVIL: EVIL}


@pytest.fixture(scope="module")
def mixed(controller: parimg.Controller) -> parimg.Job:
    images = {f"{EVIL}{n}": np.full((n, 2), n, np.uint8) for n in (2, 3, 8, 9)}
    job = controller.map(fails_for_small, images)
    job.wait()
    return job


def test_a_job_shows_its_counts_and_why_images_failed(mixed: parimg.Job) -> None:
    shown = mixed._repr_html_()
    assert "<b>fails_for_small</b>" in shown
    assert ">finished</span>" in shown
    assert "4 of 4 images, 2 failed" in shown
    assert "ValueError: too small &lt;script&gt;" in shown
    assert mixed.directory in shown


def test_failures_show_their_causes_once(mixed: parimg.Job) -> None:
    shown = mixed.failures._repr_html_()
    assert "2 images" in shown
    assert shown.count("ValueError: too small") == 1


def test_a_record_shows_its_values_or_its_error(mixed: parimg.Job) -> None:
    assert "8" in mixed[2]._repr_html_()
    assert "ValueError: too small" in mixed[0]._repr_html_()


def test_nothing_from_outside_becomes_markup(mixed: parimg.Job) -> None:
    for shown in (mixed, mixed.failures, *mixed):
        html = shown._repr_html_()
        assert "&lt;script&gt;" in html
        assert "<script" not in html


def test_a_record_of_a_file_has_its_picture_and_one_whose_file_is_gone_has_none(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    folder = noise_pictures.write_pictures(tmp_path / "photos", range(2))
    job = controller.map(np.max, folder)
    job.wait()
    first, second = job.in_order()
    Path(second.uri).unlink()
    assert "data:image/jpeg;base64," in first._repr_html_()
    assert "data:image" in job._repr_html_()
    assert "data:image" not in second._repr_html_()
    assert "value" in second._repr_html_()


def test_a_controller_shows_its_engines_and_that_it_runs_no_job(controller: parimg.Controller) -> None:
    shown = controller._repr_html_()
    assert "2 engines" in shown
    assert "no job runs" in shown
    assert "127.0.0.1" in shown


def test_matches_and_graphs_show_their_numbers() -> None:
    from parimg.kernels import pixel_graph
    from parimg.kernels.regions.search import RegionMatch, RegionMatches

    graph = pixel_graph([[1, 1, 0], [0, 0, 1]])._repr_html_()
    assert "2 x 3" in graph
    assert "data:image/png;base64," in graph
    assert "data:image" not in pixel_graph(np.zeros((3, 3)))._repr_html_()
    match = RegionMatch((1, 2, 4, 8), 0.25)
    assert "3 x 6" in match._repr_html_()
    assert "1 found, 77 windows compared" in RegionMatches([match], 77)._repr_html_()
