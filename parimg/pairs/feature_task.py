"""DetectFeatures: the first job of all pairs, which gives each image a feature file.

Runs on engines; submitted by `matching`. `make_features` also makes a file anew that a block finds damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from parimg.errors import ImageError, ImageFormatError, TaskError
from parimg.options import DEFAULT_MAX_PIXELS, Projection, Reading
from parimg.pairs.camera import CAMERA_FIELDS, Camera, camera_of, read_camera
from parimg.pairs.feature_files import Features, open_features, write_features
from parimg.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.images.decode import ColorMode
    from parimg.pairs.image_table import PairImage

_LEAST_SIZE = 16  # pixels; SIFT finds nothing in less
# The kernel gives what OpenCV does, whose doubled image lies a quarter of a pixel aside: of a blob around
# (100, 100) it finds (100.24, 100.24).
_DOUBLING = np.float32(0.25)
_UNIT_LENGTH = 512  # of RootSIFT descriptors as bytes, as COLMAP stores them
_ANEW = "match all pairs into a new directory"


class _Readable(NamedTuple):
    """An image before its features are sought."""

    name: str
    camera: Camera
    pixels: npt.NDArray[np.uint8] | None
    """None where the features are there already."""
    found: Features | None


@dataclass(frozen=True, eq=False)
class DetectFeatures(WritingTask):
    """SIFT features of each image, written into a folder of files that are named by their content.

    Parameters
    ----------
    output : path
        The folder. A file that is there already is taken, whoever made it.
    n_features : int, default 5000
        The strongest features to keep in an image; 0 keeps all.
    contrast_threshold : float, default 0.016
        SIFT's threshold on contrast; larger gives fewer features.
    max_size : int, optional
        Images whose longer side has more pixels are scaled down to it before features are sought.
    root : bool, default True
        Write square roots of descriptors normalised to a sum of 1 (RootSIFT), as bytes.
    channel, z, project, percentile : optional
        What of each image is read, as for `parimg.Controller.submit`. Of arrays, `percentile` alone.

    Raises
    ------
    TaskError, JobError
        If a parameter is out of its range.

    Notes
    -----
    Columns: ``features``, their number; ``width`` and ``height``, pixels as stored; ``focal``, pixels, and
    ``focal_known``, whether the file told it; ``camera``, maker and model; ``file``, the name of the feature
    file.

    Images are not turned by their EXIF orientation: features are in the coordinates of the stored pixels, as
    COLMAP has them.
    """

    writes_images: ClassVar[bool] = False
    color: ClassVar[ColorMode] = "gray"
    columns: ClassVar[Mapping[str, str]] = {
        "features": "int64",
        "width": "int64",
        "height": "int64",
        "focal": "double",
        "focal_known": "bool",
        "camera": "string",
        "file": "string",
    }

    output: str | os.PathLike[str] = field()
    n_features: int = 5000
    contrast_threshold: float = 0.016
    max_size: int | None = 3200
    root: bool = True
    channel: int | str | None = None
    z: int | None = None
    project: Projection | None = None
    percentile: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.n_features, bool) or not isinstance(self.n_features, int) or self.n_features < 0:
            raise TaskError(f"n_features must be an integer of at least 0 (got {self.n_features!r})")
        if not isinstance(self.contrast_threshold, int | float) or not self.contrast_threshold >= 0:
            raise TaskError(f"contrast_threshold must be a number of at least 0 (got {self.contrast_threshold!r})")
        if self.max_size is not None and (not isinstance(self.max_size, int) or self.max_size < _LEAST_SIZE):
            raise TaskError(
                f"max_size must be an integer of at least {_LEAST_SIZE}, or None (got {self.max_size!r})"
            )
        self.reading  # noqa: B018 - which checks what is read
        self.check_folder()

    def declared_columns(self) -> dict[str, str]:
        return dict(self.columns)

    def read(self, uri: str, *, max_pixels: int) -> _Readable:
        """Read an image or a part of a file, and decode it unless its features are there.

        A file that is decoded whole is known by its bytes, anything else by its pixels.
        """
        from parimg.images.described import describe_bytes, read_described
        from parimg.images.read import read_bytes
        from parimg.images.readers.address import split_address
        from parimg.images.readers.registry import whole_file_is_decoded

        file, part = split_address(uri)
        if part or not whole_file_is_decoded(file):
            reading = replace(self.reading, metadata=CAMERA_FIELDS)
            read = read_described(uri, self.color, max_pixels=max_pixels, reading=reading)
            name, camera = self._name_of_array(read.pixels), camera_of(read.metadata, *read.pixels.shape[::-1])
            return _Readable(name, camera, read.pixels, open_features(self.folder or "", name))
        data = read_bytes(file)
        name = self._name(data)
        found = open_features(self.folder or "", name)
        if found is not None:
            return _Readable(name, read_camera(data, *found.size), None, found)
        pixels = describe_bytes(data, file, self.color, max_pixels=max_pixels, reading=self.reading).pixels
        return _Readable(name, read_camera(data, pixels.shape[1], pixels.shape[0]), pixels, None)

    @property
    def reading(self) -> Reading:
        """How images are read: not turned, as they are stored."""
        return Reading(self.channel, self.z, self.project, self.percentile, "stored")

    def run(self, image: _Readable | npt.NDArray[Any], key: str) -> dict[str, object]:
        """Values of one image, its features written.

        Parameters
        ----------
        image : what `read` gave, or ndarray
        key : str
        """
        if isinstance(image, np.ndarray):
            pixels = gray_as_stored(image, key, self.percentile)
            name = self._name_of_array(image)
            camera = read_camera(b"", pixels.shape[1], pixels.shape[0])
            image = _Readable(name, camera, pixels, open_features(self.folder or "", name))
        found = image.found
        if found is None:
            found = self.detect(image.pixels)  # type: ignore[arg-type] # where nothing was found it was decoded
            write_features(self.folder or "", image.name, found)
        width, height, focal, focal_known, camera_name = image.camera
        return {
            "features": len(found.points),
            "width": width,
            "height": height,
            "focal": focal,
            "focal_known": focal_known,
            "camera": camera_name,
            "file": image.name,
        }

    def detect(self, pixels: npt.NDArray[np.uint8]) -> Features:
        """Find the features of a gray image.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (height, width)

        Returns
        -------
        Features
        """
        from parimg.kernels.sift.features import detect_sift

        shrunk, scale = self._shrunk(pixels)
        found = detect_sift(shrunk, self.n_features, contrast_threshold=self.contrast_threshold)
        points = np.column_stack([found.points - _DOUBLING, found.size, found.angle, found.response])
        if scale is not None:  # pixel centres have whole coordinates
            points[:, :2] = (points[:, :2] + np.float32(0.5)) / scale - np.float32(0.5)
            points[:, 2] /= scale.mean()
        descriptors = _rooted(found.descriptors) if self.root else found.descriptors
        return Features(points, descriptors, (pixels.shape[1], pixels.shape[0]))

    def _shrunk(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]:
        longest = max(pixels.shape)
        if self.max_size is None or longest <= self.max_size:
            return pixels, None
        import cv2

        height, width = (max(1, round(side * self.max_size / longest)) for side in pixels.shape)
        scale = np.array([width / pixels.shape[1], height / pixels.shape[0]], np.float32)
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8), scale

    def _name_of_array(self, pixels: npt.NDArray[Any]) -> str:
        return self._name(np.ascontiguousarray(pixels).tobytes() + repr((pixels.shape, pixels.dtype.str)).encode())

    def _name(self, content: bytes) -> str:
        made_by = {
            "n_features": self.n_features,
            "contrast_threshold": float(self.contrast_threshold),
            "max_size": self.max_size,
            "root": self.root,
            "reading": repr(self.reading),
            "detector": detector_version(),
        }
        digest = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode())
        digest.update(content)
        return digest.hexdigest()[:40]


def features_of(task: DetectFeatures, image: PairImage, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Features:
    """Features of an image that had a file, made anew where that is lost or damaged.

    Raises
    ------
    ImageError
        If the image has to be read again and cannot be, or is not what it was, so that its features would be
        others.
    """
    folder = task.folder or ""
    if (found := open_features(folder, image.file)) is not None:
        return found
    lost = f"the features of {image.key!r} are lost or damaged, and"
    if not image.uri:
        raise ImageError(f"{lost} it was given as an array, which is not kept; {_ANEW}")
    try:
        again = task.read(image.uri, max_pixels=max_pixels)
    except ImageError as error:
        raise type(error)(f"{lost} cannot be found anew: {error}") from None
    if again.name == image.file:
        task.run(again, image.key)
        found = open_features(folder, image.file)
    if found is None:
        raise ImageError(f"{lost} the image is another one now; put the earlier one back, or {_ANEW}")
    return found


@lru_cache(maxsize=1)
def detector_version() -> str:
    """Digest of the code that finds features: files of another version are not taken for those of this one."""
    import parimg.kernels.sift

    digest = hashlib.sha256()
    for path in sorted([*Path(parimg.kernels.sift.__path__[0]).glob("*.py"), Path(__file__)]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def gray_as_stored(
    image: npt.NDArray[Any], name: str, percentile: tuple[float, float] | None = None
) -> npt.NDArray[np.uint8]:
    """8 bit gray of an image that was given as an array."""
    import cv2

    if percentile is not None:
        from parimg.images.presenting import as_levels

        image = as_levels(image, percentile)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8 or image.ndim not in {2, 3} or 0 in image.shape:
        raise ImageFormatError(
            f"{name!r} holds {image.dtype} of shape {image.shape}; features are sought in images of 8 or 16 "
            "bit; percentile=(1, 99.8) makes 8 bit of others"
        )
    n_channels = image.shape[2] if image.ndim == 3 else 1
    if n_channels in {1, 2}:  # the second is alpha
        return np.ascontiguousarray(image.reshape(*image.shape[:2], n_channels)[:, :, 0])
    if n_channels not in {3, 4}:
        raise ImageFormatError(f"{name!r} has {n_channels} channels; features are sought in gray or colour images")
    code = cv2.COLOR_RGB2GRAY if n_channels == 3 else cv2.COLOR_RGBA2GRAY
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), code), np.uint8)


def _rooted(descriptors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """RootSIFT as bytes: quotients and roots of IEEE 754, so the same on every processor."""
    total = np.maximum(descriptors.sum(axis=1, keepdims=True, dtype=np.float32), 1)
    roots = np.sqrt(descriptors / total, dtype=np.float32)
    rooted: npt.NDArray[np.uint8] = np.minimum(np.rint(roots * np.float32(_UNIT_LENGTH)), 255).astype(np.uint8)
    return rooted
