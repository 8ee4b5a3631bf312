"""Match files: which features of which pairs match, a file a block.

A row of the journal says how many matches a pair has; the matches themselves are some hundred times larger, and
lie in these files. Written by `block_task` on engines, read by the exports.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from parimg.errors import JobError
from parimg.files.naming import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

EXTENSION = ".npz"
_NARROW = 2**16  # features that two bytes number


class PairMatches(NamedTuple):
    """Matches of one pair.

    Attributes
    ----------
    first, second : int
        Numbers of the images, the smaller one first.
    matches : ndarray of uint16 or uint32, shape (matches, 2)
        Feature of the first image, feature of the second.
    configuration : int
        A `parimg.pairs.two_view.Configuration`.
    inliers : ndarray of bool, shape (matches,)
        Which ones the geometry explains.
    fundamental, homography : ndarray of float64, shape (3, 3)
        From the first image to the second, pixels whose centres have whole coordinates; NaN where there is none.
    """

    first: int
    second: int
    matches: npt.NDArray[np.unsignedinteger]
    configuration: int
    inliers: npt.NDArray[np.bool_]
    fundamental: npt.NDArray[np.float64]
    homography: npt.NDArray[np.float64]


def path_of(folder: str, block: str) -> str:
    """Where the file of a block lies; blocks of the same rows are together."""
    plan, _, name = block.partition("/")
    return f"{folder}/{plan}/{name.partition('x')[0]}/{name}{EXTENSION}"


def write_matches(folder: str, block: str, pairs: Sequence[PairMatches]) -> None:
    """Write the matches of a block's pairs.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    write_file(folder, path_of(folder, block), partial(_write, pairs=pairs))


def _write(file: BinaryIO, pairs: Sequence[PairMatches]) -> None:
    matches = np.concatenate([pair.matches for pair in pairs]) if pairs else np.empty((0, 2), np.uint16)
    narrow = not matches.size or int(matches.max()) < _NARROW
    inliers = np.concatenate([pair.inliers for pair in pairs]) if pairs else np.empty(0, bool)
    np.savez(
        file,
        pairs=np.array([(pair.first, pair.second) for pair in pairs], np.uint32).reshape(-1, 2),
        ends=np.cumsum([len(pair.matches) for pair in pairs], dtype=np.int64),
        matches=matches.astype(np.uint16 if narrow else np.uint32),
        inliers=np.packbits(inliers),
        configuration=np.array([pair.configuration for pair in pairs], np.uint8),
        fundamental=np.array([pair.fundamental for pair in pairs], np.float64).reshape(-1, 3, 3),
        homography=np.array([pair.homography for pair in pairs], np.float64).reshape(-1, 3, 3),
    )


def read_matches(folder: str, block: str) -> Iterator[PairMatches]:
    """Pairs of a block that have matches, in order.

    Raises
    ------
    JobError
        If the file is missing or damaged.
    """
    path = path_of(folder, block)
    try:
        with open(path, "rb") as file, np.load(io.BytesIO(file.read()), allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        ends = found["ends"].tolist()
        inliers = np.unpackbits(found["inliers"], count=ends[-1] if ends else 0).astype(bool)
    except Exception as error:  # a damaged archive fails in more ways than are documented
        raise JobError(f"the matches {path!r} cannot be read: {type(error).__name__}: {error!s:.300}") from error
    start = 0
    for place, end in enumerate(ends):
        first, second = found["pairs"][place].tolist()
        part = slice(start, end)
        yield PairMatches(
            first,
            second,
            found["matches"][part],
            int(found["configuration"][place]),
            inliers[part],
            found["fundamental"][place],
            found["homography"][place],
        )
        start = end
