"""What a search needs of all images of an index: names and descriptors, in one Arrow file.

Copied from its journal, and mapped into memory. The file says of which state of the journal it is, and is
replaced whole, so that names and descriptors always belong together, whoever else writes it at the same time.
Called by `image_index`.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parimg.files.atomic import whole_file
from parimg.sources.names import escape_name, unescape_name

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.job.journal import Journal

DESCRIPTORS_FILE = "descriptors.arrow"
_STATE = b"state of the journal"


class DescriptorTable(NamedTuple):
    """The recorded images, in the order of their source.

    Attributes
    ----------
    keys, uris, files : list of str
        Of each image: its name, where it was read, and its file of regions, below their folder.
    descriptors : ndarray of float32, shape (images, channels)
        Mapped from a file, read-only.
    """

    keys: list[str]
    uris: list[str]
    files: list[str]
    descriptors: npt.NDArray[np.float32]


def descriptor_table(journal: Journal, directory: str, regions: str) -> DescriptorTable:
    """Names and descriptors of the images that a journal has recorded.

    Parameters
    ----------
    journal : Journal
        With an array ``rmac`` and a ``path`` in each good record.
    directory : str
        Where the file is kept for the next time. If it cannot be written, a temporary one is made each time.
    regions : str
        The folder that the paths lie below.

    Returns
    -------
    DescriptorTable
        At least of what was recorded when this was called.

    Raises
    ------
    OSError
        If there is no room for the file anywhere.
    """
    state = json.dumps([journal.count_by_status(), journal.last_written()])
    path = os.path.join(directory, DESCRIPTORS_FILE)
    with suppress(Exception):  # not there yet, of another state, or damaged in one of many ways
        return _open(path, state)
    try:
        return _make(journal, path, regions, state)
    except OSError:
        # What is mapped stays readable when its file is gone, so nothing is left behind however this process ends.
        with tempfile.TemporaryDirectory(prefix="parimg-index-", ignore_cleanup_errors=True) as folder:
            return _make(journal, os.path.join(folder, DESCRIPTORS_FILE), regions, state)


def _open(path: str, state: str) -> DescriptorTable:
    """What `_make` made; any error where it is damaged, or of another state."""
    import pyarrow as pa

    table = pa.ipc.open_file(pa.memory_map(path)).read_all()
    if (table.schema.metadata or {}).get(_STATE) != state.encode():
        raise ValueError(f"{path!r} is of another state of the journal")
    [column] = table["descriptor"].chunks
    values = column.flatten().to_numpy(zero_copy_only=True)
    keys, uris, files = (table[name].to_pylist() for name in ("key", "uri", "file"))
    return DescriptorTable(
        keys, list(map(unescape_name, uris)), files, values.reshape(table.num_rows, column.type.list_size)
    )


def _make(journal: Journal, path: str, regions: str, state: str) -> DescriptorTable:
    import pyarrow as pa

    names: dict[str, list[str]] = {"key": [], "uri": [], "file": []}
    width = 0
    # Descriptors of a million images are 5 GB: they go through a file, not through memory.
    with tempfile.TemporaryFile(dir=os.path.dirname(path)) as unsorted:
        for _, record in journal.in_order():
            if record.ok:
                descriptor = np.asarray(record["rmac"], np.float32)
                width = descriptor.size
                unsorted.write(descriptor.tobytes())
                names["key"].append(record.key)
                names["uri"].append(escape_name(record.uri))
                names["file"].append(os.path.relpath(record["path"], regions))
        unsorted.flush()
        values = np.memmap(unsorted, np.float32, "r") if width else np.empty(0, np.float32)
        descriptors = pa.FixedSizeListArray.from_arrays(pa.array(values), width)
        # One batch, so that all descriptors are one array.
        batch = pa.record_batch(
            [*(pa.array(column, pa.string()) for column in names.values()), descriptors],
            pa.schema(
                [*((name, pa.string()) for name in names), ("descriptor", descriptors.type)], {_STATE: state}
            ),
        )
        with whole_file(path) as unfinished:
            with pa.OSFile(unfinished, "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)
            return _open(unfinished, state)
