"""FeatureMap: what a convolutional network sees in each image, at any of its layers."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from parimg.errors import TaskError
from parimg.tasks._network import N_COLORS, Model, Network, read_model
from parimg.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.images.decode import ColorMode
    from parimg.tasks._receptive_field import Reach
    from parimg.tasks.feature_files import MapDtype
    from parimg.tasks.tiling import Halo

PerChannel = float | tuple[float, float, float]
_PROBE_CELLS = 7  # a side of the image that a network is tried with, in multiples


@dataclass(frozen=True, eq=False)
class FeatureMap(WritingTask):
    """What a convolutional network sees in each image, at any of its layers.

    Parameters
    ----------
    model : path or URL
        An ONNX file with its weights inside. It is read once, on the client, and reaches each engine once.
    layer : str, optional
        Name of a layer or of the tensor that it gives, as model viewers show them. None: the network's output.
        What comes behind the layer is not computed.
    size : int or (int, int), optional
        The size at which images are given to the network. An int: so many pixels of the longer side, the
        other in proportion, both rounded to the nearest `multiple`; smaller images are scaled up. A pair:
        height and width, whatever the proportions. None: the image's own size, rounded likewise.
    mean, scale : float or (float, float, float)
        The network is given ``(pixel - mean) * scale``, of pixels from 0 to 255, one number for all or one each
        for red, green and blue. The default gives values from -1 to 1. For networks trained with torchvision:
        ``mean=(123.675, 116.28, 103.53), scale=(1 / 58.395, 1 / 57.12, 1 / 57.375)``.
    multiple : int, default 32
        What both sides are a multiple of: the number of pixels of a cell of the last layer, in most networks.
    output : path, optional
        Folder on the client's disk. Each map becomes a file in it, named after its image; without it maps are
        returned, and kept in the job's journal.
    dtype : {"float32", "float16", "uint8"}
        How maps are written or returned; see `parimg.tasks.feature_files.save_feature_map`. ``"uint8"`` needs
        `output`.
    index : {"sum", "max"}, optional
        Write, instead of the map, its `parimg.kernels.RegionIndex` with this pooling, for `RegionSearch`. Needs
        `output`.
    rmac : bool, default False
        Return the map's R-MAC descriptor, too, as the array ``rmac`` of shape ``(channels,)``.

    Raises
    ------
    TaskError
        If a parameter is out of its range, the model cannot be read or run, or it has no such layer; the
        message names similar ones.

    Notes
    -----
    Columns: ``channels``; ``height`` and ``width`` of the map, in cells; ``image_height`` and ``image_width``
    of the image, in pixels, so that row y of the map begins at pixel ``y * image_height / height``. With `output`
    also ``path``, the file; `load_feature_map` reads it. Without it the array ``feature_map``, of shape
    ``(channels, height, width)``.

    OpenCV's DNN module runs the network, on as many threads as OpenCV is set to: on an engine, one. The number
    of threads changes no value. The model is cut behind the layer before it is sent.

    Examples
    --------
    >>> FeatureMap("missing.onnx", size=(480, 650))
    Traceback (most recent call last):
        ...
    parimg.errors.TaskError: size must be multiples of 32, such as (480, 640) (got (480, 650))
    """

    color: ClassVar[ColorMode] = "color"
    tiled_by: ClassVar[str | None] = "parimg.tasks._tiled_features"
    writes_images: ClassVar[bool] = False
    columns: ClassVar[Mapping[str, str]] = {
        "channels": "int64",
        "height": "int64",
        "width": "int64",
        "image_height": "int64",
        "image_width": "int64",
    }

    model: str | os.PathLike[str] = field()
    layer: str | None = None
    size: int | tuple[int, int] | None = 1024
    mean: PerChannel = 127.0
    scale: PerChannel = 1 / 128
    multiple: int = 32
    output: str | os.PathLike[str] | None = None
    dtype: MapDtype = "float32"
    index: Literal["sum", "max"] | None = None
    rmac: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.model, str | os.PathLike):
            raise TaskError(f"model must be a path or URL (got {self.model!r:.80}, a {type(self.model).__name__})")
        if self.layer is not None and not (isinstance(self.layer, str) and self.layer):
            raise TaskError(f"layer must be the name of a layer, or None (got {self.layer!r})")
        if not _is_count(self.multiple):
            raise TaskError(f"multiple must be an integer of at least 1 (got {self.multiple!r})")
        self._check_size()
        for name in ("mean", "scale"):
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple | list) else (value,)
            if len(numbers) not in {1, N_COLORS} or not all(_is_finite(number) for number in numbers):
                raise TaskError(f"{name} must be a number, or three for red, green and blue (got {value!r})")
            if name == "scale" and 0 in numbers:
                raise TaskError(f"scale must not be 0, which leaves nothing of an image (got {value!r})")
        if self.dtype not in {"float32", "float16", "uint8"}:
            raise TaskError(f"dtype must be 'float32', 'float16' or 'uint8' (got {self.dtype!r})")
        if self.index not in {None, "sum", "max"}:
            raise TaskError(f"index must be 'sum', 'max' or None (got {self.index!r})")
        if self.index is not None and (self.output is None or self.dtype != "float32"):
            raise TaskError(f"index={self.index!r} needs output, a folder, and has a dtype of its own")
        if self.output is None and self.dtype == "uint8":
            raise TaskError("dtype='uint8' needs output, a folder: bytes mean nothing without their scale")
        self.check_folder()

    def _check_size(self) -> None:
        if self.size is None or _is_count(self.size):
            return
        if not isinstance(self.size, tuple | list) or len(self.size) != 2 or not all(map(_is_count, self.size)):
            raise TaskError(f"size must be an integer, a pair (height, width), or None (got {self.size!r})")
        nearest = tuple(_nearest_multiple(side, self.multiple) for side in self.size)
        if nearest != tuple(self.size):
            raise TaskError(f"size must be multiples of {self.multiple}, such as {nearest} (got {self.size!r})")

    def __call__(self, image: npt.NDArray[np.uint8]) -> dict[str, object]:
        """Values of one RGB image, with its map as an array, also where there is an `output`."""
        from parimg.tasks.feature_files import as_dtype

        feature_map = self.feature_map(image)
        stored = as_dtype(feature_map, "float16" if self.dtype == "float16" else "float32")
        return {**_columns(feature_map, image.shape[:2]), "feature_map": stored, **self._descriptor(feature_map)}

    def run(self, image: npt.NDArray[np.uint8], key: str) -> dict[str, object]:
        """Values of one RGB image, its map written to `output` if there is one.

        Parameters
        ----------
        image : ndarray of uint8, shape (height, width, 3)
        key : str
            Names the file.
        """
        if self.folder is None:
            return self(image)
        feature_map = self.feature_map(image)
        return {
            **_columns(feature_map, image.shape[:2]),
            "path": self._write(key, feature_map, image.shape[:2]),
            **self._descriptor(feature_map),
        }

    def _write(self, key: str, feature_map: npt.NDArray[np.float32], size: tuple[int, ...]) -> str:
        from parimg.tasks.feature_files import map_extension, save_feature_map

        if self.index is None:
            extension = map_extension(self.dtype)
            return self.write_below(key, extension, lambda file: save_feature_map(file, feature_map, self.dtype))
        from parimg.kernels import RegionIndex

        height, width = size
        try:
            index = RegionIndex(feature_map, self.index, image_size=(height, width))
        except ValueError as error:  # a layer with values below 0, or an image that made infinite ones
            raise TaskError(f"the map cannot be indexed: {error}") from None
        return self.write_below(key, ".npy", index.save)

    def _descriptor(self, feature_map: npt.NDArray[np.float32]) -> dict[str, object]:
        if not self.rmac:
            return {}
        from parimg.kernels import rmac

        return {"rmac": rmac(feature_map)}

    def feature_map(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute the feature map of one image with this task's parameters.

        Parameters
        ----------
        image : ndarray of uint8, shape (height, width, 3) or (height, width)
            Red, green, blue, or gray.

        Returns
        -------
        ndarray of float32, shape (channels, height, width)

        Raises
        ------
        TaskError
            If the image is of another kind, or the network cannot be run on it.
        """
        import numpy as np

        if image.dtype != np.uint8 or image.ndim not in {2, 3} or image.shape[2:] not in {(), (N_COLORS,)}:
            raise TaskError(
                f"a feature map wants a uint8 image of shape (h, w, 3), RGB, or (h, w) (got {image.dtype}, shape "
                f"{image.shape})"
            )
        if not image.size:
            raise TaskError(f"the image has no pixels (got shape {image.shape})")
        return self.map_of(_resized(np.ascontiguousarray(image), self.input_size(*image.shape[:2])))

    def map_of(self, resized: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the network on an image, or a part of one, whose sides are multiples of `multiple`."""
        import numpy as np

        if resized.ndim == 2:
            resized = np.repeat(resized[:, :, None], N_COLORS, axis=2)
        pixels = (resized - np.asarray(self.mean, np.float32)) * np.asarray(self.scale, np.float32)
        blob = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
        return self._network.run(blob)

    def halo(self) -> Halo:
        """How far the cells at a tile's edge look beyond it.

        Raises
        ------
        TaskError
            If a network is given images in another size than their own, or a cell depends on all of an image.
        """
        from parimg.tasks.tiling import Halo

        if self.size is not None:
            raise TaskError(f"by tiles a network is given images in their own size: size=None (got {self.size})")
        (_, top, bottom), (_, left, right) = self.reach
        return Halo(max(0, -top), max(0, bottom), max(0, -left), max(0, right))

    @cached_property
    def reach(self) -> tuple[Reach, Reach]:
        """What pixels a cell of the map depends on, along height and width."""
        from parimg.tasks._receptive_field import reach_of_cells

        try:
            return reach_of_cells(self._model.data.tobytes())
        except ValueError as error:
            raise TaskError(
                f"the model {self._model.label} is not run by tiles: {error}; name a layer before"
            ) from None

    def values_of(
        self, feature_map: npt.NDArray[np.float32], size: tuple[int, int], padded: tuple[int, int], key: str
    ) -> dict[str, object]:
        """Values of a map; it is written if there is an `output`.

        Parameters
        ----------
        feature_map : ndarray of float32, shape (channels, height, width)
        size : (int, int)
            Height and width of its image.
        padded : (int, int)
            Those that the network was given.
        key : str
            Names the file.

        Returns
        -------
        dict of str to value
        """
        columns = {**_columns(feature_map, size), **self._descriptor(feature_map)}
        if self.folder is not None:
            return {**columns, "path": self._write(key, feature_map, padded)}
        from parimg.tasks.feature_files import as_dtype

        dtype: Literal["float16", "float32"] = "float16" if self.dtype == "float16" else "float32"
        return {**columns, "feature_map": as_dtype(feature_map, dtype)}

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which an image of that height and width is given to the network.

        Parameters
        ----------
        height, width : int
            Pixels.

        Returns
        -------
        (int, int)
            Pixels.
        """
        if isinstance(self.size, tuple | list):
            return self.size[0], self.size[1]
        factor = 1.0 if self.size is None else self.size / max(height, width)
        return _nearest_multiple(height * factor, self.multiple), _nearest_multiple(width * factor, self.multiple)

    def resolve(self) -> None:
        """Read the model, try the network on a black image, and make the output folder."""
        self.prepare()
        super().resolve()

    def prepare(self) -> None:
        """Load OpenCV and the network, run it once, and warm the kernels that follow."""
        import numpy as np

        from parimg.tasks import feature_files  # noqa: F401 - loaded before the first image

        side = _PROBE_CELLS * self.multiple
        height, width = self.size if isinstance(self.size, tuple | list) else (side, side)
        found = self._network.run(np.zeros((1, N_COLORS, height, width), np.float32))
        self._descriptor(found)
        if self.index is not None:
            from parimg.kernels import RegionIndex

            RegionIndex(np.abs(found), self.index)

    def describe(self) -> dict[str, str]:
        """Parameters as short text, with a digest of the model up to the layer.

        Raises
        ------
        TaskError
            If the model cannot be read.
        """
        return {**super().describe(), "digest": self.digest}

    @property
    def digest(self) -> str:
        """Of the model up to the layer: what tells two models of one name apart."""
        return hashlib.sha256(self._model.data.tobytes()).hexdigest()[:16]

    @cached_property
    def _model(self) -> Model:
        """What travels with the task: the model, cut behind the layer."""
        return read_model(os.fspath(self.model), self.layer)

    @cached_property
    def _network(self) -> Network:
        return Network(self._model)

    def __getstate__(self) -> dict[str, object]:
        # OpenCV's network cannot be pickled; every process makes its own.
        return {name: value for name, value in super().__getstate__().items() if name != "_network"}


def _columns(feature_map: npt.NDArray[np.float32], size: tuple[int, ...]) -> dict[str, object]:
    names = ("channels", "height", "width", "image_height", "image_width")
    return dict(zip(names, (*feature_map.shape, *size), strict=True))


def _resized(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    import cv2
    import numpy as np

    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def _nearest_multiple(side: float, multiple: int) -> int:
    """The nearest multiple, the larger one of two, at least one."""
    return max(1, math.floor(side / multiple + 0.5)) * multiple


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
