"""The ways to do a convolution, and which is taken when.

`convolve.py` is the only caller.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels.convolution import tile
from parimg.kernels.convolution.across_lines import Plan, correlate_across, plan_blocks, time_across
from parimg.kernels.convolution.boxes import correlate_box, plan_boxes
from parimg.kernels.convolution.direct import PreparedLines, address_of, correlate_lines, prepare_lines
from parimg.kernels.convolution.fft import (
    block_shape,
    correlate_blocks,
    correlate_planes,
    spectrum,
    transformed_elements,
)
from parimg.kernels.convolution.line_loops import ROUND, TRUNCATE
from parimg.kernels.convolution.line_transforms import kernel_products

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
    "fft float32": 215.0,  # an element of a block of two axes that is transformed and back
    "fft float64": 190.0,
    "fft other axes": 1.6,  # times these
    "fft call float32": 1.6e6,
    "fft call float64": 6e5,
}
_REMEMBERED_SPECTRA = 4
_LARGEST_REMEMBERED = 2**18  # taps
_SMALLEST_FACTORED = 25  # taps
_SMALLEST_BOX = {"float32": 121, "float64": 1225}  # taps, by dtype of the running sums; below, passes are faster
_MOST_CHANNELS = 32
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
            self._remember(key, found)
        return found

    def products(self, dtype: str, axis: int, size: int) -> NDArray[Any]:
        """What lines of a transform of that size across one of `axes` are correlated with, remembered, too.

        Of shape (products, taps along the others of `axes`).
        """
        key = (dtype, (axis, size))
        found = self._spectra.get(key)
        if found is None:
            weights = np.moveaxis(np.squeeze(self.weights, self._single_axes), axis, 0)
            made = kernel_products(weights, size)
            found = made.astype(dtype)
            self._remember(key, found)
        return found

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
    target, precise, across = out, dtype, None
    is_exact = is_whole(source, kernel, out) and (
        method == "fft" or (method == "separable" and kernel.vectors is None)
    )
    if method == "fft" and not is_exact:
        peak = _peak(source)
        if how.method == "auto" and peak > _PEAK_FOR_DIRECT:
            method = "direct"
        elif peak > _PEAK_FOR_FLOAT64:
            precise = "float64"
    if method == "fft":
        precise = "float64" if is_exact else precise
        across = _plan_across(source, kernel, out, how, precise, is_exact=is_exact)
    if is_exact:
        if not _rounds_to_exact(source, kernel, cval, how, across):
            method = "direct"
        elif across is None:
            target, precise = np.empty(out.shape), "float64"
    if method == "boxes":
        is_done = _run_by_running_sums(source, kernel, out, cval, how)
    elif method == "separable" and len(kernel.axes) > 1:
        is_done = _run_in_passes(source, kernel, target, cval, how, precise)
    elif method == "fft" and across is not None:
        is_done = _run_across_lines(source, kernel, out, cval, across, precise)
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


def _rounds_to_exact(source: NDArray[Any], kernel: Kernel, cval: float, how: How, across: Plan | None) -> bool:
    """Whether float64 transforms or passes of whole numbers are so near to whole sums that rounding finds these.

    A transform of n elements is wrong by less than ``32 sqrt(n)`` roundings of the largest sum. One across n lines
    with sums over k other taps is by less than ``4 sqrt(n) (32 + k)``: the absolute products of a transform and a
    kernel's come to at most sqrt(n) times the largest sum, by Cauchy and Schwarz; three real products stand for a
    complex one, with 2.8 times its absolute value, and transforms of up to 64 lines add 30 roundings each.
    """
    if across is None:
        sides = tuple(source.shape[axis] for axis in kernel.axes)
        elements = math.prod(block_shape(sides, tuple(kernel.weights.shape[axis] for axis in kernel.axes)))
        roundings = 32 * math.sqrt(elements)
    else:
        roundings = 4 * math.sqrt(across.size) * (32 + across.others)
    allowed = 0.25 * 2.0**53 / (roundings * kernel.absolute_sum)
    if "constant" in how.placed.modes and not (float(cval).is_integer() and abs(cval) < allowed):
        return False
    limits = np.iinfo(source.dtype)
    if max(limits.max, -limits.min) < allowed:
        return True
    return max(float(source.max()), -float(source.min())) < allowed


def _peak(source: NDArray[Any]) -> float:
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
    return float(max(float(source.max()), -float(source.min())) / np.partition(sample, middle)[middle])


def choose(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How, dtype: str) -> str:
    """The method asked for, or the fastest, by shapes and dtypes alone: no element is looked at."""
    if how.method != "auto":
        return how.method
    if how.precision != "float64" and _is_for_boxes(source, kernel, out, how):
        return "boxes"
    return choose_for_shape(source.shape, kernel, how, dtype, is_exact=is_whole(source, kernel, out))


def choose_for_shape(
    shape: tuple[int, ...], kernel: Kernel, how: How, dtype: str, *, is_exact: bool, in_parts: bool = False
) -> str:
    """The fastest method for an array of that shape, running sums of boxes apart.

    With `is_exact`, sums are to be exact. With `in_parts`, what is no more than rounded is not transformed across
    lines: where a part begins would show in the last bits.
    """
    size = kernel.weights.size
    if how.precision == "float64" or size < _SMALLEST_FACTORED:
        return "direct"
    if len(kernel.axes) == 2 and size <= _LARGEST_FACTORED:
        factors = kernel.factors(dtype)
        is_worth_it = (factors.across.size + factors.along.size) * CROSSOVERS["separable"] < size
        if is_worth_it and (kernel.vectors is not None or not is_exact):
            return "separable"
    elif len(kernel.axes) > 1 and kernel.vectors is not None:
        return "separable"
    direct = float(math.prod(shape[axis] for axis in kernel.axes) * size)
    if is_exact:  # transforms of whole numbers are taken in float64
        direct, dtype = direct * (0.5 if dtype == "float32" else 1.0), "float64"
    across = math.inf if in_parts and not is_exact else _time_across(shape, kernel, dtype)
    return "fft" if min(across, _time_of_blocks(shape, kernel, dtype)) < direct else "direct"


def _time_of_blocks(shape: tuple[int, ...], kernel: Kernel, dtype: str) -> float:
    """Of transforms along all axes, in multiplications of the direct sum."""
    sides = tuple(shape[axis] for axis in kernel.axes)
    elements = transformed_elements(sides, tuple(kernel.weights.shape[axis] for axis in kernel.axes))
    each = CROSSOVERS[f"fft {dtype}"] * (1 if len(sides) == 2 else CROSSOVERS["fft other axes"])
    return (CROSSOVERS[f"fft call {dtype}"] + elements * each) * tile.RELATIVE_SPEED


def _time_across(shape: tuple[int, ...], kernel: Kernel, dtype: str) -> float:
    """The same of transforms across lines."""
    sides = tuple(shape[axis] for axis in kernel.axes)
    return time_across(sides, tuple(kernel.weights.shape[axis] for axis in kernel.axes), dtype)


def _is_for_boxes(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How) -> bool:
    """Whether running sums are exact, or float64 for float32, worth it, and pixels lie beside each other."""
    if not kernel.is_box or kernel.axes != (0, 1) or source.ndim > 3:
        return False
    if source.dtype != np.float32 and (source.dtype.kind == "f" or source.dtype.itemsize > 4):
        return False
    if kernel.weights.size < _SMALLEST_BOX[_box_sums(source, kernel, how, 0.0)]:
        return False
    if source.ndim == 2:
        return True
    is_short = source.shape[2] <= _MOST_CHANNELS
    return is_short and all(array.strides[1] == array.shape[2] * array.strides[2] for array in (source, out))


def _box_sums(source: NDArray[Any], kernel: Kernel, how: How, cval: float) -> str:
    """Dtype of the sums over a box: float32 where that holds all of them."""
    if source.dtype.kind == "f" or how.precision == "float64" or not float(cval).is_integer():
        return "float64"
    limits = np.iinfo(source.dtype)
    largest = max(limits.max, -limits.min, abs(cval)) * max(kernel.absolute_sum, kernel.weights.size)
    return "float32" if largest < 2**24 else "float64"


def _run_by_running_sums(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How) -> bool:
    """False if something is not finite, or so large that its rounding would show beside it."""
    if source.dtype.kind == "f" and _peak(source) > _PEAK_FOR_DIRECT:
        return False
    dtype = _box_sums(source, kernel, how, cval)
    if any(stride % array.itemsize for array in (source, out) for stride in array.strides):
        return False
    height, width = kernel.axes
    taps, modes, before = ((each[height], each[width]) for each in how.placed)
    plan = plan_boxes(
        source.shape,
        source.strides,
        out.strides,
        taps,
        modes,
        before,
        source.dtype,
        dtype,
        out.dtype,
        how.casting,
    )
    return correlate_box(plan, address_of(source), address_of(out), kernel.in_dtype(dtype).ravel()[:1], cval)


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


def _plan_across(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How, dtype: str, *, is_exact: bool
) -> Plan | None:
    """How transforms are taken across lines, or None where those along all axes are faster."""
    if _time_across(source.shape, kernel, dtype) >= _time_of_blocks(source.shape, kernel, dtype):
        return None
    if any(stride % source.itemsize for stride in source.strides):
        return None
    casting = ROUND if is_exact and how.casting == TRUNCATE else how.casting
    layout = (source.shape, source.strides, out.strides, how.placed)
    return plan_blocks(*layout, source.dtype, np.dtype(dtype), out.dtype, casting)


def _run_across_lines(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, plan: Plan, dtype: str
) -> bool:
    """Transform blocks of lines; False if something is not finite."""
    weights = kernel.products(dtype, plan.axis, plan.size)
    return correlate_across(plan, address_of(source), address_of(out), weights, cval)


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
