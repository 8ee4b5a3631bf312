"""Pictures of records, for notebooks and reports."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from parimg import shared
from parimg.errors import TaskError
from parimg.journal import Journal
from parimg.record import Record
from parimg.tasks.match_sift import MatchSIFT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LINE_COLOUR = (0, 200, 0)


def draw_matches(
    record: Record, *, image: npt.NDArray[np.uint8] | None = None, max_matches: int | None = None
) -> npt.NDArray[np.uint8]:
    """Draw the reference and a record's image side by side, with lines between their matches.

    Only inliers are drawn if the task verified its matches.

    Parameters
    ----------
    record : Record
        Of a `MatchSIFT` job whose reference was an image. The image is read and matched once more.
    image : ndarray of uint8, shape (height, width), optional
        The record's image, needed if it was given to the job as an array.
    max_matches : int, optional
        Draw at most so many, evenly chosen.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB.

    Raises
    ------
    TaskError
        If the record failed, is of another task, or a picture is not to be had.

    Examples
    --------
    >>> import matplotlib.pyplot as plt  # doctest: +SKIP
    >>> plt.imshow(parimg.draw_matches(record))  # doctest: +SKIP
    """
    import cv2
    import numpy as np

    if not record.ok:
        raise TaskError(f"image {record.key!r} failed in {record.stage}: {record.error}: {record.message}")
    task = _match_task(record)
    reference = task.reference_image()
    if image is None:
        if not record.uri:
            raise TaskError(f"image {record.key!r} was an array; give it as image=")
        from parimg.decode import read_image

        image = read_image(record.uri, "gray")
    values = dataclasses.replace(task, return_pairs=True, return_keypoints=True)(image)
    pairs = np.asarray(values["pairs"] if task.verify is None else values["inlier_pairs"])
    if max_matches is not None and len(pairs) > max_matches:
        pairs = pairs[np.linspace(0, len(pairs) - 1, max_matches).round().astype(int)]
    sides = [
        [cv2.KeyPoint(float(x), float(y), float(size), float(angle)) for x, y, size, angle in keypoints]
        for keypoints in (task.reference_features.keypoints, np.asarray(values["keypoints"]))
    ]
    lines = [cv2.DMatch(int(query), int(train), 0.0) for query, train in pairs]
    picture = cv2.drawMatches(
        reference,
        sides[0],
        image,
        sides[1],
        lines,
        np.empty(0, np.uint8),
        matchColor=_LINE_COLOUR,
        flags=cv2.DrawMatchesFlags_NOT_DRAW_SINGLE_POINTS,
    )
    return np.asarray(picture[:, :, ::-1], np.uint8)


def _match_task(record: Record) -> MatchSIFT:
    """The task of the record's job."""
    if not record.job:
        raise TaskError(f"record {record.key!r} belongs to no job")
    ref = shared.SharedRef(*Journal(record.job).meta("task")["refs"][0])
    task = shared.load_task(ref, os.path.join(record.job, "shared"))
    if not isinstance(task, MatchSIFT):
        raise TaskError(f"record {record.key!r} is of a {task.name} job; only MatchSIFT's matches can be drawn")
    return task
