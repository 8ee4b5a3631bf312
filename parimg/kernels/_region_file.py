"""Arrays in one ``.npy`` file: a single record whose fields are the arrays, written whole, mapped on reading.

Called by `regions.py`. Any program that reads ``.npy`` can read it; nothing in it is pickled.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from parimg.kernels._region_input import ALIGNMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_VERSION = 1


def write_fields(file: str | os.PathLike[str] | BinaryIO, fields: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays under their names, each beginning where a cache line does; a path appears once it is whole."""
    named = {"version": np.asarray(_VERSION, np.int32), **fields}
    offset, offsets = 0, []
    for value in named.values():
        offsets.append(offset)
        offset += -(-max(value.nbytes, 1) // ALIGNMENT) * ALIGNMENT
    layout = np.dtype(
        {
            "names": list(named),
            "formats": [(value.dtype.newbyteorder("<"), value.shape) for value in named.values()],
            "offsets": offsets,
            "itemsize": offset,
        }
    )
    record = np.zeros(1, layout)
    for name, value in named.items():
        record[name][0] = value
    if not isinstance(file, str | os.PathLike):
        np.save(file, record, allow_pickle=False)
        return
    target = os.fspath(file)
    unfinished = f"{target}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        with open(unfinished, "xb") as opened:
            np.save(opened, record, allow_pickle=False)
        os.replace(unfinished, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise


def read_fields(path: str | os.PathLike[str], *, mmap: bool) -> dict[str, Any]:
    """The arrays of a file, by name; read-only views of the mapped file, if `mmap`."""
    record = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    names = record.dtype.names
    if record.shape != (1,) or names is None or "version" not in names:
        raise ValueError(f"{os.fspath(path)!r} must be a file that RegionIndex.save wrote (got {record.dtype})")
    if record["version"][0] != _VERSION:
        raise ValueError(f"{os.fspath(path)!r} must have version {_VERSION} (got {record['version'][0]})")
    return {name: record[name][0] for name in names}
