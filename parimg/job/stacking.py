"""Stacking: the images that a job made as one array, by place in the source.

Called by `Job.to_ome_zarr`, once or while the job runs; engines write a file an image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from parimg.errors import JobError

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.job.journal import Journal
    from parimg.record import Record


def stack_results(journal: Journal, target: str | os.PathLike[str]) -> str:
    """Write the images of all records that went well as one OME-Zarr.

    Raises
    ------
    JobError
        If the records have no images.
    TaskError
        If these differ in shape or dtype, or it cannot be written.
    ImageError
        If one that was written cannot be read.
    """
    from parimg.images.zarr_passes import stack_images, stack_ome_zarr

    # One snapshot for both passes: a job that runs goes on recording.
    with journal.snapshot(arrays=True) as records:
        good = [(record.key, record.columns.get("path")) for record in records() if record.ok]
        if not good:
            raise JobError(f"no image of {journal.directory!r} went well so far, so there is nothing to stack")
        keys, paths = zip(*good, strict=True)
        if not all(isinstance(path, str) for path in paths):
            return stack_images(_kept(journal, records()), len(good), target)
    if all(path.endswith(".zarr") for path in paths):
        return stack_ome_zarr(paths, target, names=keys)
    return stack_images(((key, _read(str(path))) for key, path in good), len(good), target)


def _kept(journal: Journal, records: Iterable[Record]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Images that came back with the records."""
    for record in records:
        if record.ok and "image" not in record.arrays:
            task = journal.meta("task")["name"]
            raise JobError(
                f"the records of {journal.directory!r} hold no images: {task} wrote none, and returned none "
                "as `image`"
            )
        if record.ok:
            yield record.key, record.arrays["image"]


def _read(path: str) -> npt.NDArray[Any]:
    from parimg.images.decode import read_image
    from parimg.images.frames import watch_frames

    with watch_frames() as pages:
        image = read_image(path, "unchanged")
    return read_image(path, "stack") if pages else image
