"""What the bytes of an image file say of themselves."""

from __future__ import annotations

import io

import cv2
import numpy as np
import PIL.Image
import pytest

from parimg.errors import ImageFormatError
from parimg.images.damage import DamagedError
from parimg.images.decode import decode
from parimg.images.formats import check_whole, identify, image_size


@pytest.mark.parametrize(
    ("extension", "name"),
    [
        (".png", "PNG"),
        (".jpg", "JPEG"),
        (".bmp", "BMP"),
        (".webp", "WebP"),
        (".ppm", "PNM"),
        (".pam", "PAM"),
        (".hdr", "Radiance HDR"),
        (".ras", "Sun raster"),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (257, 19)])
def test_the_size_is_what_the_writer_was_given(extension, name, size):
    width, height = size
    data = cv2.imencode(extension, np.zeros((height, width, 3), np.uint8))[1].tobytes()
    found = identify(data)
    assert found.name == name
    assert image_size(found, data) == (width, height)
    check_whole(found, data)


@pytest.mark.parametrize(("writer", "name"), [("JPEG2000", "JPEG 2000"), ("AVIF", "AVIF"), ("GIF", "GIF")])
def test_the_size_is_what_pillow_was_given(writer, name):
    file = io.BytesIO()
    try:
        PIL.Image.new("RGB", (257, 190)).save(file, writer)
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow does not write {writer}: {error}")
    found = identify(file.getvalue())
    assert found.name == name
    assert image_size(found, file.getvalue()) == (257, 190)


def test_real_files_have_the_size_that_pillow_tells(data_folder):
    for path in [*(data_folder / "lund").glob("*.jpg"), *(data_folder / "templeRing").glob("*.png")]:
        data = path.read_bytes()
        found = identify(data)
        check_whole(found, data)
        with PIL.Image.open(path) as image:
            assert image_size(found, data) == image.size
            assert found.name == image.format


def test_a_header_that_ends_too_early_is_damaged():
    data = cv2.imencode(".bmp", np.zeros((2, 3, 3), np.uint8))[1].tobytes()[:20]
    with pytest.raises(DamagedError, match="the file ends within its header"):
        image_size(identify(data), data)


def test_the_first_bytes_of_other_files_are_not_recognised():
    for data in (b"", b"\x89PNG", b"RIFF....WAVE", b"PK\x03\x04", b"P8 3 2", b"II*"):
        assert identify(data) is None


def test_apples_own_png_is_told_by_its_name():
    data = cv2.imencode(".png", np.zeros((2, 3), np.uint8))[1].tobytes()
    apple = data[:8] + b"\0\0\0\x04CgBI\x50\0\x20\x02\x2b\xd5\xb3\x7f" + data[8:]
    with pytest.raises(ImageFormatError, match=r"is Apple's own kind of PNG .CgBI., .* convert it by `pngcrush"):
        decode(apple)
