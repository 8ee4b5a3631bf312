"""SIFT keypoints and descriptors against OpenCV's."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree
from skimage import data

import parimg.kernels as pk
from parimg.kernels.sift.selection import strongest


class Compared(NamedTuple):
    """How many of each side's keypoints have a partner on the other, and how their descriptors differ."""

    theirs: int
    ours: int
    found: int
    wanted: int
    close_elements: float


def opencv(image: np.ndarray, mask: np.ndarray | None = None, **parameters) -> tuple[np.ndarray, np.ndarray]:
    """Rows of x, y, size, angle, response, octave; descriptors."""
    keypoints, descriptors = cv2.SIFT_create(**parameters).detectAndCompute(image, mask)
    rows = [(*point.pt, point.size, point.angle, point.response, point.octave) for point in keypoints]
    descriptors = np.empty((0, 128)) if descriptors is None else descriptors
    return np.array(rows, np.float64).reshape(-1, 6), descriptors


def rows_of(features: pk.SIFTFeatures) -> np.ndarray:
    return np.column_stack([*features[:5]]).astype(np.float64)


def partners(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Row of `right` within 0.05 pixels, 1 % of size and 0.5 degrees of each of `left`, or -1."""
    result = np.full(len(left), -1)
    if len(left) and len(right):
        for i, near in enumerate(cKDTree(right[:, :2]).query_ball_point(left[:, :2], 0.05)):
            for j in near:
                turned = abs((left[i, 3] - right[j, 3] + 180) % 360 - 180)
                if turned <= 0.5 and abs(left[i, 2] - right[j, 2]) <= 0.01 * left[i, 2]:
                    result[i] = j
    return result


def compared(image: np.ndarray, **parameters) -> Compared:
    theirs, their_descriptors = opencv(
        image,
        **{
            {"n_octave_layers": "nOctaveLayers", "contrast_threshold": "contrastThreshold",
             "edge_threshold": "edgeThreshold"}.get(name, name): value
            for name, value in parameters.items()
        },
    )  # fmt: skip
    features = pk.detect_sift(image, **parameters)
    ours = rows_of(features)
    forth, back = partners(theirs, ours), partners(ours, theirs)
    paired = forth >= 0
    difference = np.abs(their_descriptors[paired] - features.descriptors[forth[paired]])
    close = float((difference <= 2).mean()) if paired.any() else 1.0
    return Compared(len(theirs), len(ours), int(paired.sum()), int((back >= 0).sum()), close)


def assert_faithful(results: list[Compared]) -> None:
    theirs, ours, found, wanted = (sum(result[k] for result in results) for k in range(4))
    assert found >= 0.995 * theirs
    assert wanted >= 0.995 * ours
    assert min(result.close_elements for result in results) >= 0.99


def picture(name: str) -> np.ndarray:
    image = getattr(data, name)()
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image


def smooth_noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)


@pytest.mark.parametrize("name", ["camera", "astronaut", "coins", "brick", "chelsea", "page", "text"])
def test_pictures_have_the_keypoints_and_descriptors_of_opencv(name: str) -> None:
    result = compared(picture(name))
    assert result.theirs > 100
    assert_faithful([result])


def test_views_and_photographs_have_the_keypoints_and_descriptors_of_opencv(
    temple_ring: list[str], data_folder: Path
) -> None:
    paths = [*temple_ring[::6], *map(str, sorted((data_folder / "lund").glob("*.jpg"))[::12])]
    results = [compared(cv2.imread(path, cv2.IMREAD_GRAYSCALE)) for path in paths]
    assert min(result.theirs for result in results) > 300
    assert_faithful(results)


def test_noise_of_even_and_odd_sizes_has_the_keypoints_of_opencv() -> None:
    sizes = [(101, 77), (255, 257), (121, 200), (33, 140), (64, 64)]
    results = [compared(smooth_noise(*size)) for size in sizes]
    results += [compared(np.random.default_rng(1).integers(0, 256, size).astype(np.uint8)) for size in sizes]
    assert sum(result.theirs for result in results) > 3000
    assert_faithful(results)


def test_tiny_images_have_the_keypoints_of_opencv() -> None:
    sizes = [(h, w) for h in (1, 2, 5, 6, 7, 11, 16, 23, 40) for w in (1, 3, 6, 8, 13, 17, 29, 40)]
    results = [compared(smooth_noise(*size, seed=seed)) for size in sizes for seed in range(3)]
    assert sum(result.theirs for result in results) > 500
    assert_faithful(results)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_octave_layers": 1},
        {"n_octave_layers": 5},
        {"contrast_threshold": 0.01},
        {"contrast_threshold": 0.0},
        {"edge_threshold": 4.0},
        {"sigma": 1.2},
        {"sigma": 2.7},
        {"sigma": 0.6},
    ],
)
def test_parameters_mean_what_they_mean_to_opencv(parameters: dict[str, float]) -> None:
    assert_faithful([compared(picture("camera"), **parameters), compared(picture("coins"), **parameters)])


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_a_flat_image_has_no_keypoints(value: int) -> None:
    features = pk.detect_sift(np.full((90, 120), value, np.uint8))
    assert [len(column) for column in features] == [0] * 6


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (7, 0), (1, 1), (3, 4), (5, 5)])
def test_an_image_too_small_for_a_keypoint_gives_empty_arrays(shape: tuple[int, int]) -> None:
    features = pk.detect_sift(np.zeros(shape, np.uint8))
    assert features.points.shape == (0, 2)
    assert features.descriptors.shape == (0, 128)
    assert features.octave.dtype == np.int32


def test_keypoints_come_in_the_order_of_opencv() -> None:
    for name in ("camera", "astronaut"):
        theirs, _ = opencv(picture(name))
        ours = rows_of(pk.detect_sift(picture(name)))
        np.testing.assert_allclose(ours[:, :3], theirs[:, :3], rtol=1e-3, atol=0.01)
        packed = (theirs[:, 5].astype(int) & 0xFFFF) == (ours[:, 5].astype(int) & 0xFFFF)
        assert packed.all()
        assert np.abs((theirs[:, 5].astype(int) >> 16) - (ours[:, 5].astype(int) >> 16)).max() <= 1


@pytest.mark.parametrize("n_features", [1, 50, 300, 700])
def test_the_strongest_are_cut_and_ordered_as_by_opencv(n_features: int) -> None:
    theirs, _ = opencv(picture("astronaut"), nfeatures=n_features)
    ours = rows_of(pk.detect_sift(picture("astronaut"), n_features))
    np.testing.assert_allclose(ours[:, :2], theirs[:, :2], atol=0.05)


def test_a_tie_at_the_cut_keeps_all_that_are_equal() -> None:
    # Two directions of one place have one response: OpenCV keeps 301 of 300 here.
    assert len(opencv(picture("camera"), nfeatures=300)[0]) == 301
    assert len(pk.detect_sift(picture("camera"), 300).points) == 301


def test_the_strongest_of_few_numbers_are_found_with_their_ties() -> None:
    random = np.random.default_rng(0)
    for size in [*range(1, 12), 100]:
        responses = random.integers(0, 6, size).astype(np.float32)
        for n in range(1, size + 1):
            least = np.sort(responses)[::-1][n - 1]
            order = strongest(responses, n)
            assert sorted(order.tolist()) == np.flatnonzero(responses >= least).tolist()


def test_a_mask_applies_after_the_cut_as_in_opencv() -> None:
    image = picture("camera")
    mask = np.zeros(image.shape, np.uint8)
    mask[100:400, 51:300] = 1
    for n_features in (0, 200):
        theirs, _ = opencv(image, mask, nfeatures=n_features)
        features = pk.detect_sift(image, n_features, mask=mask)
        np.testing.assert_allclose(features.points, theirs[:, :2], atol=0.05)
        again = pk.detect_sift(image, n_features, mask=mask.astype(bool))
        np.testing.assert_array_equal(again.descriptors, features.descriptors)


def test_layout_and_writeability_of_the_image_do_not_matter() -> None:
    image = picture("camera")[:301, :407]
    expected = pk.detect_sift(np.ascontiguousarray(image))
    frozen = image.copy()
    frozen.flags.writeable = False
    columns = np.asfortranarray(image)
    backwards = image[::-1, ::-1].copy()[::-1, ::-1]
    for other in (image, frozen, columns, backwards, np.repeat(image, 2, axis=1)[:, ::2]):
        features = pk.detect_sift(other)
        assert all(np.array_equal(a, b) for a, b in zip(features, expected, strict=True))


def test_the_answer_does_not_depend_on_what_was_detected_before() -> None:
    image = picture("coins")
    expected = pk.detect_sift(image)
    pk.detect_sift(np.random.default_rng(0).integers(0, 256, (700, 900)).astype(np.uint8))
    pk.detect_sift(np.full((50, 3000), 255, np.uint8))
    features = pk.detect_sift(image)
    assert all(np.array_equal(a, b) for a, b in zip(features, expected, strict=True))


def test_threads_do_not_disturb_each_other() -> None:
    pictures = [picture(name) for name in ("camera", "coins", "brick", "page")]
    expected = [pk.detect_sift(image) for image in pictures]
    results: dict[int, pk.SIFTFeatures] = {}

    def detect(k: int) -> None:
        for _ in range(3):
            results[k] = pk.detect_sift(pictures[k])

    threads = [threading.Thread(target=detect, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        assert all(np.array_equal(a, b) for a, b in zip(results[k], expected[k], strict=True))


def test_keypoints_turn_into_those_of_opencv() -> None:
    features = pk.detect_sift(picture("coins"))
    keypoints = features.to_opencv()
    _, descriptors = cv2.SIFT_create().compute(picture("coins"), keypoints)
    assert (np.abs(descriptors - features.descriptors) <= 2).mean() > 0.99
    assert keypoints[3].octave == features.octave[3]
    assert keypoints[3].response == features.response[3]


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((9, 9)), TypeError, "array of uint8 .got float64"),
        (np.zeros((9, 9), np.uint16), TypeError, "got uint16"),
        ([[1, 2]], TypeError, "got a list"),
        (np.zeros((9, 9, 3), np.uint8), ValueError, r"\(9, 9, 3\)"),
        (np.zeros(9, np.uint8), ValueError, r"\(9,\)"),
    ],
)
def test_what_is_no_gray_image_is_refused(image: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pk.detect_sift(image)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_features": -1}, ValueError, "n_features must be at least 0 .got -1"),
        ({"n_features": 2.0}, TypeError, "n_features must be an integer"),
        ({"n_features": True}, TypeError, "n_features must be an integer"),
        ({"n_octave_layers": 0}, ValueError, "n_octave_layers must be 1 to 255"),
        ({"contrast_threshold": -0.1}, ValueError, "contrast_threshold"),
        ({"contrast_threshold": "0.1"}, TypeError, "contrast_threshold"),
        ({"edge_threshold": 0}, ValueError, "edge_threshold must be finite and larger than 0"),
        ({"sigma": float("nan")}, ValueError, "sigma"),
        ({"sigma": 0.0}, ValueError, "sigma"),
        ({"mask": np.ones((3, 3), np.uint8)}, ValueError, r"mask has shape \(3, 3\), the image \(20, 30\)"),
        ({"mask": np.ones((20, 30))}, TypeError, "mask must be an array of bool or integers"),
    ],
)
def test_parameters_out_of_their_range_are_refused(
    parameters: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pk.detect_sift(np.zeros((20, 30), np.uint8), **parameters)
