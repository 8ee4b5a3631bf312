"""Pictures of the hits of a search, with their regions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from parimg.errors import ImageError, TaskError
from parimg.files.atomic import write_whole
from parimg.images.encode import save_image
from parimg.plots.arguments import check_least

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.retrieval.hits import Hit

_BOX_COLOUR = (255, 60, 0)
_QUERY_COLOUR = (20, 90, 200)
_CAPTION = 20  # px below a tile
_GAP = 4  # px between tiles
_EXTREME = 4.0  # most width over height, and height over width, that a tile has
_SMALLEST_TILE = 16  # px


def draw_hits(
    hits: Sequence[Hit],
    *,
    query: str | os.PathLike[str] | npt.NDArray[np.uint8] | None = None,
    box: Sequence[int] | None = None,
    columns: int = 5,
    tile: int = 240,
) -> npt.NDArray[np.uint8]:
    """Draw the images of a ranking, with their regions, as one picture: rows of one width, the query in a frame.

    Parameters
    ----------
    hits : sequence of Hit
        What `ImageIndex.search` gave.
    query, box : optional
        The query image and the part of it that was looked for, drawn first: a path, URL or uint8 array.
    columns : int, default 5
        Tiles in a row.
    tile : int, default 240
        Width of a tile in pixels on average, at least 16; all of a row have one height.

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
        check_least(name, value, least)
    if box is not None and np.shape(box) != (4,):
        raise TaskError(f"box must be (y1, x1, y2, x2) (got {box!r})")
    pictures: list[_Labelled] = []
    if query is not None:
        pictures.append(_Labelled(_query_image(query), box, "query", is_query=True))
    for hit in hits:
        caption = f"{hit.rank}  {hit.score:.3f}  {os.path.basename(hit.key)}"
        try:
            pictures.append(_Labelled(read_image(hit.uri, "color"), hit.image_box, caption))
        except ImageError as error:
            missing = np.full((tile, tile, 3), 128, np.uint8)
            pictures.append(_Labelled(missing, None, f"{hit.rank}  {type(error).__name__}"))
    columns = min(columns, max(len(pictures), 1))
    width, height = columns * tile, tile
    rows = []
    for start in range(0, len(pictures), columns):
        row = pictures[start : start + columns]
        # As high as makes the row as wide as the others; a short last one is no higher than the one above.
        fitting = int((width - _GAP * (len(row) - 1)) / sum(one.aspect for one in row))
        height = max(_SMALLEST_TILE, min(fitting, tile * 3 // 2 if len(row) == columns else height))
        drawn = np.full((height + _CAPTION, width, 3), 255, np.uint8)
        left = 0
        for one in row:
            tile_width = max(1, min(round(height * one.aspect), width - left))
            drawn[:, left : left + tile_width] = _tile(one, height, tile_width)
            left = min(left + tile_width + _GAP, width - 1)
        rows.append(drawn)
    return np.vstack(rows) if rows else np.full((tile + _CAPTION, tile, 3), 255, np.uint8)


class _Labelled(NamedTuple):
    """An image of a ranking."""

    image: npt.NDArray[np.uint8]
    box: Sequence[int] | None
    caption: str
    is_query: bool = False

    @property
    def aspect(self) -> float:
        """Width over height, as it is drawn: of the most extreme ones not all is seen well."""
        height, width = self.image.shape[:2]
        return float(min(max(width / height, 1 / _EXTREME), _EXTREME))


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


def _tile(one: _Labelled, height: int, width: int) -> npt.NDArray[np.uint8]:
    """An image of that size with its box, above its caption; a query in a frame."""
    import cv2
    import numpy as np

    small = np.asarray(cv2.resize(one.image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    if small.ndim == 2:
        small = np.repeat(small[:, :, None], 3, axis=2)
    if one.box is not None:
        across, down = width / one.image.shape[1], height / one.image.shape[0]
        y1, x1, y2, x2 = (round(edge * factor) for edge, factor in zip(one.box, (down, across) * 2, strict=True))
        cv2.rectangle(small, (x1, y1), (x2 - 1, y2 - 1), _BOX_COLOUR, 2)
    ground, ink = (_QUERY_COLOUR, (255, 255, 255)) if one.is_query else ((255, 255, 255), (0, 0, 0))
    canvas = np.full((height + _CAPTION, width, 3), ground, np.uint8)
    canvas[:height] = small
    if one.is_query:
        cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), _QUERY_COLOUR, 4)
    cv2.putText(canvas, one.caption, (4, height + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, ink, 1, cv2.LINE_AA)
    return canvas
