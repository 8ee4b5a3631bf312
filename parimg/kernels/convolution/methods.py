"""The ways to do a convolution, and which is taken when.

`convolve.py` is the only caller.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels.convolution import tile
from parimg.kernels.convolution.boxes import Rounding, correlate_box, exact_rounding, plan_boxes
from parimg.kernels.convolution.direct import PreparedLines, address_of, correlate_lines, prepare_lines
from parimg.kernels.convolution.fft import (
    block_shape,
    correlate_blocks,
    correlate_planes,
    spectrum,
    transformed_elements,
)
from parimg.kernels.convolution.line_loops import TRUNCATE
from parimg.kernels.convolution.short_loops import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from parimg.kernels.convolution.arguments import Placement

# In multiplications of the direct sum by a processor that does as many multiply-adds a cycle as AVX2 can; one that
# does twice as many has passed twice as many when a transform is done. Measured on a Zen 4 EPYC with AVX2, images
# of 40 to 500 pixels a side, kernels of 9 to 31; its AVX-512 came within 15 %, and SSE4 was 0.47 times as fast.
# Times of a Zen 5, which is twice as fast, agree.
CROSSOVERS = {
    "separable": 2.5,  # a multiplication of a pass, on any processor
    "short passes": 1.8,  # the same where passes are written out
    "fft float32": 215.0,  # an element of a block of two axes that is transformed and back
    "fft float64": 190.0,
    "fft other axes": 1.6,  # times these
    "fft call float32": 1.6e6,
    "fft call float64": 6e5,
}
_REMEMBERED_SPECTRA = 4
_LARGEST_REMEMBERED = 2**18  # taps
_SMALLEST_FACTORED = 25  # taps
# Taps, by dtype of the running sums, measured at 1024 x 1024; below, the direct sum and passes are faster. More
# are wanted where integers are made of what is no whole number: these would show a change of the last bit.
_SMALLEST_BOX = {"float32": 25, "float64": 64}
_SMALLEST_BOX_CAST = {"float32": 121, "float64": 1225}
_MOST_CHANNELS = 32
_MEANS_ARE_EXACT = (np.uint8, np.uint16)
_LARGEST_FACTORED = 2**14  # taps; a decomposition of 128 x 128 takes 4 ms
# Transforms are wrong by a share of the largest sum. Where one value is so many times the typical one, float64 is
# taken for them, and where it is so many, the direct sum.
_PEAK_FOR_FLOAT64, _PEAK_FOR_DIRECT = 1e3, 1e6
_SAMPLED = 1024  # elements that tell the typical value


class How(NamedTuple):
    """What a caller asked for."""

    placed: Placement
    method: str
    precision: str | None
    casting: int
    is_convolution: bool


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
            if len(self._spectra) >= _REMEMBERED_SPECTRA:
                self._spectra.pop(next(iter(list(self._spectra))), None)  # another thread may have been here
            self._spectra[key] = found
        return found

    @property
    def _single_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(self.weights.ndim) if axis not in self.axes)

    @cached_property
    def vectors(self) -> tuple[NDArray[np.float64], ...] | None:
        """A vector for each of `axes` whose product the kernel is, or None."""
        rest = np.squeeze(self.weights, self._single_axes)
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
        left, sizes, right = np.linalg.svd(np.squeeze(self.weights, self._single_axes), full_matrices=False)
        return left, sizes, right


def as_kernel(weights: NDArray[Any], shape: tuple[int, ...], *, is_convolution: bool) -> Kernel:
    """The kernel of these weights; the same object for the same weights, while it is remembered."""
    make = _kernel if weights.size <= _LARGEST_REMEMBERED else _kernel.__wrapped__
    return make(weights.tobytes(), weights.dtype.char, shape, is_convolution)


@lru_cache(maxsize=32)
def _kernel(data: bytes, dtype: str, shape: tuple[int, ...], is_convolution: bool) -> Kernel:
    weights = np.frombuffer(data, dtype).astype(np.float64).reshape(shape)
    return Kernel(np.flip(weights).copy() if is_convolution else weights)


def run(
    source: NDArray[Any],
    kernel: Kernel,
    out: NDArray[Any],
    cval: float,
    how: How,
    dtype: str,
    method: str | None = None,
) -> None:
    """Convolve a real array into another that shares no memory with it.

    `method` is what `choose` said of these arguments, if it was asked before.

    Raises
    ------
    ValueError
        If passes are asked for and the kernel is no product, and of two axes no short sum of products.
    """
    method = choose(source, kernel, out, how, dtype) if method is None else method
    target, precise = out, dtype
    if method == "fft":
        peak = _peak(source)
        if how.method == "auto" and peak > _PEAK_FOR_DIRECT:
            method = "direct"
        elif peak > _PEAK_FOR_FLOAT64:
            precise = "float64"
    if (method == "fft" or (method == "separable" and kernel.vectors is None)) and is_whole(source, kernel, out):
        if _rounds_to_exact(source, kernel, cval, how):
            target, precise = np.empty(out.shape), "float64"
        else:
            method = "direct"
    if method == "boxes":
        is_done = _run_by_running_sums(source, kernel, out, cval, how)
    elif method == "separable" and len(kernel.axes) > 1:
        is_done = _run_in_passes(source, kernel, target, cval, how, precise)
    elif method == "fft" and kernel.axes:
        is_done = _run_by_transforms(source, kernel, target, cval, how, precise)
    else:
        is_done = _run_directly(source, kernel, target, cval, how, dtype, skip_zeros=False)
    if not is_done:
        _run_directly(source, kernel, out, cval, how, dtype, skip_zeros=kernel.has_zeros)
    elif target is not out:
        _cast(np.rint(target, out=target), out, how)


def is_whole(source: NDArray[Any], kernel: Kernel, out: NDArray[Any]) -> bool:
    """Whether whole numbers are asked for of whole numbers, which are to be exact."""
    return kernel.is_whole and source.dtype.kind in "iu" and out.dtype.kind in "iu"


def _rounds_to_exact(source: NDArray[Any], kernel: Kernel, cval: float, how: How) -> bool:
    """Whether float64 transforms or passes of whole numbers are so near to whole sums that rounding finds these.

    A transform of n elements is wrong by less than ``32 sqrt(n)`` roundings of the largest sum.
    """
    largest = float(max(source.max(), -float(source.min())))
    if "constant" in how.placed.modes:
        if not float(cval).is_integer():
            return False
        largest = max(largest, abs(cval))
    sides = tuple(source.shape[axis] for axis in kernel.axes)
    elements = math.prod(block_shape(sides, tuple(kernel.weights.shape[axis] for axis in kernel.axes)))
    return largest * kernel.absolute_sum * 32 * math.sqrt(elements) * 2.0**-53 < 0.25


def _peak(source: NDArray[Any], largest: float | None = None) -> float:
    """The largest absolute value over the typical one, that of a sample of those that are not 0."""
    if source.dtype.itemsize == 1:
        return 255.0  # at most
    step = math.ceil((source.size / _SAMPLED) ** (1 / source.ndim))
    sample = source[(slice(None, None, step),) * source.ndim].astype(np.float64).ravel()
    np.abs(sample, out=sample)
    sample = sample[sample > 0]
    if not sample.size:
        return math.inf
    middle = len(sample) // 2
    if largest is None:
        largest = max(float(source.max()), -float(source.min()))
    return float(largest / np.partition(sample, middle)[middle])


def choose(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How, dtype: str) -> str:
    """The method asked for, or the fastest, by shapes and dtypes alone: no element is looked at."""
    if how.method != "auto":
        return how.method
    if how.precision != "float64" and _is_for_boxes(source, kernel, out, how):
        return "boxes"
    is_exact = is_whole(source, kernel, out)
    is_cast = out.dtype.kind in "iu" and not is_exact
    return choose_for_shape(source.shape, kernel, how, dtype, is_exact=is_exact, is_cast=is_cast)


def choose_for_shape(
    shape: tuple[int, ...], kernel: Kernel, how: How, dtype: str, *, is_exact: bool, is_cast: bool
) -> str:
    """The fastest method for an array of that shape, running sums of boxes apart.

    With `is_exact`, sums are to be exact; with `is_cast`, integers are made of what is no whole number.
    """
    size = kernel.weights.size
    if how.precision == "float64" or size < _SMALLEST_FACTORED:
        return "direct"
    if len(kernel.axes) == 2 and size <= _LARGEST_FACTORED:
        factors = kernel.factors(dtype)
        is_short = kernel.vectors is not None and max(kernel.weights.shape) <= LONGEST and not is_cast
        each = CROSSOVERS["short passes" if is_short else "separable"]
        is_worth_it = (factors.across.size + factors.along.size) * each < size
        if is_worth_it and (kernel.vectors is not None or not is_exact):
            return "separable"
    elif len(kernel.axes) > 1 and kernel.vectors is not None:
        return "separable"
    sides = tuple(shape[axis] for axis in kernel.axes)
    elements = transformed_elements(sides, tuple(kernel.weights.shape[axis] for axis in kernel.axes))
    each = CROSSOVERS[f"fft {dtype}"] * (1 if len(sides) == 2 else CROSSOVERS["fft other axes"])
    transforms = (CROSSOVERS[f"fft call {dtype}"] + elements * each) * tile.RELATIVE_SPEED
    is_worth_it = transforms < math.prod(sides) * size
    return "fft" if is_worth_it and not is_exact else "direct"


def _is_for_boxes(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How) -> bool:
    """Whether running sums are exact, or float64 for float32, and worth it."""
    if not kernel.is_box or kernel.axes != (0, 1) or source.ndim > 3:
        return False
    if source.dtype != np.float32 and (source.dtype.kind == "f" or source.dtype.itemsize > 4):
        return False
    if source.ndim == 3 and source.shape[2] > _MOST_CHANNELS:
        return False
    sums, rounding = _box_sums(source.dtype, kernel, out.dtype, how, 0.0)
    is_cast = out.dtype.kind in "iu" and not is_whole(source, kernel, out)
    smallest = _SMALLEST_BOX_CAST if is_cast else _SMALLEST_BOX
    return rounding is not None or kernel.weights.size >= smallest[sums]


def _box_sums(
    source: np.dtype[Any], kernel: Kernel, out: np.dtype[Any], how: How, cval: float
) -> tuple[str, Rounding | None]:
    """Dtype of the sums over a box, and how whole numbers are rounded to means: exactly, where that can be.

    Else sums are float32 where that holds all of them, or float64, and multiplied by the weight.
    """
    if source.kind == "f" or how.precision == "float64" or not float(cval).is_integer():
        return "float64", None
    limits = np.iinfo(source)
    if source == out and source in _MEANS_ARE_EXACT and how.casting != TRUNCATE and 0 <= cval <= limits.max:
        largest, weight = limits.max * kernel.weights.size, float(kernel.weights.flat[0])
        for bits in (16, 32):
            rounding = exact_rounding(weight, largest, bits)
            if rounding is not None and largest * weight < limits.max + 0.5:
                return f"uint{bits}", rounding
    bound = max(limits.max, -limits.min, abs(cval)) * max(kernel.absolute_sum, kernel.weights.size)
    return "float32" if bound < 2**24 else "float64", None


def _has_whole_lines(array: NDArray[Any]) -> bool:
    """Whether the elements of each line lie beside each other."""
    beside = array.itemsize
    for size, stride in zip(array.shape[:0:-1], array.strides[:0:-1], strict=True):
        if stride != beside:
            return False
        beside *= size
    return array.strides[0] % array.itemsize == 0


def _run_by_running_sums(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How) -> bool:
    """False if something is not finite, or so large that its rounding would show beside it."""
    dtype, rounding = _box_sums(source.dtype, kernel, out.dtype, how, cval)
    given = source if _has_whole_lines(source) else np.ascontiguousarray(source)
    target = out if _has_whole_lines(out) else np.empty(out.shape, out.dtype)
    height, width = kernel.axes
    taps, modes, before = ((each[height], each[width]) for each in how.placed)
    plan = plan_boxes(
        given.shape,
        given.strides[0],
        target.strides[0],
        taps,
        modes,
        before,
        given.dtype,
        dtype,
        out.dtype,
        how.casting,
        rounding,
    )
    weight = float(kernel.in_dtype(dtype).flat[0])
    largest = correlate_box(plan, address_of(given), address_of(target), weight, cval)
    if math.isnan(largest) or (source.dtype.kind == "f" and _peak(source, largest) > _PEAK_FOR_DIRECT):
        return False
    if target is not out:
        out[...] = target
    return True


def prepare(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How, dtype: str, method: str
) -> PreparedLines | None:
    """All that a direct sum or two passes need but the elements; None for what takes another way.

    Passes are wrong where something is not finite, and the direct sum if weights of 0 are among the others.
    """
    placed, across, along = how.placed, kernel.in_dtype(dtype), None
    if method == "separable" and len(kernel.axes) == 2:
        if kernel.vectors is None and (how.method != "auto" or is_whole(source, kernel, out)):
            return None
        factors = kernel.factors(dtype)
        across, along = factors.across.astype(dtype), factors.along.astype(dtype)
        placed = _along(placed, kernel.axes)
    elif method != "direct":
        return None
    fused = how.precision != "float64" or along is not None
    return prepare_lines(source, across, out, placed, casting=how.casting, fused=fused, line_weights=along)


def _run_directly(
    source: NDArray[Any],
    kernel: Kernel,
    out: NDArray[Any],
    cval: float,
    how: How,
    dtype: str,
    *,
    skip_zeros: bool,
) -> bool:
    """Sum over all taps; False if something is not finite and must not pass weights of 0."""
    is_finite = correlate_lines(
        source,
        kernel.in_dtype(dtype),
        out,
        *how.placed,
        cval,
        casting=how.casting,
        fused=how.precision != "float64",
        skip_zeros=skip_zeros,
    )
    return is_finite or not kernel.has_zeros


def _run_in_passes(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How, dtype: str
) -> bool:
    """One pass along each axis, the last two together; False if something is not finite."""
    shape = how.placed.shape
    if len(kernel.axes) == 2:
        factors = kernel.factors(dtype)
        if factors.across.size + factors.along.size > kernel.weights.size:
            raise ValueError(
                f"method='separable' wants weights that are a product or a short sum of products (got "
                f"{len(factors.across)} terms for shape {shape}); take 'direct' or 'fft'"
            )
    elif kernel.vectors is None:
        raise ValueError(
            f"method='separable' wants weights that are a product of vectors along {len(kernel.axes)} axes (got "
            f"others, of shape {shape}); take 'direct' or 'fft'"
        )
    else:
        factors = Factors(kernel.vectors[-2][None], kernel.vectors[-1][None])
        for axis, vector in zip(kernel.axes[:-2], kernel.vectors[:-2], strict=True):
            passed = np.empty(source.shape, dtype)
            if not correlate_lines(source, vector.astype(dtype), passed, *_along(how.placed, (axis,)), cval):
                return False
            source, cval = passed, cval * float(vector.sum())
    across, along = factors.across.astype(dtype), factors.along.astype(dtype)
    placed = _along(how.placed, kernel.axes[-2:])
    return correlate_lines(source, across, out, *placed, cval, casting=how.casting, line_weights=along)


def _along(placed: Placement, axes: tuple[int, ...]) -> Placement:
    """The same for a kernel along these axes only."""
    shape = tuple(size if axis in axes else 1 for axis, size in enumerate(placed.shape))
    before = tuple(taps if axis in axes else 0 for axis, taps in enumerate(placed.before))
    return placed._replace(shape=shape, before=before)


def _run_by_transforms(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How, dtype: str
) -> bool:
    """Transform blocks of all axes with several taps; False if something is not finite."""
    axes = kernel.axes
    shape, modes, before = how.placed
    taps, starts = tuple(shape[axis] for axis in axes), tuple(before[axis] for axis in axes)
    borders = tuple(modes[axis] for axis in axes)
    transform = partial(kernel.spectrum, dtype)
    is_converted = out.dtype.kind in "iu"
    sums = np.empty(out.shape, dtype) if is_converted else out
    correlate: Callable[..., bool] = correlate_planes if len(axes) == 2 else correlate_blocks
    if len(axes) == source.ndim:
        parts = [(source, sums)]
    else:
        stack, sums_stack = (np.moveaxis(array, axes, range(-len(axes), 0)) for array in (source, sums))
        parts = [(stack[at], sums_stack[at]) for at in np.ndindex(stack.shape[: -len(axes)])]
    for part, sums_part in parts:
        if not correlate(part, transform, taps, sums_part, borders, starts, cval, dtype):
            return False
    if is_converted:
        _cast(sums, out, how)
    return True


def _cast(sums: NDArray[Any], out: NDArray[Any], how: How) -> None:
    """Write sums as integers."""
    one, none = (1,) * out.ndim, (0,) * out.ndim
    correlate_lines(sums, np.ones(one, sums.dtype), out, one, how.placed.modes, none, 0.0, casting=how.casting)
