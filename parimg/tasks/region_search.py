"""RegionSearch: where in each image is the region that is most like a query's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from parimg.errors import ImageFormatError, TaskError
from parimg.files.passing import is_passing
from parimg.tasks.task import Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from parimg.images.readers.part import Described
    from parimg.kernels.regions.region_index import RegionIndex, RegionMatches
    from parimg.record import Record


_MOST_CELLS = 64  # a side of a drawn map
_MOST_KEPT = 2048  # mapped indexes of a process


@dataclass(frozen=True, eq=False)
class RegionSearch(Task):
    """Where in each image is the region that is most like a query's.

    The images of such a job are indexes that `FeatureMap` wrote with ``index="max"`` or ``"sum"``, which is the
    quick way; or maps, as ``.npy`` or ``.npz`` files or arrays, which are indexed as they come.

    Parameters
    ----------
    query : array_like of shape (channels,), or path
        The query's descriptor, such as `parimg.kernels.mac` of its map, or a ``.npy`` file of it.
    aspect_ratio : float, optional
        Height over width of the query, in pixels. None allows every window.
    aspect_range : (float, float), default (0.8, 1.2)
        A window counts when its height over its width, over `aspect_ratio`, lies strictly between these. Both are
        measured in pixels of the image where the index knows its size, which matters where cells are no squares;
        otherwise in cells.
    step, min_size, refine, top_k, exact
        As for `parimg.kernels.RegionIndex.search`.
    pooling : {"sum", "max"}, default "max"
        For maps; an index has its own.

    Raises
    ------
    TaskError
        If a parameter is out of its range, or the query cannot be read.

    Notes
    -----
    Columns: ``distance``, between the normalised descriptors of the best window and the query, 0 to 2; ``box``,
    ``[y1, x1, y2, x2]`` in cells; ``image_box``, the same in pixels of the image, None where the index does not
    know its size; ``evaluated``, how many windows were compared. Where no window counts, the first three are None.
    With ``top_k`` above 1 also the arrays ``boxes``, int64 of shape (found, 4), ``image_boxes`` and ``distances``,
    in order of rank.

    References
    ----------
    G. Tolias, R. Sicre, H. Jégou, "Particular object retrieval with integral max-pooling of CNN activations",
    ICLR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> feature_map = np.zeros((2, 4, 6), np.float32)
    >>> feature_map[1, 1:3, 2:4] = 1
    >>> feature_map[0] = 0.1
    >>> RegionSearch([0.1, 1], aspect_ratio=1.0, min_size=2)(feature_map)["box"]
    [1, 2, 3, 4]
    """

    columns: ClassVar[Mapping[str, str]] = {"distance": "float64", "evaluated": "int64"}
    plotted: ClassVar[tuple[str, ...] | None] = ()
    ranked_by: ClassVar[tuple[str, ...]] = ("-distance",)

    query: npt.ArrayLike | str | os.PathLike[str] = field()
    aspect_ratio: float | None = None
    aspect_range: tuple[float, float] = (0.8, 1.2)
    step: int = 1
    min_size: int = 1
    refine: bool = True
    top_k: int = 1
    exact: bool = False
    pooling: Literal["sum", "max"] = "max"

    def __post_init__(self) -> None:
        if self.pooling not in {"sum", "max"}:
            raise TaskError(f"pooling must be 'sum' or 'max' (got {self.pooling!r})")
        if not isinstance(self.query, str | os.PathLike):
            self._check()

    def _check(self) -> None:
        from parimg.kernels.regions.many_indexes import check_search

        try:
            check_search(self._query, *self._options, exact=self.exact)
        except (TypeError, ValueError) as error:
            raise TaskError(str(error)) from None

    @property
    def _options(self) -> tuple[float | None, tuple[float, float], int, int, bool, int]:
        return self.aspect_ratio, self.aspect_range, self.step, self.min_size, self.refine, self.top_k

    @cached_property
    def _query(self) -> npt.NDArray[np.float64]:
        import numpy as np

        if not isinstance(self.query, str | os.PathLike):
            return np.asarray(self.query)
        path = os.path.abspath(self.query)
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise TaskError(f"the query {path!r} cannot be read: {type(error).__name__}: {error}") from None

    @cached_property
    def _direction(self) -> npt.NDArray[np.float64]:
        from parimg.kernels.regions.many_indexes import direction

        return direction(self._query)

    def read(self, uri: str, *, max_pixels: int) -> RegionIndex | npt.NDArray[np.float32]:
        """Map an index into memory, or read a map.

        Parameters
        ----------
        uri : str
            Path of an index; path or URL of a map.
        max_pixels : int
            Not used.

        Returns
        -------
        RegionIndex, or ndarray of float32, shape (channels, height, width)

        Raises
        ------
        ImageError
            If it is neither.
        """
        del max_pixels
        from parimg.images.readers.guarding import missing
        from parimg.tasks.feature_files import load_feature_map

        if "://" not in uri:
            try:
                return open_index(uri)
            except FileNotFoundError:
                raise missing(uri) from None
            except (ValueError, OSError) as error:
                no_index = f" ({error})"
        else:
            no_index = ""
        try:
            return load_feature_map(uri)
        except ImageFormatError as error:
            raise ImageFormatError(f"neither a region index{no_index} nor a feature map: {error}") from None

    def __call__(self, image: RegionIndex | npt.NDArray[Any]) -> dict[str, object]:
        """Search one index, or one map of shape ``(channels, height, width)``."""
        import numpy as np

        from parimg.kernels import RegionIndex

        index = image if isinstance(image, RegionIndex) else RegionIndex(image, self.pooling)
        found = self._search(index)
        boxes = [list(match.box) for match in found]
        image_boxes = None if index.image_size is None else [list(index.in_pixels(box)) for box in boxes]
        values: dict[str, object] = {
            "distance": found[0].distance if found else None,
            "box": boxes[0] if found else None,
            "image_box": image_boxes[0] if image_boxes else None,
            "evaluated": found.evaluated,
        }
        if self.top_k > 1:
            values["boxes"] = np.array(boxes, np.int64).reshape(-1, 4)
            values["distances"] = np.array([match.distance for match in found])
            if image_boxes is not None:
                values["image_boxes"] = np.array(image_boxes, np.int64).reshape(-1, 4)
        return values

    def _search(self, index: RegionIndex) -> RegionMatches:
        ratio, options = self.aspect_ratio, self._options[1:]
        if ratio is not None and index.image_size is not None:
            (_, rows, columns), (height, width) = index.shape, index.image_size
            ratio *= (rows / height) / (columns / width)
        return index.search(self._direction, ratio, *options, exact=self.exact)

    def plot(self, record: Record, image: Described | None, ax: Axes) -> None:
        """Draw how like the query each cell of a map is, and the box that was found; see `parimg.plot_region`.

        Parameters
        ----------
        record : Record
            Of an image that went well.
        image : Described or None
            ``image.pixels`` is what `run` was given.
        ax : matplotlib Axes
        """
        from parimg.kernels import RegionIndex
        from parimg.tasks._axes import caption_of, draw_box, set_caption, show_image

        if image is None:
            show_image(ax, None, "the map is not at hand")
        else:
            given: RegionIndex | npt.NDArray[Any] = image.pixels
            index = given if isinstance(given, RegionIndex) else RegionIndex(given, self.pooling)
            ax.imshow(self._likeness(index), vmin=0, vmax=1)
            ax.set_axis_off()
            if record["box"] is not None:
                draw_box(ax, record["box"])
        set_caption(ax, caption_of(record))

    def _likeness(self, index: RegionIndex) -> npt.NDArray[np.float64]:
        """Cosine of each cell's vector and the query; of large maps of every so manieth cell."""
        import numpy as np

        _, height, width = index.shape
        step = max(1, max(height, width) // _MOST_CELLS)
        query = self._query / max(float(np.linalg.norm(self._query)), np.finfo(float).tiny)
        cells = [
            [float(index.descriptor((y, x, y + 1, x + 1)) @ query) for x in range(0, width, step)]
            for y in range(0, height, step)
        ]
        return np.kron(np.array(cells), np.ones((step, step)))[:height, :width]

    def resolve(self) -> None:
        """Read the query, and check it."""
        self._check()

    def prepare(self) -> None:
        """Warm the search, of one kind of index only: compiling takes seconds the first time."""
        import numpy as np

        from parimg.kernels import RegionIndex

        self(RegionIndex(np.ones((self._query.size, 1, 1), np.float32), self.pooling, image_size=(1, 1)))

    def __getstate__(self) -> dict[str, object]:
        # An engine may not see the file of the query.
        state = {**self.__dict__, "_query": self._query}
        state.pop("_direction", None)
        return state


def open_index(path: str) -> RegionIndex:
    """The index of a file, mapped once: a search that maps it again takes 50 % longer for page faults alone.

    Raises
    ------
    OSError, ValueError
        As `RegionIndex.load`.
    """
    if is_passing(path):  # kept, it would hold disk space that nobody sees
        from parimg.kernels import RegionIndex

        return RegionIndex.load(path)
    about = os.stat(path)
    return _keeper()(path, about.st_ino, about.st_mtime_ns, about.st_size)


@cache
def _keeper() -> Callable[[str, int, int, int], RegionIndex]:
    """Opens indexes and keeps the last ones, as far as files may be open: a mapped one takes a descriptor."""
    most = 512
    with suppress(ImportError):  # on Windows
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    @lru_cache(maxsize=max(0, min(_MOST_KEPT, most // 2)))
    def load(path: str, _inode: int, _changed: int, _size: int) -> RegionIndex:
        from parimg.kernels import RegionIndex

        return RegionIndex.load(path)

    return load
