"""Tables of matched pairs as Parquet files, block by block. Read from a `PairJob`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from parimg.files.atomic import whole_file
from parimg.pairs.exports import exporting
from parimg.pairs.two_view import Configuration

if TYPE_CHECKING:
    from parimg.pairs.pair_job import PairJob


def write_pair_table(job: PairJob, path: str | os.PathLike[str]) -> None:
    """Write a row a pair; see `PairJob.to_parquet`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = pa.array(job.names(), pa.string())
    models = pa.array(["fundamental", "homography"])
    schema = pa.schema(
        [
            ("first", pa.string()),
            ("second", pa.string()),
            ("matches", pa.int64()),
            ("inliers", pa.int64()),
            ("ratio", pa.float64()),
            ("model", pa.string()),
        ]
    )
    with (
        exporting(job.directory, "parquet", os.path.abspath(path)),
        whole_file(path) as unfinished,
        pq.ParquetWriter(unfinished, schema) as writer,
    ):
        for rows in job.tables():
            matches, inliers = rows["matches"].astype(np.int64), rows["inliers"].astype(np.int64)
            is_flat = rows["configuration"] == Configuration.PLANAR_OR_PANORAMIC
            model = pa.array(is_flat.astype(np.int64), mask=rows["configuration"] == Configuration.UNDEFINED)
            columns = [
                names.take(pa.array(np.ascontiguousarray(rows["first"]))),
                names.take(pa.array(np.ascontiguousarray(rows["second"]))),
                pa.array(matches),
                pa.array(inliers),
                pa.array(inliers / np.maximum(matches, 1)),
                models.take(model),
            ]
            writer.write_batch(pa.record_batch(columns, schema))
