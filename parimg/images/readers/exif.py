"""EXIF: which way is up, and what cameras tell, of the files that have it.

Called by modules of formats, and by `decode` for the formats that OpenCV reads.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image

if TYPE_CHECKING:
    import numpy.typing as npt

ORIENTATION = 274
_SUB_FIELDS = 0x8769


def exif_fields(exif: bytes | None) -> dict[str, object]:
    """Fields by their names, of text and numbers."""
    found = Image.Exif()
    with contextlib.suppress(Exception):  # damaged fields are no reason to lose the pixels
        found.load(exif or b"")
    return _plain(found)


def file_fields(data: bytes) -> dict[str, object]:
    """Fields of an image file that Pillow knows; empty where it knows none."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images
        with Image.open(io.BytesIO(data)) as image:
            return _plain(image.getexif())
    return {}


def file_orientation(data: bytes) -> int:
    """EXIF's number of which way is up in an image file; 1 where it does not say."""
    told = file_fields(data).get("Orientation", 1)
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


def _plain(exif: Image.Exif) -> dict[str, object]:
    fields: dict[str, object] = {}
    with contextlib.suppress(Exception):
        for number, value in {**exif, **exif.get_ifd(_SUB_FIELDS)}.items():
            if (name := ExifTags.TAGS.get(number)) is None:
                continue
            if isinstance(value, str | int):
                fields[name] = value.strip("\0 ") if isinstance(value, str) else value
            elif not isinstance(value, bytes | tuple):
                fields[name] = float(value)  # a ratio
    return fields


def times_of(fields: Mapping[str, object]) -> dict[str, object]:
    """When the picture was taken, as ISO 8601.

    Examples
    --------
    >>> times_of({"DateTimeOriginal": "2024:05:17 12:30:01"})
    {'acquisition_time': '2024-05-17T12:30:01'}
    """
    for name in ("DateTimeOriginal", "DateTimeDigitized", "DateTime"):
        told = fields.get(name)
        if isinstance(told, str) and len(told) == len("2024:05:17 12:30:01"):
            return {"acquisition_time": f"{told[:10].replace(':', '-')}T{told[11:]}"}
    return {}


def turned(pixels: npt.NDArray[Any], orientation: int, *, is_stack: bool = False) -> npt.NDArray[Any]:
    """An image whose first two axes, of a stack the last two, are turned as EXIF's number says.

    Examples
    --------
    >>> turned(np.array([[1, 2], [3, 4]]), 6).tolist()  # the camera was held with its right side down
    [[3, 1], [4, 2]]
    """
    y, x = (-2, -1) if is_stack else (0, 1)
    if orientation in {2, 4, 5, 7}:
        pixels = np.flip(pixels, x)
    quarters = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, quarters, (y, x)))


def turned_back(pixels: npt.NDArray[Any], orientation: int, *, is_stack: bool = False) -> npt.NDArray[Any]:
    """Undo `turned`.

    Examples
    --------
    >>> all(np.array_equal(turned_back(turned(np.eye(2, 3), n), n), np.eye(2, 3)) for n in range(9))
    True
    """
    return turned(pixels, {6: 8, 8: 6}.get(orientation, orientation), is_stack=is_stack)
