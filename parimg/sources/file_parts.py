"""Files that hold many images, listed into their parts: series, data sets, frames, times; one image of a job each.

Called by all kinds of sources that meet such a file, and by `parimg list`. Reads headers, never pixels. Depth and
channels of an image are no parts: they stay together, and a job's options choose among them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from parimg.errors import ImageError, ReaderMissingError, SourceError
from parimg.images.readers import Address, open_file, open_part, reader_of, split_address
from parimg.images.readers.guarding import guarded
from parimg.images.readers.opened import split_axes
from parimg.images.readers.registry import folder_reader, has_fallback, reader_by_magic
from parimg.sources.names import Place, escape_name
from parimg.sources.source import Image, NamedSource

if TYPE_CHECKING:
    from parimg.images.readers import OpenedFile, Reader, StoredImage


class FilePart(NamedTuple):
    """An image of a file, as a job would run it.

    Attributes
    ----------
    element : str
        What names it as an element of ``images``: the path or URL, and the part behind ``#`` if there are several.
    axes : str
        A letter for each axis: ``"YX"``, ``"ZYX"``, ``"CYX"``, ``"YXS"``.
    shape : tuple of int
    dtype : str
    pixel_size : mapping of str to float
        By axis, of those that the file tells, in `unit`.
    unit : str or None
        ``"µm"`` of all lengths.
    metadata : mapping of str to value
        What can be asked for as columns, by ``metadata=[...]``.
    """

    element: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    pixel_size: Mapping[str, float]
    unit: str | None
    metadata: Mapping[str, object]


def parts(path: str | os.PathLike[str]) -> list[FilePart]:
    """Tell what a file holds, without running anything.

    Parameters
    ----------
    path : str or path
        Path or URL of a file, or of a part of it.

    Returns
    -------
    list of FilePart
        One for each image that a job would run if it were given this path.

    Raises
    ------
    ImageError
        There is no such file or part, or it is damaged, or of no format that can be read.
    ReaderMissingError
        The library that reads it is not installed.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> path = tempfile.mkdtemp() + "/run.ome.tif"
    >>> tifffile.imwrite(path, np.zeros((2, 3, 5, 6), np.uint8), metadata={"axes": "TCYX"})
    >>> for part in parts(path):
    ...     part.element.removeprefix(path), part.axes, part.shape
    ('#t=0', 'CYX', (3, 5, 6))
    ('#t=1', 'CYX', (3, 5, 6))
    """
    name = os.fspath(path)
    file, part = split_address(name)
    if part:
        with open_part(name) as opened:
            stored_part = FilePart(
                name, opened.axes, opened.shape, str(opened.dtype), opened.pixel_size, opened.unit, opened.metadata
            )
        return [stored_part]
    if reader_of(file) is None and (whole := _whole(file)) is not None:
        return [whole]
    with open_file(file) as found:
        images = guarded(file, lambda: list(_images(found)))
        described = [_describe(file, address, stored, fixed) for address, stored, fixed in images]
    return [described[0]._replace(element=file)] if len(described) == 1 else described


def part_elements(file: str) -> Iterator[str]:
    """Name the images of a file: by its own name if there is one, else one element a part.

    A file that cannot be opened is named alone, for a failed record.

    Raises
    ------
    ReaderMissingError
    SourceError
        It is damaged behind its first parts.
    """
    n_named = 0
    try:
        with open_file(file) as found:
            images = _images(found)
            first = guarded(file, lambda: list(itertools.islice(images, 2)), is_asked_again=False)
            if len(first) < 2:
                first = []
            while first:
                for address, *_ in first:
                    n_named += 1
                    yield f"{file}#{address}"
                first = guarded(file, lambda: list(itertools.islice(images, 1)), is_asked_again=False)
    except ReaderMissingError:
        raise
    except ImageError as error:
        if n_named:
            raise SourceError(f"the parts of a file can be listed no further than {n_named}: {error}") from error
    if not n_named:
        yield file


def listed_reader(path: str) -> Reader | None:
    """The reader of a file that is listed into its parts, by its name."""
    reader = reader_of(path)
    return reader if reader is not None and reader.is_listed else None


class PartsOfFile(NamedSource):
    """A file that stands for all its images."""

    def __init__(self, kind: str, path: str, place: Place, reader: Reader) -> None:
        super().__init__(kind, path, place)
        reader.check_installed(path)

    def __iter__(self) -> Iterator[Image]:
        if "://" in self._path:
            return (Image(escape_name(element), element) for element in part_elements(self._path))
        return map(self._place.image, part_elements(self._place.absolute(self._path)))


class OnePart(NamedSource):
    """A part of a file, named by its address."""

    def __iter__(self) -> Iterator[Image]:
        yield self._place.image(self._path)


def split_existing(path: str, place: Place) -> tuple[str, str]:
    """Split a path into a file that exists, or a pattern, and a part; the part is empty where there is neither."""
    at = path.find("#")
    while at > 0:
        if os.path.exists(place.absolute(path[:at])):
            return path[:at], path[at + 1 :]
        at = path.find("#", at + 1)
    return path, ""


def check_part(path: str) -> None:
    """Refuse a part that its file has not, before anything is sent.

    Raises
    ------
    SourceError
    """
    try:
        open_part(path).close()
    except ImageError as error:
        raise SourceError(str(error)) from None


def source_of_container(path: str, place: Place) -> PartsOfFile | None:
    """The source of an existing file or folder that is listed into its parts; None of all others."""
    absolute = place.absolute(path)
    if (reader := listed_reader(absolute)) is None and os.path.isdir(absolute):
        reader = folder_reader(absolute)
    if reader is None or (reader.is_folder != os.path.isdir(absolute)):
        return None
    return PartsOfFile("path", path, place, reader)


def _images(found: OpenedFile) -> Iterator[tuple[Address, StoredImage, Mapping[str, int]]]:
    """Each image of a file that a job would run: its address, what it is part of, and its places along axes."""
    for address in found.addresses():
        stored, _ = found.image(address)
        axes = list(split_axes(stored))
        for places in itertools.product(*(range(length) for _, _, length in axes)):
            indices = {name: place for (_, name, _), place in zip(axes, places, strict=True)}
            fixed = {axis: place for (axis, _, _), place in zip(axes, places, strict=True)}
            yield Address(address.path, {**address.indices, **indices}), stored, fixed


def _describe(file: str, address: Address, stored: StoredImage, fixed: Mapping[str, int]) -> FilePart:
    kept = [place for place, axis in enumerate(stored.axes) if axis not in fixed]
    return FilePart(
        f"{file}#{address}",
        "".join(stored.axes[place] for place in kept),
        tuple(stored.shape[place] for place in kept),
        str(stored.dtype.newbyteorder("=")),
        stored.pixel_size,
        stored.unit,
        stored.metadata,
    )


def _whole(file: str) -> FilePart | None:
    """An image of the formats that OpenCV and NumPy read; None of others."""
    from parimg.images.decode import decode
    from parimg.images.formats import identify
    from parimg.images.frames import watch_frames
    from parimg.images.read import read_bytes
    from parimg.images.readers.exif import file_fields, times_of

    if folder_reader(file) is not None:
        return None
    data = read_bytes(file)
    image_format = identify(data)
    is_known_otherwise = reader_by_magic(data[:512]) is not None or has_fallback(file)
    if is_known_otherwise if image_format is None else image_format.name == "TIFF":
        return None
    with watch_frames():
        pixels = decode(data, "unchanged", name=file)
    fields = file_fields(data)
    metadata = {**fields, **times_of(fields)}
    return FilePart(file, "YXS"[: pixels.ndim], pixels.shape, str(pixels.dtype), {}, None, metadata)
