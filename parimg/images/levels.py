"""Pictures in pieces: what a large picture consists of, its smaller levels, and blocks that are compressed.

A picture is ``(planes, height, width, channels)``, whatever has only one of them. Tiles come in any order from
several engines, each as one file of compressed blocks; `tiff_levels` and others make one file of them. Used by
tasks that make images, on engines.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from parimg.files.atomic import write_whole

if TYPE_CHECKING:
    import numpy.typing as npt

BLOCK = 512
"""Pixels a side of the blocks that files consist of, at most; viewers like a quarter of a megabyte."""
STEP = 16
"""What sides of blocks are multiples of, as TIFF wants it."""
_SMALLEST_LEVEL = 1024  # pixels; a picture of at most so many a side has no smaller level
_ZLIB_LEVEL = 1  # twice as fast as 6, and 3 % larger on a picture of a microscope


@dataclass(frozen=True)
class Picture:
    """What a large picture is, and how it is cut."""

    planes: int
    height: int
    width: int
    channels: int
    dtype: str
    tile: tuple[int, int]
    """Height and width of what comes at once of the largest level: multiples of 16, or as large as the picture."""
    pyramid: bool = True
    """Whether there are smaller levels."""
    pixel_size: tuple[float, float] | None = None
    """Height and width of a pixel, in `unit`."""
    unit: str | None = None

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width of each level, each half the one before."""
        found = [(self.height, self.width)]
        while self.pyramid and max(found[-1]) > _SMALLEST_LEVEL:
            found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
        return found

    @property
    def block(self) -> tuple[int, int]:
        """Height and width of blocks, of which every tile consists."""
        return _block_side(self.tile[0]), _block_side(self.tile[1])

    @property
    def levels_at_once(self) -> int:
        """Smaller levels that are made of each tile alone, since its part of them consists of whole blocks."""
        count = 0
        while all(side % (block << count + 1) == 0 for side, block in zip(self.tile, self.block, strict=True)):
            count += 1
        return min(count, len(self.shapes) - 1)

    def tile_of(self, level: int) -> tuple[int, int]:
        """Height and width of what comes at once of a level."""
        halvings = level if level <= self.levels_at_once else 0
        return self.tile[0] >> halvings, self.tile[1] >> halvings

    @property
    def nbytes(self) -> int:
        """Of the largest level."""
        return self.planes * self.height * self.width * self.channels * np.dtype(self.dtype).itemsize


def _block_side(side: int) -> int:
    """The largest multiple of 16 up to `BLOCK` that the side is a multiple of."""
    if side % STEP:  # as large as the picture
        return min(-(-side // STEP) * STEP, BLOCK)
    return max(block for block in range(STEP, BLOCK + 1, STEP) if side % block == 0)


def shrink(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Halve the height and width of ``(planes, height, width, channels)``: means of 2 x 2, at edges of fewer.

    Examples
    --------
    >>> shrink(np.array([[1, 2, 9], [3, 6, 9]], np.uint8)[None, ..., None])[0, ..., 0].tolist()
    [[3, 9]]
    """
    between = np.float32 if part.dtype.itemsize < 4 else np.float64
    odd = [(0, 0), (0, part.shape[1] % 2), (0, part.shape[2] % 2), (0, 0)]
    even = np.pad(part, odd, "edge") if any(map(sum, odd)) else part
    total: npt.NDArray[np.floating[Any]] = even[:, ::2, ::2].astype(between)
    for y, x in ((0, 1), (1, 0), (1, 1)):
        total += even[:, y::2, x::2]
    total /= 4
    if part.dtype.kind in "iub":
        np.rint(total, out=total)
    return total.astype(part.dtype)


class BlockFiles:
    """The tiles of a picture's levels as files of compressed blocks in a folder.

    Parameters
    ----------
    picture : Picture
    folder : str
    """

    def __init__(self, picture: Picture, folder: str) -> None:
        self.picture = picture
        self._folder = folder

    def write(self, level: int, y: int, x: int, part: npt.NDArray[Any]) -> None:
        """Write the tile that begins at row `y` and column `x`, ``(planes, height, width, channels)``."""
        height, width = self.picture.block
        blocks = []
        for plane in part.astype(np.dtype(self.picture.dtype).newbyteorder("<"), copy=False):
            for top in range(0, plane.shape[0], height):
                for left in range(0, plane.shape[1], width):
                    block = plane[top : top + height, left : left + width]
                    if block.shape[:2] != (height, width):
                        missing = (height - block.shape[0], width - block.shape[1])
                        block = np.pad(block, [(0, missing[0]), (0, missing[1]), (0, 0)], "edge")
                    blocks.append(zlib.compress(block.tobytes(), _ZLIB_LEVEL))
        header = struct.pack(f"<I{len(blocks)}I", len(blocks), *map(len, blocks))
        write_whole(self._path(level, y, x), lambda file: file.writelines([header, *blocks]))

    def read(self, level: int, y1: int, x1: int, y2: int, x2: int) -> npt.NDArray[Any]:
        """A part of a level, ``(planes, height, width, channels)``."""
        picture = self.picture
        part = np.empty((picture.planes, y2 - y1, x2 - x1, picture.channels), picture.dtype)
        height, width = picture.block
        for tile in self._tiles(level):
            top, left, bottom, right = tile
            if top >= y2 or bottom <= y1 or left >= x2 or right <= x1:
                continue
            with _BlockFile(self._path(level, top, left)) as file:
                columns = -(-(right - left) // width)
                rows = -(-(bottom - top) // height)
                for plane in range(picture.planes):
                    for number in range(rows * columns):
                        y, x = top + number // columns * height, left + number % columns * width
                        if y >= y2 or y + height <= y1 or x >= x2 or x + width <= x1:
                            continue
                        block = self._decoded(file.block(plane * rows * columns + number))
                        ys, xs = slice(max(y, y1), min(y + height, y2)), slice(max(x, x1), min(x + width, x2))
                        part[plane, ys.start - y1 : ys.stop - y1, xs.start - x1 : xs.stop - x1] = block[
                            ys.start - y : ys.stop - y, xs.start - x : xs.stop - x
                        ]
        return part

    def encoded(self, level: int) -> Iterator[bytes]:
        """All blocks of a level as they are, plane by plane and row by row; a row of files is open at a time."""
        picture = self.picture
        height, width = picture.block
        for plane in range(picture.planes):
            for top in range(0, picture.shapes[level][0], picture.tile_of(level)[0]):
                tiles = [tile for tile in self._tiles(level) if tile[0] == top]
                rows = -(-(tiles[0][2] - top) // height)
                with ExitStack() as opened:
                    files = [
                        (opened.enter_context(_BlockFile(self._path(level, y, x))), -(-(right - x) // width))
                        for y, x, _, right in tiles
                    ]
                    for row in range(rows):
                        for file, columns in files:
                            for column in range(columns):
                                yield file.block((plane * rows + row) * columns + column)

    def _decoded(self, block: bytes) -> npt.NDArray[Any]:
        dtype = np.dtype(self.picture.dtype).newbyteorder("<")
        return np.frombuffer(zlib.decompress(block), dtype).reshape(*self.picture.block, self.picture.channels)

    def _tiles(self, level: int) -> Iterator[tuple[int, int, int, int]]:
        height, width = self.picture.shapes[level]
        tile_height, tile_width = self.picture.tile_of(level)
        for y in range(0, height, tile_height):
            for x in range(0, width, tile_width):
                yield y, x, min(y + tile_height, height), min(x + tile_width, width)

    def _path(self, level: int, y: int, x: int) -> str:
        return os.path.join(self._folder, f"picture-{level}-{y}-{x}.blocks")


class _BlockFile:
    """A file of blocks, any of which is read alone."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        (count,) = struct.unpack("<I", self._file.read(4))
        lengths = struct.unpack(f"<{count}I", self._file.read(4 * count))
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]) + 4 * (count + 1)

    def block(self, number: int) -> bytes:
        start, end = self._starts[number : number + 2].tolist()
        self._file.seek(start, io.SEEK_SET)
        return self._file.read(end - start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
