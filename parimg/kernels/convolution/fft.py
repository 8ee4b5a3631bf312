"""Convolution by Fourier transforms, block by block, for large kernels.

`methods.py` is the only caller.
"""

from __future__ import annotations

import bisect
import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numba
import numpy as np
import scipy.fft

from parimg.kernels.borders import OUTSIDE, Run, axis_runs, source_index
from parimg.kernels.convolution.line_loops import call_for_float, fill_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Strategy: overlap-save. A block of the output needs the block of the input that reaches as far around it as the
# kernel does; its circular correlation is right wherever the kernel does not wrap around. Blocks are read with
# whatever lies beyond the border, so all modes cost the same and nothing is padded as a whole. Overlap-add would
# do as many transforms, but needs the borders done apart.

# Sides of a block. Below, too much of a block overlaps; above, it leaves the second-level cache: for 31 x 31 and
# float64, 128 takes 10.8 ns a pixel of the output, 256 takes 7.8, 512 takes 9.6.
_SMALLEST_BLOCK = 256
_SMALLEST_BLOCK_OF_VOLUME = 64
_BLOCK_OVER_KERNEL = 4
# Of planes: multiples of 16 are transformed fastest, and powers of two in 0.8 to 1 of their time, an element.
_FAST_SIDES = sorted(
    16 * 2**a * 3**b * 5**c for a in range(13) for b in range(5) for c in range(4) if 2**a * 3**b * 5**c <= 2**12
)
_POWER_OF_TWO = 0.85


def _fast_side(size: int) -> int:
    """The smallest side of a plane's block, of that size at least, that is transformed quickly."""
    at = bisect.bisect_left(_FAST_SIDES, size)
    return _FAST_SIDES[at] if at < len(_FAST_SIDES) else int(scipy.fft.next_fast_len(size, real=True))


@lru_cache(maxsize=256)
def block_shape(shape: tuple[int, ...], taps: tuple[int, ...]) -> tuple[int, ...]:
    """Sides of the transforms for an image and a kernel, axis by axis."""
    smallest = _SMALLEST_BLOCK if len(taps) < 3 else _SMALLEST_BLOCK_OF_VOLUME
    sides = []
    for size, k in zip(shape, taps, strict=True):
        widest = max(_BLOCK_OVER_KERNEL * k, smallest)
        fewest = -(-size // (widest - k + 1))
        if len(taps) != 2:
            sides.append(scipy.fft.next_fast_len(-(-size // fewest) + k - 1, real=True))
            continue
        cuts = (
            (blocks, _fast_side(-(-size // blocks) + k - 1)) for blocks in range(max(fewest - 1, 1), fewest + 2)
        )
        sides.append(min(cuts, key=_time_of_cut)[1])
    return tuple(sides)


def _time_of_cut(cut: tuple[int, int]) -> float:
    blocks, side = cut
    return blocks * side * (_POWER_OF_TWO if side & (side - 1) == 0 else 1.0)


def transformed_elements(shape: tuple[int, ...], taps: tuple[int, ...]) -> int:
    """How many elements all blocks have together, a measure of the time."""
    sides = zip(shape, taps, block_shape(shape, taps), strict=True)
    return math.prod(-(-size // (side - k + 1)) * side for size, k, side in sides)


def spectrum(weights: NDArray[Any], block: tuple[int, ...]) -> NDArray[Any]:
    """Transform of a kernel that is correlated, for `correlate_blocks`."""
    if weights.ndim != 2:
        transformed: NDArray[Any] = scipy.fft.rfftn(weights, block, workers=1)
        return transformed.conj()
    padded = np.zeros(block, weights.dtype)
    padded[: weights.shape[0], : weights.shape[1]] = weights / math.prod(
        block
    )  # what the way back does not divide by
    return np.asarray(cv2.dft(padded))


def _transform_planes(padded: NDArray[Any], transformed: NDArray[Any], read: int, wanted: int) -> None:
    """Sums of a block, in place, of which `read` rows are not 0 and `wanted` are needed.

    OpenCV's transform takes 4.1 ns an element there and back in float64, pocketfft 6.5; in float32 3.2 and 5.8.
    That only some rows count saves a tenth in float64, and makes it three times slower in float32, where it would
    leave Intel's library.
    """
    read, wanted = (read, wanted) if padded.itemsize == 8 else (0, 0)
    cv2.dft(padded, padded, nonzeroRows=read)
    _multiply_spectra(padded, transformed)
    cv2.idft(padded, padded, nonzeroRows=wanted)


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _multiply_spectra(block: NDArray[Any], transformed: NDArray[Any]) -> None:
    """Multiply by the conjugate, in place, both as OpenCV packs them: 0.15 ns an element, by OpenCV 0.69.

    Real and imaginary parts lie beside each other, but for the first column and, of an even number, the last:
    there they lie above each other, and what is real stands alone.
    """
    rows, columns = block.shape
    for y in range(rows):
        line, factors = block[y], transformed[y]
        for pair in range((columns - 1) // 2):
            real, imaginary = line[2 * pair + 1], line[2 * pair + 2]
            c, d = factors[2 * pair + 1], factors[2 * pair + 2]
            line[2 * pair + 1] = real * c + imaginary * d
            line[2 * pair + 2] = imaginary * c - real * d
    for column in range(0, columns, columns - 1 if columns % 2 == 0 else columns):
        block[0, column] *= transformed[0, column]
        for y in range(1, rows - 1, 2):
            real, imaginary = block[y, column], block[y + 1, column]
            c, d = transformed[y, column], transformed[y + 1, column]
            block[y, column] = real * c + imaginary * d
            block[y + 1, column] = imaginary * c - real * d
        if rows % 2 == 0:
            block[rows - 1, column] *= transformed[rows - 1, column]


class _Planes(NamedTuple):
    """How planes of one shape are cut into blocks."""

    block: tuple[int, int]
    height: int
    """Lines of the output by block."""
    lines: NDArray[np.int64]
    """Source line of every extended line, or `OUTSIDE`."""
    columns: list[tuple[slice, NDArray[np.int64]]]
    """Columns of the output by block, with place, length, source and step of what fills a line of the block."""


@lru_cache(maxsize=64)
def _cut(
    shape: tuple[int, int], taps: tuple[int, int], modes: tuple[str, str], before: tuple[int, int], is_zero: bool
) -> _Planes:
    """Blocks of a plane; `is_zero` where what lies beyond borders of mode "constant" is."""
    block = block_shape(shape, taps)
    after = [k - 1 - here for k, here in zip(taps, before, strict=True)]
    steps = [side - k + 1 for side, k in zip(block, taps, strict=True)]
    sides = list(block)
    for axis in range(2):
        if is_zero and modes[axis] == "constant" and steps[axis] >= shape[axis]:
            # One block: the zeros before it serve as those behind it, too.
            shortest = max(shape[axis] + max(before[axis], after[axis]), taps[axis])  # the kernel is to fit, too
            sides[axis] = min(_fast_side(shortest), sides[axis])
    lines = source_index(modes[0], shape[0], before[0], after[0]).astype(np.int64)
    extended = axis_runs(modes[1], shape[1], before[1], after[1])
    columns = []
    for start in range(0, shape[1], steps[1]):
        place = slice(start, min(start + steps[1], shape[1]))
        runs = _clipped(extended, slice(place.start, min(place.stop + taps[1] - 1, place.start + sides[1])))
        columns.append((place, np.array(runs, np.int64)))
    return _Planes((sides[0], sides[1]), steps[0], lines, columns)


def correlate_planes(
    source: NDArray[Any],
    kernel_spectrum: Callable[[tuple[int, ...]], NDArray[Any]],
    taps: tuple[int, int],
    out: NDArray[Any],
    modes: tuple[str, str],
    before: tuple[int, int],
    outside: float,
    dtype: str,
) -> bool:
    """Correlate two axes; see `correlate_blocks`, which does the same for any number of axes."""
    height, width = source.shape
    block, step, lines, columns = _cut((height, width), taps, modes, before, outside == 0)
    if any(stride % source.itemsize for stride in source.strides):
        source = source.copy()
    transformed = kernel_spectrum(block)
    padded = np.zeros(block, dtype)
    fill = fill_address(source.dtype.name, dtype)
    address, (line_bytes, column_bytes) = source.ctypes.data, source.strides
    for top in range(0, height, step):
        rows = min(step, height - top)
        reached = lines[top : top + rows + taps[0] - 1]
        for place, runs in columns:
            seen = _fill_block(
                padded, address, fill, line_bytes, column_bytes, source.itemsize, reached, runs, outside
            )
            if seen != 0:
                return False
            _transform_planes(padded, transformed, min(len(reached), block[0]), rows)
            if not np.isfinite(padded[0, 0]):  # sums that float32 does not hold are in the whole block
                return False
            out[top : top + rows, place] = padded[:rows, : place.stop - place.start]
    return True


@numba.njit(cache=True, nogil=True)
def _fill_block(
    block: NDArray[Any],
    source: int,
    fill: int,
    line_bytes: int,
    column_bytes: int,
    item_bytes: int,
    lines: NDArray[np.int64],
    runs: NDArray[np.int64],
    outside: float,
) -> float:
    """Read a part of the extended input into a block, zeros behind it; NaN if something is not finite, else 0."""
    start = np.intp(block.ctypes.data)
    rows, columns = block.shape
    last = len(runs) - 1
    read = runs[last, 0] + runs[last, 1]
    seen = outside - outside
    for y in range(rows):
        if y >= len(lines):
            block[y] = 0
            continue
        block[y, read:] = 0
        if lines[y] == OUTSIDE:
            block[y, :read] = outside
            continue
        for run in range(len(runs)):
            place, length, origin, step = runs[run]
            if origin == OUTSIDE:
                block[y, place : place + length] = outside
                continue
            to = start + (y * columns + place) * block.itemsize
            element = source + lines[y] * line_bytes + origin * column_bytes
            seen += call_for_float(fill, (element, step * (column_bytes // item_bytes), to, length))
    return seen


def correlate_blocks(
    source: NDArray[Any],
    kernel_spectrum: Callable[[tuple[int, ...]], NDArray[Any]],
    taps: tuple[int, ...],
    out: NDArray[Any],
    modes: tuple[str, ...],
    before: tuple[int, ...],
    outside: float,
    dtype: str,
) -> bool:
    """Correlate along all axes.

    Parameters
    ----------
    source, out : ndarray of the same shape
    kernel_spectrum : callable
        Gives `spectrum` for the shape of a block.
    taps, modes, before : tuple, one entry an axis
        Of the kernel and the borders, see `correlate_lines`.
    outside : float
        Value beyond borders of mode "constant".
    dtype : {"float32", "float64"}
        Of the arithmetic.

    Returns
    -------
    bool
        False if a value is not finite, which would spread over its block; `out` is unfinished then.
    """
    block = block_shape(source.shape, taps)
    transformed = kernel_spectrum(block)
    padded = np.empty(block, dtype)
    steps = [side - k + 1 for side, k in zip(block, taps, strict=True)]
    borders = [
        axis_runs(mode, size, here, k - 1 - here)
        for mode, size, k, here in zip(modes, source.shape, taps, before, strict=True)
    ]
    starts = (range(0, size, step) for size, step in zip(source.shape, steps, strict=True))
    with np.errstate(all="ignore"):  # what is not finite is looked for below
        for corner in itertools.product(*starts):
            places = [
                slice(start, min(start + step, size))
                for start, step, size in zip(corner, steps, source.shape, strict=True)
            ]
            reached = [slice(place.start, place.stop + k - 1) for place, k in zip(places, taps, strict=True)]
            for axis, part in enumerate(reached):
                np.moveaxis(padded, axis, 0)[part.stop - part.start :] = 0
            _read(source, padded, borders, reached, outside)
            product = scipy.fft.rfftn(padded, workers=1)
            product *= transformed
            sums = scipy.fft.irfftn(product, block, overwrite_x=True, workers=1)
            if not np.isfinite(sums.flat[0]):  # then it is in the whole block
                return False
            out[tuple(places)] = sums[tuple(slice(place.stop - place.start) for place in places)]
    return True


def _read(
    source: NDArray[Any], block: NDArray[Any], borders: list[list[Run]], reached: list[slice], outside: float
) -> None:
    """Copy a part of the extended input into a block, run by run: 0.02 ms at 158 x 158, by indices 0.1 ms."""
    clipped = [_clipped(runs, part) for runs, part in zip(borders, reached, strict=True)]
    for runs in itertools.product(*clipped):
        place = tuple(slice(run.place, run.place + run.length) for run in runs)
        if any(run.source == OUTSIDE for run in runs):
            block[place] = outside
        else:
            block[place] = source[tuple(map(_sources, runs))]


def _clipped(runs: list[Run], part: slice) -> list[Run]:
    """The runs within a part of the extended axis, counted from there."""
    found = []
    for place, length, source, step in runs:
        begin, end = max(place, part.start), min(place + length, part.stop)
        if begin < end:
            found.append(Run(begin - part.start, end - begin, source + (begin - place) * step, step))
    return found


def _sources(run: Run) -> slice:
    if run.step == 0:
        return slice(run.source, run.source + 1)
    end = run.source + run.step * run.length
    return slice(run.source, end if end >= 0 else None, run.step)
