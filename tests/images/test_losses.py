"""What a mode of 8 bit leaves out of an image, by every format that can hold more."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import format_files
import numpy as np
import PIL.Image
import pytest
import tifffile

from parimg.errors import ImageFormatError
from parimg.images.decode import decode, read_image
from parimg.images.described import describe_bytes
from parimg.images.losses import watch_losses
from parimg.options import Reading

ALL = ("levels", "colours", "alpha")
GRAY16 = np.arange(48, dtype=np.uint16).reshape(6, 8) * 900
GRAY8 = (GRAY16 >> 8).astype(np.uint8)
COLOUR16, COLOUR8 = np.dstack([GRAY16] * 3), np.dstack([GRAY8] * 3)
ALPHA8 = np.dstack([GRAY8] * 4)


def by_opencv(ending: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(ending, image, options)[1].tobytes()


def large(image: np.ndarray) -> np.ndarray:
    """As JPEG 2000 halves its sides several times."""
    return np.tile(image, (16, 16, 1)[: image.ndim])


def by_pillow(kind: str, image: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def by_tifffile(image: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, metadata=None, **options)
    return file.getvalue()


def pam(image: np.ndarray, kind: str) -> bytes:
    height, width, depth = image.shape
    header = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL 255\nTUPLTYPE {kind}\nENDHDR\n"
    return header.encode() + image.tobytes()


RGB, EXTRA = {"photometric": "rgb"}, {"photometric": "rgb", "extrasamples": ["unassalpha"]}
FILES = {
    "png gray": (by_opencv(".png", GRAY8), set()),
    "png gray 16": (by_opencv(".png", GRAY16), {"levels"}),
    "png rgb": (by_opencv(".png", COLOUR8), {"colours"}),
    "png rgb 16": (by_opencv(".png", COLOUR16), {"levels", "colours"}),
    "png rgba": (by_opencv(".png", ALPHA8), {"colours", "alpha"}),
    "png gray alpha": (by_pillow("PNG", np.dstack([GRAY8] * 2)), {"alpha"}),
    "png transparent gray": (by_pillow("PNG", GRAY8, transparency=3), {"alpha"}),
    "jpeg gray": (by_opencv(".jpg", GRAY8), set()),
    "jpeg rgb": (by_opencv(".jpg", COLOUR8), {"colours"}),
    "webp": (by_pillow("WEBP", COLOUR8), set()),
    "webp alpha": (by_pillow("WEBP", ALPHA8), {"alpha"}),
    "webp lossless alpha": (by_pillow("WEBP", ALPHA8, lossless=True), {"alpha"}),
    "bmp rgb": (by_opencv(".bmp", COLOUR8), {"colours"}),
    "bmp gray": (by_opencv(".bmp", GRAY8), set()),
    "pgm": (by_opencv(".pgm", GRAY8), set()),
    "pgm 16": (by_opencv(".pgm", GRAY16), {"levels"}),
    "pgm 12 and a comment": (b"P5\n# made\n8 6\n4095\n" + GRAY16.astype(">u2").tobytes(), {"levels"}),
    "ppm": (by_opencv(".ppm", COLOUR8), {"colours"}),
    "pbm": (b"P4\n8 2\n\xf0\x0f", set()),
    "pam rgba": (pam(ALPHA8, "RGB_ALPHA"), {"colours", "alpha"}),
    "hdr": (by_opencv(".hdr", COLOUR16.astype(np.float32)), {"levels", "colours"}),
    "jpeg 2000": (by_opencv(".jp2", large(GRAY8)), set()),
    "jpeg 2000 16": (by_opencv(".jp2", large(GRAY16)), {"levels"}),
    "jpeg 2000 rgb": (by_opencv(".jp2", large(COLOUR8)), {"colours"}),
    "tiff gray": (by_tifffile(GRAY8), set()),
    "tiff gray 16": (by_tifffile(GRAY16), {"levels"}),
    "tiff gray 16 tiled": (by_tifffile(GRAY16, tile=(16, 16), compression="zlib"), {"levels"}),
    "tiff signed 8": (by_tifffile(GRAY8.astype(np.int8)), {"levels"}),
    "tiff signed 16": (by_tifffile(GRAY16.astype(np.int16)), {"levels"}),
    "tiff rgb": (by_tifffile(COLOUR8, **RGB), {"colours"}),
    "tiff rgb 16": (by_tifffile(COLOUR16, **RGB), {"levels", "colours"}),
    "tiff rgba": (by_tifffile(ALPHA8, **EXTRA), {"colours", "alpha"}),
    "tiff one bit": (by_tifffile(GRAY8 > 9, photometric="minisblack"), set()),
}


def lost(data: bytes, color: Any) -> set[str]:
    with watch_losses(ALL) as found:
        decode(data, color)
    return set(found)


@pytest.mark.parametrize("name", FILES)
def test_gray_says_what_it_leaves_out_and_unchanged_leaves_out_nothing(name: str) -> None:
    data, expected = FILES[name]
    assert lost(data, "gray") == expected
    assert lost(data, "unchanged") == set()
    assert lost(data, "color") == expected - {"colours"}


def test_an_avif_of_ten_bits_loses_levels() -> None:
    options = [cv2.IMWRITE_AVIF_DEPTH, 10]
    try:
        data = by_opencv(".avif", COLOUR16 >> 6, *options)
    except cv2.error:
        pytest.skip("this OpenCV has no AVIF")
    assert lost(data, "color") == {"levels"}
    assert lost(data, "gray") == {"levels", "colours"}
    assert lost(by_opencv(".avif", COLOUR8), "color") == set()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("png gray 16", set()),  # as stored
        ("tiff gray 16", set()),
        ("pgm 16", {"levels"}),
        ("png rgb 16", {"levels", "colours"}),
        ("tiff rgb 16", {"levels", "colours"}),
        ("tiff rgba", {"colours", "alpha"}),
    ],
)
def test_stacks_keep_the_levels_of_gray(name: str, expected: set[str]) -> None:
    assert lost(FILES[name][0], "stack") == expected


def test_what_was_asked_for_is_no_loss_and_what_is_refused_neither() -> None:
    reading = Reading(percentile=(0, 100))
    with watch_losses(ALL) as found:
        describe_bytes(FILES["png gray 16"][0], "a.png", "gray", reading=reading)
    assert found == set()
    with watch_losses(ALL) as found:
        describe_bytes(FILES["png rgb 16"][0], "a.png", "gray", reading=reading)
    assert found == {"colours"}
    with watch_losses(ALL) as found, pytest.raises(ImageFormatError):
        decode(by_tifffile(GRAY16.astype(np.float32)), "gray")
    assert found == set()


def test_only_what_is_looked_for_is_found_and_a_watch_ends_with_its_block() -> None:
    data = FILES["png rgb 16"][0]
    with watch_losses(["levels"]) as outer:
        with watch_losses(["alpha"]) as inner:
            decode(data)
        assert (inner, outer) == (set(), set())
        decode(data)
    assert outer == {"levels"}
    decode(FILES["png rgba"][0])
    assert (inner, outer) == (set(), {"levels"})


@pytest.mark.parametrize(("pixels", "expected"), [("yuv420p", set()), ("yuv420p10le", {"video"})])
def test_frames_of_more_than_8_bit_are_8_bit_in_every_mode(
    pixels: str, expected: set[str], tmp_path: Path
) -> None:
    path = format_files.video(tmp_path / "m.mkv", n_frames=2, codec="ffv1", pixels=pixels)
    with watch_losses(["video"]) as found:
        assert read_image(f"{path}#frame=1", "unchanged").dtype == np.uint8
    assert found == expected
