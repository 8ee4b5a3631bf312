"""Hits: the images of a ranking, and the table that they are written as.

Made by `image_index`; drawn by `plots`, printed by ``parimg search``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from parimg.files.atomic import whole_file

Box = tuple[int, int, int, int]


class Hit(NamedTuple):
    """One image of a ranking.

    Attributes
    ----------
    rank : int
        From 1.
    key : str
        Name of the image in the index.
    score : float
        What images are ranked by: the cosine of the R-MAC descriptors of image and query, and for re-ranked ones
        that of the descriptors of their best region and the query added. After expansion both are those of the
        expanded query, so that `score` no longer follows from `similarity` and `distance`.
    similarity : float
        Cosine of the R-MAC descriptors of image and query, before expansion.
    distance : float or None
        Between the normalised descriptors of the image's best region and the query, 0 to 2, before expansion; None
        for images that were not re-ranked, and where no region counts.
    box, image_box : tuple of int or None
        That region, ``(y1, x1, y2, x2)``, in cells of the map and in pixels of the image.
    uri : str
        Where the image was read from.
    """

    rank: int
    key: str
    score: float
    similarity: float
    distance: float | None
    box: Box | None
    image_box: Box | None
    uri: str


def write_hits(hits: Sequence[Hit], path: str | os.PathLike[str]) -> None:
    """Write a ranking as a table, whole or not at all: Parquet, or CSV if the path ends in ``.csv``.

    Columns have the same types whatever the hits are; boxes are lists of four integers, or null.
    """
    if os.fspath(path).lower().endswith(".csv"):
        import pandas as pd

        with whole_file(path) as unfinished:
            pd.DataFrame(hits, columns=list(Hit._fields)).to_csv(unfinished, index=False)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    box = pa.list_(pa.int64())
    types = (pa.int64(), pa.string(), pa.float64(), pa.float64(), pa.float64(), box, box, pa.string())
    schema = pa.schema(list(zip(Hit._fields, types, strict=True)))
    with whole_file(path) as unfinished:
        pq.write_table(pa.Table.from_pylist([hit._asdict() for hit in hits], schema), unfinished)
