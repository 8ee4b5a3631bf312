"""Pictures of records, for notebooks and reports."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from parimg.errors import ImageError, TaskError
from parimg.files.atomic import write_whole
from parimg.job.journal import Journal
from parimg.record import Record
from parimg.tasks.image_files import save_image
from parimg.tasks.match_sift import MatchSIFT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.retrieval.hits import Hit

_LINE_COLOUR = (0, 200, 0)
_BOX_COLOUR = (255, 60, 0)
_CAPTION = 20  # px below a tile
_SMALLEST_TILE = 16  # px


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
        from parimg.images.decode import read_image

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


def draw_hits(
    hits: Sequence[Hit],
    *,
    query: str | os.PathLike[str] | npt.NDArray[np.uint8] | None = None,
    box: Sequence[int] | None = None,
    columns: int = 5,
    tile: int = 240,
) -> npt.NDArray[np.uint8]:
    """Draw the images of a ranking, with their regions, as one picture.

    Parameters
    ----------
    hits : sequence of Hit
        What `ImageIndex.search` gave.
    query, box : optional
        The query image and the part of it that was looked for, drawn first: a path, URL or uint8 array.
    columns : int, default 5
        Tiles in a row.
    tile : int, default 240
        Height and width of a tile in pixels, at least 16.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB. An image that cannot be read is a gray tile that says so.

    Raises
    ------
    ImageError
        If the query cannot be read.
    TaskError
        If it is no image, the box is not four numbers, or a number is below its least.

    Examples
    --------
    >>> import matplotlib.pyplot as plt  # doctest: +SKIP
    >>> plt.imshow(parimg.draw_hits(index.search("tower.jpg"), query="tower.jpg"))  # doctest: +SKIP
    """
    import numpy as np

    from parimg.images.decode import read_image

    for name, value, least in (("columns", columns, 1), ("tile", tile, _SMALLEST_TILE)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise TaskError(f"{name} must be an integer of at least {least} (got {value!r})")
    if box is not None and np.shape(box) != (4,):
        raise TaskError(f"box must be (y1, x1, y2, x2) (got {box!r})")
    tiles = []
    if query is not None:
        tiles.append(_tile(_query_image(query), box, "query", tile))
    for hit in hits:
        caption = f"{hit.rank}  {hit.score:.3f}  {os.path.basename(hit.key)}"
        try:
            tiles.append(_tile(read_image(hit.uri, "color"), hit.image_box, caption, tile))
        except ImageError as error:
            missing = np.full((tile, tile, 3), 128, np.uint8)
            tiles.append(_tile(missing, None, f"{hit.rank}  {type(error).__name__}", tile))
    columns = min(columns, max(len(tiles), 1))
    blank = np.full((tile + _CAPTION, tile, 3), 255, np.uint8)
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.vstack(rows) if rows else blank


def _query_image(query: object) -> npt.NDArray[np.uint8]:
    import numpy as np

    if isinstance(query, str | os.PathLike):
        from parimg.images.decode import read_image

        return read_image(os.fspath(query), "color")
    if not isinstance(query, np.ndarray) or query.dtype != np.uint8 or not query.size:
        kind = f"{query.dtype} array" if isinstance(query, np.ndarray) else type(query).__name__
        raise TaskError(f"the query must be a path, URL or uint8 array, which can be drawn (got a {kind})")
    if query.ndim != 2 and (query.ndim != 3 or query.shape[2] not in {3, 4}):
        raise TaskError(f"the query must have shape (height, width), RGB or RGBA (got {query.shape})")
    return query if query.ndim == 2 else np.ascontiguousarray(query[:, :, :3])


def write_picture(path: str | os.PathLike[str], picture: npt.NDArray[np.uint8]) -> None:
    """Write an RGB picture: PNG if the path ends in ``.png``, else JPEG; it appears once it is whole."""
    name = os.fspath(path)
    write_whole(name, lambda file: save_image(file, picture, "png" if name.lower().endswith(".png") else "jpeg"))


def _tile(
    image: npt.NDArray[np.uint8], box: Sequence[int] | None, caption: str, size: int
) -> npt.NDArray[np.uint8]:
    import cv2
    import numpy as np

    factor = (size - 2) / max(image.shape[:2])
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if small.ndim == 2:
        small = np.repeat(small[:, :, None], 3, axis=2)
    if box is not None:
        y1, x1, y2, x2 = (round(edge * factor) for edge in box)
        cv2.rectangle(small, (x1, y1), (x2 - 1, y2 - 1), _BOX_COLOUR, 2)
    canvas = np.full((size + _CAPTION, size, 3), 255, np.uint8)
    canvas[1 : 1 + height, 1 : 1 + width] = small
    cv2.putText(canvas, caption, (2, size + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas


def _match_task(record: Record) -> MatchSIFT:
    """The task of the record's job."""
    if not record.job:
        raise TaskError(f"record {record.key!r} belongs to no job")
    task = Journal(record.job).load_task()
    if not isinstance(task, MatchSIFT):
        raise TaskError(f"record {record.key!r} is of a {task.name} job; only MatchSIFT's matches can be drawn")
    return task
