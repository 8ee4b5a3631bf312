"""MatchSIFT against OpenCV and the published table, without a cluster."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from skimage import data

from parimg import MatchSIFT
from parimg.demo import make_views
from parimg.errors import TaskError


def cv2_descriptors(path: str) -> np.ndarray:
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    _, descriptors = cv2.SIFT_create(nfeatures=5000).detectAndCompute(image, mask=None)
    return descriptors


@pytest.fixture(scope="module")
def views(temple_ring: list[str]) -> list[np.ndarray]:
    return [cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in temple_ring]


@pytest.fixture(scope="module")
def camera() -> np.ndarray:
    return data.camera()


@pytest.mark.slow
def test_mutual_matches_are_exactly_those_of_opencv_on_all_views(
    temple_ring: list[str], views: list[np.ndarray]
) -> None:
    task = MatchSIFT(temple_ring[0], cross_check="mutual", detector="opencv", return_pairs=True)
    reference = cv2_descriptors(temple_ring[0])
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
    for path, view in zip(temple_ring, views, strict=True):
        values = task(view)
        expected = matcher.match(reference, cv2_descriptors(path))
        assert values["matches"] == len(expected)
        assert values["pairs"].tolist() == [[match.queryIdx, match.trainIdx] for match in expected]


@pytest.mark.parametrize("detector", ["parimg", "opencv"])
def test_one_way_matches_reproduce_the_published_table_within_six_percent(
    data_folder: Path, temple_ring: list[str], views: list[np.ndarray], detector: str
) -> None:
    with open(data_folder / "templeRing" / "published_matches.csv", newline="", encoding="utf-8") as file:
        published = {row["image"]: int(row["matches"]) for row in csv.DictReader(file)}
    assert len(published) == 47
    task = MatchSIFT(temple_ring[0], cross_check="one-way", detector=detector)
    for path, view in zip(temple_ring, views, strict=True):
        expected = published[Path(path).name]
        assert task(view)["matches"] == pytest.approx(expected, rel=0.06)


def test_both_detectors_give_the_same_numbers_of_matches_within_two_percent(views: list[np.ndarray]) -> None:
    differences = []
    for reference in (0, 15, 30):
        ours, theirs = (MatchSIFT(views[reference], detector=detector) for detector in ("parimg", "opencv"))
        for view in views[:47:5]:
            counts = [task(view)["matches"] for task in (ours, theirs)]
            differences.append(abs(counts[0] - counts[1]) / counts[1])
    assert np.mean(differences) < 0.02


def test_the_descriptors_of_either_detector_are_a_reference_for_both(views: list[np.ndarray]) -> None:
    for detector in ("parimg", "opencv"):
        expected = MatchSIFT(views[0], detector=detector)(views[1])["matches"]
        for other in ("parimg", "opencv"):
            descriptors = MatchSIFT(views[0], detector=other).reference_features.descriptors
            for given in (descriptors, descriptors.astype(np.float32)):
                matches = MatchSIFT(given, detector=detector)(views[1])["matches"]
                assert matches == pytest.approx(expected, rel=0.02)


def test_without_cross_check_every_reference_descriptor_has_a_match(views: list[np.ndarray]) -> None:
    task = MatchSIFT(views[0], cross_check=None)
    assert task(views[1])["matches"] == len(task.reference_features.descriptors)


def test_the_ratio_test_keeps_what_knn_match_keeps(temple_ring: list[str], views: list[np.ndarray]) -> None:
    task = MatchSIFT(views[0], cross_check=None, max_ratio=0.75, detector="opencv")
    nearest = cv2.BFMatcher(cv2.NORM_L2).knnMatch(
        cv2_descriptors(temple_ring[0]), cv2_descriptors(temple_ring[1]), k=2
    )
    assert task(views[1])["matches"] == sum(best.distance < 0.75 * second.distance for best, second in nearest)


def test_the_reference_may_be_a_path_an_array_or_descriptors(
    temple_ring: list[str], views: list[np.ndarray], tmp_path: Path
) -> None:
    descriptors = cv2_descriptors(temple_ring[0])
    np.save(tmp_path / "reference.npy", descriptors)
    references = [
        temple_ring[0],
        Path(temple_ring[0]),
        views[0],
        descriptors,
        descriptors.astype(np.uint8),
        str(tmp_path / "reference.npy"),
    ]
    values = [MatchSIFT(reference, detector="opencv")(views[5]) for reference in references]
    assert all(value == values[0] for value in values)


def test_a_colour_reference_is_turned_gray(camera: np.ndarray) -> None:
    colour = np.repeat(camera[:, :, None], 3, axis=2)
    assert MatchSIFT(colour)(camera) == MatchSIFT(camera)(camera)


def test_the_reference_itself_matches_in_every_distinct_feature_at_distance_zero(camera: np.ndarray) -> None:
    values = MatchSIFT(camera)(camera)
    assert values["distance_median"] == 0.0
    assert values["matches"] > 0.9 * values["features"]


def test_a_blank_image_has_no_features_and_no_matches(camera: np.ndarray) -> None:
    blank = np.zeros((100, 100), np.uint8)
    assert MatchSIFT(camera)(blank) == {"features": 0, "matches": 0, "distance_median": None}


@pytest.mark.parametrize("cross_check", ["mutual", "one-way", None])
@pytest.mark.parametrize("detector", ["parimg", "opencv"])
def test_an_empty_image_has_no_matches(camera: np.ndarray, cross_check: str | None, detector: str) -> None:
    empty = np.empty((0, 0), np.uint8)
    assert MatchSIFT(camera, cross_check=cross_check, detector=detector)(empty)["matches"] == 0


def test_read_only_and_strided_images_are_taken_and_not_changed(camera: np.ndarray) -> None:
    doubled = np.repeat(np.repeat(camera, 2, axis=0), 2, axis=1)[::2, ::2]
    doubled.flags.writeable = False
    assert MatchSIFT(camera)(doubled) == MatchSIFT(camera)(camera)


def test_features_lie_inside_the_mask(camera: np.ndarray) -> None:
    mask = np.zeros(camera.shape, np.uint8)
    mask[:, :200] = 1
    keypoints = MatchSIFT(camera, mask=mask, return_keypoints=True)(camera)["keypoints"]
    assert len(keypoints) > 10
    assert keypoints[:, 0].max() < 200


def test_the_mask_may_be_a_file(camera: np.ndarray, tmp_path: Path) -> None:
    mask = np.zeros(camera.shape, np.uint8)
    mask[100:300] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    assert MatchSIFT(camera, mask=tmp_path / "mask.png")(camera) == MatchSIFT(camera, mask=mask)(camera)


def palette(is_set: np.ndarray) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(is_set.astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 1, 0, 0])
    return picture


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("uint8.png", lambda is_set: PIL.Image.fromarray(is_set.astype(np.uint8))),
        ("uint16.png", lambda is_set: PIL.Image.fromarray(is_set.astype(np.uint16))),
        ("int32.tif", lambda is_set: PIL.Image.fromarray(is_set.astype(np.int32))),
        ("float32.tif", lambda is_set: PIL.Image.fromarray(is_set.astype(np.float32) / 1000)),
        ("bit.png", PIL.Image.fromarray),
        ("bit.tif", PIL.Image.fromarray),
        ("palette.png", palette),
        ("blue.png", lambda is_set: PIL.Image.fromarray(is_set[..., None] * np.array([0, 0, 1], np.uint8))),
        ("alpha.png", lambda is_set: PIL.Image.fromarray(is_set[..., None] * np.array([0, 0, 0, 9], np.uint8))),
        (
            "painted.png",
            lambda is_set: PIL.Image.fromarray(is_set[..., None] * np.array([1, 0, 0, 255], np.uint8)),
        ),
        ("opaque.png", lambda is_set: PIL.Image.fromarray(is_set.astype(np.uint8)).convert("LA")),
    ],
)
def test_what_is_not_0_in_a_mask_is_looked_at_however_it_is_stored(
    camera: np.ndarray, tmp_path: Path, name: str, make: Callable[[np.ndarray], PIL.Image.Image]
) -> None:
    is_set = np.zeros(camera.shape, bool)
    is_set[:, :200] = True
    make(is_set).save(tmp_path / name)
    wanted = MatchSIFT(camera, mask=is_set.astype(np.uint8) * np.uint8(255))(camera)
    assert wanted["features"] > 100
    assert MatchSIFT(camera, mask=tmp_path / name)(camera) == wanted


@pytest.mark.parametrize("dtype", ["bool", "int16", "int64", "uint32", "float64", ">u2"])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_a_mask_may_be_an_array_of_any_dtype_with_or_without_channels(
    camera: np.ndarray, dtype: str, channels: tuple[int, ...]
) -> None:
    mask = np.zeros((*camera.shape, *channels), dtype)
    mask[:, :200] = 1
    wanted = MatchSIFT(camera, mask=(np.arange(512) < 200) * np.ones((512, 1)))(camera)
    assert MatchSIFT(camera, mask=mask)(camera) == wanted


def test_what_is_no_mask_is_told(camera: np.ndarray) -> None:
    for mask in (np.zeros(5), np.zeros((2, 2, 2, 2)), np.zeros((2, 2), complex), np.zeros((2, 2, 0))):
        with pytest.raises(TaskError, match="mask must have shape"):
            MatchSIFT(camera, mask=mask).resolve()


def test_a_mask_of_another_size_than_the_image_is_told(camera: np.ndarray) -> None:
    task = MatchSIFT(camera, mask=np.ones((10, 10), np.uint8))
    with pytest.raises(TaskError, match=r"\(10, 10\).*\(512, 512\)"):
        task(camera)


def test_the_number_of_features_is_limited(camera: np.ndarray) -> None:
    assert MatchSIFT(camera, n_features=50)(camera)["features"] == 50


def test_pairs_and_keypoints_come_on_request(camera: np.ndarray) -> None:
    values = MatchSIFT(camera, return_pairs=True, return_keypoints=True)(camera)
    assert values["pairs"].shape == (values["matches"], 2)
    assert values["pairs"].dtype == np.int32
    assert values["keypoints"].shape == (values["features"], 4)
    assert values["keypoints"].dtype == np.float32


def test_a_pickled_task_gives_the_same_values(camera: np.ndarray) -> None:
    task = MatchSIFT(camera)
    expected = task(camera)
    assert pickle.loads(pickle.dumps(task))(camera) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cross_check": "both"}, "cross_check must be 'mutual', 'one-way' or None .got 'both'"),
        ({"n_features": -1}, "n_features must be an integer of at least 0 .got -1"),
        ({"n_features": 2.5}, "n_features must be an integer"),
        ({"max_ratio": 0.0}, r"max_ratio must lie in \(0, 1\]"),
        ({"max_ratio": 1.5}, r"max_ratio must lie in \(0, 1\]"),
        ({"contrast_threshold": float("nan")}, "contrast_threshold must be at least 0"),
        ({"detector": "cv2"}, "detector must be 'parimg' or 'opencv' .got 'cv2'"),
        ({"mask": 3}, "mask must be a path or an array .got 3, a int"),
    ],
)
def test_parameters_out_of_range_are_refused_at_once(camera: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        MatchSIFT(camera, **options)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no/such/file.png", "the reference cannot be read"),
        (np.zeros((50, 50), np.uint8), "no SIFT feature in the reference"),
        (np.zeros((50, 50)), "got float64, shape"),
        (np.full((5, 128), 0.5, np.float32), "integers from 0 to 255"),
        (np.full((5, 128), np.nan, np.float32), "integers from 0 to 255"),
        (np.full((5, 128), 300.0, np.float32), "integers from 0 to 255"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_an_unusable_reference_is_told_when_it_is_resolved(reference: object, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        MatchSIFT(reference).resolve()


def test_a_reference_that_is_no_path_and_no_array_is_refused() -> None:
    with pytest.raises(TaskError, match=r"reference must be a path or an array \(got 7, a int\)"):
        MatchSIFT(7)


def test_an_image_that_is_not_gray_8_bit_is_told(camera: np.ndarray) -> None:
    with pytest.raises(TaskError, match=r"gray uint8 image .got float64"):
        MatchSIFT(camera)(camera.astype(float))


def test_root_sift_matches_are_those_of_opencv_on_rooted_descriptors(
    temple_ring: list[str], views: list[np.ndarray]
) -> None:
    def rooted(path: str) -> np.ndarray:
        descriptors = cv2_descriptors(path)
        return np.sqrt(descriptors / descriptors.sum(axis=1, keepdims=True))

    task = MatchSIFT(views[0], root=True, detector="opencv", return_pairs=True)
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
    for number in (1, 10, 30):
        expected = matcher.match(rooted(temple_ring[0]), rooted(temple_ring[number]))
        found = task(views[number])
        assert found["pairs"].tolist() == [[match.queryIdx, match.trainIdx] for match in expected]
        assert found["distance_median"] == pytest.approx(
            np.median([match.distance for match in expected]), rel=1e-5
        )


def test_verify_finds_the_homography_that_made_the_view(tmp_path: Path) -> None:
    reference, made = make_views(str(tmp_path))
    task = MatchSIFT(reference, verify="homography", return_pairs=True)
    height, width = cv2.imread(reference, cv2.IMREAD_GRAYSCALE).shape
    corners = np.array([[[0, 0]], [[width, 0]], [[width, height]], [[0, height]]], float)
    for view in (made[1], made[13], made[31]):
        values = task(cv2.imread(view.path, cv2.IMREAD_GRAYSCALE))
        assert values["inliers"] == len(values["inlier_pairs"]) > 100
        assert values["inlier_ratio"] == values["inliers"] / values["matches"]
        assert set(map(tuple, values["inlier_pairs"])) <= set(map(tuple, values["pairs"]))
        offset = cv2.perspectiveTransform(corners, values["model"]) - cv2.perspectiveTransform(
            corners, view.homography
        )
        assert np.abs(offset).max() < 2.0  # pixels


def test_another_photograph_has_few_inliers(tmp_path: Path) -> None:
    reference, made = make_views(str(tmp_path))
    other = next(view for view in made if view.photograph != "astronaut")
    values = MatchSIFT(reference, verify="homography")(cv2.imread(other.path, cv2.IMREAD_GRAYSCALE))
    assert values["inlier_ratio"] < 0.15


def test_neighbouring_views_of_the_temple_have_a_fundamental_matrix(views: list[np.ndarray]) -> None:
    values = MatchSIFT(views[0], verify="fundamental")(views[1])
    assert values["inlier_ratio"] > 0.7
    assert np.linalg.matrix_rank(values["model"], tol=1e-6 * np.abs(values["model"]).max()) == 2


def test_verification_of_a_blank_image_has_no_model(camera: np.ndarray) -> None:
    values = MatchSIFT(camera, verify="homography")(np.zeros((100, 100), np.uint8))
    assert (values["matches"], values["inliers"], values["inlier_ratio"]) == (0, 0, None)
    assert values["inlier_pairs"].shape == (0, 2)
    assert np.isnan(values["model"]).all()


def test_verification_wants_an_image_as_reference(temple_ring: list[str]) -> None:
    with pytest.raises(TaskError, match="verify='homography' needs the reference's keypoints"):
        MatchSIFT(cv2_descriptors(temple_ring[0]), verify="homography").resolve()


def test_max_size_tells_keypoints_in_pixels_of_the_original(camera: np.ndarray) -> None:
    doubled = np.repeat(np.repeat(camera, 2, axis=0), 2, axis=1)  # scaled down again, it is `camera` itself
    small = MatchSIFT(camera, return_keypoints=True)(camera)["keypoints"]
    large = MatchSIFT(camera, max_size=512, return_keypoints=True)(doubled)["keypoints"]
    np.testing.assert_allclose(large[:, :2], (small[:, :2] + 0.5) * 2 - 0.5, atol=1e-3)
    np.testing.assert_allclose(large[:, 2], small[:, 2] * 2, rtol=1e-5)
    assert (large[:, 3] == small[:, 3]).all()


def test_images_within_max_size_are_left_alone(camera: np.ndarray) -> None:
    assert MatchSIFT(camera, max_size=512)(camera) == MatchSIFT(camera)(camera)


def test_the_mask_is_scaled_with_the_image(camera: np.ndarray) -> None:
    mask = np.zeros(camera.shape, np.uint8)
    mask[:, :200] = 1
    keypoints = MatchSIFT(camera, mask=mask, max_size=256, return_keypoints=True)(camera)["keypoints"]
    assert len(keypoints) > 10
    assert keypoints[:, 0].max() < 202


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"verify": "affine"}, r"verify must be 'homography', 'fundamental' or None \(got 'affine'\)"),
        ({"verify_threshold": 0}, "verify_threshold must be positive"),
        ({"max_size": 8}, "max_size must be an integer of at least 16"),
        ({"max_size": 99.5}, "max_size must be an integer of at least 16"),
    ],
)
def test_senseless_options_of_verification_and_size_are_refused(
    camera: np.ndarray, options: dict, message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        MatchSIFT(camera, **options)


def test_declared_columns_are_those_that_are_returned(camera: np.ndarray) -> None:
    for options in ({}, {"verify": "homography"}):
        task = MatchSIFT(camera, **options)
        scalars = [name for name, value in task(camera).items() if not isinstance(value, np.ndarray)]
        assert list(task.declared_columns()) == scalars


def test_an_image_as_wide_as_a_descriptor_is_an_image(views: list[np.ndarray], tmp_path: Path) -> None:
    narrow = cv2.resize(views[0], (128, 96), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "narrow.png"), narrow)
    found = len(MatchSIFT(narrow).detect(narrow).descriptors)
    assert found > 10
    for reference in (narrow, tmp_path / "narrow.png"):
        assert len(MatchSIFT(reference).reference_features.keypoints) == found
