"""Geometric verification against models that are known."""

from __future__ import annotations

import numpy as np
import pytest

from parimg.kernels import verify_matches

RNG = np.random.default_rng(7)
HOMOGRAPHY = np.array([[0.9, -0.2, 30.0], [0.15, 1.1, -12.0], [1e-4, -2e-4, 1.0]])


def project(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    mapped = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return mapped[:, :2] / mapped[:, 2:]


def test_a_homography_is_found_among_outliers() -> None:
    first = RNG.uniform(0, 500, (200, 2))
    second = project(first, HOMOGRAPHY)
    second[:80] = RNG.uniform(0, 500, (80, 2))
    found = verify_matches(first, second, "homography")
    np.testing.assert_allclose(found.model, HOMOGRAPHY, rtol=1e-4, atol=1e-6)
    assert found.inliers[80:].all()
    assert found.inliers[:80].sum() < 5


def test_a_fundamental_matrix_is_found_among_outliers() -> None:
    camera = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    angle = 0.1
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    world = RNG.uniform([-2, -2, 4], [2, 2, 9], (150, 3))
    first = project(world[:, :2] / world[:, 2:], camera)
    moved = world @ turn.T + [0.5, 0.1, 0]
    second = project(moved[:, :2] / moved[:, 2:], camera)
    second[:40] = RNG.uniform(0, 480, (40, 2))
    found = verify_matches(first, second, "fundamental")
    assert found.inliers[40:].all()
    ends = [np.column_stack([points, np.ones(150)])[40:] for points in (first, second)]
    lines = ends[0] @ found.model.T
    distance = np.einsum("ni,ni->n", ends[1], lines) / np.hypot(lines[:, 0], lines[:, 1])
    assert np.abs(distance).max() < 0.5  # pixels


def test_the_same_points_give_the_same_answer() -> None:
    first = RNG.uniform(0, 500, (60, 2))
    second = project(first, HOMOGRAPHY) + RNG.normal(0, 2, (60, 2))
    answers = [verify_matches(first, second, "homography") for _ in range(3)]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.model, answers[0].model)
        np.testing.assert_array_equal(answer.inliers, answers[0].inliers)


@pytest.mark.parametrize(("model", "least"), [("homography", 4), ("fundamental", 8)])
def test_too_few_points_have_no_model(model: str, least: int) -> None:
    for n in range(least):
        points = RNG.uniform(0, 100, (n, 2))
        found = verify_matches(points, points, model)
        assert np.isnan(found.model).all()
        assert found.inliers.shape == (n,)
        assert not found.inliers.any()


@pytest.mark.parametrize("model", ["homography", "fundamental"])
def test_points_that_all_coincide_have_no_model(model: str) -> None:
    found = verify_matches(np.ones((20, 2)), np.ones((20, 2)), model)
    assert np.isnan(found.model).all()
    assert not found.inliers.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((5, 2)), np.zeros((4, 2)), "homography"), r"as many points \(got 5 and 4\)"),
        ((np.zeros((5, 3)), np.zeros((5, 3)), "homography"), r"first must have shape \(n, 2\) \(got \(5, 3\)\)"),
        ((np.zeros((5, 2)), np.zeros((5, 2)), "affine"), "model must be 'homography' or 'fundamental'"),
        ((np.zeros((5, 2)), np.zeros((5, 2)), "homography", 0), "threshold must be positive"),
    ],
)
def test_senseless_arguments_are_told(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verify_matches(*arguments)
