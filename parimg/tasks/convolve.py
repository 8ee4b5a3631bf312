"""Convolve: each image convolved with a kernel, written as an image or returned."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from parimg.errors import ImageError, TaskError
from parimg.tasks.image_transform import ImageTransform

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.images.decode import ColorMode
    from parimg.images.encode import ImageFormat
    from parimg.kernels.convolution.arguments import Within
    from parimg.kernels.convolution.convolve import Casting
    from parimg.tasks.tiling import Alignment, Halo, Place

_MODES = ("reflect", "constant", "nearest", "mirror", "wrap")
_DTYPES = ("uint8", "uint16", "int8", "int16", "int32", "uint32", "float32", "float64")
_PROBE_SIDE = 64


@dataclass(frozen=True, eq=False)
class Convolve(ImageTransform):
    """Each image convolved with a kernel, written as an image or returned.

    Parameters
    ----------
    kernel : ndarray, str or path
        An array of two axes; a ``.npy`` file of one, by its path or URL; or a name: ``"gaussian(sigma)"``,
        ``"box(size)"``, ``"log(sigma)"``, ``"laplacian"``, ``"sharpen"``, ``"emboss"``, ``"identity"``,
        ``"sobel"``, ``"scharr"``, ``"prewitt"``, the magnitude of the gradient, or one of its two components, such
        as ``"sobel_x"`` (growing to the right) and ``"sobel_y"`` (downwards). Gaussians reach to four sigmas.
    output : path, optional
        Folder on the client's disk. Each result becomes a file in it, named after its image; without it results
        are returned, and kept in the job's journal.
    dtype : str, optional
        Dtype of the result: an integer of up to 32 bits, ``"float32"`` or ``"float64"``; by default the image's.
    format : {"png", "jpeg", "webp", "bmp", "tiff", "npy"}, optional
        Of the files; by default PNG where it holds the image, else TIFF.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap"}
        What lies beyond the borders; see `parimg.kernels.convolve`.
    cval : float, default 0
        Value beyond the borders in mode ``"constant"``.
    color : {"color", "gray", "unchanged"}
        How images are decoded: RGB 8 bit, gray 8 bit, or as stored (16 bit, float, alpha). Every channel is
        convolved by itself.
    casting : {"saturate", "round", "truncate"}
        How sums become integers; see `parimg.kernels.convolve`.

    Raises
    ------
    TaskError
        If a parameter is out of its range, or the kernel is unknown or cannot be read.

    Notes
    -----
    Columns: ``min``, ``max``, ``mean`` and ``std`` of the result over all its values; with `output` also ``path``.
    Without it the array ``image``.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([[10, 10, 10, 90, 90, 90]] * 5, np.uint8)
    >>> Convolve("prewitt_x", dtype="int16")(image)["image"][2].tolist()
    [0, 0, 240, 240, 0, 0]
    >>> Convolve("gaussian(-1)")
    Traceback (most recent call last):
        ...
    parimg.errors.TaskError: kernel gaussian(sigma) needs 0 < sigma <= 512 pixels (got -1)
    """

    kernel: str | os.PathLike[str] | npt.NDArray[Any] = field()
    output: str | os.PathLike[str] | None = None
    dtype: str | None = None
    format: ImageFormat | None = None
    mode: str = "reflect"
    cval: float = 0.0
    # A parameter here, a class variable of other tasks.
    color: ColorMode = field(default="color", kw_only=True)  # type: ignore[misc]
    casting: Literal["saturate", "round", "truncate"] = "saturate"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("dtype", (None, *_DTYPES)),
            ("mode", _MODES),
            ("casting", ("saturate", "round", "truncate")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise TaskError(f"{name} must be one of {', '.join(map(repr, allowed))} (got {value!r})")
        if isinstance(self.cval, bool) or not isinstance(self.cval, int | float):
            raise TaskError(f"cval must be a number (got {self.cval!r}, a {type(self.cval).__name__})")
        self.check_output()
        if not self._kernel_file:
            _ = self._kernels  # its mistakes are told at once

    def transform(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Convolve one image with this task's kernel.

        Parameters
        ----------
        image : ndarray, shape (height, width) or (height, width, channels)

        Returns
        -------
        ndarray
            Of the shape of the image.

        Raises
        ------
        TaskError
            If the image has no pixels or other axes.
        """
        return self._convolved(image, None)

    def _convolved(self, image: npt.NDArray[Any], within: Within | None) -> npt.NDArray[Any]:
        """Convolve an image, or a part of a larger one."""
        import numpy as np

        from parimg.kernels.convolution.arguments import Within
        from parimg.kernels.convolution.convolve import convolve, convolve_part

        if image.ndim not in {2, 3} or not image.size:
            raise TaskError(f"an image of shape (h, w) or (h, w, channels) is convolved (got shape {image.shape})")
        dtype = np.dtype(self.dtype or image.dtype)
        kernels = self._kernels
        here = within or Within(image.shape, 0, 0, len(image))

        def convolved(kernel: npt.NDArray[Any], dtype: npt.DTypeLike, casting: Casting) -> npt.NDArray[Any]:
            return convolve_part(image, kernel, dtype, self.mode, self.cval, here, casting=casting)

        if len(kernels) == 1:
            return convolved(kernels[0], dtype, self.casting)
        between = np.float64 if np.promote_types(image.dtype, np.float32) == np.float64 else np.float32
        parts = [convolved(kernel, between, "truncate") for kernel in kernels]
        magnitude = np.hypot(*parts)
        one = np.ones((1,) * image.ndim)
        return convolve(magnitude, one, dtype, casting=self.casting)  # converts

    def halo(self) -> Halo:
        """Half of the kernel."""
        from parimg.kernels.convolution.convolve import NARROW
        from parimg.tasks.tiling import Halo

        height, width = (max(kernel.shape[axis] for kernel in self._kernels) for axis in range(2))
        # Images and parts at most so wide are summed in another order by kernels of one column.
        return Halo.around(height // 2, width // 2 if width > 1 else NARROW)

    @property
    def wraps(self) -> tuple[bool, bool]:
        """In mode ``"wrap"``."""
        return (self.mode == "wrap",) * 2

    def alignment(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Alignment:
        """How parts must lie: as lines that are summed together, or transformed together, do.

        Parameters
        ----------
        shape : tuple of int
            Of the whole image.
        dtype : dtype
            Of its pixels.

        Returns
        -------
        Alignment
        """
        from parimg.kernels.convolution.convolve import LINES_REPEAT, lines_of_blocks
        from parimg.kernels.convolution.tile import MOST_ROWS
        from parimg.tasks.tiling import Alignment

        if len(self._kernels) == 1:  # gradients are small
            kernel, output = self._kernels[0], self.dtype or dtype
            lines = lines_of_blocks(shape, dtype, kernel, output, self.mode, self.cval)
            if lines:
                return Alignment(block=lines)
        return Alignment(LINES_REPEAT, MOST_ROWS)

    def transform_part(self, part: npt.NDArray[Any], place: Place) -> npt.NDArray[Any]:
        """Convolve a part in the way that the whole image would be.

        Parameters
        ----------
        part : ndarray, shape (height, width) or (height, width, channels)
        place : Place
            Where it lies in the image.

        Returns
        -------
        ndarray
            As `transform` gives it; what lies around the tile counts for nothing.
        """
        from parimg.kernels.convolution.arguments import Within

        return self._convolved(part, Within(place.shape, place.core.y1, place.box.y1, place.box.y2))

    def resolve(self) -> None:
        """Read the kernel, and make the output folder."""
        _ = self._kernels
        super().resolve()

    def prepare(self) -> None:
        """Load or compile what a small image of the likeliest kind needs."""
        from parimg.images import encode  # noqa: F401 - loaded before the first image

        self.transform(self.probe(_PROBE_SIDE))

    @property
    def _kernel_file(self) -> str | None:
        """Where the kernel is read from, if it is."""
        if isinstance(self.kernel, os.PathLike):
            return os.fspath(self.kernel)
        return self.kernel if isinstance(self.kernel, str) and self.kernel.endswith(".npy") else None

    @cached_property
    def _kernels(self) -> tuple[npt.NDArray[np.float64], ...]:
        """What travels with the task: one kernel, or the two of a gradient."""
        import numpy as np

        if self._kernel_file:
            given = _read_kernel(self._kernel_file)
        elif isinstance(self.kernel, str):
            from parimg.tasks._named_kernels import named_kernels

            return named_kernels(self.kernel)
        else:
            given = np.asarray(self.kernel)
        if given.dtype.kind not in "biuf" or given.ndim != 2 or not given.size:
            raise TaskError(
                f"kernel must hold real numbers in two axes (got {given.dtype} of shape {given.shape})"
            )
        if not np.isfinite(given).all():
            raise TaskError("kernel must hold finite numbers (got NaN or infinity)")
        return (given.astype(np.float64),)


def _read_kernel(name: str) -> npt.NDArray[Any]:
    import io

    import numpy as np

    from parimg.images.read import read_bytes

    try:
        data = read_bytes(name if "://" in name else os.path.abspath(name))
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
    except ImageError as error:
        raise TaskError(f"the kernel cannot be read: {error}") from error
    except (ValueError, EOFError, OSError) as error:
        raise TaskError(f"the kernel {name!r} is no .npy file of numbers: {error}") from None
    if not isinstance(loaded, np.ndarray):
        raise TaskError(f"the kernel {name!r} holds several arrays, wanted a .npy file of one")
    return loaded
