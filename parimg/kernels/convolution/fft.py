"""Convolution by Fourier transforms, block by block, for large kernels.

`methods.py` is the only caller.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import scipy.fft

from parimg.kernels.borders import OUTSIDE, Run, axis_runs

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


def block_shape(shape: tuple[int, ...], taps: tuple[int, ...]) -> tuple[int, ...]:
    """Sides of the transforms for an image and a kernel, axis by axis."""
    smallest = _SMALLEST_BLOCK if len(taps) < 3 else _SMALLEST_BLOCK_OF_VOLUME
    sides = []
    for size, k in zip(shape, taps, strict=True):
        widest = max(_BLOCK_OVER_KERNEL * k, smallest) - k + 1
        blocks = -(-size // widest)
        sides.append(scipy.fft.next_fast_len(-(-size // blocks) + k - 1, real=True))
    return tuple(sides)


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
    padded[: weights.shape[0], : weights.shape[1]] = weights
    return np.asarray(cv2.dft(padded))


def _transform(padded: NDArray[Any], transformed: NDArray[Any]) -> NDArray[Any]:
    """Sums of a block; of planes by OpenCV's transform, in place.

    In float64 it takes 4.1 ns an element there and back, pocketfft 6.5; in float32 3.2 and 5.8. Its option
    `nonzeroRows` would make it five times slower in float32.
    """
    if padded.ndim != 2:
        product = scipy.fft.rfftn(padded, workers=1)
        product *= transformed
        sums: NDArray[Any] = scipy.fft.irfftn(product, padded.shape, overwrite_x=True, workers=1)
        return sums
    cv2.dft(padded, padded)
    cv2.mulSpectrums(padded, transformed, 0, padded, conjB=True)
    cv2.idft(padded, padded, cv2.DFT_SCALE)
    return padded


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
            sums = _transform(padded, transformed)
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
