"""DICOM: frame by frame, plain or compressed, values as they are stored.

Called by the registry.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.pixels.utils import pixel_array

from parimg.errors import ImagePartError
from parimg.images.damage import UnsuitableError
from parimg.images.read import local_path, read_bytes
from parimg.images.readers.address import Address
from parimg.images.readers.opening import open_or_path
from parimg.images.readers.part import Index, OpenedFile, StoredImage
from parimg.images.readers.units import MICROMETRE, lengths

if TYPE_CHECKING:
    import numpy.typing as npt


def open_file(uri: str) -> OpenedFile:
    """Open a DICOM file."""
    return _DicomFile(uri)


class _DicomFile(OpenedFile):
    def __init__(self, uri: str) -> None:
        # Frames are read from the file one by one; what lies in a store is fetched once.
        source: str | bytes = str(open_or_path(uri)) if local_path(uri) is not None else read_bytes(uri)
        self._image = _DicomImage(source)

    def addresses(self) -> Sequence[Address]:
        return [Address()]

    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        if address.path:
            raise ImagePartError(f"names {address.path!r:.100}, but its parts are frames: frame=0")
        return self._image, frozenset()

    def close(self) -> None:
        """There is nothing open between frames."""


class _DicomImage(StoredImage):
    def __init__(self, source: str | bytes) -> None:
        self._source = source
        with self._open() as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=False)
        rows, columns = header.get("Rows"), header.get("Columns")
        if not rows or not columns:
            raise UnsuitableError("is DICOM without an image")
        frames, samples = int(header.get("NumberOfFrames") or 1), int(header.get("SamplesPerPixel") or 1)
        self.axes = ("I" if frames > 1 else "") + "YX" + ("S" if samples > 1 else "")
        self.index_names = {"I": "frame"}
        self.shape = (
            *((frames,) if frames > 1 else ()), int(rows), int(columns), *((samples,) if samples > 1 else ())
        )  # fmt: skip
        bits = int(header.get("BitsAllocated") or 8)
        kind = "i" if header.get("PixelRepresentation") else "u"
        # Bits that are packed come as bytes. `FloatPixelData` may have 32 bits, too, without the tag of signs.
        is_float = bits >= 32 and "PixelRepresentation" not in header
        self.dtype = np.dtype(f"{'f' if is_float else kind}{max(bits, 8) // 8}")
        self.pixel_size = _sizes(header)
        self.unit = MICROMETRE if self.pixel_size else None
        self.metadata = _elements(header)

    def _open(self) -> io.BufferedReader | io.BytesIO:
        return io.BytesIO(self._source) if isinstance(self._source, bytes) else open(self._source, "rb")

    def read(self, index: Index) -> npt.NDArray[Any]:
        if "I" not in self.axes:
            with self._open() as file:
                return np.asarray(pixel_array(file))[index]
        at, within = index[0], index[1:]
        if isinstance(at, int):
            with self._open() as file:
                return np.asarray(pixel_array(file, index=at))[within]
        frames = []
        with self._open() as file:
            for number in range(at.start, at.stop):
                file.seek(0)
                frames.append(np.asarray(pixel_array(file, index=number))[within])
        return np.stack(frames)


def _sizes(header: Any) -> dict[str, float]:
    """Distances of pixels; what is told for all frames of an enhanced image, too."""
    measures = header
    with contextlib.suppress(AttributeError, IndexError):
        measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    spacing = next(
        (found for name in ("PixelSpacing", "ImagerPixelSpacing") if (found := measures.get(name))),
        header.get("PixelSpacing"),
    )
    depth = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
    sizes: dict[str, object] = {"Z": depth}
    if spacing is not None and len(spacing) == 2:
        sizes |= {"Y": spacing[0], "X": spacing[1]}
    return lengths(sizes, dict.fromkeys("ZYX", "mm"))


def _elements(header: Any) -> dict[str, object]:
    """Elements by keyword, of text and numbers."""
    found: dict[str, object] = {}
    for element in header:
        value = element.value
        if element.keyword and isinstance(value, str | int | float) and element.VR not in {"OB", "OW", "UN"}:
            found[element.keyword] = (
                float(value) if isinstance(value, float) else int(value) if isinstance(value, int) else str(value)
            )
    if time := _time(header):
        found["acquisition_time"] = time
    return found


def _time(header: Any) -> str | None:
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        if told := header.get("AcquisitionDateTime"):
            return pydicom.valuerep.DT(told).isoformat()
        for kind in ("Acquisition", "Content", "Series", "Study"):
            day, hour = header.get(f"{kind}Date"), header.get(f"{kind}Time")
            if day and hour:
                return f"{pydicom.valuerep.DA(day).isoformat()}T{pydicom.valuerep.TM(hour).isoformat()}"
    return None
