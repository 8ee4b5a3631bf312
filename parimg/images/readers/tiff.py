"""TIFF by parts: series, pyramids, OME, ImageJ, BigTIFF; plane by plane and tile by tile.

Called by the registry. Whole files in the four colour modes are `parimg.images.tiff`'s, whose convention holds
here, too: the larger a level, the brighter.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree as ET

import numpy as np
import tifffile

from parimg.images.damage import DamagedError, UnsuitableError
from parimg.images.readers.address import Address
from parimg.images.readers.opened import numbered
from parimg.images.readers.opening import open_or_path
from parimg.images.readers.part import Index, OpenedFile, StoredImage
from parimg.images.readers.units import MICROMETRE, lengths, micrometres

if TYPE_CHECKING:
    import numpy.typing as npt

_MIN_IS_WHITE, _ORIENTATION = 0, 274
_NO_METADATA = frozenset(("StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts", "ImageDescription"))
_WANTED_PHOTOMETRICS = frozenset((_MIN_IS_WHITE, 1, 2, 6))  # black, RGB, YCbCr: what comes out as it is meant


def open_file(uri: str) -> OpenedFile:
    """Open a TIFF file."""
    return _TiffFile(uri)


class _TiffFile(OpenedFile):
    def __init__(self, uri: str) -> None:
        self._file = tifffile.TiffFile(open_or_path(uri))
        self._size: int = self._file.filehandle.size
        _check_chain(self._file)
        self._series = list(self._file.series)
        self._ome = _read_ome(self._file)

    def addresses(self) -> Sequence[Address]:
        if len(self._series) == 1:
            return [Address()]
        return [Address(indices={"series": number}) for number in range(len(self._series))]

    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        series, _ = numbered("series", address, len(self._series), lambda number: self._image(number, 0))
        n_levels = len(self._series[address.indices.get("series", 0)].levels)
        level = address.indices.get("level", 0)
        if level:
            series, _ = numbered(
                "level", address, n_levels, lambda level: self._image(address.indices.get("series", 0), level)
            )
        return series, frozenset(("series", "level"))

    def _image(self, number: int, level: int) -> StoredImage:
        whole = self._series[number]
        series = whole.levels[level]
        shrunk = {
            axis: whole.shape[whole.axes.index(axis)] / series.shape[series.axes.index(axis)] for axis in "YX"
        }
        ome = self._ome[number] if number < len(self._ome) else None
        sizes = _imagej_sizes(self._file) or _aperio_sizes(self._file) if ome is None else ome[0]
        sizes = {axis: size * shrunk.get(axis, 1) for axis, size in sizes.items()}
        metadata = {**_page_metadata(whole.keyframe), **(ome[1] if ome is not None else {})}
        return _TiffImage(self._file, series, sizes, metadata, self._size)

    def close(self) -> None:
        self._file.close()


class _TiffImage(StoredImage):
    def __init__(
        self,
        file: tifffile.TiffFile,
        series: tifffile.TiffPageSeries,
        sizes: Mapping[str, float],
        metadata: Mapping[str, object],
        file_size: int,
    ) -> None:
        self._file = file
        self._series = series
        self._file_size = file_size
        page = self._page = series.keyframe
        if page.photometric not in _WANTED_PHOTOMETRICS and page.samplesperpixel > 1:
            raise UnsuitableError(
                f"holds colours of kind {page.photometric!s}, whose parts are not read; read it without one"
            )
        self.shape = tuple(series.shape)
        self.dtype = np.dtype(series.dtype)
        # A letter of tifffile's for "who knows".
        self.axes = _named_axes(series.axes)
        self.pixel_size = dict(sizes)
        self.unit = MICROMETRE if sizes else None
        self.metadata = metadata
        turn = page.tags.valueof(_ORIENTATION, 1)
        self.turn = turn if turn in range(1, 9) else 1
        self._inner = len(page.shape)
        if tuple(page.shape) != self.shape[len(self.shape) - self._inner :]:
            # Sides of length 1 that a series leaves out, or a page that stands for a stack.
            self._inner = 0
        self.tile_shape = self._tile_shape()

    def _tile_shape(self) -> tuple[int, int] | None:
        page = self._page
        if not self._inner and self._series.dataoffset is None:
            return None
        if self._series.dataoffset is not None and self._file.filehandle.is_file:
            return 1, page.imagewidth  # mapped into memory
        if page.is_tiled:
            return page.tilelength, page.tilewidth
        return min(int(page.rowsperstrip), page.imagelength), page.imagewidth

    def read(self, index: Index) -> npt.NDArray[Any]:
        if self._series.dataoffset is not None:
            found = self._read_flat(index)
        elif not self._inner:
            whole: npt.NDArray[Any] = self._series.asarray(maxworkers=1)
            found = np.array(whole[index])
        else:
            found = self._read_pages(index)
        pixels: npt.NDArray[Any] = found
        if self._page.photometric == _MIN_IS_WHITE and pixels.dtype.kind in "iu":
            np.invert(pixels, out=pixels)
        return pixels

    def _read_flat(self, index: Index) -> npt.NDArray[Any]:
        """Of pixels that lie one behind the other."""
        handle, offset = self._file.filehandle, self._series.dataoffset or 0
        dtype = np.dtype(self._file.byteorder + self.dtype.char)
        end = offset + math.prod(self.shape) * dtype.itemsize
        if end > self._file_size:
            raise DamagedError(f"its pixels end at byte {end} of {self._file_size}")
        if handle.is_file:
            return np.array(handle.memmap_array(dtype, self.shape, offset)[index])
        whole: npt.NDArray[Any] = self._series.asarray(maxworkers=1)
        return whole[index]

    def _read_pages(self, index: Index) -> npt.NDArray[Any]:
        n_outer = len(self.shape) - self._inner
        outer = [range(at, at + 1) if isinstance(at, int) else range(at.start, at.stop) for at in index[:n_outer]]
        inner = index[n_outer:]
        shape = tuple(at.stop - at.start for at in inner if isinstance(at, slice))
        planes = np.empty((*map(len, outer), *shape), self.dtype)
        for place in np.ndindex(*map(len, outer)):
            stored = tuple(along[at] for along, at in zip(outer, place, strict=True))
            number = int(np.ravel_multi_index(stored, self.shape[:n_outer])) if n_outer else 0
            page = self._series.pages[number]
            if page is None:  # OME files may lack planes
                planes[place] = 0
                continue
            planes[place] = self._read_page(page, inner)
        return planes.reshape(tuple(at.stop - at.start for at in index[:n_outer] if isinstance(at, slice)) + shape)

    def _read_page(self, page: tifffile.TiffPage | tifffile.TiffFrame, inner: Index) -> npt.NDArray[Any]:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if offset + count > self._file_size and page.parent is self._file:
                raise DamagedError(f"a strip or tile ends at byte {offset + count} of {self._file_size}")
        keyframe = cast("tifffile.TiffPage", page.keyframe)
        axes = keyframe.axes
        if axes not in {"YX", "YXS", "SYX"} or len(page.dataoffsets) == 1:
            whole: npt.NDArray[Any] = page.asarray(maxworkers=1)
            return whole[inner]
        rows, columns = (at for at, axis in zip(inner, axes, strict=True) if axis in "YX")
        assert isinstance(rows, slice), "addresses name no single rows"  # noqa: S101
        assert isinstance(columns, slice), "nor columns"  # noqa: S101
        height, width = (
            (keyframe.tilelength, keyframe.tilewidth)
            if keyframe.is_tiled
            else (keyframe.rowsperstrip, keyframe.imagewidth)
        )
        across, down = -(-keyframe.imagewidth // width), -(-keyframe.imagelength // height)
        n_planes = keyframe.samplesperpixel if axes == "SYX" else 1
        wanted = [
            (plane * down + row) * across + column
            for plane in range(n_planes)
            for row in range(rows.start // height, -(-rows.stop // height))
            for column in range(columns.start // width, -(-columns.stop // width))
        ]
        n_samples = keyframe.samplesperpixel // n_planes
        region = np.zeros((n_planes, rows.stop - rows.start, columns.stop - columns.start, n_samples), self.dtype)
        # Not given their numbers: tifffile before 2026 takes that of a single segment for its place in the lists.
        segments = page.parent.filehandle.read_segments(
            [page.dataoffsets[number] for number in wanted], [page.databytecounts[number] for number in wanted]
        )
        for (data, _), number in zip(segments, wanted, strict=True):
            tile, at, shape = keyframe.decode(data, number, jpegtables=keyframe.jpegtables)
            if tile is None:
                continue  # a sparse file: nothing is stored there
            plane, _, y, x, _ = at
            tile = tile[0, : shape[1], : shape[2]]
            top, left = max(y, rows.start), max(x, columns.start)
            bottom, right = min(y + tile.shape[0], rows.stop), min(x + tile.shape[1], columns.stop)
            down_to = slice(top - rows.start, bottom - rows.start)
            right_to = slice(left - columns.start, right - columns.start)
            region[plane, down_to, right_to] = tile[top - y : bottom - y, left - x : right - x]
        if axes == "SYX":
            return region[inner[0], ..., 0]
        return region[0, ..., 0] if axes == "YX" else region[0, ..., inner[2]]


def _check_chain(file: tifffile.TiffFile) -> None:
    """Follow the directories to the last: of those behind the end tifffile would only leave a note."""
    handle, layout = file.filehandle, file.tiff
    position, seen = 8 if layout.is_bigtiff else 4, set()

    def read(at: int, kind: str) -> int:
        handle.seek(at)
        size = struct.calcsize(kind)
        data = handle.read(size)
        if len(data) < size:
            raise DamagedError(f"the directory behind byte {position} lies behind its end")
        return int(struct.unpack(kind, data)[0])

    while offset := read(position, layout.offsetformat):
        if offset in seen:
            raise DamagedError(f"its directories lead back to byte {offset}")
        seen.add(offset)
        position = offset + layout.tagnosize + read(offset, layout.tagnoformat) * layout.tagsize


def _named_axes(axes: str) -> str:
    """Axes with letters of ours: what tifffile calls Q, I or R is I, then J, K, ..."""
    free = iter("IJKLMNO")
    return "".join(axis if axis in "YXZCST" else next(free) for axis in axes)


# -- what files tell -----------------------------------------------------------------------------------------


def _page_metadata(page: tifffile.TiffPage) -> dict[str, object]:
    found: dict[str, object] = {}
    with contextlib.suppress(Exception):  # damaged tags are told where pixels are read
        for tag in page.tags:
            if isinstance(tag.value, str | int | float) and tag.name not in _NO_METADATA:
                found[tag.name] = tag.value if not isinstance(tag.value, int) else int(tag.value)
        if (time := page.datetime) is not None:
            found["acquisition_time"] = time.isoformat()
    return found


def _read_ome(file: tifffile.TiffFile) -> list[tuple[dict[str, float], dict[str, object]]]:
    """Pixel sizes and metadata of the images of an OME file."""
    if not file.is_ome or file.ome_metadata is None:
        return []
    try:
        root = ET.fromstring(file.ome_metadata)  # noqa: S314 - Python's expat refuses entity bombs
    except ET.ParseError:
        return []
    return [ome_image(image) for image in root.iter() if _tag(image) == "Image"]


def ome_image(image: ET.Element) -> tuple[dict[str, float], dict[str, object]]:
    """Pixel sizes in micrometres, and metadata, of an ``Image`` of OME-XML."""
    metadata: dict[str, object] = {name: value for name, value in image.attrib.items() if name in {"ID", "Name"}}
    sizes: dict[str, float] = {}
    channels = []
    for element in image.iter():
        tag = _tag(element)
        if tag == "AcquisitionDate" and element.text:
            metadata["acquisition_time"] = element.text.strip()
        elif tag == "Channel":
            channels.append(element.get("Name") or element.get("ID") or "")
        elif tag == "Pixels":
            metadata |= {name: _number(value) for name, value in element.attrib.items() if name != "ID"}
            given = {axis: element.get(f"PhysicalSize{axis}") for axis in "ZYX"}
            units = {axis: element.get(f"PhysicalSize{axis}Unit", MICROMETRE) for axis in "ZYX"}
            sizes = lengths(given, units)
        elif tag == "ObjectiveSettings":
            metadata["objective"] = element.get("ID")
    if any(channels):
        metadata["channel_names"] = channels
    return sizes, metadata


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _number(text: str) -> object:
    try:
        return float(text) if "." in text or "e" in text.lower() else int(text)
    except ValueError:
        return text


def _imagej_sizes(file: tifffile.TiffFile) -> dict[str, float]:
    """Of ImageJ's files, which tell pixels a unit. Dots per inch of others are meant for printers."""
    told = file.imagej_metadata if file.is_imagej else None
    if not told or micrometres(told.get("unit")) is None:
        return {}
    page = file.pages.first
    sizes: dict[str, object] = {"Z": told.get("spacing")}
    for axis, name in (("Y", "YResolution"), ("X", "XResolution")):
        dots, units = page.tags.valueof(name, (0, 0))
        sizes[axis] = units / dots if dots else None
    return lengths(sizes, dict.fromkeys("ZYX", told["unit"]))


def _aperio_sizes(file: tifffile.TiffFile) -> dict[str, float]:
    """Of whole slides: micrometres a pixel."""
    if not file.is_svs:
        return {}
    with contextlib.suppress(Exception):
        told = tifffile.tifffile.svs_description_metadata(file.pages.first.description)
        return lengths(dict.fromkeys("YX", told.get("MPP")), dict.fromkeys("YX", MICROMETRE))
    return {}
