"""The images of all pairs, numbered: what engines and exports need to know of each, in one Arrow file.

Numbers are given in the order in which images got features, and stay; images that come later are put behind.
Written by `matching` on the client, mapped into memory by whoever reads it, and replaced whole.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from parimg.errors import JobError
from parimg.files.atomic import whole_file
from parimg.pairs.camera import Camera
from parimg.sources.names import escape_name, unescape_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from parimg.record import Record


class PairImage(NamedTuple):
    """One image.

    Attributes
    ----------
    key, uri : str
        As in its record.
    file : str
        Name of its feature file.
    features : int
    camera : Camera
    """

    key: str
    uri: str
    file: str
    features: int
    camera: Camera


class ImageTable:
    """The images by number.

    Parameters
    ----------
    table : pyarrow.Table
        As `write_images` makes it.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, number: int) -> PairImage:
        return self.take([number])[0]

    def take(self, numbers: list[int]) -> list[PairImage]:
        """Images of some numbers, in their order."""
        rows = self._table.take(numbers).to_pylist()
        return [
            PairImage(
                row["key"],
                unescape_name(row["uri"]),
                row["file"],
                row["features"],
                Camera(row["width"], row["height"], row["focal"], row["focal_known"], row["camera"]),
            )
            for row in rows
        ]

    def keys(self) -> list[str]:
        """Keys of all, by number."""
        found: list[str] = self._table["key"].to_pylist()
        return found

    def uris(self) -> list[str]:
        """URIs of all, by number."""
        return list(map(unescape_name, self._table["uri"].to_pylist()))

    def without_features(self) -> list[str]:
        """Keys of the images in which no feature was found."""
        import pyarrow.compute as pc

        found: list[str] = self._table.filter(pc.equal(self._table["features"], 0))["key"].to_pylist()
        return found

    @property
    def arrow(self) -> pa.Table:
        """The table itself."""
        return self._table


def _schema() -> pa.Schema:
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    return pa.schema(
        [
            ("key", text),
            ("uri", text),
            ("file", text),
            ("features", number),
            ("width", number),
            ("height", number),
            ("focal", pa.float64()),
            ("focal_known", pa.bool_()),
            ("camera", text),
        ]
    )


def no_images() -> ImageTable:
    """A table without images."""
    return ImageTable(_schema().empty_table())


def add_images(images: ImageTable, records: Iterable[Record]) -> ImageTable:
    """The images of a table, and behind them those of good records that it lacks."""
    import pyarrow as pa

    schema = _schema()
    known = set(images.keys())
    columns: dict[str, list[object]] = {name: [] for name in schema.names}
    for record in records:
        if record.ok and record.key not in known:
            row = {**record.columns, "key": record.key, "uri": escape_name(record.uri)}
            for name, values in columns.items():
                values.append(row[name])
    return ImageTable(pa.concat_tables([images.arrow, pa.table(columns, schema)]).combine_chunks())


def write_images(images: ImageTable, path: str) -> None:
    """Write a table, whole."""
    import pyarrow as pa

    with whole_file(path) as unfinished, pa.ipc.new_file(unfinished, images.arrow.schema) as writer:
        writer.write_table(images.arrow)


def read_images(path: str) -> ImageTable:
    """Map a table into memory; it is kept for the next call as long as the file is the same.

    Raises
    ------
    JobError
        If there is none, or it is damaged.
    """
    import pyarrow as pa

    try:
        found = os.stat(path)
        return _open(path, found.st_mtime_ns, found.st_size, found.st_ino)
    except (OSError, pa.ArrowException) as error:
        raise JobError(
            f"the table of images {path!r} cannot be read: {error!s:.300}; engines must see the directory of all "
            "pairs, on a disk that hosts share"
        ) from error


@lru_cache(maxsize=4)
def _open(path: str, *_state: int) -> ImageTable:
    import pyarrow as pa

    return ImageTable(pa.ipc.open_file(pa.memory_map(path)).read_all())
