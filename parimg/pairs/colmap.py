"""The COLMAP database of matched pairs: what ``colmap mapper`` and pycolmap take as it is.

Plain SQLite, in the schema that COLMAP 4.2 writes, so COLMAP itself is not needed. Read from a `PairJob`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from parimg.errors import JobError, TaskError
from parimg.files.atomic import whole_file
from parimg.pairs.exports import exporting
from parimg.pairs.two_view import Configuration

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.pairs.camera import Camera
    from parimg.pairs.match_files import PairMatches
    from parimg.pairs.pair_job import PairJob

Cameras = Literal["auto", "one", "image"]

_VERSION = 4_02_01_00  # of COLMAP, as it stores it
_SIMPLE_RADIAL = 2  # focal length, principal point, one coefficient of distortion
_SIFT = 0
_CAMERA_SENSOR = 0
_MOST_IMAGES = 2**31 - 1  # COLMAP numbers pairs by it
_CENTRE = 0.5  # COLMAP's coordinates of the centre of the first pixel
# From COLMAP's coordinates, whose origin is the corner of the first pixel, to those of its centre, and back.
_FROM_CORNER = np.array([[1, 0, -_CENTRE], [0, 1, -_CENTRE], [0, 0, 1]])
_TO_CORNER = np.array([[1, 0, _CENTRE], [0, 1, _CENTRE], [0, 0, 1]])
_SCHEMA = """
CREATE TABLE rigs (
    rig_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    ref_sensor_id INTEGER NOT NULL,
    ref_sensor_type INTEGER NOT NULL);
CREATE UNIQUE INDEX rig_ref_sensor_assignment ON rigs(ref_sensor_id, ref_sensor_type);
CREATE TABLE rig_sensors (
    rig_id INTEGER NOT NULL,
    sensor_id INTEGER NOT NULL,
    sensor_type INTEGER NOT NULL,
    sensor_from_rig BLOB,
    FOREIGN KEY(rig_id) REFERENCES rigs(rig_id) ON DELETE CASCADE);
CREATE UNIQUE INDEX rig_sensor_assignment ON rig_sensors(sensor_id, sensor_type);
CREATE TABLE cameras (
    camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    model INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    params BLOB,
    prior_focal_length INTEGER NOT NULL);
CREATE TABLE frames (
    frame_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    rig_id INTEGER NOT NULL,
    FOREIGN KEY(rig_id) REFERENCES rigs(rig_id) ON DELETE CASCADE);
CREATE TABLE frame_data (
    frame_id INTEGER NOT NULL,
    data_id INTEGER NOT NULL,
    sensor_id INTEGER NOT NULL,
    sensor_type INTEGER NOT NULL,
    FOREIGN KEY(frame_id) REFERENCES frames(frame_id) ON DELETE CASCADE);
CREATE UNIQUE INDEX frame_sensor_assignment ON frame_data(data_id, sensor_type);
CREATE TABLE images (
    image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    camera_id INTEGER NOT NULL,
    CONSTRAINT image_id_check CHECK(image_id >= 0 and image_id < 2147483647),
    FOREIGN KEY(camera_id) REFERENCES cameras(camera_id));
CREATE UNIQUE INDEX index_name ON images(name);
CREATE TABLE pose_priors (
    pose_prior_id INTEGER PRIMARY KEY NOT NULL,
    corr_data_id INTEGER NOT NULL,
    corr_sensor_id INTEGER NOT NULL,
    corr_sensor_type INTEGER NOT NULL,
    position BLOB,
    position_covariance BLOB,
    gravity BLOB,
    coordinate_system INTEGER NOT NULL);
CREATE UNIQUE INDEX pose_prior_data_assignment ON pose_priors(corr_data_id, corr_sensor_id, corr_sensor_type);
CREATE TABLE keypoints (
    image_id INTEGER PRIMARY KEY NOT NULL,
    rows INTEGER NOT NULL,
    cols INTEGER NOT NULL,
    data BLOB,
    FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE);
CREATE TABLE descriptors (
    image_id INTEGER PRIMARY KEY NOT NULL,
    type INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    cols INTEGER NOT NULL,
    data BLOB,
    FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE);
CREATE TABLE matches (
    pair_id INTEGER PRIMARY KEY NOT NULL,
    rows INTEGER NOT NULL,
    cols INTEGER NOT NULL,
    data BLOB);
CREATE TABLE two_view_geometries (
    pair_id INTEGER PRIMARY KEY NOT NULL,
    rows INTEGER NOT NULL,
    cols INTEGER NOT NULL,
    data BLOB,
    config INTEGER NOT NULL,
    F BLOB,
    E BLOB,
    H BLOB,
    qvec BLOB,
    tvec BLOB,
    camera1 BLOB,
    camera2 BLOB);
CREATE TABLE parimg (identity TEXT NOT NULL);
"""


def write_database(
    job: PairJob, path: str | os.PathLike[str], *, cameras: Cameras = "auto", overwrite: bool = False
) -> None:
    """Write the database of matched pairs; see `PairJob.to_colmap`."""
    name = os.path.abspath(path)
    check_database(job.identity, name, overwrite=overwrite)
    if cameras not in get_args(Cameras):
        raise TaskError(f"cameras must be 'auto', 'one' or 'image' (got {cameras!r})")
    with (
        exporting(job.directory, "colmap", name),
        whole_file(name) as unfinished,
        contextlib.closing(sqlite3.connect(unfinished)) as connection,
    ):
        # Nobody reads it before it is whole, so it needs neither a log nor a wait for the disk.
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        with connection:
            connection.execute("INSERT INTO parimg VALUES (?)", (job.identity,))
            seen = _write_images(connection, job, cameras)
            _write_pairs(connection, job, seen)


def check_database(identity: str | None, path: str, *, overwrite: bool) -> None:
    """Refuse a file that is there, unless it was made of these pairs, and a folder that is not there.

    Raises
    ------
    JobError
    """
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise JobError(f"the database {path!r} cannot be written: there is no folder {folder!r}")
    if os.path.exists(path) and not overwrite and (identity is None or _identity(path) != identity):
        raise JobError(
            f"{path!r} exists, and was not made of these pairs; give another name, or --overwrite (overwrite=True)"
        )


def _identity(path: str) -> str | None:
    """Identity of the pairs that a database was made of, None if it was made by others."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return str(connection.execute("SELECT identity FROM parimg").fetchone()[0])
    except (sqlite3.Error, TypeError):
        return None


def _write_images(connection: sqlite3.Connection, job: PairJob, cameras: Cameras) -> list[Camera]:
    """Cameras, rigs, frames, images and features, all numbered from 1; the camera of each image."""
    images, names = job.images(), job.names()
    numbers: dict[object, int] = {}
    seen: list[Camera] = []
    for place, name in enumerate(names):
        image, image_id = images[place], place + 1
        camera = image.camera
        seen.append(camera)
        shared = (camera.width, camera.height) if cameras == "one" else camera.shared_by
        by: object = place if shared is None or cameras == "image" else shared
        if by not in numbers:
            numbers[by] = _write_camera(connection, camera, len(numbers) + 1)
        camera_id = numbers[by]
        connection.execute("INSERT INTO frames VALUES (?, ?)", (image_id, camera_id))
        connection.execute(
            "INSERT INTO frame_data VALUES (?, ?, ?, ?)", (image_id, image_id, camera_id, _CAMERA_SENSOR)
        )
        connection.execute("INSERT INTO images VALUES (?, ?, ?)", (image_id, name, camera_id))
        features = job.features_of(place)
        keypoints = _keypoints(features.points)
        connection.execute(
            "INSERT INTO keypoints VALUES (?, ?, ?, ?)", (image_id, *keypoints.shape, keypoints.tobytes())
        )
        connection.execute(
            "INSERT INTO descriptors VALUES (?, ?, ?, ?, ?)",
            (image_id, _SIFT, *features.descriptors.shape, features.descriptors.tobytes()),
        )
    return seen


def _write_camera(connection: sqlite3.Connection, camera: Camera, number: int) -> int:
    """A camera, and a rig of it alone."""
    params = np.array([camera.focal, camera.width / 2, camera.height / 2, 0.0])
    connection.execute(
        "INSERT INTO cameras VALUES (?, ?, ?, ?, ?, ?)",
        (number, _SIMPLE_RADIAL, camera.width, camera.height, params.tobytes(), camera.has_prior),
    )
    connection.execute("INSERT INTO rigs VALUES (?, ?, ?)", (number, number, _CAMERA_SENSOR))
    return number


def _keypoints(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """x, y, and the matrix that takes a unit circle to the keypoint, as COLMAP stores them."""
    scale, angle = points[:, 2] / 2, np.deg2rad(points[:, 3])
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    columns = [points[:, 0] + _CENTRE, points[:, 1] + _CENTRE, cosine, -sine, sine, cosine]
    return np.column_stack(columns).astype(np.float32)


def _write_pairs(connection: sqlite3.Connection, job: PairJob, seen: list[Camera]) -> None:
    """Matches of each pair, and what was verified of them."""
    for pair in job.matches():
        pair_id = _pair_id(pair)
        matches = pair.matches.astype(np.uint32)
        connection.execute("INSERT INTO matches VALUES (?, ?, 2, ?)", (pair_id, len(matches), matches.tobytes()))
        if pair.configuration == Configuration.UNDEFINED:
            continue
        inliers = matches[pair.inliers]
        fundamental = _FROM_CORNER.T @ pair.fundamental @ _FROM_CORNER
        homography = _TO_CORNER @ pair.homography @ _FROM_CORNER
        essential = _essential(fundamental, seen[pair.first], seen[pair.second])
        blobs = (_blob(fundamental), _blob(essential), _blob(homography))
        connection.execute(
            "INSERT INTO two_view_geometries VALUES (?, ?, 2, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL)",
            (pair_id, len(inliers), inliers.tobytes(), pair.configuration, *blobs),
        )


def _essential(fundamental: npt.NDArray[np.float64], first: Camera, second: Camera) -> npt.NDArray[np.float64]:
    """Essential matrix of two cameras whose focal length is known, else NaN."""
    if not (first.has_prior and second.has_prior):
        return np.full((3, 3), np.nan)
    matrices = [
        np.array([[each.focal, 0, each.width / 2], [0, each.focal, each.height / 2], [0, 0, 1]])
        for each in (first, second)
    ]
    essential: npt.NDArray[np.float64] = matrices[1].T @ fundamental @ matrices[0]
    return essential


def _blob(matrix: npt.NDArray[np.float64]) -> bytes | None:
    return np.ascontiguousarray(matrix).tobytes() if np.isfinite(matrix).all() else None


def _pair_id(pair: PairMatches) -> int:
    return (pair.first + 1) * _MOST_IMAGES + pair.second + 1
