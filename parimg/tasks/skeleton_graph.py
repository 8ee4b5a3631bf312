"""SkeletonGraph: the skeleton of what is bright or dark in each image, as a graph, branch by branch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from parimg.errors import TaskError
from parimg.images.readers.part import Described
from parimg.tasks._otsu import otsu
from parimg.tasks._skeleton_picture import draw_overlay, plot_on_axes
from parimg.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from parimg.images.decode import ColorMode
    from parimg.kernels.skeletons.graph import PixelGraph
    from parimg.record import Record
    from parimg.tasks.tiling import Halo


_LARGEST_SCALE = 100.0  # pixels; the filter's kernels are eight times as wide


@dataclass(frozen=True, eq=False)
class SkeletonGraph(WritingTask):
    """Measure the skeleton of what is bright or dark in each image: vessels, cells, cracks, roads.

    Gray levels become a mask, the mask is thinned to lines one pixel wide, and their pixels become a graph whose
    branches are measured. TIFF files of several pages and ``.npy`` files of three axes are volumes, and so is any
    array of three axes that a job is given: colours are made gray in files only.

    Parameters
    ----------
    threshold : "otsu", float or None
        Foreground is what is above it. "otsu": found for each image by Otsu's method, which parts what is large
        and bright from what is large and dark; for thin lines on uneven ground see `ridges`. None: what is not 0,
        for images that are masks.
    invert : bool
        Foreground is what is not above the threshold: dark lines on bright ground.
    min_size : int
        Connected foreground of fewer pixels is left out before it is thinned.
    spacing : float or tuple of float, optional
        Distance of neighbouring pixels, one for all axes or one each: ``(y, x)``, for volumes ``(z, y, x)``. By
        default what the file tells of all its axes, in micrometres, else 1; see ``length_unit`` below.
    prune : float
        Spurs, branches from a tip to a junction, that are shorter are left out, in the unit of `spacing`. 0: none.
    overlays : path, optional
        Folder on the client's disk. Each image becomes a PNG picture in it with its skeleton drawn in: paths red,
        dots at tips purple, at junctions yellow. Of a volume the brightest level along its first axis is shown.
    ridges : "sato", optional
        The threshold is that of how much each pixel is in a line, not of gray levels: `skimage.filters.sato`,
        which sees bright lines, or dark ones with `invert`, whatever the ground is like.
    scales : tuple of float, default (1, 2, 3)
        Widths of the lines to see, as standard deviations in pixels: about half the width of a line.

    Raises
    ------
    TaskError
        If a parameter is out of its range.

    Notes
    -----
    Columns: ``foreground``, its share of the image, None of one without pixels: near 0 or 1 the threshold found
    something else than lines; ``pixels`` of the skeleton; ``branches``; ``junctions``, groups of touching pixels
    with more than two links; ``tips``, pixels with one link; ``cycles``, how many links could go before all loops
    are open; ``total_length`` of all branches and ``longest_length``, that of the longest branch, in the unit of
    `spacing`; ``length_unit``, ``"µm"`` if that was the file's own, ``"px"`` if it was 1 for want of one, None if
    `spacing` was given;
    with `overlays` also ``overlay``, the picture's path.

    The array ``branch_table``, with named fields, has one row a branch with the columns of
    `parimg.kernels.branches`; values averaged are gray levels. ``job.table("branch_table")`` has the rows of all
    images.

    References
    ----------
    J. Nunez-Iglesias, A. J. Blanch, O. Looker, M. W. Dixon, L. Tilley, "A new Python library to analyse skeleton
    images confirms malaria parasite remodelling of the red blood cell membrane skeleton", PeerJ 6 (2018).

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((20, 30), np.uint8)
    >>> image[9:12, 2:28] = image[2:10, 14:17] = 200
    >>> values = SkeletonGraph()(image)
    >>> values["branches"], values["junctions"], values["tips"]
    (3, 1, 3)
    >>> values["branch_table"]["branch_type"]
    array([1, 1, 1])
    """

    color: ClassVar[ColorMode] = "stack"
    tiled_by: ClassVar[str | None] = "parimg.tasks._tiled_skeleton"
    folder_parameter: ClassVar[str] = "overlays"
    path_column: ClassVar[str] = "overlay"
    plotted: ClassVar[tuple[str, ...] | None] = ()
    ranked_by: ClassVar[tuple[str, ...]] = ("total_length",)
    columns: ClassVar[Mapping[str, str]] = {
        "foreground": "double",
        "pixels": "int64",
        "branches": "int64",
        "junctions": "int64",
        "tips": "int64",
        "cycles": "int64",
        "total_length": "double",
        "longest_length": "double",
        "length_unit": "string",
    }

    threshold: float | Literal["otsu"] | None = "otsu"
    invert: bool = False
    min_size: int = 0
    spacing: float | tuple[float, ...] | None = None
    prune: float = 0.0
    overlays: str | os.PathLike[str] | None = None
    ridges: Literal["sato"] | None = None
    scales: tuple[float, ...] = (1.0, 2.0, 3.0)

    def __post_init__(self) -> None:
        if not (self.threshold is None or self.threshold == "otsu" or _is_finite(self.threshold)):
            raise TaskError(f"threshold must be a number, 'otsu' or None (got {self.threshold!r})")
        if not isinstance(self.invert, bool):
            raise TaskError(f"invert must be True or False (got {self.invert!r})")
        if isinstance(self.min_size, bool) or not isinstance(self.min_size, int) or self.min_size < 0:
            raise TaskError(f"min_size must be an integer of at least 0 (got {self.min_size!r})")
        given = 1.0 if self.spacing is None else self.spacing
        steps = given if isinstance(given, tuple | list) else (given,)
        if not steps or not all(_is_finite(step) and step > 0 for step in steps):
            raise TaskError(f"spacing must be a positive number, or one for each axis (got {self.spacing!r})")
        if not _is_finite(self.prune) or self.prune < 0:
            raise TaskError(f"prune must be a number of at least 0 (got {self.prune!r})")
        if self.ridges not in {None, "sato"}:
            raise TaskError(f"ridges must be 'sato' or None (got {self.ridges!r})")
        scales = self.scales if isinstance(self.scales, tuple | list) else ()
        if not scales or not all(_is_finite(scale) and 0 < scale <= _LARGEST_SCALE for scale in scales):
            raise TaskError(f"scales must be numbers above 0, up to {_LARGEST_SCALE} pixels (got {self.scales!r})")
        if self.ridges is not None and self.threshold is None:
            raise TaskError(
                "threshold must be 'otsu' or a number for ridges: nearly everything is a little of one"
            )
        self.check_folder()

    @property
    def wants_pixel_size(self) -> bool:
        """Whether lengths are in the file's unit."""
        return self.spacing is None

    def __call__(self, image: npt.NDArray[Any]) -> dict[str, object]:
        """Values of one gray image or volume, with its table of branches; no picture is written."""
        mask = self._mask(image)
        spacing = self._spacing(Described(image))
        return self._values(image, mask, self._graph(mask, spacing.steps), spacing.unit)

    def run(self, image: npt.NDArray[Any], key: str) -> dict[str, object]:
        """Values of one gray image or volume, its picture written to `overlays` if there is such a folder.

        Parameters
        ----------
        image : ndarray
        key : str
            Names the picture.
        """
        return self.run_described(Described(image), key)

    def run_described(self, image: Described, key: str) -> dict[str, object]:
        """Values of one gray image or volume, its lengths by the size of its pixels; see `run`.

        Parameters
        ----------
        image : Described
        key : str
            Names the picture.
        """
        spacing = self._spacing(image)
        levels = image.pixels
        mask = self._mask(levels)
        graph = self._graph(mask, spacing.steps)
        values = self._values(levels, mask, graph, spacing.unit)
        if self.folder is not None:
            from parimg.images.encode import save_image

            picture = draw_overlay(levels, graph)
            if not picture.size:
                raise TaskError(f"there is nothing to draw in a picture of shape {picture.shape}")
            values["overlay"] = self.write_below(key, ".png", lambda file: save_image(file, picture, "png"))
        return values

    def graph(self, image: npt.NDArray[Any]) -> PixelGraph:
        """Graph of the skeleton of one image, with this task's parameters.

        Parameters
        ----------
        image : ndarray, shape (height, width) or (depth, height, width)
            Gray levels.

        Returns
        -------
        PixelGraph

        Raises
        ------
        TaskError
            If the image has another number of axes, or NaN.
        """
        return self._graph(self._mask(image), self._spacing(Described(image)).steps)

    def _spacing(self, image: Described) -> _Spacing:
        """Distances of neighbouring pixels, and their unit."""
        return self.spacing_of(image.pixels.ndim, image.pixel_size, image.unit)

    def spacing_of(self, ndim: int, pixel_size: Mapping[str, float], unit: str | None) -> _Spacing:
        """Distances of neighbouring pixels, and their unit.

        Parameters
        ----------
        ndim : int
            Axes of the image.
        pixel_size : mapping of str to float
            By axis, as far as its file tells, in `unit`.
        unit : str or None

        Returns
        -------
        (float or tuple of float, str or None)
        """
        if self.spacing is not None:
            return _Spacing(self.spacing, None)
        axes = "ZYX"[-ndim:]
        if unit == "µm" and all(axis in pixel_size for axis in axes):
            return _Spacing(tuple(pixel_size[axis] for axis in axes), unit)
        return _Spacing(1.0, "px")

    def plot(self, record: Record, image: Described | None, ax: Axes) -> None:
        """Draw an image with its skeleton, found once more, coloured by how many links each pixel has.

        Parameters
        ----------
        record : Record
            Of an image that went well.
        image : Described or None
            ``image.pixels`` is what `run` was given.
        ax : matplotlib Axes
        """
        from parimg.tasks._axes import caption_of, set_caption, show_image

        if image is None:
            show_image(ax, None)
        else:
            levels = image.pixels
            plot_on_axes(ax, self._graph(self._mask(levels), self._spacing(image).steps), levels)
        set_caption(ax, caption_of(record))

    def _graph(self, mask: npt.NDArray[np.bool_], spacing: float | tuple[float, ...]) -> PixelGraph:
        from skimage.morphology import skeletonize

        from parimg.kernels.skeletons.analysis import prune
        from parimg.kernels.skeletons.graph import pixel_graph

        thin = skeletonize(mask)  # type: ignore[no-untyped-call]
        graph = pixel_graph(thin, spacing)
        return prune(graph, self.prune) if self.prune else graph

    def _mask(self, image: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        import numpy as np

        levels = self.levels(image)
        level = (otsu(levels) if image.size else 0.0) if self.threshold == "otsu" else self.threshold
        mask = self.mask_of(levels, level)
        if self.min_size > 1:
            from scipy.ndimage import generate_binary_structure, label

            labels, _ = label(mask, generate_binary_structure(image.ndim, image.ndim))
            mask &= (np.bincount(labels.ravel()) >= self.min_size)[labels]
        return mask

    def levels(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the threshold is of: gray levels, or how much each pixel is in a line.

        Raises
        ------
        TaskError
            If the image has another number of axes, or NaN.
        """
        import numpy as np

        if image.ndim not in {2, 3} or image.dtype.kind not in "biuf":
            raise TaskError(
                f"a skeleton wants gray levels of shape (h, w) or (d, h, w) (got {image.dtype}, shape "
                f"{image.shape})"
            )
        if image.dtype.kind == "f" and np.isnan(image).any():
            raise TaskError(f"the image has {np.isnan(image).sum()} NaN, neither foreground nor background")
        if self.ridges is None or not image.size:
            return image
        from skimage.filters import sato

        found: npt.NDArray[Any] = sato(image, self.scales, black_ridges=self.invert)  # type: ignore[no-untyped-call]
        return found

    def mask_of(self, levels: npt.NDArray[Any], level: Any) -> npt.NDArray[np.bool_]:
        """What is foreground by its level.

        Parameters
        ----------
        levels : ndarray
            See `levels`.
        level : number or None
            The threshold; None: what is not 0.

        Returns
        -------
        ndarray of bool
        """
        import numpy as np

        mask = levels != 0 if level is None else levels > level
        return np.asarray(~mask if self.invert and self.ridges is None else mask, bool)

    def halo(self) -> Halo:
        """What `ridges` looks at: two Gaussians, one after the other, as scikit-image cuts them off.

        Raises
        ------
        TaskError
            With `overlays`, which are pictures of whole images.
        """
        from parimg.tasks.tiling import NO_HALO, Halo

        if self.folder is not None:
            raise TaskError("overlays are drawn of whole images; leave out overlays, or tiles")
        if self.ridges is None:
            return NO_HALO
        reaches = [int((8 if scale > 1 else 100) * scale / math.sqrt(2) + 0.5) for scale in self.scales]
        return Halo.around(2 * max(reaches))

    def _values(
        self, image: npt.NDArray[Any], mask: npt.NDArray[np.bool_], graph: PixelGraph, unit: str | None
    ) -> dict[str, object]:
        return self.values_of(graph, image, float(mask.mean()) if mask.size else None, unit)

    def values_of(
        self, graph: PixelGraph, levels: npt.NDArray[Any], foreground: float | None, unit: str | None
    ) -> dict[str, object]:
        """Values of a graph.

        Parameters
        ----------
        graph : PixelGraph
        levels : ndarray
            Gray levels of the image, or of the graph's pixels.
        foreground : float or None
            Share of the mask in the image.
        unit : str or None
            Of lengths.

        Returns
        -------
        dict of str to value
        """
        import numpy as np

        from parimg.kernels.skeletons.analysis import skeleton_counts
        from parimg.kernels.skeletons.graph import branches

        table = branches(graph, levels)
        rows = np.empty(len(table["branch_type"]), [(name, column.dtype) for name, column in table.items()])
        for name, column in table.items():
            rows[name] = column
        lengths = table["branch_distance"]
        counts = skeleton_counts(graph)
        return {
            "foreground": foreground,
            "pixels": counts.pixels,
            "branches": len(lengths),
            "junctions": counts.junctions,
            "tips": counts.tips,
            "cycles": counts.cycles,
            "total_length": float(lengths.sum()),
            "longest_length": float(lengths.max(initial=0.0)),
            "length_unit": unit,
            "branch_table": rows,
        }

    def prepare(self) -> None:
        """Load scikit-image and the compiled kernels."""
        import numpy as np

        for ndim in (2, 3):
            image = np.zeros((9,) * ndim, np.uint8)
            image[(4,) * (ndim - 1)] = 1
            threshold = self.threshold if self.threshold == "otsu" else 0
            task = SkeletonGraph(threshold, prune=1, min_size=2, ridges=self.ridges)
            draw_overlay(image, task.graph(image))
            task(image)


class _Spacing(NamedTuple):
    steps: float | tuple[float, ...]
    unit: str | None


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
