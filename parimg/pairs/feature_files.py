"""Feature files: keypoints and descriptors of one image, mapped into memory by whoever compares them.

A file is named by the digest of what it was made from, and holds that name and a checksum, so that one that is
damaged, or of something else, is told from a good one. Called by the tasks of this room and by the exports.
"""

from __future__ import annotations

import os
import zlib
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from parimg.files.naming import write_file

if TYPE_CHECKING:
    import numpy.typing as npt

EXTENSION = ".arrow"
_FORMAT = "1"
_DESCRIPTOR_WIDTH = 128
_POINT_WIDTH = 5


class Features(NamedTuple):
    """SIFT features of one image.

    Attributes
    ----------
    points : ndarray of float32, shape (n, 5)
        x and y, pixels of the image as stored, pixel centres have whole coordinates; diameter, pixels; angle,
        degrees, clockwise on the screen; response.
    descriptors : ndarray of uint8, shape (n, 128)
    size : (int, int)
        Width and height of the image, pixels as stored.
    """

    points: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.uint8]
    size: tuple[int, int]


def path_of(folder: str, name: str) -> str:
    """Where the file of a name lies; no folder gets more than a 256th of them."""
    return f"{folder}/{name[:2]}/{name}{EXTENSION}"


def write_features(folder: str, name: str, features: Features) -> None:
    """Write a file, which appears when it is whole.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    write_file(folder, path_of(folder, name), partial(_write, name=name, features=features))


def _write(file: BinaryIO, name: str, features: Features) -> None:
    import pyarrow as pa

    points, descriptors = np.ascontiguousarray(features.points), np.ascontiguousarray(features.descriptors)
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1]) for part in (points, descriptors)
    ]
    about = _about(name, points, descriptors, features.size)
    schema = pa.schema([("point", columns[0].type), ("descriptor", columns[1].type)], about)
    with pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema))


def open_features(folder: str, name: str) -> Features | None:
    """Map a file into memory, None if there is none, or it is damaged or another one."""
    import pyarrow as pa

    path = path_of(folder, name)
    if not os.path.exists(path):
        return None
    try:
        table = pa.ipc.open_file(pa.memory_map(path)).read_all()
        about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        points, descriptors = (
            table[column].chunk(0).flatten().to_numpy(zero_copy_only=True).reshape(-1, n)
            for column, n in (("point", _POINT_WIDTH), ("descriptor", _DESCRIPTOR_WIDTH))
        )
        width, height = map(int, about["size"].split("x"))
        wanted = _about(name, points, descriptors, (width, height))
    except Exception:  # bytes that are no Arrow file fail in more ways than are documented
        return None
    if about != wanted or (points.dtype, descriptors.dtype) != (np.float32, np.uint8):
        return None
    return Features(points, descriptors, (width, height))


def _about(
    name: str, points: npt.NDArray[np.float32], descriptors: npt.NDArray[np.uint8], size: tuple[int, int]
) -> dict[str, str]:
    checksum = zlib.crc32(descriptors.data, zlib.crc32(points.data)) if len(points) else 0
    return {
        "parimg features": _FORMAT,
        "name": name,
        "checksum": str(checksum),
        "size": "{}x{}".format(*size),
    }
