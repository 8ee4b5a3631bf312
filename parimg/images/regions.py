"""Regions of an image as a task is given images: opened once, read in part, in the task's colours.

Called by engines that run images by tiles. The same pixels as `decode` gives of the whole, where the file's format
can be read in part.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from parimg.errors import ImageFormatError
from parimg.images.decode import decode
from parimg.images.read import local_path
from parimg.images.readers.address import split_address
from parimg.images.readers.registry import FALLBACK, find_reader, open_part

if TYPE_CHECKING:

    import numpy.typing as npt

    from parimg.images.decode import ColorMode
    from parimg.images.readers.part import Part

_UPRIGHT = 1  # of the EXIF orientations
_MOST_CHANNELS = 4


class ImageRegions:
    """An image that is read by regions.

    Parameters
    ----------
    part : Part
    color : {"gray", "color", "unchanged", "stack"}
        See `parimg.images.decode.decode`.

    Attributes
    ----------
    shape : tuple of int
        ``(height, width)`` or ``(height, width, channels)``.
    dtype : numpy.dtype
    pixel_size : (float, float) or None
        Height and width of a pixel, in `unit`.
    unit : str or None
    stored_tile : (int, int) or None
        Height and width of the blocks that are decoded at once.
    """

    def __init__(self, part: Part, color: ColorMode) -> None:
        self._part = part
        self._color = color
        self._kept = [place for place, axis in enumerate(part.axes) if axis in "YX" or part.shape[place] > 1]
        self._axes = "".join(part.axes[place] for place in self._kept)
        sides = dict(zip(part.axes, part.shape, strict=True))
        is_plain = len(self._axes) == 2
        channels = () if is_plain else (sides[self._axes.replace("Y", "").replace("X", "")],)
        self._is_as_stored = color == "unchanged" or (is_plain and (color == "stack" or _is_gray(part, color)))
        self.dtype = part.dtype if self._is_as_stored else np.dtype(np.uint8)
        inner = channels if color == "unchanged" else (3,) if color == "color" else ()
        self.shape = (sides["Y"], sides["X"], *inner)
        size = part.pixel_size
        self.pixel_size = (size["Y"], size["X"]) if {"Y", "X"} <= size.keys() else None
        self.unit = part.unit if self.pixel_size else None
        self.stored_tile = part.tile_shape

    def read_region(self, y1: int, x1: int, y2: int, x2: int) -> npt.NDArray[Any]:
        """``image[y1:y2, x1:x2]``.

        Raises
        ------
        ImageError
            If it cannot be read, or is not of the task's colours.
        """
        region = self._part.read_region(y1, x1, y2, x2)
        region = region.reshape([region.shape[place] for place in self._kept])
        if len(self._axes) > 2 and self._axes[0] not in "YX":
            region = np.ascontiguousarray(np.moveaxis(region, 0, -1))
        return region if self._is_as_stored else _converted(region, self._color, self._part.name)

    def close(self) -> None:
        """Let go of the file."""
        self._part.close()


def open_regions(uri: str, color: ColorMode) -> tuple[ImageRegions | None, str]:
    """Open an image to read it by regions; where it cannot be, None, and why.

    Raises
    ------
    ImageError
        If it is missing or damaged.
    """
    if uri.startswith("parquet://"):
        return None, "an image in a row of a table"
    try:
        reader = find_reader(split_address(uri)[0])
    except ImageFormatError:
        reader = None
    if reader is None or reader is FALLBACK:
        return None, f"the format of {os.path.basename(uri)!r:.100} cannot be"
    part = open_part(uri)
    reason = _reason_for_whole(part, color)
    if reason:
        part.close()
        return None, reason
    return ImageRegions(part, color), ""


def fingerprint(uri: str) -> dict[str, object]:
    """What changes when a file is written anew; empty for what lies in a store."""
    path = local_path(uri)
    if path is None:
        return {}
    try:
        found = os.stat(path)
    except OSError:
        return {}
    return {"bytes": found.st_size, "modified": found.st_mtime_ns}


def _reason_for_whole(part: Part, color: ColorMode) -> str:
    """Why an image cannot be read by regions, empty if it can."""
    outer = [axis for axis, side in zip(part.axes, part.shape, strict=True) if axis not in "YX" and side > 1]
    what = f"{os.path.basename(part.name)!r:.100}"
    if part.tile_shape is None:
        return f"{what} is stored in one piece, and cannot be"
    n_outer = part.shape[part.axes.index(outer[0])] if outer else 1
    if len(outer) > 1 or (outer and outer[0] not in "SC") or n_outer > _MOST_CHANNELS:
        return f"{what} has the axes {part.axes}, of which no part is named, such as #c=0, and cannot be"
    if color in {"gray", "color"} and part.metadata.get("Orientation", _UPRIGHT) != _UPRIGHT:
        return f"{what} is to be turned by its orientation, and cannot be"
    return ""


def _is_gray(part: Part, color: ColorMode) -> bool:
    return color == "gray" and part.dtype == np.uint8


def _converted(region: npt.NDArray[Any], color: ColorMode, name: str) -> npt.NDArray[Any]:
    """A region in the colours of a task: by way of a file, so that the same code converts it as the whole."""
    import tifffile

    file = io.BytesIO()
    is_color = region.ndim == 3 and region.shape[2] in {3, 4}
    tifffile.imwrite(
        file,
        region,
        photometric="rgb" if is_color else "minisblack",
        planarconfig="contig" if region.ndim == 3 else None,
        extrasamples=["unassalpha"] if region.ndim == 3 and region.shape[2] in {2, 4} else None,
        metadata=None,
    )
    return decode(file.getvalue(), color, max_pixels=region.size, name=name)
