"""TIFF files of several pages as arrays of three axes, and what else a task that wants stacks is given."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import tifffile
from numpy.testing import assert_array_equal

from parimg.errors import ImageFormatError, ImageTooLargeError, ImageTruncatedError
from parimg.images.decode import decode

VOLUME = np.random.default_rng(0).integers(0, 4096, (5, 13, 17)).astype(np.uint16)
COLOR = np.random.default_rng(1).integers(0, 256, (13, 17, 3)).astype(np.uint8)


def tiff(array: npt.NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def png(array: npt.NDArray[Any]) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_all_pages_come_as_they_are_stored(dtype: Any, compression: str | None) -> None:
    stored = VOLUME.astype(dtype)
    stack = decode(tiff(stored, photometric="minisblack", compression=compression), "stack")
    assert stack.dtype == stored.dtype
    assert_array_equal(stack, stored)


def test_big_endian_and_imagej_stacks_come_in_native_order() -> None:
    for data in (tiff(VOLUME, byteorder=">"), tiff(VOLUME, imagej=True), tiff(VOLUME, bigtiff=True)):
        stack = decode(data, "stack")
        assert stack.dtype == np.dtype(np.uint16)
        assert_array_equal(stack, VOLUME)


def test_pages_in_a_codec_that_tifffile_may_lack_are_decoded_by_opencv() -> None:
    file = io.BytesIO()
    pages = [PIL.Image.fromarray((page // 16).astype(np.uint8)) for page in VOLUME]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    assert_array_equal(decode(file.getvalue(), "stack"), VOLUME // 16)


def test_thumbnails_are_no_pages() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(VOLUME[0])
        writer.write(VOLUME[0, ::2, ::2], subfiletype=1)
    assert_array_equal(decode(file.getvalue(), "stack"), VOLUME[0])


def test_pages_of_different_sizes_are_no_stack() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(VOLUME[0])
        writer.write(VOLUME[0, :5])
    with pytest.raises(ImageFormatError, match="has 2 pages that are no stack of gray images of one size"):
        decode(file.getvalue(), "stack")


def test_colour_pages_are_no_stack() -> None:
    data = tiff(np.stack([COLOR, COLOR]), photometric="rgb")
    with pytest.raises(ImageFormatError, match=r"2 pages that are no stack .*uint8 of shape \(13, 17, 3\)"):
        decode(data, "stack")


def test_a_stack_is_as_large_as_all_its_pages() -> None:
    data = tiff(VOLUME)
    assert decode(data, "stack", max_pixels=VOLUME.size).shape == VOLUME.shape
    with pytest.raises(ImageTooLargeError, match=r"17 x 65 = 1105 pixels, above the limit of 1104"):
        decode(data, "stack", max_pixels=VOLUME.size - 1)


def test_a_cut_stack_is_told() -> None:
    data = tiff(VOLUME)
    for length in (len(data) // 3, len(data) - 20):
        with pytest.raises(ImageTruncatedError):
            decode(data[:length], "stack")


def test_single_images_of_gray_levels_come_as_they_are_stored() -> None:
    for data in (png(VOLUME[0]), tiff(VOLUME[0])):
        assert_array_equal(decode(data, "stack"), VOLUME[0])
    file = io.BytesIO()
    np.save(file, VOLUME)
    assert_array_equal(decode(file.getvalue(), "stack"), VOLUME)
    with pytest.raises(ImageTooLargeError):
        decode(file.getvalue(), "stack", max_pixels=VOLUME.size - 1)


def test_colour_images_become_gray() -> None:
    for data in (png(COLOR), tiff(COLOR), cv2.imencode(".jpg", COLOR)[1].tobytes()):
        gray = decode(data, "stack")
        assert gray.shape == (13, 17)
        assert_array_equal(gray, decode(data, "gray"))


def test_other_modes_take_the_first_page() -> None:
    assert_array_equal(decode(tiff(VOLUME), "unchanged"), VOLUME[0])
