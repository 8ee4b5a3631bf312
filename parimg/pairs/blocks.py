"""Blocks of pairs: some images against some others, in one record of a job.

A block is some bytes in a row of a Parquet file, which is the source of the job, so that any process can list it
again, also when rows were added. Made by `planning`, taken apart by `block_task` on engines.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parimg.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

LARGEST_TILE = 32  # images of each side: 1 024 pairs for reading 64 files, 1 s at 1 ms a pair
_CHOSEN_TILES = 2  # as many columns has a block of chosen pairs: 96 files, 25 MB with 2 000 features each
_LEAST_TILE = 4
_TILES = 8  # that a collection has at least, if it has enough images: 36 blocks keep some engines busy
_HEADER = struct.Struct("<4IB")


class Block(NamedTuple):
    """Images ``rows`` against images ``columns``, by number.

    Attributes
    ----------
    rows, columns : range
    chosen : ndarray of uint32, shape (pairs, 2), or None
        Which pairs of these, perhaps of few images of long ranges. None: all in which the first number is smaller.
    """

    rows: range
    columns: range
    chosen: npt.NDArray[np.uint32] | None = None

    @property
    def name(self) -> str:
        """Tells it apart among those planned together."""
        return f"{self.rows.start:07d}x{self.columns.start:07d}"

    def pairs(self) -> npt.NDArray[np.uint32]:
        """Its pairs of numbers, shape (pairs, 2), the smaller one first, in order."""
        if self.chosen is not None:
            return self.chosen
        grid = np.stack(
            np.meshgrid(
                np.arange(self.rows.start, self.rows.stop, dtype=np.uint32),
                np.arange(self.columns.start, self.columns.stop, dtype=np.uint32),
                indexing="ij",
            ),
            axis=-1,
        ).reshape(-1, 2)
        return grid[grid[:, 0] < grid[:, 1]]

    def encode(self) -> bytes:
        """Bytes for `decode_block`."""
        limits = (self.rows.start, self.rows.stop, self.columns.start, self.columns.stop)
        header = _HEADER.pack(*limits, self.chosen is not None)
        return header + (b"" if self.chosen is None else self.chosen.astype("<u4").tobytes())


def decode_block(data: bytes) -> Block:
    """Undo `Block.encode`.

    Raises
    ------
    JobError
        If the bytes are of something else.

    Examples
    --------
    >>> decode_block(Block(range(0, 2), range(1, 3)).encode()).pairs().tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    try:
        row, row_stop, column, column_stop, is_chosen = _HEADER.unpack_from(data)
        chosen = np.frombuffer(data, "<u4", offset=_HEADER.size).reshape(-1, 2) if is_chosen else None
    except (struct.error, ValueError) as error:
        raise JobError(f"{data[:20]!r} is no block of pairs: {error}") from None
    return Block(range(row, row_stop), range(column, column_stop), chosen)


def tile_size(n_images: int) -> int:
    """Images of each side of a block, so that a collection has many blocks, and blocks many pairs.

    Examples
    --------
    >>> tile_size(47), tile_size(16_000)
    (6, 32)
    """
    return min(LARGEST_TILE, max(_LEAST_TILE, -(-n_images // _TILES)))


def blocks_of_range(start: int, stop: int) -> Iterator[Block]:
    """Blocks of all pairs whose larger number lies in ``range(start, stop)``."""
    size = tile_size(stop)
    columns = _tiles(start, stop, size)
    for place, column in enumerate(columns):
        for row in (*_tiles(0, start, size), *columns[: place + 1]):
            if row.start < column.stop - 1:  # an image alone makes no pair
                yield Block(row, column)


def blocks_of_pairs(pairs: npt.NDArray[np.uint32], n_images: int) -> Iterator[Block]:
    """Blocks of chosen pairs, the smaller number first.

    The pairs of a tile of rows, by column, are cut where so many columns are in a block: pairs that lie far apart,
    as retrieval chooses them, share the files of their rows, and a block has many of them.

    Parameters
    ----------
    pairs : ndarray of uint32, shape (pairs, 2)
    n_images : int
    """
    if not len(pairs):
        return
    size = tile_size(n_images)
    tile = pairs[:, 0] // size
    order = np.lexsort((pairs[:, 0], pairs[:, 1], tile))
    pairs, tile = pairs[order], tile[order]
    is_new_tile = np.r_[True, tile[1:] != tile[:-1]]
    is_new_column = is_new_tile | np.r_[True, pairs[1:, 1] != pairs[:-1, 1]]
    place = np.cumsum(is_new_column)
    place -= np.maximum.accumulate(np.where(is_new_tile, place, 0))  # of a column, in its tile of rows
    starts = np.flatnonzero(is_new_tile | (is_new_column & (place % (_CHOSEN_TILES * size) == 0)))
    for start, stop in pairwise([*starts.tolist(), len(pairs)]):
        chosen = pairs[start:stop]
        (row, column), (last_row, last_column) = chosen.min(axis=0).tolist(), chosen.max(axis=0).tolist()
        yield Block(range(row, last_row + 1), range(column, last_column + 1), chosen)


def _tiles(start: int, stop: int, size: int) -> list[range]:
    return [range(first, min(first + size, stop)) for first in range(start, stop, size)]
