"""The weights of a convolution, with what was found out about them: factors, spectra, whether they are whole.

`methods.py` and `convolve.py` call this.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels.convolution.fft import spectrum
from parimg.kernels.convolution.line_transforms import kernel_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REMEMBERED_SPECTRA = 4
_LARGEST_REMEMBERED = 2**18  # taps


class Factors(NamedTuple):
    """A kernel of two axes as a sum of products: across lines and along them, a row a term."""

    across: NDArray[np.float64]
    along: NDArray[np.float64]


class Kernel:
    """Real weights as they are correlated, with what was found out about them."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights
        self.has_zeros = not weights.all()
        self.absolute_sum = float(np.abs(weights).sum())
        self.is_whole = bool((weights == np.rint(weights)).all())
        self.is_box = bool((weights == weights.flat[0]).all())
        self.axes = tuple(axis for axis, size in enumerate(weights.shape) if size > 1)
        self._in_float32 = weights.astype(np.float32)
        self._spectra: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}

    def in_dtype(self, dtype: str) -> NDArray[Any]:
        """The weights as numbers of that dtype."""
        return self._in_float32 if dtype == "float32" else self.weights

    def spectrum(self, dtype: str, block: tuple[int, ...]) -> NDArray[Any]:
        """Transform along the axes with several taps; the last few block shapes are remembered."""
        key = (dtype, block)
        found = self._spectra.get(key)
        if found is None:
            found = spectrum(np.squeeze(self.in_dtype(dtype), self._single_axes), block)
            self._remember(key, found)
        return found

    def products(self, dtype: str, axis: int, size: int) -> NDArray[Any]:
        """What lines of a transform of that size across one of `axes` are correlated with, remembered, too.

        Of shape (products, taps along the others of `axes`).
        """
        key = (dtype, (axis, size))
        found = self._spectra.get(key)
        if found is None:
            made = kernel_products(np.moveaxis(self.taps, axis, 0), size)
            found = made.astype(dtype)
            self._remember(key, found)
        return found

    @cached_property
    def taps(self) -> NDArray[np.float64]:
        """The weights without axes of one tap."""
        return np.squeeze(self.weights, self._single_axes)

    def _remember(self, key: tuple[str, tuple[int, ...]], found: NDArray[Any]) -> None:
        if len(self._spectra) >= _REMEMBERED_SPECTRA:
            self._spectra.pop(next(iter(list(self._spectra))), None)  # another thread may have been here
        self._spectra[key] = found

    @property
    def _single_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(self.weights.ndim) if axis not in self.axes)

    @cached_property
    def vectors(self) -> tuple[NDArray[np.float64], ...] | None:
        """A vector for each of `axes` whose product the kernel is, or None."""
        rest = self.taps
        vectors = []
        while rest.ndim > 1:
            by_first = rest.reshape(len(rest), -1)
            first, other = divmod(int(np.abs(rest).argmax()), by_first.shape[1])
            vector = by_first[:, other]
            if self.is_whole:  # then the other vectors are whole, too, and products exact
                vector = vector / max(math.gcd(*map(int, vector)), 1)
            rest_of_it = rest[first] / vector[first] if vector[first] else rest[first]
            if np.abs(np.multiply.outer(vector, rest_of_it) - rest).max() > 1e-15 * np.abs(rest).max():
                return None
            vectors.append(vector)
            rest = rest_of_it
        return (*vectors, rest)

    def factors(self, dtype: str) -> Factors:
        """The fewest products whose sum a kernel of two axes is, to the precision of the dtype, by SVD."""
        if self.vectors is not None:
            return Factors(self.vectors[0][None], self.vectors[1][None])
        left, sizes, right = self._decomposed
        terms = max(int((sizes > sizes[0] * np.finfo(dtype).eps).sum()), 1)
        return Factors((left[:, :terms] * sizes[:terms]).T.copy(), right[:terms])

    @cached_property
    def _decomposed(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        left, sizes, right = np.linalg.svd(self.taps, full_matrices=False)
        return left, sizes, right


def as_kernel(weights: NDArray[Any], shape: tuple[int, ...], *, is_convolution: bool) -> Kernel:
    """The kernel of these weights; the same object for the same weights, while it is remembered."""
    make = _kernel if weights.size <= _LARGEST_REMEMBERED else _kernel.__wrapped__
    return make(weights.tobytes(), weights.dtype.char, shape, is_convolution)


@lru_cache(maxsize=32)
def _kernel(data: bytes, dtype: str, shape: tuple[int, ...], is_convolution: bool) -> Kernel:
    weights = np.frombuffer(data, dtype).astype(np.float64).reshape(shape)
    return Kernel(np.flip(weights).copy() if is_convolution else weights)
