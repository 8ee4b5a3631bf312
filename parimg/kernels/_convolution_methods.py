"""The ways to do a convolution, and which is taken when.

`convolution.py` is the only caller.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels._convolution_lines import correlate_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from parimg.kernels._convolution_arguments import Placement


class How(NamedTuple):
    """What a caller asked for."""

    placed: Placement
    method: str
    precision: str | None
    casting: int
    is_convolution: bool


class Kernel:
    """Real weights as they are correlated, with what was found out about them."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights
        self.has_zeros = not weights.all()
        self.absolute_sum = float(np.abs(weights).sum())
        self.is_whole = bool((weights == np.rint(weights)).all())
        self._in_float32 = weights.astype(np.float32)

    def in_dtype(self, dtype: str) -> NDArray[Any]:
        """The weights as numbers of that dtype."""
        return self._in_float32 if dtype == "float32" else self.weights


def as_kernel(weights: NDArray[Any], shape: tuple[int, ...], *, is_convolution: bool) -> Kernel:
    """The kernel of these weights; the same object for the same weights, while it is remembered."""
    return _kernel(weights.tobytes(), weights.dtype.char, shape, is_convolution)


@lru_cache(maxsize=64)
def _kernel(data: bytes, dtype: str, shape: tuple[int, ...], is_convolution: bool) -> Kernel:
    weights = np.frombuffer(data, dtype).astype(np.float64).reshape(shape)
    return Kernel(np.flip(weights).copy() if is_convolution else weights)


def run(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How, dtype: str) -> None:
    """Convolve a real array into another that shares no memory with it."""
    _run_directly(source, kernel, out, cval, how, dtype)


def _run_directly(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How, dtype: str
) -> None:
    weights = kernel.in_dtype(dtype)
    fused = how.precision != "float64"
    arguments = (source, weights, out, how.placed.modes, how.placed.before, cval)
    is_finite = correlate_lines(*arguments, casting=how.casting, fused=fused)
    if kernel.has_zeros and not is_finite:
        correlate_lines(*arguments, casting=how.casting, fused=fused, skip_zeros=True)
