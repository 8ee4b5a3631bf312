"""Cameras' raw files, developed to red, green and blue of 8 bit; the sensor's own values as the part ``sensor``.

Called by the registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import rawpy

from parimg.errors import ImagePartError
from parimg.images.readers.address import Address
from parimg.images.readers.opening import open_or_path
from parimg.images.readers.part import Index, OpenedFile, StoredImage

if TYPE_CHECKING:
    import numpy.typing as npt

_SENSOR = "sensor"


def open_file(uri: str) -> OpenedFile:
    """Open a raw file."""
    return _RawFile(uri)


class _RawFile(OpenedFile):
    def __init__(self, uri: str) -> None:
        self._raw = rawpy.imread(open_or_path(uri))

    def addresses(self) -> Sequence[Address]:
        return [Address()]

    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        if address.path == _SENSOR:
            return _Sensor(self._raw), frozenset()
        if address.path:
            raise ImagePartError(f"names {address.path!r:.100}, but its only part is {_SENSOR!r}")
        return _Developed(self._raw), frozenset()

    def close(self) -> None:
        self._raw.close()


class _Sensor(StoredImage):
    def __init__(self, raw: Any) -> None:
        self._pixels = raw.raw_image_visible
        self.axes = "YX" if self._pixels.ndim == 2 else "YXS"
        self.shape = tuple(self._pixels.shape)
        self.dtype = self._pixels.dtype

    def read(self, index: Index) -> npt.NDArray[Any]:
        return np.array(self._pixels[index])


class _Developed(StoredImage):
    """With the camera's white balance, as bright as it was exposed; LibRaw would brighten each by itself."""

    axes = "YXS"
    is_upright = True
    dtype = np.dtype(np.uint8)

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        sizes = raw.sizes
        # LibRaw turns what it develops by the camera's mark: 5 and 6 are quarters.
        sides = (sizes.width, sizes.height) if sizes.flip in {5, 6} else (sizes.height, sizes.width)
        # Pixels of some sensors are no squares; LibRaw then makes more of them.
        tall = sizes.pixel_aspect if sizes.pixel_aspect < 1 else 1 / sizes.pixel_aspect
        self._is_square = tall == 1
        self.shape = (*sides, 3)
        self.turn = {3: 3, 5: 8, 6: 6}.get(sizes.flip, 1)
        if not self._is_square:
            self.shape = self._develop().shape

    def _develop(self) -> npt.NDArray[np.uint8]:
        pixels: npt.NDArray[np.uint8] = self._raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, output_bps=8
        )
        return pixels

    def read(self, index: Index) -> npt.NDArray[Any]:
        return self._develop()[index]
