"""Task: the base of what is done to each image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from parimg.errors import TaskError
from parimg.options import DEFAULT_READING, Reading

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from parimg.images.decode import ColorMode
    from parimg.images.readers.part import Described
    from parimg.record import Record
    from parimg.tasks.tiled_image import Step, TiledImage
    from parimg.tasks.tiling import Halo


COLOR_MODES = ("gray", "color", "unchanged", "stack")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
COLUMN_TYPES = frozenset({*_INTEGERS, "bool", "float16", "float32", "float64", "float", "double", "string"})


@dataclass(frozen=True, eq=False)
class Task:
    """What is done to each image: a frozen dataclass with parameters, called with one image.

    A subclass gives `__call__`, and what it needs of the rest:

    - `color`, how images are decoded for it, and `columns`, the Arrow types of its scalar values, where they
      are known beforehand;
    - `resolve`, for what the client does once before the task is sent: read a reference, compute its features;
    - `prepare`, for what each engine does once before its first image: load a library, warm a kernel;
    - `run`, where the image's name matters, as for a file that is written for each;
    - `read`, where what is named is no image;
    - `halo`, `next_step` and `run_tile`, where large images can be run by tiles.
    - `plot`, how a record looks in a notebook or report, and `plotted`, how a job does.

    What `resolve` puts into the task's attributes travels with it; large arrays among them do so as shared
    objects, once for each engine.

    Subclasses check their parameters in ``__post_init__``, so that a mistake is told before anything is sent.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> @dataclass(frozen=True, eq=False)
    ... class MeanAbove(Task):
    ...     level: float
    ...     def __call__(self, image):
    ...         return {"mean": float(image[image > self.level].mean())}
    >>> MeanAbove(level=10)(np.array([[5, 20], [30, 0]]))
    {'mean': 25.0}
    """

    color: ClassVar[ColorMode] = "gray"
    """How images are decoded: ``"gray"``, ``"color"`` (RGB), ``"unchanged"`` or ``"stack"`` (gray, all pages)."""
    columns: ClassVar[Mapping[str, str]] = {}
    """Arrow type by name of the scalar values, where known beforehand."""
    tiled_by: ClassVar[str | None] = None
    """Module whose `next_step` and `run_tile` take the task first, imported when an image is run by tiles."""
    plotted: ClassVar[tuple[str, ...] | None] = None
    """Columns whose course over its images is a job's picture; empty: pictures of images, by `plot`; None: numbers
    where there are some, else pictures."""

    ranked_by: ClassVar[tuple[str, ...]] = ()
    """Columns by which images are ranked in reports, the first that there is: most first, or least first behind a
    minus."""

    @property
    def wants_pixel_size(self) -> bool:
        """Whether `run_described` looks at the size of pixels, which costs a look into TIFF files."""
        return False

    def __call__(self, image: npt.NDArray[Any]) -> Mapping[str, object]:
        """Values of one image.

        Parameters
        ----------
        image : ndarray
            Decoded as `color` says; read-only or not, contiguous or not.

        Returns
        -------
        mapping of str to value
            Numbers, bools, strings, None or lists of these become columns; arrays stay arrays. An array with named
            fields is a table of its own, see `Job.table`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define __call__(self, image)")

    def run(self, image: npt.NDArray[Any], key: str) -> Mapping[str, object]:
        """Values of one image of a job; a task that names files after images overrides this.

        Parameters
        ----------
        image : ndarray
            As for calling the task, which is what this does by default.
        key : str
            The image's name, unique in its job.

        Returns
        -------
        mapping of str to value
        """
        del key
        return self(image)

    def run_described(self, image: Described, key: str) -> Mapping[str, object]:
        """Values of one image of a job, whose file may tell the size of its pixels; by default those of `run`.

        Parameters
        ----------
        image : Described
            ``image.pixels`` is what `run` is given, ``image.pixel_size`` by axis, in ``image.unit``.
        key : str
        """
        return self.run(image.pixels, key)

    def read(self, uri: str, *, max_pixels: int) -> Any:
        """Read what a job's image is called, for `run`; a task over files that are no images overrides this.

        Parameters
        ----------
        uri : str
            Absolute path or URL.
        max_pixels : int
            Larger images are refused before they are decoded.

        Returns
        -------
        ndarray
            Decoded as `color` says.

        Raises
        ------
        ImageError
            If it cannot be read or decoded.
        """
        from parimg.images.decode import read_image  # not at the top: a task that is given arrays needs no OpenCV

        return read_image(uri, self.color, max_pixels=max_pixels)

    def halo(self) -> Halo | None:
        """How far around a tile the image matters to its result, in pixels; None if nothing is done by tiles."""
        return None

    def next_step(self, image: TiledImage, after: str | None) -> Step | Mapping[str, object]:
        """What is to be done with the tiles of an image next, or its values.

        Parameters
        ----------
        image : TiledImage
        after : str or None
            The step that all tiles have done, None for the first.

        Returns
        -------
        Step or mapping of str to value
            As for calling the task, once nothing is left to be done.
        """
        if self.tiled_by is None:
            raise NotImplementedError(f"{type(self).__name__} does not define next_step(self, image, after)")
        step: Step | Mapping[str, object] = import_module(self.tiled_by).next_step(self, image, after)
        return step

    def run_tile(self, image: TiledImage, step: str, index: int) -> None:
        """Do a step with one tile, on any engine, and leave the result by `image.save`.

        Parameters
        ----------
        image : TiledImage
        step : str
            Name of the step.
        index : int
            Number of the tile, below the step's `n_tiles`.
        """
        if self.tiled_by is None:
            raise NotImplementedError(f"{type(self).__name__} does not define run_tile(self, image, step, index)")
        import_module(self.tiled_by).run_tile(self, image, step, index)

    def plot(self, record: Record, image: Described | None, ax: Axes) -> None:
        """Draw what became of one image; by default the image under its name and first values.

        Parameters
        ----------
        record : Record
            Of an image that went well.
        image : Described or None
            ``image.pixels`` is what `run` was given; None if it is not there any more.
        ax : matplotlib Axes
        """
        from parimg.tasks._axes import caption_of, set_caption, show_image

        show_image(ax, None if image is None else image.pixels)
        set_caption(ax, caption_of(record))

    def resolve(self) -> None:
        """Do what is done once for all engines, on the client, before the task is sent."""

    def prepare(self) -> None:
        """Do what an engine needs once before its first image: load, warm, compile."""

    def declared_columns(self) -> dict[str, str]:
        """Arrow type by name of the scalar values that these parameters give; by default `columns`."""
        return dict(self.columns)

    @property
    def name(self) -> str:
        """Name for tables, bars and job directories."""
        return type(self).__name__

    def describe(self) -> dict[str, str]:
        """Parameters as short text, for the journal and `parimg status`."""
        return {field.name: _short(getattr(self, field.name)) for field in fields(self)}


def check_reading(task: Task, reading: Reading) -> None:
    """Refuse what a task has no use for, before anything is sent.

    Raises
    ------
    TaskError
        If it reads in its own way, or a column is to be filled twice.
    """
    if reading != DEFAULT_READING and type(task).read is not Task.read:
        given = [item.name for item in fields(reading) if getattr(reading, item.name) not in (None, ())]
        raise TaskError(f"{task.name} reads its files in its own way, and takes no {' or '.join(given)}")
    for name in reading.metadata:
        if name in task.declared_columns():
            raise TaskError(f"metadata={name!r} would be a column that {task.name} fills itself")


def check_task(task: Task) -> None:
    """Refuse a task whose declarations nobody could follow, before anything is sent.

    Raises
    ------
    TaskError
        If `color` or a type of its columns is unknown.
    """
    if task.color not in COLOR_MODES:
        raise TaskError(
            f"{task.name}.color must be one of {', '.join(map(repr, COLOR_MODES))} (got {task.color!r})"
        )
    for column, kind in task.declared_columns().items():
        if kind not in COLUMN_TYPES:
            wanted = ", ".join(sorted(COLUMN_TYPES))
            raise TaskError(f"column {column!r} of {task.name} has type {kind!r}; wanted one of {wanted}")


def check_halo(task: Task) -> None:
    """Refuse a task that is not run by tiles, before anything is sent.

    Raises
    ------
    TaskError
    """
    if task.halo() is None:
        raise TaskError(
            f"{task.name} is not run by tiles, as Convolve, NeighbourhoodFilter, FeatureMap and SkeletonGraph "
            "are; leave out tiles"
        )


def _short(value: object) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"array of {dtype}, shape {shape}"
    text = repr(os.fspath(value) if isinstance(value, os.PathLike) else value)
    return text if len(text) <= 200 else f"{text[:197]}..."
