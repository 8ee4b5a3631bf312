"""Files that are kept open between their parts, and a part that an address names.

An engine's next image is likely to be another part of the same file, and opening one takes milliseconds. Called by
`decode`'s neighbours, by sources, and by whoever reads by tiles.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from parimg.errors import ImagePartError
from parimg.images.readers.address import Address, split_address
from parimg.images.readers.guarding import guarded
from parimg.images.readers.part import OpenedFile, Part, StoredImage
from parimg.images.readers.registry import find_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parimg.images.readers.registry import Reader

_MOST_OPEN = 4  # files an engine keeps open: a chunk's images are neighbours
_REMOTE_SECONDS = 30.0  # until a file in a store is opened anew: whether it was replaced is a request each time


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
