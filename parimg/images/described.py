"""An image as a task is given it, with what its file tells besides: pixel size, and metadata on request.

Files that OpenCV, tifffile or NumPy reads, named alone, go the straight way of `decode`; parts of files, and
formats of other libraries, by `parimg.images.readers`. Called on engines for every image, and
by whoever reads one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from parimg.errors import ImageFormatError, ImageTooLargeError
from parimg.images.decode import decode
from parimg.images.formats import identify
from parimg.images.presenting import check_axes, chosen_places, present
from parimg.images.read import read_bytes
from parimg.images.readers.address import split_address
from parimg.images.readers.guarding import guarded
from parimg.images.readers.opened import open_part
from parimg.images.readers.part import NO_METADATA, Described, Part
from parimg.images.readers.registry import has_fallback, reader_by_magic, whole_file_is_decoded
from parimg.options import DEFAULT_MAX_PIXELS, DEFAULT_READING, Reading

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.images.decode import ColorMode


def read_described(
    uri: str,
    color: ColorMode = "gray",
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    reading: Reading = DEFAULT_READING,
    wants_pixel_size: bool = False,
) -> Described:
    """Read an image, or a part of a file.

    Parameters
    ----------
    uri : str
        Local path or fsspec URL, behind ``#`` the part.
    color : {"gray", "color", "unchanged", "stack"}
        See `parimg.images.decode.decode`.
    max_pixels : int
        Largest height times width, of a volume times slices.
    reading : Reading
        Which channel, which depth, which gray levels, which metadata.
    wants_pixel_size : bool
        Whether pixel sizes are read, where that costs anything.

    Returns
    -------
    Described

    Raises
    ------
    ImageError
        If it cannot be read, or not be made what `color` wants.
    ReaderMissingError
        The library that reads it is not installed.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> path = tempfile.mkdtemp() + "/cells.ome.tif"
    >>> levels = np.arange(2 * 5 * 6, dtype=np.uint16).reshape(2, 5, 6)
    >>> tifffile.imwrite(path, levels, metadata={"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})
    >>> found = read_described(path, "gray", reading=Reading(channel=1, percentile=(0, 100)))
    >>> found.pixels.dtype, found.pixels[0, :3].tolist(), found.pixel_size, found.unit
    (dtype('uint8'), [0, 9, 18], {'Y': 0.5, 'X': 0.5}, 'µm')
    """
    file, part = split_address(uri) if "#" in uri else (uri, "")
    if part or not whole_file_is_decoded(file):
        return _read_part(uri, color, max_pixels, reading)
    data = read_bytes(file)
    return describe_bytes(
        data, file, color, max_pixels=max_pixels, reading=reading, wants_pixel_size=wants_pixel_size
    )


def describe_bytes(
    data: bytes,
    name: str,
    color: ColorMode,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    reading: Reading = DEFAULT_READING,
    wants_pixel_size: bool = False,
) -> Described:
    """Decode the bytes of an image file; see `read_described`.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        What error messages call the image, and where its parts would be read.
    color, max_pixels, reading, wants_pixel_size
        See `read_described`.
    """
    if not wants_pixel_size and reading == DEFAULT_READING:  # nearly all images, which shall not wait
        try:
            return Described(decode(data, color, max_pixels=max_pixels, name=name))
        except ImageFormatError:
            if not data or identify(data) is not None or not _is_known_otherwise(name, data):
                raise
            return _read_part(name, color, max_pixels, reading)
    image_format = identify(data)
    is_tiff = image_format is not None and image_format.name == "TIFF"
    if data and image_format is None and (_is_known_otherwise(name, data)):
        return _read_part(name, color, max_pixels, reading)
    if is_tiff and (reading.selects or reading.metadata or wants_pixel_size):
        return _describe_tiff(data, name, color, max_pixels, reading)
    if not reading.selects:
        pixels = decode(data, color, max_pixels=max_pixels, name=name, orientation=reading.orientation)
        return Described(pixels, metadata=_exif(data, reading))
    pixels = decode(
        data,
        "unchanged",
        max_pixels=max_pixels,
        name=name,
        orientation="upright" if _stands_upright(color, reading) else "stored",
    )
    axes = "YXS"[: pixels.ndim]
    places = guarded(name, lambda: chosen_places(axes, pixels.shape, reading, {}))
    chosen, axes = _fix(pixels, axes, places)
    guarded(name, lambda: check_axes(dict(zip(axes, chosen.shape, strict=True)), color))
    return Described(guarded(name, lambda: present(chosen, axes, color, reading)), metadata=_exif(data, reading))


def _is_known_otherwise(name: str, data: bytes) -> bool:
    """Whether a reader knows the first bytes, or bioio shall try."""
    return reader_by_magic(data[:512]) is not None or has_fallback(name)


def _describe_tiff(data: bytes, name: str, color: ColorMode, max_pixels: int, reading: Reading) -> Described:
    if reading.selects:
        return _read_part(name, color, max_pixels, reading)
    pixels = decode(data, color, max_pixels=max_pixels, name=name, orientation=reading.orientation)
    with open_part(name) as part:
        return Described(pixels, part.pixel_size, part.unit, _wanted(part.metadata, reading))


def _exif(data: bytes, reading: Reading) -> Mapping[str, object]:
    if not reading.metadata:
        return NO_METADATA
    from parimg.images.readers.exif import file_fields, times_of

    fields = file_fields(data)
    return _wanted({**fields, **times_of(fields)}, reading)


def _wanted(metadata: Mapping[str, object], reading: Reading) -> Mapping[str, object]:
    return {name: metadata.get(name) for name in reading.metadata}


def _fix(pixels: npt.NDArray[Any], axes: str, places: Mapping[str, int]) -> tuple[npt.NDArray[Any], str]:
    index = tuple(places.get(axis, slice(None)) for axis in axes)
    return pixels[index], "".join(axis for axis in axes if axis not in places)


def _read_part(uri: str, color: ColorMode, max_pixels: int, reading: Reading) -> Described:
    with open_part(uri) as part:
        return describe_part(part, color, max_pixels=max_pixels, reading=reading)


def describe_part(
    whole: Part, color: ColorMode, *, max_pixels: int = DEFAULT_MAX_PIXELS, reading: Reading = DEFAULT_READING
) -> Described:
    """Read what a colour mode wants of a part; see `read_described`."""
    name = whole.name
    part = whole.at(guarded(name, lambda: chosen_places(whole.axes, whole.shape, reading, whole.metadata)))
    lengths = dict(zip(part.axes, part.shape, strict=True))
    if reading.project is not None:
        lengths.pop("Z", None)
    guarded(name, lambda: check_axes(lengths, color))
    _check_size(part, max_pixels, reading)
    pixels = _project(part, reading) if "Z" in part.axes and reading.project else part.read()
    shown = guarded(name, lambda: present(pixels, "".join(lengths), color, reading))
    wants_upright = _stands_upright(color, reading)
    if part.turn != 1 and wants_upright != part.is_upright:
        from parimg.images.readers.exif import turned, turned_back

        turn = turned if wants_upright else turned_back
        shown = turn(shown, part.turn, is_stack=shown.ndim == 3 and color == "stack")
    return Described(shown, part.pixel_size, part.unit, _wanted(whole.metadata, reading))


def _stands_upright(color: ColorMode, reading: Reading) -> bool:
    """Whether an image is given upright: by default to what is shown or matched, not to what is measured."""
    return color in ("gray", "color") if reading.orientation is None else reading.orientation == "upright"


def _check_size(part: Part, max_pixels: int, reading: Reading) -> None:
    """Compare with the limit before anything is decoded; channels and times count, for they are read as well."""
    n_pixels = 1
    for axis, length in zip(part.axes, part.shape, strict=True):
        if axis != "S" and not (axis == "Z" and reading.project):
            n_pixels *= length
    if n_pixels > max_pixels:
        raise ImageTooLargeError(
            f"{part.name!r:.300} has {' x '.join(map(str, part.shape))} = {n_pixels} pixels ({part.axes}), above "
            f"the limit of {max_pixels}; name a part of it, or set a larger max_pixels if it is meant to be that "
            "large"
        )


def _project(part: Part, reading: Reading) -> npt.NDArray[Any]:
    """The brightest or darkest of each pixel's slices; one slice is in memory at a time."""
    keep = np.maximum if reading.project == "max" else np.minimum
    projected = part.at({"Z": 0}).read()
    for place in range(1, part.shape[part.axes.index("Z")]):
        keep(projected, part.at({"Z": place}).read(), out=projected)
    return projected
