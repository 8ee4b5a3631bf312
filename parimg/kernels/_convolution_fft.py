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

_BLOCK_OVER_KERNEL = 4  # sides; 3 to 6 take the same time within 10 %
_SMALLEST_BLOCK = 128


def block_shape(shape: tuple[int, ...], taps: tuple[int, ...]) -> tuple[int, ...]:
    """Sides of the transforms for an image and a kernel, axis by axis."""
    wanted = (
        min(size + k - 1, max(_BLOCK_OVER_KERNEL * k, _SMALLEST_BLOCK))
        for size, k in zip(shape, taps, strict=True)
    )
    return tuple(scipy.fft.next_fast_len(size, real=True) for size in wanted)


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
        values = source[np.ix_(*reached)].astype(dtype, copy=False)
        for axis, along in enumerate(reached):
            if along.min() == OUTSIDE:
                np.moveaxis(values, axis, 0)[along == OUTSIDE] = outside
        if not np.isfinite(values).all():
            return False
        product = scipy.fft.rfftn(values, block, workers=1)
        product *= transformed
        sums = scipy.fft.irfftn(product, block, overwrite_x=True, workers=1)
        out[tuple(places)] = sums[tuple(slice(place.stop - place.start) for place in places)]
    return True
