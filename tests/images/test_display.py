"""Images as people look at them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from parimg.images.display import displayed, encoded


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((20, 30), (20, 30, 3)),
        ((20, 30, 1), (20, 30, 3)),
        ((20, 30, 2), (20, 30, 3)),
        ((20, 30, 3), (20, 30, 3)),
        ((20, 30, 4), (20, 30, 3)),
        ((7, 20, 30), (20, 30, 3)),
        ((2, 7, 20, 30, 3), (20, 30, 3)),
        ((0, 20, 30), (1, 1, 3)),
        ((0, 0), (1, 1, 3)),
        ((9,), (1, 9, 3)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool, np.int64])
def test_every_shape_and_dtype_becomes_bytes_of_three_colours(
    shape: tuple[int, ...], expected: tuple[int, ...], dtype: type
) -> None:
    shown = displayed(np.zeros(shape, dtype))
    assert shown.dtype == np.uint8
    assert shown.shape == expected


def test_bytes_stay_and_other_levels_are_stretched_between_their_finite_ends() -> None:
    image = np.array([[3, 7], [9, 200]], np.uint8)
    assert displayed(image)[..., 1].tolist() == image.tolist()
    floats = np.array([[np.nan, -1.0], [0.0, np.inf], [1.0, -np.inf]], np.float32)
    assert displayed(floats)[..., 0].tolist() == [[0, 0], [128, 255], [255, 0]]
    assert displayed(np.array([[False, True]]))[..., 2].tolist() == [[0, 255]]


def test_of_a_volume_the_brightest_level_along_its_first_axis_is_shown() -> None:
    volume = np.zeros((5, 4, 6), np.uint8)
    volume[3, 1, 2] = 250
    assert displayed(volume)[1, 2].tolist() == [250, 250, 250]


def test_large_images_are_scaled_down_and_thin_ones_keep_a_pixel() -> None:
    assert displayed(np.zeros((4000, 8000), np.uint16), 100).shape == (50, 100, 3)
    assert displayed(np.zeros((1, 8000), np.uint8), 100).shape == (1, 100, 3)
    assert displayed(np.zeros((30, 20), np.uint8), 100).shape == (30, 20, 3)


def test_a_small_picture_is_a_jpeg_in_the_same_colours() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0] = 200
    back = cv2.imdecode(np.frombuffer(encoded(image, 30), np.uint8), cv2.IMREAD_COLOR)
    assert back.shape == (20, 30, 3)
    assert abs(int(back[10, 10, 2]) - 200) < 5
