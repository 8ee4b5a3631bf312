"""What a search needs of all images of an index: names and descriptors, gathered from its journal into two files.

They lie in one folder, named after the state of the journal and moved into place whole, so that names and
descriptors always belong together, whoever else gathers at the same time. Called by `retrieval.py`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from parimg.sources.names import escape_name, unescape_name

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.job.journal import Journal

_NAME, _UNFINISHED = "gathered-", ".part"
_IMAGES, _DESCRIPTORS = "images.parquet", "descriptors.npy"
_ABANDONED = 3600.0  # s: an unfinished folder of that age was left by a process that was killed


class Gathered(NamedTuple):
    """The recorded images, in the order of their source.

    Attributes
    ----------
    keys, uris : list of str
    descriptors : ndarray of float32, shape (images, channels)
        Mapped from a file, read-only.
    """

    keys: list[str]
    uris: list[str]
    descriptors: npt.NDArray[np.float32]


def gather(journal: Journal, directory: str) -> Gathered:
    """Names and descriptors of the images that a journal has recorded.

    Parameters
    ----------
    journal : Journal
        With an array ``rmac`` in each good record.
    directory : str
        Where the files are kept for the next time. If it cannot be written, temporary ones are made each time.

    Returns
    -------
    Gathered
        At least of what was recorded when this was called.

    Raises
    ------
    OSError
        If there is no room for the files anywhere.
    """
    stamp = json.dumps([journal.count_by_status(), journal.last_written()])
    target = os.path.join(directory, _NAME + hashlib.sha256(stamp.encode()).hexdigest()[:16])
    with suppress(Exception):  # not there yet, taken away, or damaged in one of many ways
        return _open(target)
    unfinished = f"{target}.{secrets.token_hex(4)}{_UNFINISHED}"
    try:
        os.mkdir(unfinished)
        try:
            found = _make(journal, unfinished)
            _put(unfinished, target)
        finally:
            _remove(unfinished)
    except OSError:
        # What is mapped stays readable when its file is gone, so nothing is left behind however this process ends.
        with tempfile.TemporaryDirectory(prefix="parimg-index-", ignore_cleanup_errors=True) as folder:
            return _make(journal, folder)
    _remove_others(directory, os.path.basename(target))
    return found


def _open(folder: str) -> Gathered:
    """What `_make` made; any error where it is damaged."""
    import pyarrow.parquet as pq

    table = pq.read_table(os.path.join(folder, _IMAGES))
    descriptors = np.load(os.path.join(folder, _DESCRIPTORS), mmap_mode="r", allow_pickle=False)
    if descriptors.dtype != np.float32 or descriptors.ndim != 2 or len(descriptors) != table.num_rows:
        raise ValueError(
            f"{folder!r} holds {table.num_rows} names for {descriptors.dtype} of shape {descriptors.shape}"
        )
    return Gathered(table["key"].to_pylist(), list(map(unescape_name, table["uri"].to_pylist())), descriptors)


def _make(journal: Journal, folder: str) -> Gathered:
    import pyarrow as pa
    import pyarrow.parquet as pq

    keys: list[str] = []
    uris: list[str] = []
    width = 0
    with open(os.path.join(folder, _DESCRIPTORS), "wb") as file:
        _write_header(file, 0, 0)
        for _, record in journal.in_order():
            if record.ok:
                descriptor = np.asarray(record["rmac"], np.float32)
                keys.append(record.key)
                uris.append(escape_name(record.uri))
                width = descriptor.size
                file.write(descriptor.tobytes())
        # How many there are is known now; NumPy leaves room for that.
        file.seek(0)
        _write_header(file, len(keys), width)
    pq.write_table(pa.table({"key": keys, "uri": uris}), os.path.join(folder, _IMAGES))
    return _open(folder)


def _write_header(file: BinaryIO, rows: int, columns: int) -> None:
    header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": (rows, columns)}
    np.lib.format.write_array_header_1_0(file, header)


def _put(unfinished: str, target: str) -> None:
    """Move a folder to where it belongs, unless another process has been there first with the same."""
    with suppress(FileExistsError):
        _rename(unfinished, target)
        return
    try:
        _open(target)
    except Exception:
        damaged = f"{unfinished}.damaged{_UNFINISHED}"
        with suppress(OSError):
            os.rename(target, damaged)
            os.rename(unfinished, target)
        _remove(damaged)


def _rename(source: str, target: str) -> None:
    """`os.rename`, to which a folder with files in it is one of two errors."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise FileExistsError(*error.args) from None
        raise


def _remove_others(directory: str, kept: str) -> None:
    """Remove what was gathered of earlier states; a process that is just opening it gathers for itself."""
    with suppress(OSError):
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if not name.startswith(_NAME) or name == kept:
                continue
            if not name.endswith(_UNFINISHED) or time.time() - os.path.getmtime(path) > _ABANDONED:
                _remove(path)


def _remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        os.unlink(path)  # where it is no folder
