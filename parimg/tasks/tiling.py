"""Tiles of an image: where they lie, what of the image each needs, and what of it lies around.

Pure arithmetic over sides and boxes; nothing is opened here. `tiled_image` reads by it, tasks say their `Halo`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy.typing as npt


class Box(NamedTuple):
    """A part of an image, half open: ``image[y1:y2, x1:x2]``."""

    y1: int
    x1: int
    y2: int
    x2: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.y2 - self.y1, self.x2 - self.x1

    @property
    def slices(self) -> tuple[slice, slice]:
        """To cut it out of an image."""
        return slice(self.y1, self.y2), slice(self.x1, self.x2)


class Halo(NamedTuple):
    """How far beyond a tile the image matters to its result, in pixels, each way."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @classmethod
    def around(cls, height: int, width: int | None = None) -> Halo:
        """As far up as down, and as far left as right."""
        return cls(height, height, height if width is None else width, height if width is None else width)


NO_HALO = Halo()


@dataclass(frozen=True, slots=True)
class Grid:
    """An image cut into tiles, numbered row by row; the last of each row and column may be smaller.

    Examples
    --------
    >>> grid = Grid((5, 7), (4, 4))
    >>> len(grid), grid[1], grid[3].shape
    (4, Box(y1=0, x1=4, y2=4, x2=7), (1, 3))
    """

    shape: tuple[int, int]
    """Of the image."""
    tile: tuple[int, int]
    """Height and width of a tile, at least 1."""

    @property
    def counts(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.shape[0] // self.tile[0]), -(-self.shape[1] // self.tile[1])

    def __len__(self) -> int:
        rows, columns = self.counts
        return rows * columns

    def __getitem__(self, index: int) -> Box:
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} tiles (got {index})")
        row, column = divmod(index, self.counts[1])
        (height, width), (y, x) = self.tile, (row * self.tile[0], column * self.tile[1])
        return Box(y, x, min(y + height, self.shape[0]), min(x + width, self.shape[1]))

    def __iter__(self) -> Iterator[Box]:
        return (self[index] for index in range(len(self)))

    def overlapping(self, box: Box) -> Iterator[int]:
        """Numbers of the tiles that a box reaches into."""
        columns = self.counts[1]
        for row in range(box.y1 // self.tile[0], -(-box.y2 // self.tile[0])):
            for column in range(box.x1 // self.tile[1], -(-box.x2 // self.tile[1])):
                yield row * columns + column


def needed_span(begin: int, end: int, before: int, after: int, length: int) -> tuple[int, int]:
    """What a tile from `begin` to `end` needs of an axis whose border is the image's own.

    Parameters
    ----------
    begin, end : int
        The tile.
    before, after : int
        How far its windows reach.
    length : int
        Of the axis.

    Returns
    -------
    (int, int)
        A part of the axis. Where windows reach beyond the border, it goes as far inside as they do outside: in
        every mode but ``"wrap"``, what lies there is made of that.

    Examples
    --------
    >>> needed_span(4, 8, 1, 2, 20), needed_span(18, 20, 0, 5, 20), needed_span(0, 1, 3, 0, 2)
    ((3, 10), (14, 20), (0, 2))
    """
    first, last = begin - before, end + after
    if last > length:
        first = min(first, 2 * length - 1 - last)
    if first < 0:
        last = max(last, 1 - (begin - before))
    return max(first, 0), min(last, length)


class Alignment(NamedTuple):
    """How a part of an image must lie for its rows to be computed as those of the whole, to the last bit."""

    step: int = 1
    """It begins at a multiple of so many rows."""
    margin: int = 0
    """Its last so many rows may differ, where the image goes on; and where it ends, they must all be there."""
    block: int = 1
    """All of so many rows come from the same: it has what these need, from a multiple of them to the next."""


ANY = Alignment()


class Place(NamedTuple):
    """Where a part of an image lies."""

    shape: tuple[int, ...]
    """Of the whole image."""
    box: Box
    """The tile that the part is read for, in the image."""
    core: Box
    """The same in the part."""


def _spans(
    begin: int, end: int, before: int, after: int, length: int, *, wraps: bool, alignment: Alignment
) -> tuple[list[tuple[int, int]], int]:
    """Parts of an axis that a tile needs, to be put together, and where the tile begins in them."""
    step, margin, block = alignment
    if block > 1:
        top, bottom = begin // block * block, min(-(-end // block) * block, length)
        parts, first = _spans(top, bottom, before, after, length, wraps=wraps, alignment=Alignment(step, margin))
        return parts, first + begin - top
    first, last = needed_span(begin, end, before, after, length)
    last = min(last + margin, length)
    if last == length:
        first = max(0, min(first, length - margin))  # the last rows together
    first = first // step * step
    if not wraps or (begin >= before and end + after <= length):
        return [(first, last)], begin - first
    above, below = -(-before // step) * step, -(-after // step) * step
    if (begin < before and end + after > length) or max(above, below) > length:
        return [(0, length)], begin
    if begin < before:  # the other end of the axis comes before it
        last = min(end + after + margin, length)
        return [(length - above, length), (0, last)], above + begin
    # The part ends with the axis, and goes on with what it begins with: the beginning of the axis.
    first = max(0, min(begin - before, length - margin)) // step * step
    return [(0, below), (first, length)], below + begin - first


def read_around(
    read: Callable[[Box], npt.NDArray[Any]],
    box: Box,
    halo: Halo,
    shape: tuple[int, int],
    wraps: Sequence[bool] = (False, False),
    alignment: Alignment = ANY,
) -> tuple[npt.NDArray[Any], Box]:
    """Read a tile with what lies around it.

    Parameters
    ----------
    read : callable
        Gives a part of the image.
    box : Box
        The tile.
    halo : Halo
        How far around.
    shape : (int, int)
        Of the image.
    wraps : (bool, bool)
        Whether the image's own mode has rows and columns go on from their other end.
    alignment : Alignment
        Of rows.

    Returns
    -------
    region : ndarray
        The tile and its surroundings as far as the image goes. Filtered in the image's own mode, its tile is that
        of the filtered image: where the region ends within the image, windows of the tile do not reach that end.
    Box
        The tile in the region.
    """
    import numpy as np

    axes = [
        _spans(box[axis], box[axis + 2], *reach, shape[axis], wraps=wraps[axis], alignment=aligned)
        for axis, (reach, aligned) in enumerate(((halo[:2], alignment), (halo[2:], ANY)))
    ]
    (rows, y), (columns, x) = axes
    parts = [[read(Box(y1, x1, y2, x2)) for x1, x2 in columns] for y1, y2 in rows]
    lines = [np.concatenate(line, axis=1) if len(line) > 1 else line[0] for line in parts]
    region = np.concatenate(lines, axis=0) if len(lines) > 1 else lines[0]
    height, width = box.shape
    return region, Box(y, x, y + height, x + width)
