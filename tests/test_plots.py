"""Pictures of matches, from the records of real jobs."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

import parimg
from parimg.errors import TaskError
from parimg.retrieval.image_index import Hit


def green_pixels(picture: np.ndarray) -> int:
    """Pixels that a line colours; lines are drawn smooth, on gray pictures."""
    red, green, blue = np.moveaxis(picture.astype(int), 2, 0)
    return int((green - np.maximum(red, blue) > 50).sum())


def test_reference_and_image_stand_side_by_side_with_lines_between_inliers(
    controller: parimg.Controller, temple_ring: list[str]
) -> None:
    task = parimg.MatchSIFT(temple_ring[0], verify="fundamental")
    near, far = controller.submit(task, [temple_ring[1], temple_ring[20]]).get(60)
    picture = parimg.draw_matches(near)
    assert picture.shape == (480, 1280, 3)
    assert picture.dtype == np.uint8
    gray = cv2.imread(temple_ring[0], cv2.IMREAD_GRAYSCALE)
    untouched = (picture[:, :640] == gray[:, :, None]).all(axis=2)
    assert untouched.mean() > 0.5
    assert green_pixels(picture) > green_pixels(parimg.draw_matches(far)) > 0
    assert 0 < green_pixels(parimg.draw_matches(near, max_matches=5)) < green_pixels(picture)


def test_a_job_can_be_drawn_from_in_a_later_session(controller: parimg.Controller, temple_ring: list[str]) -> None:
    job = controller.submit(parimg.MatchSIFT(temple_ring[0]), temple_ring[1:2])
    job.wait(60)
    [record] = parimg.open_job(job.directory)
    assert green_pixels(parimg.draw_matches(record)) > 1000


def test_an_image_that_was_an_array_has_to_be_given_again(controller: parimg.Controller) -> None:
    image = data.camera()
    [record] = controller.submit(parimg.MatchSIFT(image), {"camera": image}).get(60)
    with pytest.raises(TaskError, match="give it as image="):
        parimg.draw_matches(record)
    assert parimg.draw_matches(record, image=image).shape == (512, 1024, 3)


def test_what_cannot_be_drawn_is_told(controller: parimg.Controller, temple_ring: list[str]) -> None:
    [other] = controller.map(np.max, {"one": np.ones(1)}).get(60)
    with pytest.raises(TaskError, match="only MatchSIFT's matches can be drawn"):
        parimg.draw_matches(other)
    [failed] = controller.submit(parimg.MatchSIFT(temple_ring[0]), ["missing.png"]).get(60)
    with pytest.raises(TaskError, match=r"'missing\.png' failed in decode"):
        parimg.draw_matches(failed)
    descriptors = parimg.MatchSIFT(temple_ring[0]).reference_features.descriptors
    [record] = controller.submit(parimg.MatchSIFT(descriptors), temple_ring[:1]).get(60)
    with pytest.raises(TaskError, match="there is no picture of it"):
        parimg.draw_matches(record)


def test_hits_whose_names_are_no_text_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(cv2.imencode(".png", np.full((40, 40), 200, np.uint8))[1].tobytes())
    hit = Hit(1, r"caf\udce9.png", 1.0, 1.0, None, None, None, str(path))
    picture = parimg.draw_hits([hit], query=path, tile=40)
    assert picture.shape == (60, 80, 3)
    assert (picture[10:30, 10:30] == 200).all()
    assert (picture[10:30, 50:70] == 200).all()
