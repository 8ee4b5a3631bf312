"""Which camera took an image, as far as its file tells: size, focal length, and a name for who shares it.

Bytes in, values out; called by `feature_task` on engines, and read by the exports.
"""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

DEFAULT_FOCAL_FACTOR = 1.2  # times the longer side, as COLMAP takes it where a file tells nothing
_FULL_FRAME_DIAGONAL = 43.27  # mm, of 36 x 24 mm
_MAKE, _MODEL, _EXIF_IFD = 0x010F, 0x0110, 0x8769
_FOCAL_LENGTH, _FOCAL_35MM, _PLANE_X_RESOLUTION, _PLANE_UNIT = 0x920A, 0xA405, 0xA20E, 0xA210
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


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
    tags = _exif(data)
    focal = _focal_pixels(tags, math.hypot(width, height))
    if focal is None:
        return Camera(width, height, DEFAULT_FOCAL_FACTOR * max(width, height), False, "")
    name = " ".join(str(tags[tag]).strip("\x00 ") for tag in (_MAKE, _MODEL) if tags.get(tag))
    return Camera(width, height, focal, True, name)


def _exif(data: bytes) -> dict[int, Any]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            # Pillow decodes a PNG to find EXIF behind its pixels, which takes a fifth of the time of SIFT.
            if image.format == "PNG" and b"eXIf" not in data and b"Raw profile type" not in data:
                return {}
            found = image.getexif()
            return {**found, **found.get_ifd(_EXIF_IFD)}
    except Exception:  # damaged EXIF fails in many ways, and its pixels may be whole
        return {}


def _focal_pixels(tags: dict[int, Any], diagonal: float) -> float | None:
    try:
        if (film := float(tags.get(_FOCAL_35MM, 0))) > 0:
            return film / _FULL_FRAME_DIAGONAL * diagonal
        length, resolution = float(tags.get(_FOCAL_LENGTH, 0)), float(tags.get(_PLANE_X_RESOLUTION, 0))
        unit = _UNIT_MM.get(int(tags.get(_PLANE_UNIT, 2)))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if unit is None or not (length > 0 and resolution > 0 and math.isfinite(length * resolution)):
        return None
    return length / unit * resolution
