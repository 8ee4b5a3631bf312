"""Features and matches as HDF5 files, as hloc writes them. Read from a `PairJob`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from parimg.errors import JobError, TaskError
from parimg.files.atomic import whole_file
from parimg.pairs.exports import exporting

if TYPE_CHECKING:
    from parimg.pairs.pair_job import PairJob

_FILES = ("features.h5", "matches.h5", "pairs.txt")


def write_hloc(job: PairJob, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write ``features.h5``, ``matches.h5`` and ``pairs.txt``; see `PairJob.to_hloc`."""
    if find_spec("h5py") is None:
        raise TaskError("writing h5 files needs h5py; `pip install parimg[hdf5]` brings it")
    paths = [os.path.join(folder, name) for name in _FILES]
    there = [path for path in paths if os.path.exists(path)]
    if there and not overwrite:
        raise JobError(f"{there[0]!r} exists; give another folder, or --overwrite (overwrite=True)")
    with exporting(job.directory, "hloc", os.path.abspath(folder)):
        os.makedirs(folder, exist_ok=True)
        with ExitStack() as stack:  # all of them appear, or none
            features, matches, pairs = (stack.enter_context(whole_file(path)) for path in paths)
            with _new_hdf5(features) as file:
                lengths = _write_features(job, file)
            with _new_hdf5(matches) as file, open(pairs, "w", encoding="utf-8") as listed:
                _write_matches(job, file, lengths, listed)


class _GuardedFile(io.FileIO):
    """A file for HDF5, which crashes the process some time after a write has failed: it never learns of that.

    Attributes
    ----------
    error : OSError or None
        Why the first write failed; nothing is written from then on.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self.error is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self.error = error
        return size or 0


@contextmanager
def _new_hdf5(path: str) -> Iterator[Any]:
    """An HDF5 file to write.

    Raises
    ------
    OSError
        If it cannot be written whole.
    """
    import h5py

    with _GuardedFile(path, "x+") as file:
        try:
            with h5py.File(file, "w") as opened:
                yield opened
        finally:
            # Whatever else HDF5 says, this is why.
            if file.error is not None:
                raise file.error


def _write_features(job: PairJob, file: Any) -> list[int]:
    """A group an image; the numbers of features."""
    images = job.images()
    lengths = []
    for number, name in enumerate(job.names()):
        features, camera = job.features_of(number), images[number].camera
        group = file.create_group(name)
        points = group.create_dataset("keypoints", data=features.points[:, :2])
        points.attrs["uncertainty"] = 1.0
        group.create_dataset("descriptors", data=features.descriptors.T)
        group.create_dataset("scores", data=features.points[:, 4])
        group.create_dataset("image_size", data=np.array([camera.width, camera.height]))
        lengths.append(len(features.points))
    return lengths


def _write_matches(job: PairJob, file: Any, lengths: list[int], listed: Any) -> None:
    """A group a pair: for each feature of the first image that of the second or -1, and 1 where they agree."""
    names = job.names()
    for pair in job.matches():
        first, second = names[pair.first], names[pair.second]
        found = np.full(lengths[pair.first], -1, np.int32)
        scores = np.zeros(lengths[pair.first], np.float16)
        found[pair.matches[:, 0]] = pair.matches[:, 1]
        scores[pair.matches[:, 0]] = pair.inliers
        group = file.create_group(f"{first.replace('/', '-')}/{second.replace('/', '-')}")
        group.create_dataset("matches0", data=found)
        group.create_dataset("matching_scores0", data=scores)
        listed.write(f"{first} {second}\n")
