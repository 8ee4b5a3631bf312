"""ImageTransform: the base of tasks that make another image of each image, and write or return it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from parimg.errors import ParimgError, TaskError
from parimg.tasks.task import COLOR_MODES
from parimg.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from parimg.images.encode import ImageFormat
    from parimg.images.readers.part import Described
    from parimg.record import Record
    from parimg.tasks.tiling import Alignment, Place

_LONGEST_DRAWN = 480  # pixels; two of them and a gap are drawn as they are


@dataclass(frozen=True, eq=False)
class ImageTransform(WritingTask):
    """A task that makes an image of each image: a subclass gives `transform`, and these parameters.

    ``output``, the folder that results are written to, or None; ``format``, that of the files; ``color``, how
    images are decoded. Its ``__post_init__`` calls `check_output`.
    """

    columns: ClassVar[Mapping[str, str]] = {"min": "double", "max": "double", "mean": "double", "std": "double"}
    tiled_by: ClassVar[str | None] = "parimg.tasks._tiled_transform"
    plotted: ClassVar[tuple[str, ...] | None] = ()

    @property
    def format(self) -> ImageFormat | None:
        """That of the files; a parameter of subclasses."""
        return None

    @property
    def statistics_only(self) -> bool:
        """Whether no array is returned; a parameter of subclasses that have it."""
        return False

    def check_output(self) -> None:
        """Refuse parameters that name no folder or colour mode, and a format that will not hold what is known.

        Raises
        ------
        TaskError
        """
        if self.color not in COLOR_MODES:
            raise TaskError(f"color must be one of {', '.join(map(repr, COLOR_MODES))} (got {self.color!r})")
        if self.format is not None:
            from parimg.images.encode import channels_of, check_format

            if self._given_folder is None:
                raise TaskError("format needs output, a folder for the files")
            black, dtype = self.probe(1), getattr(self, "dtype", None)
            is_known = self.color in {"gray", "color"}
            check_format(
                self.format,
                dtype if dtype is not None or not is_known else black.dtype,
                channels_of(black) if is_known else None,
            )
        self.check_folder()

    def transform(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Make the image.

        Parameters
        ----------
        image : ndarray, shape (height, width) or (height, width, channels)

        Returns
        -------
        ndarray
            Of the image's shape, behind an axis of pages if there are several results.

        Raises
        ------
        TaskError
            If there is none of such an image.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define transform(self, image)")

    @property
    def wraps(self) -> tuple[bool, bool]:
        """Whether what lies beyond the borders, up and down, left and right, is the other end of the image."""
        return (False, False)

    def alignment(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Alignment:
        """How parts of such an image must lie for their rows to be those of the whole to the last bit."""
        from parimg.tasks.tiling import ANY

        del shape, dtype
        return ANY

    def transform_part(self, part: npt.NDArray[Any], place: Place) -> npt.NDArray[Any]:
        """Transform a part of an image in the same way as all its other parts.

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
        del place
        return self.transform(part)

    def __call__(self, image: npt.NDArray[Any]) -> dict[str, object]:
        """Values of one image, with the result as an array, also where there is an `output`."""
        result = self.transform(image)
        return _statistics(result) | ({} if self.statistics_only else {"image": result})

    def run(self, image: npt.NDArray[Any], key: str) -> dict[str, object]:
        """Values of one image, the result written to `output` if there is one.

        Parameters
        ----------
        image : ndarray, shape (height, width) or (height, width, channels)
        key : str
            Names the file.
        """
        if self.folder is None:
            return self(image)
        from parimg.images.encode import EXTENSIONS, channels_of, format_for, save_image

        result = self.transform(image)
        pages = result.ndim > image.ndim
        chosen = self.format or format_for(result.dtype, channels_of(result, pages=pages), pages=pages)
        if chosen in {"ome-tiff", "ome-zarr"}:
            from parimg.tasks._tiled_transform import write_with_levels

            return {**_statistics(result), "path": write_with_levels(self, key, result, chosen, pages=pages)}
        path = self.write_below(
            key, EXTENSIONS[chosen], lambda file: save_image(file, result, chosen, pages=pages)
        )
        return {**_statistics(result), "path": path}

    def plot(self, record: Record, image: Described | None, ax: Axes) -> None:
        """Draw an image before and after, side by side; the result as it was kept, or made once more.

        Parameters
        ----------
        record : Record
            Of an image that went well.
        image : Described or None
            ``image.pixels`` is what `run` was given.
        ax : matplotlib Axes
        """
        from parimg.tasks._axes import caption_of, set_caption, show_image

        pixels = None if image is None else image.pixels
        both = [one for one in (pixels, self._result(record, pixels)) if one is not None]
        show_image(ax, _side_by_side(both) if both else None)
        set_caption(ax, caption_of(record))

    def _result(self, record: Record, image: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
        if "image" in record.arrays:
            kept: npt.NDArray[Any] = record.arrays["image"]
            return kept if image is None or kept.ndim <= image.ndim else kept[0]
        if "path" in record.columns:
            from parimg.images.decode import read_image

            with suppress(ParimgError):
                return read_image(record["path"], "unchanged")
        return None if image is None else self.transform(image)

    def probe(self, side: int) -> npt.NDArray[Any]:
        """A black image of the kind that is decoded, as far as that is known."""
        import numpy as np

        return np.zeros((side, side, *((3,) if self.color == "color" else ())), np.uint8)


def _side_by_side(images: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Pictures of one height with white between them."""
    import numpy as np

    from parimg.images.display import displayed

    pictures = [displayed(image, _LONGEST_DRAWN) for image in images]
    height = min(len(picture) for picture in pictures)
    gap = np.full((height, max(2, height // 50), 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (gap, picture[:height])][1:], axis=1)


def _statistics(image: npt.NDArray[Any]) -> dict[str, object]:
    """The columns of an image, as floats; None for one without pixels."""
    if not image.size:
        return dict.fromkeys(ImageTransform.columns)
    return {
        "min": float(image.min()),
        "max": float(image.max()),
        "mean": float(image.mean(dtype="float64")),
        "std": float(image.std(dtype="float64")),
    }
