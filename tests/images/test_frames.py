"""How many pages and frames a file has, and who is told that only the first was taken."""

from __future__ import annotations

import io
import warnings

import numpy as np
import PIL.Image
import pytest

from parimg.images.decode import decode
from parimg.images.frames import watch_frames

FRAMES = [np.full((8, 9, 3), level, np.uint8) for level in (0, 100, 200)]


def written(image_format: str, n: int) -> bytes:
    file = io.BytesIO()
    first, *others = map(PIL.Image.fromarray, FRAMES[:n])
    first.save(file, image_format, save_all=True, append_images=others)
    return file.getvalue()


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("n", [1, 3])
def test_frames_behind_the_first_are_counted(image_format: str, n: int) -> None:
    with watch_frames() as found:
        image = decode(written(image_format, n), "color")
    assert image.max() <= 3
    assert found == ([] if n == 1 else [n])


def test_who_does_not_watch_is_warned() -> None:
    with pytest.warns(UserWarning, match="only the first page of an image of several was read"):
        decode(written("GIF", 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(written("GIF", 1))


def test_watching_ends_with_its_block_and_may_be_nested() -> None:
    data = written("TIFF", 3)
    with watch_frames() as outer:
        with watch_frames() as inner:
            decode(data)
        assert (inner, outer) == ([3], [])
        decode(written("TIFF", 2))
    assert (inner, outer) == ([3], [2])


def test_what_is_damaged_behind_the_first_page_is_told_as_more_pages() -> None:
    data = written("TIFF", 3)
    with watch_frames() as found:
        decode(data[:-30], "unchanged")
    assert found
    assert min(found) >= 2
