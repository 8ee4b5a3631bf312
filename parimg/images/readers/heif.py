"""HEIC and HEIF: pictures of phones, each top-level image of a file; upright, as their decoder gives them.

Called by the registry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pillow_heif

from parimg.images.readers.address import Address
from parimg.images.readers.exif import exif_fields, times_of
from parimg.images.readers.opened import numbered
from parimg.images.readers.opening import open_or_path
from parimg.images.readers.part import Index, OpenedFile, StoredImage

if TYPE_CHECKING:
    import numpy.typing as npt


def open_file(uri: str) -> OpenedFile:
    """Open a HEIF file."""
    return _HeifFile(uri)


class _HeifFile(OpenedFile):
    def __init__(self, uri: str) -> None:
        # More than 8 bits come as the upper bits of 16.
        self._file = pillow_heif.open_heif(open_or_path(uri), convert_hdr_to_8bit=False)

    def addresses(self) -> Sequence[Address]:
        n = len(self._file)
        return [Address()] if n == 1 else [Address(indices={"image": number}) for number in range(n)]

    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        return numbered("image", address, len(self._file), lambda number: _HeifImage(self._file[number]))

    def close(self) -> None:
        """The library closes it once it is not used any more."""


_TURNS: dict[tuple[tuple[object, ...], ...], int] = {
    (): 1,
    (("imir", 1),): 2,
    (("irot", 180),): 3,
    (("imir", 0),): 4,
    (("irot", 270), ("imir", 1)): 5,
    (("irot", 270),): 6,
    (("irot", 270), ("imir", 0)): 7,
    (("irot", 90),): 8,
}
"""EXIF's numbers of what the decoder does."""


def _turn(image: Any, fields: Mapping[str, object]) -> int:
    """How the decoder has turned an image: the file's own marks say so, and its EXIF only repeats them."""
    marks = getattr(getattr(image, "_c_image", None), "transformations", None)  # shown nowhere else
    if marks is None:
        told = fields.get("Orientation", 1)
        return told if isinstance(told, int) and 1 <= told <= 8 else 1
    return _TURNS.get(tuple(mark for mark in marks if mark[0] != "clap"), 1)


class _HeifImage(StoredImage):
    def __init__(self, image: Any) -> None:
        self._image = image
        width, height = image.size
        mode: str = image.mode
        n = {"L": 1, "I;16": 1, "LA": 2, "LA;16": 2}.get(mode, 4 if "A" in mode or "a" in mode else 3)
        self.axes = "YX" if n == 1 else "YXS"
        self.shape = (height, width) if n == 1 else (height, width, n)
        self.dtype = np.dtype(np.uint16 if "16" in mode else np.uint8)
        fields = exif_fields(image.info.get("exif"))
        self.metadata = {**fields, **times_of(fields)}
        self.turn = _turn(image, fields)

    is_upright = True

    def read(self, index: Index) -> npt.NDArray[Any]:
        return np.asarray(self._image)[index]
