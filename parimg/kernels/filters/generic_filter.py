"""`generic_filter`: SciPy's, argument for argument, with the user's function of a window compiled into the loop.

Arrays in, arrays out: no I/O, no cluster, one thread, without the GIL. Tasks and users call this; the loops lie in
`loops.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import LowLevelCallable, ndimage

from parimg.kernels.borders import checked_axes, checked_modes
from parimg.kernels.filters.choices import CHOSEN_FROM, Kind, find_out, narrowed
from parimg.kernels.filters.dtypes import (
    COMPILED_DTYPES,
    address_of,
    can_be_written,
    compiled_dtype,
    output_dtype,
    readable,
)
from parimg.kernels.filters.loops import filter_lines
from parimg.kernels.filters.medians import is_square
from parimg.kernels.filters.user_functions import UserFunction, as_user_function, run_loop
from parimg.kernels.filters.window_plan import Footprint, make_scratch, normalise_sequence, plan_filter
from parimg.kernels.filters.windows import LARGEST_ON_STACK, Specification, check_result, specification

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.kernels.borders import Mode


def generic_filter(
    input: npt.ArrayLike,  # noqa: A002 - SciPy's name
    function: Callable[..., object],
    size: int | Sequence[int] | None = None,
    footprint: npt.ArrayLike | None = None,
    output: npt.NDArray[Any] | npt.DTypeLike | None = None,
    mode: Mode | Sequence[Mode] = "reflect",
    cval: float = 0.0,
    origin: int | Sequence[int] = 0,
    extra_arguments: Iterable[Any] = (),
    extra_keywords: Mapping[str, Any] | None = None,
    *,
    axes: int | Sequence[int] | None = None,
    values_dtype: npt.DTypeLike | None = np.float64,
    python: bool = False,
) -> npt.NDArray[Any]:
    """Filter an array with a function of each element's neighbourhood, compiled into the loop.

    Parameters
    ----------
    input : array_like
        Real numbers of any dtype and any number of axes; read-only or strided, too. It is never copied as a whole.
    function : callable
        Called with the elements of the window around an element, an array of one dimension in the order of the
        footprint, and with the extra arguments; it returns a number, or several as a tuple. A Python function, a
        jitted one, a `functools.partial` of one with keywords, or what numba knows, such as ``np.median``. It may
        change the array it is given. A `scipy.LowLevelCallable` goes to SciPy.
    size : int or sequence of int, optional
        Sides of the window. Give this or `footprint`.
    footprint : array_like of bool, optional
        The elements of the window.
    output : ndarray or dtype, optional
        Where to put the result, or its dtype; the input's by default. Numbers are converted as in C, whole ones
        from others towards zero. It may be the input.
    mode : str or sequence of str
        ``"reflect"``, ``"mirror"``, ``"nearest"``, ``"wrap"`` or ``"constant"``, for all axes or each; how the
        input goes on beyond its borders, as in SciPy.
    cval : float
        What lies outside if `mode` is ``"constant"``.
    origin : int or sequence of int
        Moves the window: 0 puts its middle over the element, positive values put elements further left there.
    extra_arguments : sequence
        Further arguments of `function`: numbers, arrays, tuples of these. Other values compile nothing anew, other
        types do.
    extra_keywords : mapping, optional
        The same by name.
    axes : int or sequence of int, optional
        The axes to filter along; `size`, `footprint`, `origin` and `mode` go with these.
    values_dtype : dtype, optional
        The dtype of the window's elements: float64, as in SciPy. Others are faster, float32 about twice. None is
        the input's own: then differences of uint8 wrap around, as NumPy's do.
    python : bool
        Call `function` as plain Python, through SciPy: for what numba cannot compile, and some hundred times
        slower.

    Returns
    -------
    ndarray
        Of the input's shape. If `function` returns a tuple of k numbers, of shape ``(k, *input.shape)``.

    Raises
    ------
    TypeError
        If the input is complex or no number; if numba cannot compile `function`: the message has its reason, the
        line, and how to go on.
    ValueError
        If an axis or origin is out of its range.
    RuntimeError
        If there is neither a size nor a footprint, one of a sequence is missing, a mode is unknown, or `output`
        has another shape; as in SciPy.

    Notes
    -----
    The function is compiled once for each dtype and each number of elements of the window, up to 128; longer ones
    share one. What is compiled is kept on disk under a digest of all that the function depends on, also where it
    comes from a notebook cell. It is compiled with NumPy's rules: dividing by zero gives infinity or NaN. Globals
    are looked at again at each call.

    References
    ----------
    J. Nunez-Iglesias, "Prettier LowLevelCallables with Numba JIT and decorators", 2017, and its package llc.

    Examples
    --------
    >>> def spread(values):
    ...     return values.max() - values.min()
    >>> generic_filter([[1, 2, 4], [1, 9, 4]], spread, size=(1, 3))
    array([[1, 3, 2],
           [8, 8, 5]])
    """
    image = np.asarray(input)
    if python or isinstance(function, LowLevelCallable):
        if np.dtype(values_dtype) != np.float64:
            raise ValueError(f"values_dtype must be float64 where SciPy calls the function (got {values_dtype!r})")
        found: npt.NDArray[Any] = ndimage.generic_filter(
            image, function, size, footprint, output, mode, cval, origin, tuple(extra_arguments),
            dict(extra_keywords or {}), axes=axes,
        )  # fmt: skip
        return found
    if image.dtype.kind not in "biuf":
        raise TypeError(f"input must hold real numbers (got dtype {image.dtype})")
    if size is not None and footprint is not None:
        warnings.warn("ignoring size because footprint is set", UserWarning, stacklevel=2)
    axes_used = checked_axes(axes, image.ndim)
    shape = _footprint(size, footprint, len(axes_used))
    origins = normalise_sequence(origin, len(axes_used), "origin")
    for one, length in zip(origins, shape.shape, strict=True):
        if not 0 <= length // 2 + one < length:
            raise ValueError(f"origin must keep the window over its element (got {one} for size {length})")
    modes = checked_modes(mode, len(axes_used))
    # All axes, in the image's order.
    if axes_used != tuple(range(image.ndim)):
        shape = shape.transpose(np.argsort(axes_used))
        shape = np.expand_dims(shape, tuple(axis for axis in range(image.ndim) if axis not in axes_used))
    all_origins, all_modes = [0] * image.ndim, ["nearest"] * image.ndim
    for axis, one, name in zip(axes_used, origins, modes, strict=True):
        all_origins[axis], all_modes[axis] = one, name
    user = as_user_function(function, 1, extra_arguments, extra_keywords)
    return _filter(
        image, user, shape, output, all_modes, cval, all_origins, _window_dtype(values_dtype, image.dtype)
    )


def _footprint(size: Any, footprint: npt.ArrayLike | None, n_axes: int) -> npt.NDArray[np.bool_]:
    if footprint is None:
        if size is None:
            raise RuntimeError("give a size or a footprint")
        shape = np.ones(normalise_sequence(size, n_axes, "size"), bool)
    else:
        shape = np.asarray(footprint, bool)
    if shape.ndim != n_axes or 0 in shape.shape:
        raise RuntimeError(
            f"a window must have {n_axes} axes, as many as are filtered, and no side of 0 "
            f"(got shape {shape.shape})"
        )
    return shape


def _filter(
    image: npt.NDArray[Any],
    user: UserFunction,
    footprint: npt.NDArray[np.bool_],
    output: npt.NDArray[Any] | npt.DTypeLike | None,
    modes: Sequence[str],
    cval: float,
    origins: Sequence[int],
    values_dtype: np.dtype[Any],
) -> npt.NDArray[Any]:
    source = readable(image)
    if source.ndim == 0:
        source, footprint, modes, origins = source.reshape(1), footprint.reshape(1), ["nearest"], [0]
    count = int(np.count_nonzero(footprint))
    out_dtype = output_dtype(output, image.dtype)
    compiled = compiled_dtype(out_dtype)
    on_stack = 0 < count <= LARGEST_ON_STACK
    kind = Kind.OTHER
    if on_stack and _may_choose(source.dtype, values_dtype, user, cval, modes):
        own = specification(source.dtype, source.dtype, compiled, count)
        kind = _kind(user, own)
    if kind != Kind.OTHER:
        values_dtype = source.dtype
        cval = cval if "constant" in modes else 0.0
    planned = source if source.size else np.zeros([1] * source.ndim, source.dtype)
    window = Footprint(footprint.shape, footprint.tobytes(), tuple(origins))
    layout = planned.shape, planned.strides, source.itemsize
    plan = plan_filter(*layout, window, tuple(modes), has_dtype=bool(source.size) and source.dtype == values_dtype)
    if kind != Kind.OTHER:
        by_vectors = kind if kind == Kind.CHOICE or is_square(plan) else Kind.CHOICE
        user = narrowed(user, source.dtype, by_vectors if compiled == source.dtype else Kind.OTHER)
    spec = specification(source.dtype, values_dtype, compiled, count if on_stack else 0)
    reader = specification(source.dtype, values_dtype, values_dtype)
    outside = values_dtype.type(cval)

    scratch = make_scratch(plan, values_dtype, outside, on_stack=on_stack)

    def run(destination: int) -> int:
        given = (spec, reader, address_of(source), destination, tuple(plan), tuple(scratch))
        after = (compiled.itemsize, outside)
        n_results: int = run_loop(filter_lines, user, (*given, *after), (spec.numba_type.window,), check_result)
        return n_results

    n_results = run(0) if kind == Kind.OTHER else 0
    shape = (*([n_results] if n_results else []), *image.shape)
    given = output if isinstance(output, np.ndarray) else None
    if given is not None and given.shape != shape:
        raise RuntimeError(f"output must have shape {shape} (got {given.shape})")
    direct = given is not None and can_be_written(given, compiled, [image, *user.arguments])
    result = given if given is not None and direct else np.empty(shape, compiled)
    if source.size:
        run(address_of(result))
    if given is not None and not direct:
        np.copyto(given, result, casting="unsafe")
        return given
    return result if compiled == out_dtype else result.astype(out_dtype)


def _kind(user: UserFunction, own: Specification) -> Kind:
    """What a function does with windows, found out once."""
    key = user.numba_type.digest, own.numba_type
    if key not in _kinds:
        wide = specification(_DOUBLE, _DOUBLE, _DOUBLE, own.numba_type.count).numba_type.window
        _kinds[key] = Kind(run_loop(find_out, user, (own,), (wide,), check_result))
    return _kinds[key]


_DOUBLE = np.dtype(np.float64)
_kinds: dict[tuple[str, Any], Kind] = {}


def _may_choose(
    own: np.dtype[Any], values_dtype: np.dtype[Any], user: UserFunction, cval: float, modes: Sequence[str]
) -> bool:
    """Whether windows of the image's own dtype may do where float64 is asked for."""
    if own.char not in CHOSEN_FROM or values_dtype != np.float64 or user.arguments:
        return False
    if "constant" not in modes:
        return True
    with np.errstate(all="ignore"):
        is_held = own.kind == "f" or (math.isfinite(cval) and np.iinfo(own).min <= cval <= np.iinfo(own).max)
        return bool(is_held and (float(own.type(cval)) == cval or math.isnan(cval)))


def _window_dtype(wanted: npt.DTypeLike | None, own: np.dtype[Any]) -> np.dtype[Any]:
    dtype = np.dtype(wanted) if wanted is not None else np.dtype(np.uint8) if own.kind == "b" else own
    dtype = dtype.newbyteorder("=")
    if dtype.char == "?" or dtype.char not in COMPILED_DTYPES:
        raise TypeError(f"values_dtype must be float64, float32, an integer dtype, or None (got {dtype})")
    return dtype
