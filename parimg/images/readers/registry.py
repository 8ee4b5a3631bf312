"""Which format is read by which library.

Light: a library is imported when the first file of its kind is opened. Called by `decode`, by sources, and by
whoever reads by tiles. Other packages add readers of theirs as entry points of the group ``parimg.readers``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import cast

from parimg.errors import ImageFormatError, ReaderMissingError
from parimg.images.readers.guarding import guarded
from parimg.images.readers.part import OpenedFile

_HERE = "parimg.images.readers."
_OF_TIFF = _HERE + "tiff"
_NEARLY_ALL = frozenset(("png", "jpg", "jpeg"))
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
    if path[path.rfind(".") + 1 :].lower() in _NEARLY_ALL:
        return True
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
