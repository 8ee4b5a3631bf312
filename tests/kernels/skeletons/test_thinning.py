"""Thinning round by round ends where scikit-image's does, and parts of an image are right but at their margins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.morphology import skeletonize

from parimg.kernels.skeletons.thinning import REACH, thin


def mask(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 90, 2))
    if seed % 2:
        found: np.ndarray = rng.random(shape) < rng.random()
        return found
    return np.asarray(gaussian_filter(rng.normal(size=shape), rng.uniform(0.5, 5)) > 0)


@pytest.mark.parametrize("seed", range(100))
def test_after_enough_rounds_it_is_the_skeleton_of_scikit_image(seed: int) -> None:
    thinned, changed = thin(mask(seed), 100)
    np.testing.assert_array_equal(thinned, skeletonize(mask(seed)))
    assert not changed.any()


@pytest.mark.parametrize("pattern", range(256))
def test_every_neighbourhood_goes_as_in_scikit_image(pattern: int) -> None:
    image = np.zeros((5, 5), bool)
    image[2, 2] = True
    ring = ((1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1), (2, 1))
    for bit, place in enumerate(ring):
        image[place] = bool(pattern >> bit & 1)
    np.testing.assert_array_equal(thin(image, 20)[0], skeletonize(image))


def test_rounds_one_after_the_other_are_as_many_at_once() -> None:
    image = mask(4)
    step = image
    for _ in range(3):
        step, changed = thin(step, 1)
    together, last = thin(image, 3)
    np.testing.assert_array_equal(step, together)
    np.testing.assert_array_equal(changed, last)


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_a_part_is_right_but_for_a_margin(rounds: int) -> None:
    image = np.asarray(gaussian_filter(np.random.default_rng(7).normal(size=(120, 120)), 4) > 0)
    margin = REACH * rounds
    inner = slice(30 + margin, 90 - margin)
    part = thin(image[30:90, 30:90], rounds)[0][margin:-margin, margin:-margin]
    np.testing.assert_array_equal(part, thin(image, rounds)[0][inner, inner])


def test_the_mask_is_not_changed() -> None:
    image = np.ones((9, 9), bool)
    image.flags.writeable = False
    thin(image, 3)
    assert image.all()
