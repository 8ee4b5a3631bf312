"""Which format is read by which library, and files that are kept open between their parts.

Light: a library is imported when the first file of its kind is opened. Called by `decode`, by sources, and by
whoever reads by tiles. Other packages add readers of theirs as entry points of the group ``parimg.readers``.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from parimg.errors import ImageFormatError, ImagePartError, ReaderMissingError
from parimg.images.readers.address import Address, split_address
from parimg.images.readers.part import OpenedFile, Part, StoredImage

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_OPEN = 4  # files an engine keeps open: a chunk's images are neighbours
_REMOTE_SECONDS = 30.0  # until a file in a store is opened anew: whether it was replaced is a request each time
_HERE = "parimg.images.readers."
_OF_TIFF = _HERE + "tiff"
_KNOWN_WELL = "apng avif bmp gif hdr j2k jp2 jpe jpeg jpg npy pam pbm pfm pgm png pnm ppm tif tiff webp"



@dataclass(frozen=True)
class Reader:
    """One format, or the formats of one library.

    Examples
    --------
    >>> reader_of("run.h5").extra
    'hdf5'
    >>> reader_of("a.png") is None
    True
    """

    name: str
    """What messages call it."""
    suffixes: tuple[str, ...]
    """Endings of files, in lower case, with their dot."""
    module: str
    """Of the function ``open_file(uri) -> OpenedFile``."""
    package: str
    """That the module imports."""
    extra: str = ""
    """Of parimg, that installs it; or, for readers of others, empty."""
    magic: tuple[tuple[int, bytes], ...] = ()
    """Bytes at places, any of which tells the format."""
    is_folder: bool = False
    """Whether a file of the format is a folder."""
    is_listed: bool = True
    """Whether a folder or glob lists files into their parts; else each is one image, its parts on request."""

    def check_installed(self, name: str = "") -> None:
        """Refuse to go on without the library.

        Raises
        ------
        ReaderMissingError
        """
        if not _is_installed(self.package):
            extra = f'pip install "parimg[{self.extra}]"' if self.extra else f"pip install {self.package}"
            raise ReaderMissingError(
                f"{name or 'a file'!r:.200} is {self.name}, which is read by {self.package}, and that is not "
                f"installed: {extra}, here and on the engines"
            )

    def open(self, uri: str) -> OpenedFile:
        """Open a file, whatever is wrong with it being an error of ours."""
        from parimg.images.readers.guarding import guarded

        self.check_installed(uri)
        return guarded(uri, lambda: cast("OpenedFile", import_module(self.module).open_file(uri)))


def _endings(names: str) -> tuple[str, ...]:
    return tuple(f".{name}" for name in names.split())


READERS = (
    # Files that were always read are one image still, and listed so.
    Reader("TIFF", _endings("tif tiff btf tf8"), _OF_TIFF, "tifffile", is_listed=False),
    Reader(
        "TIFF",
        _endings("ome.tif ome.tiff ome.btf ome.tf2 ome.tf8 lsm svs ndpi scn bif qptiff"),
        _OF_TIFF,
        "tifffile",
    ),
    Reader("Zarr", _endings("zarr"), _HERE + "zarr_groups", "zarr", "zarr", is_folder=True),
    Reader("HDF5", _endings("h5 hdf5 hdf he5 nxs"), _HERE + "hdf5", "h5py", "hdf5", ((0, b"\x89HDF\r\n"),)),
    Reader(
        "FITS",
        _endings("fits fit fts fits.gz fit.gz fits.fz"),
        _HERE + "fits",
        "astropy",
        "fits",
        ((0, b"SIMPLE  ="),),
    ),
    Reader("DICOM", _endings("dcm dicom dic"), _HERE + "dicom", "pydicom", "dicom", ((128, b"DICM"),)),
    Reader("NIfTI", _endings("nii nii.gz"), _HERE + "nifti", "nibabel", "nifti", ((344, b"n+1\0"), (4, b"n+2\0"))),
    Reader(
        "video",
        _endings("mp4 m4v mov avi mkv webm mpg mpeg wmv flv mts ogv"),
        _HERE + "video",
        "av",
        "video",
        ((0, b"\x1a\x45\xdf\xa3"), *((4, b"ftyp" + brand) for brand in (b"isom", b"mp42", b"qt  ", b"M4V"))),
    ),
    Reader(
        "HEIF",
        _endings("heic heif hif"),
        _HERE + "heif",
        "pillow_heif",
        "heif",
        tuple((4, b"ftyp" + brand) for brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc")),
    ),
    Reader(
        "a camera's raw file",
        _endings("cr2 cr3 nef nrw arw dng orf rw2 raf pef srw 3fr iiq"),
        _HERE + "raw",
        "rawpy",
        "raw",
    ),
    Reader(
        "a microscope's file",
        _endings("czi nd2 lif dv r3d oib oif vsi ims sldy"),
        _HERE + "microscopes",
        "bioio",
        "microscopes",
    ),
)
_FALLBACK = READERS[-1]


@cache
def _is_installed(package: str) -> bool:
    return find_spec(package) is not None


@cache
def readers() -> tuple[Reader, ...]:
    """All readers, those of other packages first."""
    others = [entry.load() for entry in sorted(entry_points(group="parimg.readers"), key=lambda entry: entry.name)]
    return (*others, *READERS)


@cache
def _by_suffix() -> Mapping[str, Reader]:
    return {suffix: reader for reader in reversed(readers()) for suffix in reader.suffixes}


def reader_of(path: str) -> Reader | None:
    """The reader of a file by its ending, the longest that is known; None of PNG, JPEG and others of `decode`.

    Parameters
    ----------
    path : str
        Path or URL of the file, without a part.
    """
    known = _by_suffix()
    name = path.rstrip("/")
    name = name[name.rfind("/") + 1 :].lower()
    place = name.find(".", 1)
    while place >= 0:
        if (found := known.get(name[place:])) is not None:
            return found
        place = name.find(".", place + 1)
    return None


def whole_file_is_decoded(path: str) -> bool:
    """Whether a file that is named alone is decoded in one go by `decode`, as far as its name says."""
    reader = reader_of(path)
    if reader is not None:
        return reader.module == _OF_TIFF
    # Only names without an ending may be those of Zarr groups.
    may_be_folder = "://" not in path and "." not in path[path.rfind("/") + 1 :]
    return not (may_be_folder and os.path.isdir(path) and folder_reader(path) is not None)


def has_fallback(path: str) -> bool:
    """Whether bioio is to try a file that nobody knows; not one that by its ending is a damaged PNG or JPEG."""
    ending = path[path.rfind(".") + 1 :].lower()
    return ending not in _KNOWN_WELL.split() and _is_installed(_FALLBACK.package)


def reader_by_magic(head: bytes) -> Reader | None:
    """The reader of a file by its first bytes, some 300 of them."""
    found = (reader for reader in readers() for at, magic in reader.magic if head[at : at + len(magic)] == magic)
    return next(found, None)


def folder_reader(path: str) -> Reader | None:
    """The reader of a folder that is one file to its format, such as ``plate.zarr``."""
    reader = reader_of(path)
    if reader is not None and reader.is_folder:
        return reader
    # An array or group whose folder is called otherwise.
    if any(os.path.isfile(os.path.join(path, name)) for name in ("zarr.json", ".zgroup", ".zarray")):
        return next(reader for reader in readers() if ".zarr" in reader.suffixes)
    return None


def find_reader(path: str) -> Reader:
    """The reader of a file by its ending or first bytes, else the fallback.

    Raises
    ------
    ImageFormatError
        Nobody reads it.
    """
    if (found := reader_of(path)) is not None:
        return found
    if "://" not in path:
        if os.path.isdir(path) and (found := folder_reader(path)) is not None:
            return found
        if os.path.isfile(path):
            with open(path, "rb") as file:
                head = file.read(512)
            if head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
                return READERS[0]
            if (found := reader_by_magic(head)) is not None:
                return found
    if not _is_installed(_FALLBACK.package):
        raise ImageFormatError(
            f"{path!r:.300} is of no format that is known here; bioio and its plugins read more: pip install "
            f'"parimg[{_FALLBACK.extra}]"'
        )
    return _FALLBACK


# -- open files ----------------------------------------------------------------------------------------------


class _Shared:
    """An open file with the number of its users; closed when it is dropped and the last of them has gone."""

    def __init__(self, file: OpenedFile) -> None:
        self.file = file
        self.users = 0
        self.is_dropped = False


_open: OrderedDict[object, _Shared] = OrderedDict()
# Parts are made and closed under it, but read without: libraries have locks of their own.
_lock = threading.RLock()


def _identity(uri: str) -> object:
    """Changes when the file is replaced."""
    if "://" in uri:
        return uri, int(time.monotonic() / _REMOTE_SECONDS)
    status = os.stat(uri)
    # Libraries' objects are not made for several threads.
    return uri, status.st_ino, status.st_size, status.st_mtime_ns, threading.get_ident()


def _take(uri: str, reader: Reader) -> _Shared:
    from parimg.images.readers.guarding import guarded

    key = guarded(uri, lambda: _identity(uri)), reader.name
    with _lock:
        shared = _open.get(key)
        if shared is None:
            shared = _open[key] = _Shared(reader.open(uri))
        _open.move_to_end(key)
        shared.users += 1
        while len(_open) > _MOST_OPEN:
            _, old = _open.popitem(last=False)
            old.is_dropped = True
            _close_unused(old)
    return shared


def _give_back(shared: _Shared) -> None:
    with _lock:
        shared.users -= 1
        _close_unused(shared)


def _close_unused(shared: _Shared) -> None:
    if shared.is_dropped and shared.users == 0:
        shared.file.close()


def close_files() -> None:
    """Close what is kept open and not in use."""
    with _lock:
        while _open:
            _, old = _open.popitem()
            old.is_dropped = True
            _close_unused(old)


class _Listed:
    """A file that is being listed; closed by its `with`."""

    def __init__(self, uri: str, reader: Reader) -> None:
        self.reader = reader
        self._shared = _take(uri, reader)

    def __enter__(self) -> OpenedFile:
        return self._shared.file

    def __exit__(self, *_: object) -> None:
        _give_back(self._shared)


def open_file(uri: str) -> _Listed:
    """Open what a path or URL without a part names, to look at what it holds; for ``with``."""
    return _Listed(uri, find_reader(uri))


def open_part(uri: str) -> Part:
    """Open an image, or a part of one.

    Parameters
    ----------
    uri : str
        Path or fsspec URL, behind ``#`` the part: ``plate.zarr#B/03/0?t=0&c=1``. A file that holds one image needs
        no part; of one with several the first is taken.

    Returns
    -------
    Part
        To be closed; a context manager.

    Raises
    ------
    ImagePartError
        There is no such part.
    ReaderMissingError
        The library that reads it is not installed.
    ImageError
        The file is missing, damaged, or of no format that can be read.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> path = tempfile.mkdtemp() + "/cells.ome.tif"
    >>> tifffile.imwrite(path, np.zeros((2, 5, 6), np.uint8), metadata={"axes": "CYX"})
    >>> with open_part(path + "#c=1") as part:
    ...     part
    <Part '...cells.ome.tif#c=1': YX 5 x 6 uint8>
    >>> open_part(path + "#c=2")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
        ...
    parimg.errors.ImagePartError: '...cells.ome.tif#c=2' names c=2, but c has 2 places, 0 to 1
    """
    from parimg.images.readers.guarding import guarded

    file, text = split_address(uri)
    reader = find_reader(file)
    address = guarded(uri, lambda: Address.parse(text))
    shared = _take(file, reader)
    try:
        with _lock:
            stored, fixed = guarded(uri, partial(_locate, shared.file, address))
        return Part(uri, stored, fixed, partial(_give_back, shared))
    except BaseException:
        _give_back(shared)
        raise


def _locate(file: OpenedFile, address: Address) -> tuple[StoredImage, dict[str, int]]:
    """The image that an address names, and the place along each of its axes that the address fixes."""
    stored, used = file.image(address)
    if address.axes:
        stored = _Renamed(stored, address.axes)
    axis_of = {stored.index_names.get(axis, axis.lower()): axis for axis in stored.axes}
    axis_of |= {axis.lower(): axis for axis in stored.axes}
    fixed: dict[str, int] = {}
    if address.seconds is not None:
        fixed["T"] = stored.index_at(address.seconds)
    for name, place in address.indices.items():
        if name in used:
            continue
        axis = axis_of.get(name)
        if axis is None or axis in "YX":
            known = [stored.index_names.get(one, one.lower()) for one in stored.axes if one not in "YX"]
            raise ImagePartError(
                f"names {name}={place}, but its axes are {stored.axes}"
                + (f"; parts are named by {', '.join(known)}" if known else ", and it has no parts")
            )
        length = stored.shape[stored.axes.index(axis)]
        if place >= length:
            raise ImagePartError(f"names {name}={place}, but {name} has {length} places, 0 to {length - 1}")
        fixed[axis] = place
    return stored, fixed


class _Renamed(StoredImage):
    """An image whose axes the user names."""

    def __init__(self, stored: StoredImage, axes: str) -> None:
        if len(axes) != len(stored.axes) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
            raise ImagePartError(
                f"is told axes={axes}, but has {len(stored.shape)} axes of {' x '.join(map(str, stored.shape))}; "
                "name each once, Y and X among them"
            )
        self._stored = stored
        self.shape, self.dtype, self.axes = stored.shape, stored.dtype, axes
        self.unit, self.metadata = stored.unit, stored.metadata
        self.turn, self.is_upright = stored.turn, stored.is_upright
        is_same = axes[-2:] == stored.axes[-2:]
        self.pixel_size = stored.pixel_size if is_same else {}
        self.tile_shape = stored.tile_shape if is_same else None

    def read(self, index: Any) -> Any:
        return self._stored.read(index)


def split_axes(stored: StoredImage) -> Iterator[tuple[str, str, int]]:
    """The axes whose places are images of their own: letter, name in addresses, length; not depth and channels."""
    for axis, length in zip(stored.axes, stored.shape, strict=True):
        if axis not in "YXSZC" and length > 1:
            yield axis, stored.index_names.get(axis, axis.lower()), length


def numbered(
    name: str, address: Address, n: int, make: Callable[[int], StoredImage]
) -> tuple[StoredImage, frozenset[str]]:
    """The image that a number of an address names: ``series=1``.

    Raises
    ------
    ImagePartError
        There are fewer.
    """
    if address.path:
        raise ImagePartError(f"names {address.path!r:.100}, but its images have numbers: {name}=0")
    number = address.indices.get(name, 0)
    if number >= n:
        raise ImagePartError(f"names {name}={number}, but has {n} {name}, 0 to {n - 1}")
    return make(number), frozenset([name])
