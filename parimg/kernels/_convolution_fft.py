"""Convolution by Fourier transforms, block by block, for large kernels.

`_convolution_methods.py` is the only caller.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from parimg.kernels._borders import OUTSIDE, source_index

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
_BLOCK_OVER_KERNEL = 4


def block_shape(shape: tuple[int, ...], taps: tuple[int, ...]) -> tuple[int, ...]:
    """Sides of the transforms for an image and a kernel, axis by axis."""
    sides = []
    for size, k in zip(shape, taps, strict=True):
        widest = max(_BLOCK_OVER_KERNEL * k, _SMALLEST_BLOCK) - k + 1
        blocks = -(-size // widest)
        sides.append(scipy.fft.next_fast_len(-(-size // blocks) + k - 1, real=True))
    return tuple(sides)


def transformed_elements(shape: tuple[int, ...], taps: tuple[int, ...]) -> int:
    """How many elements all blocks have together, a measure of the time."""
    sides = zip(shape, taps, block_shape(shape, taps), strict=True)
    return math.prod(-(-size // (side - k + 1)) * side for size, k, side in sides)


def spectrum(weights: NDArray[Any], block: tuple[int, ...]) -> NDArray[Any]:
    """Transform of a kernel that is correlated, for `correlate_blocks`."""
    transformed: NDArray[Any] = scipy.fft.rfftn(weights, block, workers=1)
    return transformed.conj()


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
    steps = [side - k + 1 for side, k in zip(block, taps, strict=True)]
    index = [
        source_index(mode, size, here, k - 1 - here)
        for mode, size, k, here in zip(modes, source.shape, taps, before, strict=True)
    ]
    starts = (range(0, size, step) for size, step in zip(source.shape, steps, strict=True))
    for corner in itertools.product(*starts):
        places = [
            slice(start, min(start + step, size))
            for start, step, size in zip(corner, steps, source.shape, strict=True)
        ]
        reached = [
            along[place.start : place.stop + k - 1] for along, place, k in zip(index, places, taps, strict=True)
        ]
        values = _read(source, reached, outside).astype(dtype, copy=False)
        if not np.isfinite(values).all():
            return False
        product = scipy.fft.rfftn(values, block, workers=1)
        product *= transformed
        sums = scipy.fft.irfftn(product, block, overwrite_x=True, workers=1)
        out[tuple(places)] = sums[tuple(slice(place.stop - place.start) for place in places)]
    return True


def _read(source: NDArray[Any], reached: list[NDArray[np.intp]], outside: float) -> NDArray[Any]:
    """A block of the input, of which some indices may lie beyond the border."""
    # No mode goes up by more than one from place to place.
    if all(along[0] >= 0 and along[-1] - along[0] == len(along) - 1 for along in reached):
        return source[tuple(slice(along[0], along[-1] + 1) for along in reached)]
    values = source[np.ix_(*reached)]
    for axis, along in enumerate(reached):
        if along.min() == OUTSIDE:
            # An integer dtype need not hold the value.
            values = values if values.dtype.kind == "f" else values.astype(np.float64)
            np.moveaxis(values, axis, 0)[along == OUTSIDE] = outside
    return values
