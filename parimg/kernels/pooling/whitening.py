"""PCA whitening of descriptors: learnt from a sample, applied to vectors, kept in a file.

Arrays in, arrays out: no cluster. `global_descriptors.py` and users call this.
"""

from __future__ import annotations

import operator
import os
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_BLOCK_BYTES = 2**26  # of the sample that are looked at together as float64
_RANK_TOLERANCE = 1e-10  # of the largest variance; below it float32 vectors hold little else than rounding
_NO_VARIANCE = 1e-14  # of the mean's squared length
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False)
class Whitening:
    """A linear map after which the vectors that it was learnt from have no correlations and equal variances.

    Parameters
    ----------
    mean : ndarray of float32, shape (width,)
        Of the sample.
    projection : ndarray of float32, shape (components, width)
        Principal directions, each divided by its standard deviation, in order of falling variance.

    Examples
    --------
    >>> import numpy as np
    >>> Whitening(np.zeros(2, np.float32), np.array([[0.5, 0]], np.float32)).apply([[4, 1], [2, 7]])
    array([[2.],
           [1.]], dtype=float32)
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]

    def __post_init__(self) -> None:
        mean = finite_float32("mean", self.mean, "(width,)", 1)
        projection = finite_float32("projection", self.projection, "(components, width)", 2)
        if projection.shape[1] != len(mean) or not projection.size:
            raise ValueError(
                f"projection must have shape (components, {len(mean)}) with at least one component "
                f"(got {projection.shape})"
            )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "projection", projection)

    @property
    def width(self) -> int:
        """Width of the vectors that go in."""
        return len(self.mean)

    @property
    def n_components(self) -> int:
        """Width of the vectors that come out."""
        return len(self.projection)

    def apply(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Whiten vectors; they are not brought to length 1 afterwards.

        Parameters
        ----------
        vectors : array_like, shape (width,) or (n, width)

        Returns
        -------
        ndarray of float32, shape (components,) or (n, components)

        Raises
        ------
        TypeError
            If they do not hold real numbers.
        ValueError
            If they have another width or number of axes, or hold NaN or infinity.
        """
        shape = f"({self.width},) or (n, {self.width})"
        array = finite_float32("vectors", vectors, shape, 1 if np.ndim(vectors) == 1 else 2)
        if array.shape[-1] != self.width:
            raise ValueError(f"vectors must have shape {shape}, the whitening's width (got {array.shape})")
        return np.asarray((array - self.mean) @ self.projection.T, np.float32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a file, which `load` reads.

        Parameters
        ----------
        path : str or path
            Usually ending in ``.npz``; nothing is added.
        """
        with open(path, "wb") as file:
            np.savez(file, mean=self.mean, projection=self.projection)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Whitening:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        Whitening

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is another kind of file, or damaged.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                mean, projection = archive["mean"], archive["projection"]
        except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{os.fspath(path)!r} is no whitening that Whitening.save() wrote: {type(error).__name__}: {error}"
            ) from None
        return cls(mean, projection)


def learn_whitening(vectors: ArrayLike, n_components: int | None = None, *, shrinkage: float = 0.0) -> Whitening:
    """Learn PCA whitening from a sample.

    Parameters
    ----------
    vectors : array_like, shape (n, width)
        For R-MAC the `region_vectors` of many images. Rows that are all zero count like any other.
    n_components : int, optional
        How many directions to keep, those of the largest variance. None keeps all that there are.
    shrinkage : float, default 0
        From 0 to 1: how far the variances are drawn towards their mean before directions are divided by their
        roots. 0 is the published whitening, 1 only takes the mean off and turns the axes.

    Returns
    -------
    Whitening

    Raises
    ------
    TypeError
        If they do not hold real numbers, or `n_components` is no integer.
    ValueError
        If there are fewer than two different vectors, they are not two-dimensional or hold NaN or infinity,
        `n_components` is below 1 or more than there are, or `shrinkage` is not from 0 to 1.

    Notes
    -----
    n vectors have variance in at most n - 1 directions. Without shrinkage, these are all that there are, less
    those whose variance is below 1e-10 of the largest; with shrinkage, there are as many as the vectors are
    wide. Whitening makes all directions of the sample equally important, also those of chance: with all of the
    n - 1 directions of a small sample, its vectors end up equally far from each other. Learn from many more
    vectors than they are wide, of other images than those that are searched and not mostly of one object, or
    use shrinkage or few components.

    References
    ----------
    H. Jégou, O. Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and
    whitening", ECCV 2012. O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance
    matrices", Journal of Multivariate Analysis 88(2), 2004 (shrinkage).

    Examples
    --------
    >>> import numpy as np
    >>> sample = np.random.default_rng(0).normal([3, 5], [2, 0.1], (1000, 2))
    >>> whitening = learn_whitening(sample)
    >>> np.cov(whitening.apply(sample), rowvar=False, bias=True).round(3) + 0.0
    array([[1., 0.],
           [0., 1.]])
    """
    sample: NDArray[np.float32] = finite_float32("vectors", vectors, "(n, width)", 2)
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage must lie from 0 to 1 (got {shrinkage!r})")
    if n_components is not None and operator.index(n_components) < 1:
        raise ValueError(f"n_components must be at least 1, or None (got {n_components})")
    if len(sample) < 2 or not sample.shape[1]:
        raise ValueError(f"whitening is learnt from two vectors or more (got shape {sample.shape})")
    mean: NDArray[np.float64] = sample.mean(axis=0, dtype=np.float64)
    rising, directions = np.linalg.eigh(_covariance(sample, mean))
    variances, directions = np.maximum(rising[::-1], 0), directions[:, ::-1]
    if not variances[0] > _NO_VARIANCE * (mean @ mean):
        raise ValueError(f"whitening is learnt from different vectors (got {len(sample)} that are all the same)")
    n_spanned = min(len(sample) - 1, int(np.sum(variances > _RANK_TOLERANCE * variances[0])))
    n_available = sample.shape[1] if shrinkage else n_spanned
    n_kept = n_available if n_components is None else operator.index(n_components)
    if n_kept > n_available:
        raise ValueError(
            f"n_components={n_kept} is more than the {n_available} directions in which {len(sample)} vectors of "
            f"width {sample.shape[1]} vary; give more vectors, shrinkage, or n_components=None"
        )
    variances = (1 - shrinkage) * variances + shrinkage * variances.mean()
    # Which of the two ends is the positive one is left to chance by the decomposition.
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    projection = (directions * np.where(largest < 0, -1, 1) / np.sqrt(np.maximum(variances, _TINY))).T
    return Whitening(mean.astype(np.float32), projection[:n_kept].astype(np.float32))


def _covariance(sample: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """In float64, of a few rows at a time: the sample may be most of what fits into memory."""
    n, width = sample.shape
    total: NDArray[np.float64] = np.zeros((width, width))
    n_rows = max(1, _BLOCK_BYTES // (8 * width))
    for start in range(0, n, n_rows):
        centred = sample[start : start + n_rows] - mean
        total += centred.T @ centred
    total /= n
    return total


def finite_float32(name: str, values: ArrayLike, shape: str, n_axes: int) -> NDArray[np.float32]:
    """An argument as finite float32, in whatever order of axes it lies; `shape` is what a message asks for."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers (got dtype {array.dtype}, shape {array.shape})")
    if array.ndim != n_axes:
        raise ValueError(f"{name} must have shape {shape} (got {array.shape})")
    with np.errstate(over="ignore"):  # what is too large for float32 is told below
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite (got {np.isnan(array).sum()} NaN and {np.isinf(array).sum()} infinite of "
            f"{array.size} values)"
        )
    return array
