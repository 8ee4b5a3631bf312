"""Regions of an image as a task is given images: opened once, read in part, in the task's colours.

Called by engines that run images by tiles. The same pixels as `described` gives of the whole, where the file's
format can be read in part and what is asked for does not depend on all of them.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from parimg.errors import ImageFormatError
from parimg.images.decode import decode
from parimg.images.presenting import check_axes, chosen_places, present
from parimg.images.read import local_path
from parimg.images.readers.address import split_address
from parimg.images.readers.guarding import guarded
from parimg.images.readers.opened import open_part
from parimg.images.readers.registry import READERS, find_reader, whole_file_is_decoded
from parimg.options import DEFAULT_READING, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from parimg.images.decode import ColorMode
    from parimg.images.readers.part import Part

_MOST_CHANNELS = 4  # that are colours rather than images of their own


class ImageRegions:
    """An image that is read by regions.

    Parameters
    ----------
    part : Part
    color : {"gray", "color", "unchanged", "stack"}
        See `parimg.images.decode.decode`.
    reading : Reading
    is_decoded : bool
        Whether `decode` reads the whole, and thus its regions.

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
    metadata : mapping of str to value
        What `reading` asks for.
    """

    def __init__(self, part: Part, color: ColorMode, reading: Reading, *, is_decoded: bool) -> None:
        self._whole = part
        self._color = color
        self._reading = reading
        self._is_decoded = is_decoded
        places = guarded(part.name, lambda: chosen_places(part.axes, part.shape, reading, part.metadata))
        sides = dict(zip(part.axes, part.shape, strict=True))
        places |= {axis: 0 for axis, side in sides.items() if side == 1 and axis not in "YX"}  # none to the task
        self._part = part = part.at(places)
        guarded(part.name, lambda: check_axes(dict(zip(part.axes, part.shape, strict=True)), color))
        one = self._shown(part.read_region(0, 0, 1, 1))
        self.dtype = one.dtype
        self.shape = (sides["Y"], sides["X"], *one.shape[2:])
        size = part.pixel_size
        self.pixel_size = (size["Y"], size["X"]) if {"Y", "X"} <= size.keys() else None
        self.unit = part.unit if self.pixel_size else None
        self.stored_tile = part.tile_shape
        self.metadata: Mapping[str, object] = {name: part.metadata.get(name) for name in reading.metadata}

    def read_region(self, y1: int, x1: int, y2: int, x2: int) -> npt.NDArray[Any]:
        """``image[y1:y2, x1:x2]``.

        Raises
        ------
        ImageError
            If it cannot be read, or is not of the task's colours.
        """
        return self._shown(self._part.read_region(y1, x1, y2, x2))

    def _shown(self, region: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A region in the colours of the task."""
        part = self._part
        if not self._is_decoded:
            return guarded(part.name, lambda: present(region, part.axes, self._color, self._reading))
        if part.axes == "SYX":
            region = np.ascontiguousarray(np.moveaxis(region, 0, -1))
        is_gray8 = region.ndim == 2 and region.dtype == np.uint8
        if self._color == "unchanged" or (region.ndim == 2 and self._color == "stack"):
            return region
        return region if self._color == "gray" and is_gray8 else _converted(region, self._color, part.name)

    def close(self) -> None:
        """Let go of the file."""
        self._whole.close()


def open_regions(
    uri: str, color: ColorMode, reading: Reading = DEFAULT_READING
) -> tuple[ImageRegions | None, str]:
    """Open an image to read it by regions; where it cannot be, None, and why.

    Raises
    ------
    ImageError
        If it is missing or damaged.
    """
    if uri.startswith("parquet://"):
        return None, "an image in a row of a table cannot be"
    file, address = split_address(uri)
    try:
        reader = find_reader(file)
    except ImageFormatError:
        reader = READERS[-1]
    if reader is READERS[-1]:  # of whatever is left
        return None, f"the format of {os.path.basename(file)!r:.100} cannot be"
    part = open_part(uri)
    reason = _reason_for_whole(part, color, reading)
    if reason:
        part.close()
        return None, reason
    is_decoded = not address and whole_file_is_decoded(file) and not reading.selects
    try:
        return ImageRegions(part, color, reading, is_decoded=is_decoded), ""
    except BaseException:
        part.close()
        raise


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


def _reason_for_whole(part: Part, color: ColorMode, reading: Reading) -> str:
    """Why an image cannot be read by regions, empty if it can."""
    what = f"{os.path.basename(part.name)!r:.100}"
    if part.tile_shape is None:
        return f"{what} is stored in one piece, and cannot be"
    if reading.percentile is not None:
        return f"percentiles are those of whole images, and {what} cannot be"
    if reading.project is not None:
        return f"slices of {what} are projected as a whole, and cannot be"
    wants_upright = color in {"gray", "color"} if reading.orientation is None else reading.orientation == "upright"
    if part.turn != 1 and wants_upright != part.is_upright:
        return f"{what} is turned by its orientation, and cannot be"
    places = guarded(part.name, lambda: chosen_places(part.axes, part.shape, reading, part.metadata))
    outer = {
        axis: side
        for axis, side in zip(part.axes, part.shape, strict=True)
        if axis not in "YX" and axis not in places and side > 1
    }
    if len(outer) > 1 or any(axis not in "SC" or side > _MOST_CHANNELS for axis, side in outer.items()):
        return f"{what} has the axes {part.axes}, of which no part is named, such as #c=0, and cannot be"
    return ""


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
