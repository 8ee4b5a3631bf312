"""What a format's module gives: an opened file, its images, and one part of an image with its axes named.

A module writes a subclass of `OpenedFile` and one of `StoredImage`; `Part` is made of them by the registry, and is
what everybody else sees; `Described` is what a task is given of one. Imports errors only.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from parimg.errors import ImagePartError
from parimg.images.readers.guarding import read_guarded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.images.readers.address import Address

Index = tuple["slice | int", ...]
"""One for each axis; slices have a start and a stop, and no step."""
NO_METADATA: Mapping[str, object] = MappingProxyType({})


class StoredImage(ABC):
    """One image of an opened file, of any number of axes.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        Of any byte order.
    axes : str
        A letter for each axis: ``Y`` and ``X``; ``Z`` depth, ``C`` channels, ``S`` samples (red, green, blue),
        ``T`` times or frames, ``I`` and what follows in the alphabet where the file does not say.
    pixel_size : mapping of str to float
        By axis, of those that the file tells, in `unit`.
    unit : str or None
        ``"µm"`` of all lengths, or what the file says: ``"deg"``.
    metadata : mapping of str to value
        What the file tells besides. ``"acquisition_time"`` is ISO 8601 wherever it is known.
    tile_shape : tuple of int, or None
        Rows and columns of the blocks that it is stored in; None if `read` decodes it whole whatever is asked.
    turn : int
        EXIF's number of how it is to be turned to be upright; 1 where it is.
    is_upright : bool
        Whether `read` has turned it.
    index_names : mapping of str to str
        What an axis is called in addresses, where that is not its letter: ``{"T": "frame"}``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    pixel_size: Mapping[str, float] = NO_METADATA  # type: ignore[assignment]
    unit: str | None = None
    metadata: Mapping[str, object] = NO_METADATA
    tile_shape: tuple[int, int] | None = None
    turn: int = 1
    is_upright: bool = False
    index_names: Mapping[str, str] = NO_METADATA  # type: ignore[assignment]

    @abstractmethod
    def read(self, index: Index) -> npt.NDArray[Any]:
        """Read what an index selects; axes with a whole number are left out."""

    def index_at(self, seconds: float) -> int:
        """The place along ``T`` that is shown at a time."""
        raise ImagePartError(f"is asked for what it shows at {seconds:g} s, but only videos know times")


class LoadedImage(StoredImage):
    """An image in memory, which can travel."""

    def __init__(self, part: Part) -> None:
        self._pixels = part.read()
        self.shape, self.dtype, self.axes = part.shape, part.dtype, part.axes
        self.pixel_size, self.unit, self.metadata = dict(part.pixel_size), part.unit, dict(part.metadata)
        self.turn, self.is_upright = part.turn, part.is_upright

    def read(self, index: Index) -> npt.NDArray[Any]:
        return self._pixels[index]


class OpenedFile(ABC):
    """An opened file; `close` is called once nobody uses it."""

    @abstractmethod
    def addresses(self) -> Iterable[Address]:
        """The images that it holds, each by its shortest address."""

    @abstractmethod
    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        """The image that an address names, and which of the address's numbers that took: ``{"series"}``.

        Raises
        ------
        ImagePartError
            There is none; the message goes on behind the file's name.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


class Part:
    """An image, or a part of one, that can be read whole or by regions; a context manager that closes itself.

    Attributes
    ----------
    name : str
        Path or URL, with the part.
    shape : tuple of int
    dtype : numpy.dtype
        Of native byte order.
    axes : str
        A letter for each axis of `shape`: ``"YX"``, ``"ZYX"``, ``"CYX"``, ``"YXS"``; see `StoredImage`.
    pixel_size : mapping of str to float
        By axis, of those that the file tells, in `unit`.
    unit : str or None
        ``"µm"`` of all lengths.
    metadata : mapping of str to value
    tile_shape : tuple of int, or None
        Rows and columns of the blocks that it is stored in; None if only the whole can be read.
    turn, is_upright
        See `StoredImage`.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> from parimg.images.readers import open_part
    >>> path = tempfile.mkdtemp() + "/cells.tif"
    >>> tifffile.imwrite(path, np.arange(12, dtype="u2").reshape(3, 4))
    >>> with open_part(path) as part:
    ...     part.axes, part.shape, part.read_region(1, 2, 3, 4).tolist()
    ('YX', (3, 4), [[6, 7], [10, 11]])
    """

    def __init__(
        self, name: str, stored: StoredImage, fixed: Mapping[str, int], release: Callable[[], None] | None
    ) -> None:
        self.name = name
        self._stored = stored
        self._fixed = dict(fixed)
        self._release = release
        kept = [place for place, axis in enumerate(stored.axes) if axis not in self._fixed]
        self.axes = "".join(stored.axes[place] for place in kept)
        self.shape = tuple(stored.shape[place] for place in kept)
        self.dtype = stored.dtype.newbyteorder("=")
        self.pixel_size = {axis: size for axis, size in stored.pixel_size.items() if axis in self.axes}
        self.unit = stored.unit
        self.metadata = stored.metadata
        self.tile_shape = stored.tile_shape
        self.turn, self.is_upright = stored.turn, stored.is_upright

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Part {self.name!r}: {self.axes} {' x '.join(map(str, self.shape))} {self.dtype}>"

    def close(self) -> None:
        """Let go of the file."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def at(self, places: Mapping[str, int]) -> Part:
        """The part of this one at places along axes, which it is left without; closed with this one.

        Examples
        --------
        >>> import tempfile, numpy as np, tifffile
        >>> from parimg.images.readers import open_part
        >>> path = tempfile.mkdtemp() + "/cells.ome.tif"
        >>> tifffile.imwrite(path, np.zeros((2, 5, 6), np.uint8), metadata={"axes": "ZYX"})
        >>> with open_part(path) as part:
        ...     part.at({"Z": 1}).axes
        'YX'
        """
        return Part(self.name, self._stored, {**self._fixed, **places}, None)

    def loaded(self) -> Part:
        """Read it into memory, for where its file is not seen: what comes can be pickled.

        Raises
        ------
        ImageError
            As `read`.
        """
        return Part(self.name, LoadedImage(self), {}, None)

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> npt.NDArray[Any]:
        """Read the whole.

        Returns
        -------
        ndarray
            Of `shape` and `dtype`, contiguous and writable.

        Raises
        ------
        ImageError
            The file is cut or damaged, or cannot be read.
        """
        return self._read({})

    def read_region(self, y1: int, x1: int, y2: int, x2: int) -> npt.NDArray[Any]:
        """Read a rectangle, rows ``y1:y2`` and columns ``x1:x2``, of all other axes everything.

        Where `tile_shape` is None, the whole is read and cut.

        Raises
        ------
        ValueError
            It does not lie within the image, or is empty.
        ImageError
            As `read`.
        """
        height, width = (self.shape[self.axes.index(axis)] for axis in "YX")
        if not (0 <= y1 < y2 <= height and 0 <= x1 < x2 <= width):
            raise ValueError(
                f"a region must lie within the image of {height} x {width} (got rows {y1} to {y2}, "
                f"columns {x1} to {x2})"
            )
        return self._read({"Y": slice(y1, y2), "X": slice(x1, x2)})

    def _read(self, region: Mapping[str, slice]) -> npt.NDArray[Any]:
        stored = self._stored
        index: Index = tuple(
            self._fixed[axis] if axis in self._fixed else region.get(axis, slice(0, length))
            for axis, length in zip(stored.axes, stored.shape, strict=True)
        )
        shape = tuple(at.stop - at.start for at in index if isinstance(at, slice))
        return read_guarded(self.name, lambda: stored.read(index), shape, self.dtype)


class Described(NamedTuple):
    """An image, and what its file tells besides.

    Attributes
    ----------
    pixels : ndarray
        As a colour mode has them.
    pixel_size : mapping of str to float
        By axis, ``"Z"``, ``"Y"``, ``"X"``, of those that the file tells, in `unit`.
    unit : str or None
        ``"µm"`` of all lengths.
    metadata : mapping of str to value
        What was asked for, None where the file does not tell.
    """

    pixels: npt.NDArray[Any]
    pixel_size: Mapping[str, float] = NO_METADATA  # type: ignore[assignment]
    unit: str | None = None
    metadata: Mapping[str, object] = NO_METADATA
