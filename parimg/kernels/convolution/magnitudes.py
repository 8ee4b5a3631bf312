"""Whether the elements of an array allow transforms: how large they are, and whether whole sums come out exact.

`methods.py` is the only caller.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from parimg.kernels.convolution.fft import block_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from parimg.kernels.convolution.across_lines import Plan
    from parimg.kernels.convolution.arguments import Placement
    from parimg.kernels.convolution.weights import Kernel

# Transforms are wrong by a share of the largest sum. Where one value is so many times the typical one, float64 is
# taken for them, and where it is so many, the direct sum.
PEAK_FOR_FLOAT64, PEAK_FOR_DIRECT = 1e3, 1e6
# The same of transforms across lines in float32, of the largest of other lines, which noise brings to some four
# times the typical value: cells before black that is not quite 0 are no stars.
PEAK_IN_COLUMN = 1e4
_SAMPLED = 1024  # elements that tell the typical value


def is_whole(source: NDArray[Any], kernel: Kernel, out: NDArray[Any]) -> bool:
    """Whether whole numbers are asked for of whole numbers, which are to be exact."""
    return kernel.is_whole and source.dtype.kind in "iu" and out.dtype.kind in "iu"


def casts_fractions(source: NDArray[Any], kernel: Kernel, out: NDArray[Any]) -> bool:
    """Whether integers are made of what is no whole number: a change of a last bit can be one of a level."""
    return out.dtype.kind in "iu" and not is_whole(source, kernel, out)


def rounds_to_exact(
    source: NDArray[Any], kernel: Kernel, cval: float, placed: Placement, across: Plan | None
) -> bool:
    """Whether transforms or passes in float64 are so near to whole sums that rounding finds these."""
    allowed = largest_exact(source, kernel, across)
    if not allows_outside(cval, placed, allowed):
        return False
    return holds_less(source.dtype, allowed) or largest(source) < allowed


def largest_exact(source: NDArray[Any], kernel: Kernel, across: Plan | None) -> float:
    """What absolute values must be below for whole sums to be found by rounding.

    A transform of n elements is wrong by less than ``32 sqrt(n)`` roundings of the largest sum. One across n lines
    with sums over k other taps is by less than ``4 sqrt(n) (32 + k)``: the absolute products of a transform and a
    kernel's come to at most sqrt(n) times the largest sum, by Cauchy and Schwarz; three real products stand for a
    complex one, with 2.8 times its absolute value, and transforms of up to 96 lines add 33 roundings each.
    """
    if across is None:
        sides = tuple(source.shape[axis] for axis in kernel.axes)
        elements = math.prod(block_shape(sides, tuple(kernel.weights.shape[axis] for axis in kernel.axes)))
        roundings = 32 * math.sqrt(elements)
    else:
        roundings = 4 * math.sqrt(across.size) * (32 + across.others)
    return 0.25 * 2.0**53 / (roundings * max(kernel.absolute_sum, 1.0))


def allows_outside(cval: float, placed: Placement, allowed: float) -> bool:
    """Whether what lies outside, if a constant does, is a whole number whose absolute value is below."""
    return "constant" not in placed.modes or (float(cval).is_integer() and abs(cval) < allowed)


def holds_less(dtype: np.dtype[Any], number: float) -> bool:
    limits = np.iinfo(dtype)
    return max(limits.max, -limits.min) < number


def largest(source: NDArray[Any]) -> float:
    """The largest absolute value, NaN if there is one."""
    return max(float(source.max()), -float(source.min()))


def is_peaked(source: NDArray[Any], limit: float, greatest: float | None = None) -> bool:
    """Whether the largest absolute value, if it is not given, is beyond so many times the typical one.

    That is the median of those of a sample that are not 0.
    """
    if source.dtype.itemsize == 1 and limit >= 255:
        return False
    step = math.ceil((source.size / _SAMPLED) ** (1 / source.ndim))
    sample = np.abs(source[(slice(None, None, step),) * source.ndim].astype(np.float64))
    n_zeros = sample.size - np.count_nonzero(sample)
    greatest = largest(source) if greatest is None else greatest
    n_below = np.count_nonzero(sample < greatest / limit) - n_zeros
    return n_zeros == sample.size or bool(n_below > (sample.size - n_zeros) // 2)
