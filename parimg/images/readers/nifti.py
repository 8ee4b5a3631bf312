"""NIfTI: volumes, with the first axis of the file as X, the second as Y, the third as Z, then times.

Called by the registry.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from parimg.errors import ImagePartError
from parimg.images.damage import UnsuitableError
from parimg.images.read import local_path, read_bytes
from parimg.images.readers.address import Address
from parimg.images.readers.opening import open_or_path
from parimg.images.readers.part import Index, OpenedFile, StoredImage
from parimg.images.readers.units import MICROMETRE, lengths

if TYPE_CHECKING:
    import numpy.typing as npt

_FILE_AXES = "XYZTC"


def open_file(uri: str) -> OpenedFile:
    """Open a NIfTI file."""
    return _NiftiFile(uri)


class _NiftiFile(OpenedFile):
    def __init__(self, uri: str) -> None:
        if local_path(uri) is not None:
            image = nibabel.load(str(open_or_path(uri)))
        else:
            data = read_bytes(uri)
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
            kind = nibabel.Nifti2Image if data[4:6] == b"n+" else nibabel.Nifti1Image
            image = kind.from_bytes(data)
        self._image = _NiftiImage(image)

    def addresses(self) -> Sequence[Address]:
        return [Address()]

    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        if address.path:
            raise ImagePartError(f"names {address.path!r:.100}, but has one image; its parts are z=0 or t=0")
        return self._image, frozenset()

    def close(self) -> None:
        """Nibabel opens the file for each reading."""


class _NiftiImage(StoredImage):
    def __init__(self, image: Any) -> None:
        self._proxy = image.dataobj
        shape = tuple(image.shape)
        if not 2 <= len(shape) <= len(_FILE_AXES):
            raise UnsuitableError(f"has an array of shape {shape}, wanted two to five axes")
        self.axes = _FILE_AXES[: len(shape)][::-1]
        self.shape = shape[::-1]
        # The type of the values, after the scale that the header gives to what is stored.
        self.dtype = np.asarray(self._proxy[tuple(slice(0, 1) for _ in shape)]).dtype
        if self.dtype.kind not in "biuf":
            raise UnsuitableError(f"holds {self.dtype}, wanted real numbers")
        header = image.header
        zooms = dict(zip(_FILE_AXES, header.get_zooms(), strict=False))
        unit = header.get_xyzt_units()[0]
        self.pixel_size = lengths({axis: zooms.get(axis) for axis in "ZYX"}, dict.fromkeys("ZYX", unit))
        self.unit = MICROMETRE if self.pixel_size else None
        self.metadata = _fields(header)

    def read(self, index: Index) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = np.asarray(self._proxy[index[::-1]])
        return found.T


def _fields(header: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in header:
        value = np.asarray(header[name])
        if value.ndim == 0:
            plain = value.item()
            found[str(name)] = plain.decode("latin-1").strip("\0 ") if isinstance(plain, bytes) else plain
    return found
