from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from parimg import RegionSearch, Task
from parimg.engine.reading import read_content
from parimg.errors import ImageEmptyError, ImageFormatError, ImageTooLargeError
from parimg.images.decode import read_image
from parimg.kernels import RegionIndex
from parimg.tasks.region_search import _keeper

PICTURE = np.arange(60, dtype=np.uint8).reshape(6, 10)


@dataclass(frozen=True, eq=False)
class Colored(Task):
    color = "color"

    def __call__(self, image: np.ndarray) -> dict[str, object]:
        return {"sum": int(image.sum())}


@dataclass(frozen=True, eq=False)
class Text(Task):
    """Reads what is no image, in its own way."""

    def read(self, uri: str, *, max_pixels: int) -> Any:
        text = Path(uri).read_text()
        if not text.startswith("good"):
            raise ImageFormatError(f"{uri!r} is no good")
        return os.path.splitext(uri)[1], text


def test_bytes_are_decoded_as_the_file_would_be(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    assert cv2.imwrite(path, PICTURE)
    image = read_content(Colored(), "/elsewhere/a.png", Path(path).read_bytes(), 60).pixels
    np.testing.assert_array_equal(image, read_image(path, "color"))
    assert image.shape == (6, 10, 3)


def test_limits_and_names_of_errors_are_those_of_the_file() -> None:
    data = cv2.imencode(".png", PICTURE)[1].tobytes()
    with pytest.raises(ImageTooLargeError, match=r"'/elsewhere/a\.png' .* has 10 x 6 = 60 pixels"):
        read_content(Colored(), "/elsewhere/a.png", data, 59)


def test_what_the_client_could_not_read_fails_as_it_did_there() -> None:
    with pytest.raises(ImageEmptyError, match=r"'a\.png' has 0 bytes"):
        read_content(Colored(), "a.png", ImageEmptyError("'a.png' has 0 bytes"), 60)


def test_arrays_are_given_as_they_are() -> None:
    assert read_content(Colored(), "", PICTURE, 1).pixels is PICTURE


def test_a_task_that_reads_in_its_own_way_is_given_a_file_with_the_same_ending() -> None:
    assert read_content(Text(), "/elsewhere/a.txt", b"good text", 1).pixels == (".txt", "good text")
    with pytest.raises(ImageFormatError, match=r"^'/elsewhere/a\.txt' is no good$"):
        read_content(Text(), "/elsewhere/a.txt", b"bad text", 1)


def test_an_index_that_came_by_message_is_searched_as_its_file_is(tmp_path: Path) -> None:
    feature_map = np.random.default_rng(5).random((8, 12, 16), np.float32)
    path = str(tmp_path / "a.npy")
    RegionIndex(feature_map).save(path)
    task = RegionSearch(feature_map[:, 3:7, 2:9].sum((1, 2)))
    expected = task(RegionIndex.load(path))
    _keeper().cache_clear()
    found = task(read_content(task, "/elsewhere/a.npy", Path(path).read_bytes(), 1).pixels)
    assert found.keys() == expected.keys()
    assert found["box"] == expected["box"]
    assert found["distance"] == expected["distance"]
    assert _keeper().cache_info().currsize == 0  # its file is gone, and nothing holds its space
