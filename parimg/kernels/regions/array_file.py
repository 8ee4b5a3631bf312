"""Arrays in one ``.npy`` file: a single record whose fields are the arrays, written whole, mapped on reading.

Called by `region_index.py`. Any program that reads ``.npy`` can read it; nothing in it is pickled.
"""

from __future__ import annotations

import io
import mmap as _mmap
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from parimg.files.atomic import write_whole
from parimg.kernels.regions.arguments import ALIGNMENT

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
    if isinstance(file, str | os.PathLike):
        write_whole(os.fspath(file), lambda opened: _save(opened, record))
    else:
        _save(file, record)


def _save(file: BinaryIO, record: NDArray[Any]) -> None:
    np.lib.format.write_array(file, record, version=(1, 0), allow_pickle=False)


def read_fields(path: str | os.PathLike[str], *, mmap: bool) -> dict[str, NDArray[Any]]:
    """The arrays of a file, by name; read-only views of the mapped file, if `mmap`.

    Raises
    ------
    ValueError
        If the file holds something else, or less than its header says.
    """
    with open(path, "rb") as file:
        start = file.read(10)
        header = start + file.read(int.from_bytes(start[8:10], "little"))
        layout = _layout(header)
        if layout is None:
            raise ValueError(f"{os.fspath(path)!r} must be a file that RegionIndex.save wrote")
        if os.fstat(file.fileno()).st_size < len(header) + layout.itemsize:
            raise ValueError(f"{os.fspath(path)!r} is cut off: it must have {len(header) + layout.itemsize} bytes")
        data = _mmap.mmap(file.fileno(), 0, access=_mmap.ACCESS_READ) if mmap else header + file.read()
    record = np.frombuffer(data, layout, count=1, offset=len(header))
    if record["version"][0] != _VERSION:
        raise ValueError(f"{os.fspath(path)!r} must have version {_VERSION} (got {record['version'][0]})")
    return {name: record[name][0] for name in layout.names or ()}


# Parsing takes three times as long as all the rest of opening a file, and maps of one size have one header.
@lru_cache(maxsize=256)
def _layout(header: bytes) -> np.dtype[np.void] | None:
    """The layout that a ``.npy`` header tells, if it is one of ours."""
    opened = io.BytesIO(header)
    try:
        if np.lib.format.read_magic(opened) != (1, 0):
            return None
        shape, _, layout = np.lib.format.read_array_header_1_0(opened)
    except Exception:  # a header is parsed as Python, which has many ways to say that it is none
        return None
    is_ours = shape == (1,) and "version" in (layout.names or ()) and not layout["version"].shape
    return layout if is_ours and not layout.hasobject else None
