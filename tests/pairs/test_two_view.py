"""What relates two views: scenes whose geometry is known."""

from __future__ import annotations

import numpy as np
import pytest

from parimg.pairs.two_view import Configuration, relate_views

RNG = np.random.default_rng(3)
CAMERA = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])


def views(world: np.ndarray, move: list[float]) -> tuple[np.ndarray, np.ndarray]:
    turn = np.array([[np.cos(0.1), 0, np.sin(0.1)], [0, 1, 0], [-np.sin(0.1), 0, np.cos(0.1)]])
    both = []
    for points in (world, world @ turn.T + move):
        seen = points @ CAMERA.T
        both.append((seen[:, :2] / seen[:, 2:]).astype(np.float32))
    return both[0], both[1]


def related(first: np.ndarray, second: np.ndarray, verify: str = "fundamental"):
    return relate_views(first, second, verify, threshold=2.0, min_inliers=15)


def test_a_deep_scene_has_a_fundamental_matrix() -> None:
    first, second = views(RNG.uniform([-2, -2, 4], [2, 2, 9], (150, 3)), [0.5, 0.1, 0])
    second[:40] = RNG.uniform(0, 480, (40, 2))
    found = related(first, second)
    assert found.configuration == Configuration.UNCALIBRATED
    assert found.inliers[40:].all()
    assert np.isnan(found.homography).all()


@pytest.mark.parametrize(("depth", "move"), [((6.0, 6.0), [0.5, 0.1, 0]), ((4.0, 9.0), [0.0, 0.0, 0.0])])
def test_a_plane_and_a_turned_camera_have_a_homography(depth: tuple[float, float], move: list[float]) -> None:
    first, second = views(RNG.uniform([-2, -2, depth[0]], [2, 2, depth[1]], (150, 3)), move)
    found = related(first, second)
    assert found.configuration == Configuration.PLANAR_OR_PANORAMIC
    assert found.inliers.all()
    assert related(first, second, "homography").configuration == Configuration.PLANAR_OR_PANORAMIC


def test_chance_relates_nothing() -> None:
    found = related(*RNG.uniform(0, 480, (2, 60, 2)).astype(np.float32))
    assert found.configuration == Configuration.UNDEFINED
    assert not found.inliers.any()


def test_too_few_matches_relate_nothing() -> None:
    first, second = views(RNG.uniform([-2, -2, 4], [2, 2, 9], (14, 3)), [0.5, 0.1, 0])
    assert related(first, second).configuration == Configuration.UNDEFINED


def test_the_answer_does_not_depend_on_what_ran_before() -> None:
    scenes = [views(RNG.uniform([-2, -2, 4], [2, 2, 9], (60, 3)), [0.5, 0.1, 0]) for _ in range(4)]
    for _, second in scenes:
        second[:25] = RNG.uniform(0, 480, (25, 2))
    forwards = [related(*scene) for scene in scenes]
    backwards = [related(*scene) for scene in scenes[::-1]][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert np.array_equal(one.inliers, other.inliers)
        assert np.array_equal(one.fundamental, other.fundamental, equal_nan=True)
