"""FITS: each HDU with an image, plain or compressed, by its number or name.

Called by the registry. Rows are in the order of the file, which for sky images is from the bottom up.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from parimg.errors import ImagePartError
from parimg.images.damage import DamagedError
from parimg.images.readers.address import Address
from parimg.images.readers.axes import guess_axes
from parimg.images.readers.opening import open_or_path
from parimg.images.readers.part import Index, OpenedFile, StoredImage

if TYPE_CHECKING:
    import numpy.typing as npt

_SPECTRAL = ("FREQ", "WAVE", "VELO", "VOPT", "VRAD", "AWAV", "STOKES")


def open_file(uri: str) -> OpenedFile:
    """Open a FITS file."""
    return _FitsFile(uri)


class _FitsFile(OpenedFile):
    def __init__(self, uri: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is cut, `read` tells
            self._hdus = fits.open(open_or_path(uri), mode="readonly", memmap=False, lazy_load_hdus=False)
            self._numbers = [number for number, hdu in enumerate(self._hdus) if _is_image(hdu)]

    def addresses(self) -> Sequence[Address]:
        if len(self._numbers) == 1:
            return [Address()]
        return [Address(indices={"hdu": number}) for number in self._numbers]

    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        known = ", ".join(f"hdu={number} {self._hdus[number].name}".strip() for number in self._numbers) or "none"
        if address.path:
            found = [n for n in self._numbers if self._hdus[n].name == address.path.strip("/").upper()]
            if not found:
                raise ImagePartError(f"has no image {address.path!r:.100}; its images are {known:.300}")
            return _FitsImage(self._hdus[found[0]]), frozenset()
        if not self._numbers:
            raise ImagePartError("has no HDU with an image of two or more axes")
        number = address.indices.get("hdu", self._numbers[0])
        if number not in self._numbers:
            what = "has no image" if number < len(self._hdus) else f"has {len(self._hdus)} HDUs, 0 to"
            what += "" if number < len(self._hdus) else f" {len(self._hdus) - 1}"
            raise ImagePartError(f"names hdu={number}, but {what}; its images are {known:.300}")
        return _FitsImage(self._hdus[number]), frozenset(["hdu"])

    def close(self) -> None:
        self._hdus.close()


def _is_image(hdu: Any) -> bool:
    return bool(hdu.is_image) and len(hdu.shape) >= 2 and 0 not in hdu.shape


class _FitsImage(StoredImage):
    def __init__(self, hdu: Any) -> None:
        self._hdu = hdu
        self.shape = tuple(hdu.shape)
        # The type of the values, after the scale and offset that the header gives to what is stored.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.dtype = np.asarray(hdu.section[tuple(slice(0, 1) for _ in self.shape)]).dtype
        header = hdu.header
        kinds = [str(header.get(f"CTYPE{n}", "")).upper() for n in range(len(self.shape), 0, -1)]
        names = ["channel" if kind.startswith(_SPECTRAL) else kind.lower() for kind in kinds[:-2]]
        self.axes = guess_axes(self.shape, self.dtype, [*names, "y", "x"])
        self.pixel_size = _degrees(header)
        self.unit = "deg" if self.pixel_size else None
        self.tile_shape = tuple(hdu.tile_shape[-2:]) if hasattr(hdu, "tile_shape") else (1, self.shape[-1])
        self.metadata = _cards(header)

    def read(self, index: Index) -> npt.NDArray[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return np.asarray(self._hdu.section[index])
            except (TypeError, OSError, ValueError, IndexError) as error:
                raise DamagedError(f"astropy could not read it ({type(error).__name__}: {error!s:.200})") from None


def _degrees(header: Mapping[str, Any]) -> dict[str, float]:
    """Sizes of a pixel on the sky."""
    sizes: dict[str, float] = {}
    for number, axis in ((1, "X"), (2, "Y")):
        if str(header.get(f"CUNIT{number}", "deg")).strip().lower() != "deg" or f"CTYPE{number}" not in header:
            continue
        if f"CD1_{number}" in header or f"CD2_{number}" in header:
            size = math.hypot(header.get(f"CD1_{number}", 0), header.get(f"CD2_{number}", 0))
        else:
            size = abs(header.get(f"CDELT{number}", 0))
        if size:
            sizes[axis] = size
    return sizes


def _cards(header: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in header:
        if name and name not in {"COMMENT", "HISTORY"} and isinstance(header[name], str | int | float | bool):
            found[name] = header[name]
    if isinstance(time := header.get("DATE-OBS"), str):
        found["acquisition_time"] = time if "T" in time else f"{time}T{header.get('TIME-OBS', '00:00:00')}"
    return found
