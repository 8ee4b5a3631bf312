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
from parimg.retrieval.hits import Hit
from parimg.tasks._match_picture import match_picture


def red_pixels(picture: np.ndarray) -> int:
    """Pixels of an outlier; lines are drawn smooth."""
    red, green, blue = np.moveaxis(picture.astype(int), 2, 0)
    return int((red - np.maximum(green, blue) > 80).sum())


def coloured_pixels(picture: np.ndarray) -> int:
    """Pixels that a line colours, on gray pictures."""
    return int((np.ptp(picture.astype(int), axis=2) > 50).sum())


def hues(picture: np.ndarray) -> int:
    """Number of hues, of 180, in what is clearly coloured."""
    hue, saturation, _ = np.moveaxis(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV), 2, 0)
    return int((np.bincount(hue[saturation > 150], minlength=180) > 20).sum())


def test_reference_and_image_stand_side_by_side_with_lines_in_many_colours(
    controller: parimg.Controller, temple_ring: list[str]
) -> None:
    task = parimg.MatchSIFT(temple_ring[0], verify="fundamental")
    [near] = controller.submit(task, [temple_ring[1]]).get(60)
    picture = parimg.draw_matches(near)
    assert picture.shape == (480, 1280, 3)
    assert picture.dtype == np.uint8
    gray = cv2.imread(temple_ring[0], cv2.IMREAD_GRAYSCALE)
    untouched = (picture[:, :640] == gray[:, :, None]).all(axis=2)
    assert untouched.mean() > 0.5
    assert hues(picture) > 60
    assert 0 < coloured_pixels(parimg.draw_matches(near, max_matches=5)) < coloured_pixels(picture)
    assert coloured_pixels(parimg.draw_matches(near, max_matches=0)) == 0
    assert (parimg.draw_matches(near, color="distance") != picture).any()


def test_two_matches_are_lines_from_point_to_point_and_an_outlier_lies_below() -> None:
    images = np.full((60, 100), 10, np.uint8), np.full((40, 80), 20, np.uint8)
    points = np.array([(10, 20), (10, 50), (50, 5)]), np.array([(60, 20), (60, 35), (70, 38)])
    inliers = np.array([True, True, False])
    picture = match_picture(images, points, np.array([1.0, 2.0, 3.0]), inliers)
    assert picture.shape == (60, 180, 3)
    assert picture[0, 0].tolist() == [10] * 3
    assert picture[0, 100].tolist() == [20] * 3
    assert picture[50, 170].tolist() == [0] * 3
    assert (np.ptp(picture[20, 12:158].astype(int), axis=1) > 80).all()
    assert red_pixels(picture) > 50
    assert red_pixels(match_picture(images, points, np.ones(3))) == 0


def test_by_distance_the_nearest_match_is_blue_and_the_farthest_yellow() -> None:
    images = np.zeros((30, 100), np.uint8), np.zeros((30, 100), np.uint8)
    points = np.array([(50, 5), (50, 15), (50, 25)]), np.array([(50, 5), (50, 15), (50, 25)])
    picture = match_picture(images, points, np.array([300.0, 10.0, 20.0]), color="distance")
    far, near = picture[5, 100].astype(int), picture[15, 100].astype(int)
    assert far[0] > 200
    assert far[1] > 200
    assert far[2] < 60
    assert near[2] > near[0] + 40


def test_of_very_many_matches_200_are_drawn() -> None:
    images = np.zeros((2000, 50), np.uint8), np.zeros((2000, 50), np.uint8)
    ys = np.arange(0, 2000, 2)
    points = np.column_stack([np.full(1000, 10), ys])
    picture = match_picture(images, (points, points), np.ones(1000), color="distance")
    is_line = picture[:, 50].any(axis=1).astype(int)
    assert (np.diff(is_line, prepend=0) == 1).sum() == 200


def test_each_image_of_a_job_can_have_its_picture(
    controller: parimg.Controller, temple_ring: list[str], tmp_path: Path
) -> None:
    task = parimg.MatchSIFT(temple_ring[0], pictures=tmp_path / "pictures")
    job = controller.submit(task, temple_ring[1:3])
    records = sorted(job.get(60), key=lambda record: record.key)
    for record, path in zip(records, temple_ring[1:3], strict=True):
        assert record["picture"] == str(tmp_path / "pictures" / Path(path).name)
        drawn = cv2.imread(record["picture"])[..., ::-1]
        assert drawn.shape == (480, 1280, 3)
        np.testing.assert_array_equal(drawn, parimg.draw_matches(record))
    assert "picture" in job.to_pandas().columns
    descriptors = parimg.MatchSIFT(temple_ring[0]).reference_features.descriptors
    with pytest.raises(TaskError, match="there is no picture of it"):
        parimg.MatchSIFT(descriptors, pictures=tmp_path / "pictures").resolve()


def test_pictures_of_large_images_are_scaled_down(tmp_path: Path) -> None:
    image = cv2.resize(data.camera(), (2048, 1024))
    path = parimg.MatchSIFT(image, n_features=50, pictures=tmp_path).run(image, "a.png")["picture"]
    assert cv2.imread(str(path)).shape == (500, 2000, 3)


def test_a_job_can_be_drawn_from_in_a_later_session(controller: parimg.Controller, temple_ring: list[str]) -> None:
    job = controller.submit(parimg.MatchSIFT(temple_ring[0]), temple_ring[1:2])
    job.wait(60)
    [record] = parimg.open_job(job.directory)
    assert coloured_pixels(parimg.draw_matches(record)) > 1000


def test_an_image_that_was_an_array_has_to_be_given_again(controller: parimg.Controller) -> None:
    image = data.camera()
    [record] = controller.submit(parimg.MatchSIFT(image), {"camera": image}).get(60)
    with pytest.raises(TaskError, match="give it as image="):
        parimg.draw_matches(record)
    for wrong in ({"color": "green"}, {"max_matches": -1}, {"max_matches": None}):
        with pytest.raises(TaskError, match=f"{next(iter(wrong))} must be"):
            parimg.draw_matches(record, image=image, **wrong)
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
    assert picture.shape == (58, 80, 3)  # two squares and a gap of 4: 38 high, above captions
    assert (picture[10:30, 10:30] == 200).all()
    assert (picture[10:30, 50:70] == 200).all()
