"""Which pairs are wanted: all, neighbours in a sequence, similar ones by an index, or those that a user names.

Called by `matching` on the client, before anything is sent as far as names go, and when all images have features.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from parimg.errors import JobError, SourceError, TaskError
from parimg.files.atomic import whole_file

if TYPE_CHECKING:
    import numpy.typing as npt

    Pairs: TypeAlias = "str | os.PathLike[str] | Iterable[Sequence[str]]"

MODES = ("all", "sequential", "retrieval")
_BATCH = 1024  # images whose similarities to all are computed at once: 4 MB for each 1 000 images


class Index(Protocol):
    """What pairs are chosen by: a `parimg.ImageIndex`."""

    uris: list[str]
    descriptors: npt.NDArray[np.float32]


class Selection(NamedTuple):
    """Pairs as a user asks for them.

    Attributes
    ----------
    mode : {"all", "sequential", "retrieval", "list"}
    overlap, neighbours : int
    retrieval : Index or None
        What tells which images look alike.
    names : list of (str, str)
        The pairs of a list.
    """

    mode: str
    overlap: int
    neighbours: int
    retrieval: Index | None
    names: list[tuple[str, str]]


def write_selection(selection: Selection, path: str) -> None:
    """Write what was asked for, for whoever goes on with it."""
    index = getattr(selection.retrieval, "directory", None)
    content = {
        **selection._replace(retrieval=None)._asdict(),
        "index": index if selection.retrieval is not None else None,
        "has_index": selection.retrieval is not None,
    }
    with whole_file(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
        json.dump(content, file)


def read_selection(path: str, open_index: Callable[[str], Index]) -> Selection:
    """What was asked for last.

    Parameters
    ----------
    path : str
    open_index : callable
        Called with the directory of the index that pairs are chosen by, if they are.

    Raises
    ------
    JobError
        If it cannot be read, or its index was not a directory.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        selection = Selection(
            found["mode"], found["overlap"], found["neighbours"], None, [(a, b) for a, b in found["names"]]
        )
        index, has_index = found["index"], found["has_index"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise JobError(
            f"which pairs were asked for cannot be read ({type(error).__name__}: {error}); give the same images "
            "and pairs again, to match_pairs or `parimg match-pairs`"
        ) from error
    if has_index and index is None:
        raise JobError("the index that pairs are chosen by lies in no directory; give it to match_pairs again")
    return selection if index is None else selection._replace(retrieval=open_index(index))


class Names:
    """The ways in which users name images: by key, by path, or by the path below the folder that all are in.

    Parameters
    ----------
    keys, uris : sequence of str
        Of the images, by number.
    """

    def __init__(self, keys: Sequence[str], uris: Sequence[str]) -> None:
        self._numbers: dict[str, int] = {}
        for names in (short_names(keys, uris), uris, keys):
            for number, name in enumerate(names):
                if name:
                    self._numbers[name] = number

    def number(self, name: str) -> int | None:
        """Number of an image, None if there is no such."""
        found = self._numbers.get(name)
        return self._numbers.get(os.path.abspath(name)) if found is None else found


def short_names(keys: Sequence[str], uris: Sequence[str]) -> list[str]:
    """Names below the folder that all local images are in, as COLMAP wants them; others by their keys.

    Examples
    --------
    >>> short_names(["x/1.png", "x/2/1.png", "array"], ["/x/1.png", "/x/2/1.png", ""])
    ['1.png', '2/1.png', 'array']
    """
    root = image_root(uris)
    return [
        os.path.relpath(uri, root) if uri and "://" not in uri and root else key
        for key, uri in zip(keys, uris, strict=True)
    ]


def image_root(uris: Sequence[str]) -> str:
    """The folder that all local images are in, empty if there are none."""
    folders = {os.path.dirname(uri) for uri in uris if uri and "://" not in uri}
    return os.path.commonpath(folders) if folders else ""


def check_selection(
    pairs: Pairs, *, overlap: int = 10, neighbours: int = 50, index: Index | None = None
) -> Selection:
    """Make a selection of what a user gave.

    Raises
    ------
    TaskError
        If a word is unknown, a number is below 1, or an index is missing.
    SourceError
        If a list of pairs cannot be read, or is empty.
    """
    for name, value in (("overlap", overlap), ("neighbours", neighbours)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise TaskError(f"{name} must be an integer of at least 1 (got {value!r})")
    if isinstance(pairs, str) and pairs in MODES:
        if pairs == "retrieval" and index is None:
            raise TaskError(
                "pairs='retrieval' needs index=parimg.ImageIndex(DIR), --index DIR; "
                "`parimg index photos/ -m MODEL -o DIR` makes one"
            )
        return Selection(pairs, overlap, neighbours, index, [])
    names = _named_pairs(pairs)
    if not names:
        raise SourceError("the list of pairs is empty")
    return Selection("list", overlap, neighbours, None, names)


def select_pairs(
    selection: Selection, keys: Sequence[str], uris: Sequence[str], order: Sequence[int]
) -> npt.NDArray[np.uint32] | None:
    """Pairs of numbers, some perhaps twice; None for all.

    Parameters
    ----------
    selection : Selection
    keys, uris : sequence of str
        Of the images with features, by number.
    order : sequence of int
        Their numbers, in the order of the source.
    """
    if selection.mode == "all":
        return None
    if selection.mode == "list":
        names = Names(keys, uris)
        found = [(names.number(first), names.number(second)) for first, second in selection.names]
        return _array([pair for pair in found if None not in pair])
    parts = []
    if selection.mode == "sequential":
        places = np.asarray(order, np.uint32)
        gaps = range(1, min(selection.overlap, len(places) - 1) + 1)
        parts += [np.column_stack([places[:-gap], places[gap:]]) for gap in gaps]
    if selection.retrieval is not None:
        parts.append(_similar(selection.retrieval, selection.neighbours, uris))
    return np.concatenate(parts) if parts else _array([])


def _similar(index: Index, neighbours: int, uris: Sequence[str]) -> npt.NDArray[np.uint32]:
    """Each image with those whose descriptors are nearest, as far as the index has them."""
    rows = {uri: row for row, uri in enumerate(index.uris)}
    numbers = np.array([number for number, uri in enumerate(uris) if uri in rows], np.uint32)
    if len(numbers) < 2:
        return _array([])
    descriptors = index.descriptors[[rows[uris[number]] for number in numbers]]
    k = min(neighbours, len(numbers) - 1)
    pairs = []
    for start in range(0, len(numbers), _BATCH):
        similarity = descriptors[start : start + _BATCH] @ descriptors.T
        own = np.arange(len(similarity))
        similarity[own, own + start] = -np.inf
        nearest = np.argpartition(similarity, -k, axis=1)[:, -k:]
        pairs.append(np.column_stack([np.repeat(numbers[own + start], k), numbers[nearest.ravel()]]))
    return np.concatenate(pairs)


def not_indexed(selection: Selection, uris: Sequence[str]) -> int:
    """How many images the index does not have, 0 where pairs are not chosen by one.

    Raises
    ------
    TaskError
        If it has none of them.
    """
    if selection.retrieval is None:
        return 0
    known = set(selection.retrieval.uris)
    missing = sum(uri not in known for uri in uris)
    if missing and missing == len(uris):
        raise TaskError(f"the index has none of the {missing} images; index the same files, by the same paths")
    return missing


def unknown_names(selection: Selection, keys: Sequence[str], uris: Sequence[str]) -> list[str]:
    """Names of a list of pairs that no image has."""
    names = Names(keys, uris)
    return [name for pair in selection.names for name in pair if names.number(name) is None]


def _array(pairs: Iterable[object]) -> npt.NDArray[np.uint32]:
    return np.array(list(pairs), np.uint32).reshape(-1, 2)


def _named_pairs(pairs: object) -> list[tuple[str, str]]:
    if isinstance(pairs, str | os.PathLike):
        return _read_pairs(os.fspath(pairs))
    if hasattr(pairs, "to_pydict"):  # an Arrow table
        columns = list(cast("Mapping[str, list[Any]]", pairs.to_pydict()).values())[:2]
        pairs = list(zip(*columns, strict=True)) if len(columns) == 2 else []
    elif hasattr(pairs, "itertuples"):  # a data frame
        pairs = [row[:2] for row in pairs.itertuples(index=False)]
    if not isinstance(pairs, Iterable):
        raise TaskError(
            f"pairs must be 'all', 'sequential', 'retrieval', a list of pairs of names, or a table of them (got "
            f"{pairs!r:.80}, a {type(pairs).__name__})"
        )
    found = []
    for place, pair in enumerate(pairs):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise SourceError(f"pair {place} must be two names of images (got {pair!r:.80})")
        found.append((os.fspath(pair[0]), os.fspath(pair[1])))
    return found


def _read_pairs(path: str) -> list[tuple[str, str]]:
    """Pairs of a file: the first two columns of a table, or two names a line as COLMAP's match lists have them."""
    try:
        if path.endswith((".parquet", ".pq")):
            import pyarrow.parquet as pq

            return _named_pairs(pq.read_table(path))
        with open(path, encoding="utf-8-sig", newline="") as file:
            if path.endswith((".csv", ".tsv")):
                rows = list(csv.reader(file, delimiter="\t" if path.endswith(".tsv") else ","))[1:]
            else:
                rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
    except FileNotFoundError:
        words = ", ".join(map(repr, MODES))
        raise TaskError(
            f"pairs must be {words}, or the file of a list (got {path!r}, which does not exist)"
        ) from None
    except (OSError, ValueError) as error:
        raise SourceError(f"the list of pairs {path!r} cannot be read: {error!s:.300}") from error
    for place, row in enumerate(rows):
        if len(row) < 2:
            raise SourceError(f"row {place + 1} of {path!r} must have two names of images (got {row!r:.80})")
    return [(row[0], row[1]) for row in rows]
