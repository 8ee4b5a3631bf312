"""Convolution and correlation of arrays of any dimension, with the arguments of `scipy.ndimage`'s.

Arrays in, arrays out: no I/O, no cluster, one thread, and the GIL is free while sums are taken. Tasks and users
call this; `direct.py` and its neighbours hold the ways a convolution is done.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from parimg.kernels.convolution.arguments import Placement, Within, output_array, placement
from parimg.kernels.convolution.line_loops import ROUND, SATURATE, TRUNCATE
from parimg.kernels.convolution.line_plan import LONGEST_MERGED
from parimg.kernels.convolution.magnitudes import casts_fractions, is_whole
from parimg.kernels.convolution.methods import (
    How,
    choose,
    choose_for_shape,
    lines_together,
    prepare,
    run,
)
from parimg.kernels.convolution.tile import MOST_ROWS
from parimg.kernels.convolution.weights import as_kernel

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from parimg.kernels.convolution.arguments import Axes, Mode, Origin
    from parimg.kernels.convolution.methods import Prepared
    from parimg.kernels.convolution.weights import Kernel

Method = Literal["auto", "direct", "separable", "fft"]
Casting = Literal["truncate", "round", "saturate"]
Precision = Literal["float32", "float64"]

_METHODS: tuple[str, ...] = get_args(Method)
_PRECISIONS: tuple[str | None, ...] = (None, *get_args(Precision))
_CASTINGS = {"truncate": TRUNCATE, "round": ROUND, "saturate": SATURATE}
_COMPUTED = frozenset(map(np.dtype, ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "c8", "c16")))
_KEEPS_FLOAT32 = frozenset(map(np.dtype, ("i1", "u1", "i2", "u2", "f4")))
# Calls of more are not remembered: they take so long that it would not show.
_REMEMBERED_TAPS, _REMEMBERED_SIZE = 2**12, 2**20
_FLOAT32_EXACT = 2**24  # integers below it are float32


def convolve(
    input: ArrayLike,  # noqa: A002 - SciPy's name
    weights: ArrayLike,
    output: NDArray[Any] | DTypeLike | None = None,
    mode: Mode = "reflect",
    cval: complex = 0.0,
    origin: Origin = 0,
    *,
    axes: Axes = None,
    method: Method = "auto",
    precision: Precision | None = None,
    casting: Casting = "truncate",
) -> NDArray[Any]:
    """Convolve an array with a kernel.

    Parameters
    ----------
    input : array_like
        Of any dimension and of integers, bools, real or complex floats; read-only or not, contiguous or not.
    weights : array_like
        The kernel, with one axis for each axis of `input`, or for each of `axes`, in their order in `input`.
    output : ndarray or dtype, optional
        The array that takes the result, which may be `input` itself, or the dtype of a new one; by default that
        of `input`, complex if `input` or `weights` are.
    mode : str or sequence of str, default "reflect"
        What lies beyond the borders: ``"reflect"`` (``d c b a | a b c d | d c b a``), ``"constant"`` (`cval`),
        ``"nearest"`` (``a a a a | a b c d | d d d d``), ``"mirror"`` (``d c b | a b c d | c b a``) or ``"wrap"``
        (``a b c d | a b c d | a b c d``); also by the names ``"grid-mirror"``, ``"grid-constant"`` and
        ``"grid-wrap"``. One for all axes, or one for each.
    cval : number, default 0
        Value beyond the borders in mode ``"constant"``.
    origin : int or sequence of int, default 0
        Moves the kernel's centre, which is element ``size // 2``. One for all axes, or one for each.
    axes : int or sequence of int, optional
        Axes along which to convolve, the others being a stack. `mode` and `origin` then follow its order.
    method : {"auto", "direct", "separable", "fft"}
        How: the sum over all taps; passes along one axis after the other, for kernels that are a product or a
        short sum of products; overlap-add of Fourier transforms. ``"auto"`` takes the fastest.
    precision : {"float32", "float64"}, optional
        Of the arithmetic. By default float32 for bools, integers up to 16 bits and floats up to float32, except
        where an integer result of whole-number weights would not be exact; float64 for all else. If
        ``"float64"`` is asked for, ``"auto"`` is ``"direct"``, and the result is SciPy's to the last bit.
    casting : {"truncate", "round", "saturate"}
        How sums become integers: without their fraction, as SciPy; the nearest, ties to even; the nearest
        within the range of the dtype, NaN as 0. The first two wrap around; what 64 bits do not hold becomes 0.

    Returns
    -------
    ndarray
        Of the shape of `input`.

    Raises
    ------
    RuntimeError
        If the shape of `weights` or `output` does not fit, or `mode` is unknown or of the wrong length.
    ValueError
        If `origin` lies beyond the kernel, `axes` are out of range or repeated, `output` is read-only, a choice is
        unknown, or ``method="separable"`` is asked for a kernel that is no short sum of products.
    TypeError
        If something holds no numbers, `cval` is complex for a real `input`, or `output` is real for a complex one.

    Notes
    -----
    Same call as ``scipy.ndimage.convolve``; `docs/convolution.md` lists what differs. The methods differ from each
    other by rounding: up to about 1e-6 of the largest sum in float32, 1e-15 in float64.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([[0, 0, 0, 0], [0, 9, 0, 0], [0, 0, 0, 0]], np.uint8)
    >>> convolve(image, [[0, 0, 1], [0, 2, 0], [3, 0, 0]])
    array([[ 0,  0,  9,  0],
           [ 0, 18,  0,  0],
           [27,  0,  0,  0]], dtype=uint8)
    """
    return _filter(
        input, weights, output, mode, cval, origin, axes, method, precision, casting, is_convolution=True
    )


def correlate(
    input: ArrayLike,  # noqa: A002 - SciPy's name
    weights: ArrayLike,
    output: NDArray[Any] | DTypeLike | None = None,
    mode: Mode = "reflect",
    cval: complex = 0.0,
    origin: Origin = 0,
    *,
    axes: Axes = None,
    method: Method = "auto",
    precision: Precision | None = None,
    casting: Casting = "truncate",
) -> NDArray[Any]:
    """Correlate an array with a kernel: `convolve` without turning the kernel round.

    Parameters
    ----------
    input, weights, output, mode, cval, origin, axes, method, precision, casting
        See `convolve`. Complex weights are conjugated.

    Returns
    -------
    ndarray
        Of the shape of `input`.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        See `convolve`.

    Notes
    -----
    Same call as ``scipy.ndimage.correlate``.

    Examples
    --------
    >>> import numpy as np
    >>> correlate(np.array([1.0, 2.0, 4.0, 8.0]), [-1, 0, 1], mode="nearest")
    array([1., 3., 6., 4.])
    """
    return _filter(
        input, weights, output, mode, cval, origin, axes, method, precision, casting, is_convolution=False
    )


NARROW = LONGEST_MERGED + 1
"""Columns of an array from which on sums by a kernel of one column are the same, whatever the width is."""
LINES_REPEAT = math.lcm(*range(1, MOST_ROWS + 1))
"""Lines so far apart are summed in one order, counted from an array's first; its last `MOST_ROWS` in others."""


def convolve_part(
    part: NDArray[Any],
    weights: NDArray[Any],
    output: DTypeLike,
    mode: str,
    cval: float,
    within: Within,
    *,
    casting: Casting = "truncate",
) -> NDArray[Any]:
    """Convolve rows and columns of a part of an image so that the sums wanted are those of the whole.

    Parameters
    ----------
    part : ndarray, shape (height, width) or (height, width, channels)
        Of real numbers. It goes as far beyond the tile as the kernel reaches, and where `lines_of_blocks` gives a
        number, as it does beyond the blocks of so many lines that the tile lies in; else it begins at a multiple
        of `LINES_REPEAT` rows of the whole, and ends with it, or `MOST_ROWS` later than it would have to.
    weights : ndarray, two axes
    output : dtype
        Of real numbers.
    mode, cval, casting
        See `convolve`.
    within : Within

    Returns
    -------
    ndarray
        Of the shape of `part`; only what `within` names is right.
    """
    given = np.ascontiguousarray(part)
    return _filter(
        given, weights, output, mode, cval, 0, (0, 1), "auto", None, casting, is_convolution=True, within=within
    )


def lines_of_blocks(
    shape: tuple[int, ...],
    dtype: DTypeLike,
    weights: NDArray[Any],
    output: DTypeLike,
    mode: str = "reflect",
    cval: float = 0.0,
) -> int:
    """Lines that `convolve_part` sums by one transform across them, 0 where it takes another way.

    Parameters
    ----------
    shape : tuple of int
        Of the whole image.
    dtype : dtype
        Of real numbers, of the image.
    weights, output, mode, cval
        See `convolve`; `output` is a dtype.
    """
    source, out = np.dtype(dtype), np.dtype(output)
    computed, target = np.empty((1,) * len(shape), _computed_dtype(source)), np.empty(1, out)
    placed = placement(len(shape), weights.shape, mode, 0, (0, 1), is_convolution=True)
    how = How(placed, "auto", None, TRUNCATE, is_convolution=True, within=Within(shape, 0, 0, shape[0]))
    kernel = as_kernel(_numbers(weights, "weights"), placed.shape, is_convolution=True)
    if kernel.is_box:
        return 0
    arithmetic = _arithmetic(computed.dtype, kernel, out, how, cval)
    is_exact = is_whole(computed, kernel, target)
    is_cast = casts_fractions(computed, kernel, target)
    if choose_for_shape(shape, kernel, how, arithmetic, is_exact=is_exact, is_cast=is_cast) != "fft":
        return 0
    return lines_together(shape, kernel, how, "float64" if is_exact else arithmetic)


def _filter(
    given: ArrayLike,
    weights: ArrayLike,
    output: NDArray[Any] | DTypeLike | None,
    mode: Mode,
    cval: complex,
    origin: Origin,
    axes: Axes,
    method: Method,
    precision: Precision | None,
    casting: Casting,
    *,
    is_convolution: bool,
    within: Within | None = None,
) -> NDArray[Any]:
    if (
        type(given) is np.ndarray
        and type(weights) is np.ndarray
        and weights.size <= _REMEMBERED_TAPS
        and given.size <= _REMEMBERED_SIZE
        and (output is None or type(output) is type or isinstance(output, np.dtype))
        and given.flags.aligned
    ):
        # Working out what is to be done takes longer than a small image: it is remembered.
        kinds = (given.shape, given.strides, given.dtype, weights.shape, weights.dtype, weights.tobytes())
        choices = (method, precision, casting, is_convolution, within)
        try:
            known: Any = (output, mode, origin, axes, choices, type(cval), cval)
            prepared = _prepared(*kinds, *known)
        except TypeError:  # a list among them, or a mistake, which is told below
            prepared = None
        if prepared is not None:
            out = np.empty(given.shape, prepared.dtype)
            if prepared.lines is None:
                run(given, prepared.kernel, out, float(cval.real), *prepared.how)
                return out
            if prepared.lines.run(given, out, float(cval.real)) or prepared.passes_all:
                return out
    if method not in _METHODS or precision not in _PRECISIONS or casting not in _CASTINGS:
        _refuse_choice(method, precision, casting)
    source, kernel = _numbers(given, "input"), _numbers(weights, "weights")
    is_complex = source.dtype.kind == "c" or kernel.dtype.kind == "c"
    placed = placement(source.ndim, kernel.shape, mode, origin, axes, is_convolution=is_convolution)
    out = output_array(output, source.shape, _default_dtype(given, source, is_complex=is_complex), is_complex)
    if not source.size:
        return out
    how = How(placed, method, precision, _CASTINGS[casting], is_convolution, within)
    target = out
    if not _is_plain(out) or (output is not None and np.may_share_memory(source, out)):
        target = np.empty(out.shape, _computed_dtype(out.dtype))
    if is_complex:
        _filter_parts(source, kernel, target, cval, how)
    else:
        if isinstance(cval, complex | np.complexfloating):
            raise TypeError(f"cval must be real for real input and weights (got {cval!r})")
        _filter_real(source, kernel, target, float(cval), how)
    if target is not out:
        out[...] = np.trunc(target) if out.dtype.kind == "b" else target
    return out


class _Prepared(NamedTuple):
    """A convolution of real numbers into a new array of that dtype."""

    lines: Prepared | None
    """All of a direct sum, of two passes or of transforms across lines; other ways take the rest."""
    kernel: Kernel
    how: tuple[How, str, str]
    """What is asked for, dtype of the arithmetic, and the method that is taken."""
    dtype: np.dtype[Any]

    @property
    def passes_all(self) -> bool:
        """Whether `lines` are right for NaN and infinity, too."""
        return self.how[2] == "direct" and not self.kernel.has_zeros


@lru_cache(maxsize=128)
def _prepared(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: np.dtype[Any],
    weights_shape: tuple[int, ...],
    weights_dtype: np.dtype[Any],
    weights: bytes,
    output: type | np.dtype[Any] | None,
    mode: Mode,
    origin: Origin,
    axes: Axes,
    choices: tuple[str, str | None, str, bool, Within | None],
    cval_type: type,
    cval: complex,
) -> _Prepared | None:
    """What a call with such arguments does, if that needs no conversions."""
    method, precision, casting, is_convolution, within = choices
    out_dtype = dtype if output is None else np.dtype(output)
    is_real = all(kind in _COMPUTED and kind.kind != "c" for kind in (dtype, weights_dtype, out_dtype))
    is_known = method in _METHODS and precision in _PRECISIONS and casting in _CASTINGS
    is_whole = all(stride % dtype.itemsize == 0 for stride in strides)
    if not (is_real and is_known and is_whole and 0 not in shape and cval_type in {int, float}):
        return None
    placed = placement(len(shape), weights_shape, mode, origin, axes, is_convolution=is_convolution)
    how = How(placed, method, precision, _CASTINGS[casting], is_convolution, within)
    kernel = as_kernel(np.frombuffer(weights, weights_dtype), placed.shape, is_convolution=is_convolution)
    source = np.lib.stride_tricks.as_strided(np.empty(0, dtype), shape, strides)  # only looked at
    out = np.empty(shape, out_dtype)
    arithmetic = _arithmetic(dtype, kernel, out_dtype, how, cval.real)
    taken = choose(source, kernel, out, how, arithmetic)
    lines = prepare(source, kernel, out, how, arithmetic, taken, cval.real)
    return _Prepared(lines, kernel, (how, arithmetic, taken), out_dtype)


def _filter_real(source: NDArray[Any], weights: NDArray[Any], out: NDArray[Any], cval: float, how: How) -> None:
    kernel = as_kernel(weights, how.placed.shape, is_convolution=how.is_convolution)
    run(source, kernel, out, cval, how, _arithmetic(source.dtype, kernel, out.dtype, how, cval))


def _filter_parts(source: NDArray[Any], weights: NDArray[Any], out: NDArray[Any], cval: complex, how: How) -> None:
    """Combine the real and imaginary parts."""
    if weights.dtype.kind == "c" and not how.is_convolution:
        weights = weights.conj()
    if source.dtype.kind != "c" and isinstance(cval, complex | np.complexfloating):
        raise TypeError(f"cval must be real for real input (got {cval!r})")
    if weights.dtype.kind != "c" and (np.real(cval) == np.imag(cval) or "constant" not in how.placed.modes):
        # Both parts at once, as channels beside each other: half the time of one after the other.
        placed = Placement((*how.placed.shape, 1), (*how.placed.modes, "nearest"), (*how.placed.before, 0))
        parts = (_parts(source), weights[..., None], _parts(out))
        _filter_real(*parts, float(np.real(cval)), how._replace(placed=placed))
        return
    _filter_real(source.real, weights.real, out.real, float(np.real(cval)), how)
    if source.dtype.kind == "c":
        _filter_real(source.imag, weights.real, out.imag, float(np.imag(cval)), how)
    else:
        out.imag = 0
    if weights.dtype.kind == "c":
        part = np.empty(out.shape, out.real.dtype)
        _filter_real(source.real, weights.imag, part, float(np.real(cval)), how)
        out.imag += part
        if source.dtype.kind == "c":
            _filter_real(source.imag, weights.imag, part, float(np.imag(cval)), how)
            out.real -= part


def _parts(array: NDArray[Any]) -> NDArray[Any]:
    """A complex array as a real one with an axis more, of the real and the imaginary part."""
    item = array.real.itemsize
    return np.lib.stride_tricks.as_strided(array.real, (*array.shape, 2), (*array.strides, item))


def _arithmetic(source: np.dtype[Any], kernel: Kernel, out: np.dtype[Any], how: How, cval: float) -> str:
    if how.precision is not None:
        return how.precision
    if source not in _KEEPS_FLOAT32:
        return "float64"
    if source.kind in "iu" and out.kind in "iu" and kernel.is_whole:
        largest: float = np.iinfo(source).max + 1
        if "constant" in how.placed.modes:
            largest = max(largest, abs(cval)) if float(cval).is_integer() else _FLOAT32_EXACT
        return "float32" if kernel.absolute_sum * largest < _FLOAT32_EXACT else "float64"
    return "float32"


def _numbers(given: ArrayLike, name: str) -> NDArray[Any]:
    """An array in one of the dtypes that are computed with: what is given, where it is already, and aligned."""
    array = np.asarray(given)
    if array.dtype in _COMPUTED:
        return array if array.flags.aligned else array.copy()
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must hold numbers (got {array.dtype})")
    return array.view(np.uint8) if array.dtype.kind == "b" else array.astype(_computed_dtype(array.dtype))


def _computed_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that stands for another, in native byte order."""
    native = dtype.newbyteorder("=")
    if native in _COMPUTED:
        return native
    return np.dtype({"f2": "f4", "b1": "f8"}.get(native.str[1:], "c16" if native.kind == "c" else "f8"))


def _default_dtype(given: ArrayLike, source: NDArray[Any], *, is_complex: bool) -> np.dtype[Any]:
    dtype = np.asarray(given).dtype.newbyteorder("=") if source is not given else source.dtype
    return np.promote_types(dtype, np.complex64) if is_complex else dtype


def _is_plain(out: NDArray[Any]) -> bool:
    """Whether results can be written into an array as it is."""
    is_whole = all(stride % out.itemsize == 0 for stride in out.strides)
    return out.dtype in _COMPUTED and out.flags.aligned and is_whole


def _refuse_choice(method: str, precision: str | None, casting: str) -> None:
    for name, value, allowed in (
        ("method", method, _METHODS),
        ("precision", precision, _PRECISIONS),
        ("casting", casting, tuple(_CASTINGS)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))} (got {value!r})")
