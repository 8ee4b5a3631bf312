"""NeighbourhoodFilter: a user's function of the neighbourhood of every pixel, on each image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from parimg.errors import TaskError
from parimg.tasks.image_transform import ImageTransform

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.images.decode import ColorMode
    from parimg.images.encode import ImageFormat
    from parimg.kernels.borders import Mode
    from parimg.tasks.tiling import Halo

_PROBE_SIDE = 4  # pixels of the image that a function is tried with


@dataclass(frozen=True, eq=False)
class NeighbourhoodFilter(ImageTransform):
    """A function of the neighbourhood of every pixel, on each image, compiled on every engine.

    Parameters
    ----------
    function : callable
        Called with the pixels of a window, an array of one dimension, and the extra arguments; returns a number,
        or several as a tuple. Also one from a notebook cell. See `parimg.kernels.generic_filter`.
    size : int or (int, int), optional
        Sides of the window. Give this or `footprint`.
    footprint : array_like of bool, optional
        The pixels of the window.
    mode : str or (str, str)
        How images go on beyond their borders.
    cval : float
        What lies outside if `mode` is ``"constant"``.
    origin : int or (int, int)
        Moves the window.
    extra_arguments : sequence
        Further arguments of `function`: numbers and arrays.
    extra_keywords : mapping, optional
        The same by name.
    values_dtype : dtype, optional
        The dtype of the window's pixels; None: that of the image.
    dtype : dtype, optional
        The dtype of results; by default that of the image, into which numbers are converted as in C.
    output : path, optional
        Folder on the client's disk. Each result becomes a file in it, named after its image; without it results
        are returned, and kept in the job's journal.
    format : {"png", "jpeg", "webp", "bmp", "tiff", "npy"}, optional
        Of the files; by default PNG where it holds the image, else TIFF.
    statistics_only : bool
        Return no arrays; for jobs without an `output`.
    python : bool
        Call the function as plain Python, some hundred times slower.
    color : {"gray", "color", "unchanged"}
        How images are decoded: gray 8 bit, RGB 8 bit, or as stored. Channels are filtered apart.

    Raises
    ------
    TaskError
        If a parameter is out of its range, or the function cannot be compiled: the message has numba's reason and
        the line.

    Notes
    -----
    Columns: ``min``, ``max``, ``mean`` and ``std`` of the result, in its dtype. With `output` also ``path``, the
    file; without it the array ``image``, unless `statistics_only`. If the function returns k numbers, the
    result has the shape ``(k, height, width)``, and the columns are those of all; TIFF, with a page
    for each, and ``.npy`` files hold such results.

    The client compiles the function before anything is sent, engines load what is compiled from the host's disk.

    Examples
    --------
    >>> import numpy as np
    >>> def spread(values):
    ...     return values.max() - values.min()
    >>> task = NeighbourhoodFilter(spread, size=3)
    >>> task(np.array([[1, 2, 4], [1, 9, 4]], np.uint8))["image"]
    array([[8, 8, 7],
           [8, 8, 7]], dtype=uint8)
    """

    function: Callable[..., object] = field()
    size: int | Sequence[int] | None = None
    footprint: npt.ArrayLike | None = None
    mode: Mode | Sequence[Mode] = "reflect"
    cval: float = 0.0
    origin: int | Sequence[int] = 0
    extra_arguments: Sequence[Any] = ()
    extra_keywords: Mapping[str, Any] | None = None
    values_dtype: npt.DTypeLike | None = "float64"
    dtype: npt.DTypeLike | None = None
    output: str | os.PathLike[str] | None = None
    format: ImageFormat | None = None
    statistics_only: bool = False
    python: bool = False
    # A parameter here, a class variable of other tasks.
    color: ColorMode = field(default="gray", kw_only=True)  # type: ignore[misc]

    def __post_init__(self) -> None:
        import numpy as np

        if not callable(self.function):
            raise TaskError(f"function must be callable (got {self.function!r}, a {type(self.function).__name__})")
        if (self.size is None) == (self.footprint is None):
            raise TaskError(f"give either a size or a footprint (got {self.size!r} and {self.footprint!r:.80})")
        for name in ("dtype", "values_dtype"):
            try:
                np.dtype(getattr(self, name))
            except TypeError as error:
                raise TaskError(f"{name} must be a dtype or None (got {getattr(self, name)!r}): {error}") from None
        self.check_output()

    def transform(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Filter one image with this task's parameters.

        Parameters
        ----------
        image : ndarray, shape (height, width) or (height, width, channels)

        Returns
        -------
        ndarray
            Of the image's shape, behind an axis of results if the function returns a tuple.

        Raises
        ------
        TaskError
            If the image has another number of axes, or the function cannot be compiled for it.
        """
        from parimg.kernels.filters.generic_filter import generic_filter

        if image.ndim not in {2, 3}:
            raise TaskError(f"an image has shape (h, w) or (h, w, channels) (got {image.shape})")
        try:
            return generic_filter(
                image,
                self.function,
                self.size,
                self.footprint,
                None if self.dtype is None else self.dtype,
                self.mode,
                self.cval,
                self.origin,
                self.extra_arguments,
                self.extra_keywords,
                axes=(0, 1),
                values_dtype=self.values_dtype,
                python=self.python,
            )
        except (TypeError, RuntimeError) as error:
            raise TaskError(str(error)) from error

    def halo(self) -> Halo:
        """The window's sides, to both sides: wherever `origin` moves it, it stays there."""
        import numpy as np

        from parimg.tasks.tiling import Halo

        if self.footprint is not None:
            height, width = np.shape(self.footprint)
        else:
            height, width = np.broadcast_to(np.asarray(self.size), (2,)).tolist()
        return Halo.around(height, width)

    @property
    def wraps(self) -> tuple[bool, bool]:
        """In mode ``"wrap"`` of either axis."""
        from parimg.kernels.borders import checked_modes

        modes = checked_modes(self.mode, 2)
        return modes[0] == "wrap", modes[1] == "wrap"

    def resolve(self) -> None:
        """Compile the function, try it on a black image, and make the output folder."""
        try:
            probe = self.probe(_PROBE_SIDE)
            has_pages = self.transform(probe).ndim > probe.ndim
        except (TaskError, ValueError) as error:
            raise TaskError(str(error)) from error
        except Exception as error:  # numba lets some of its own out, and the function may raise any
            name = getattr(self.function, "__name__", repr(self.function))
            raise TaskError(
                f"the function {name!r:.80} cannot be compiled, or fails on a black image: "
                f"{type(error).__name__}: {error}; python=True calls it as it is"
            ) from error
        if self.format is not None and has_pages:
            from parimg.images.encode import check_format

            check_format(self.format, pages=True)
        super().resolve()

    def prepare(self) -> None:
        """Compile the function, or load it from the disk."""
        from parimg.images import encode  # noqa: F401 - loaded before the first image

        self.transform(self.probe(_PROBE_SIDE))

    def __getstate__(self) -> dict[str, object]:
        # What numba compiled here is of no use there: engines compile the plain function, or find it on disk.
        return super().__getstate__() | {"function": getattr(self.function, "py_func", self.function)}
