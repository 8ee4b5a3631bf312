"""Which camera took an image, as far as its file tells: size, focal length, and a name for who shares it.

Bytes in, values out; called by `feature_task` on engines, and read by the exports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

DEFAULT_FOCAL_FACTOR = 1.2  # times the longer side, as COLMAP takes it where a file tells nothing
_FULL_FRAME_DIAGONAL = 43.27  # mm, of 36 x 24 mm
CAMERA_FIELDS = (
    "Make",
    "Model",
    "FocalLength",
    "FocalLengthIn35mmFilm",
    "FocalPlaneXResolution",
    "FocalPlaneResolutionUnit",
)
"""What files tell of cameras, by EXIF's names."""
_PNG = b"\x89PNG"
_INCH = 2  # EXIF's unit where it tells none
_UNIT_MM = {_INCH: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


class Camera(NamedTuple):
    """What is known of an image's camera.

    Attributes
    ----------
    width, height : int
        Pixels as they are stored, whatever the EXIF orientation says.
    focal : float
        Focal length, pixels.
    has_prior : bool
        Whether the file told it.
    name : str
        Maker and model, empty where the file tells neither or no focal length.
    """

    width: int
    height: int
    focal: float
    has_prior: bool
    name: str

    @property
    def shared_by(self) -> tuple[object, ...] | None:
        """What images of the same camera have in common, None where that is not known."""
        return (self.name, self.width, self.height, round(self.focal, 3)) if self.name else None


def read_camera(data: bytes, width: int, height: int) -> Camera:
    """Find the camera of an encoded image.

    Parameters
    ----------
    data : bytes
        The file; empty for an array.
    width, height : int
        Pixels as stored.

    Returns
    -------
    Camera
        The focal length is that of EXIF: the one equal to 35 mm film, by the diagonal, or the one in millimetres
        by the resolution of the sensor. Where neither is there, 1.2 times the longer side.

    Examples
    --------
    >>> read_camera(b"", 640, 480)
    Camera(width=640, height=480, focal=768.0, has_prior=False, name='')
    """
    return camera_of(_exif(data), width, height)


def camera_of(fields: Mapping[str, object], width: int, height: int) -> Camera:
    """The camera of an image whose file tells so; see `read_camera`.

    Parameters
    ----------
    fields : mapping of str to value
        By EXIF's names; those that are not there, or None, are not known.
    width, height : int
    """
    focal = _focal_pixels(fields, math.hypot(width, height))
    if focal is None:
        return Camera(width, height, DEFAULT_FOCAL_FACTOR * max(width, height), False, "")
    name = " ".join(str(fields[field]) for field in ("Make", "Model") if fields.get(field))
    return Camera(width, height, focal, True, name)


def _exif(data: bytes) -> Mapping[str, object]:
    from parimg.images.readers.exif import file_fields

    # Pillow decodes a PNG to find EXIF behind its pixels, which takes a fifth of the time of SIFT.
    if data.startswith(_PNG) and b"eXIf" not in data and b"Raw profile type" not in data:
        return {}
    return file_fields(data)


def _focal_pixels(fields: Mapping[str, object], diagonal: float) -> float | None:
    film, length, resolution, unit = (
        _number(fields.get(name))
        for name in ("FocalLengthIn35mmFilm", "FocalLength", "FocalPlaneXResolution", "FocalPlaneResolutionUnit")
    )
    if film > 0:
        return film / _FULL_FRAME_DIAGONAL * diagonal
    unit_mm = _UNIT_MM.get(int(unit) or _INCH)
    return length / unit_mm * resolution if unit_mm and length * resolution > 0 else None


def _number(value: object) -> float:
    """A number that a file tells, 0 where it tells none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
