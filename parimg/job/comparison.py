"""Two jobs compared, image by image: whose status or values differ.

Both journals are read once, sorted by key, side by side, so that memory does not grow with them.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from parimg.errors import JobError
from parimg.job.job import Job, open_job
from parimg.job.journal import Journal
from parimg.record import Record

if TYPE_CHECKING:
    import numpy.typing as npt

Kind = Literal["only in the first", "only in the second", "status", "error", "values"]


@dataclass(frozen=True, eq=False)
class Difference:
    """An image about which two jobs do not agree.

    Attributes
    ----------
    key : str
    kind : str
        ``"status"``, one went well and one failed; ``"error"``, both failed, with other types of error;
        ``"values"``; ``"only in the first"`` or ``"only in the second"`` job.
    first, second : Record or None
    values : dict of str to (object, object)
        The values that differ, by name, None where a record has none of that name.
    """

    key: str
    kind: Kind
    first: Record | None
    second: Record | None
    values: dict[str, tuple[Any, Any]] = field(default_factory=dict)


class Comparison:
    """The differences of two jobs, found while they are iterated over; see `compare_jobs`.

    Attributes
    ----------
    counts : Counter of str
        Differences by kind, and images that are the ``"same"``, as far as the last iteration has come.
    """

    def __init__(self, first: Journal, second: Journal, tolerance: float, ignore: frozenset[str]) -> None:
        self._journals = first, second
        self._tolerance = tolerance
        self._ignore = ignore
        self.counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Difference]:
        self.counts.clear()
        folders = [(journal.meta("task") or {}).get("output") for journal in self._journals]
        for first, second in _side_by_side(*(journal.by_key() for journal in self._journals)):
            found = self._difference(first, second, folders)
            self.counts[found.kind if found else "same"] += 1
            if found:
                yield found

    def _difference(
        self, first: Record | None, second: Record | None, folders: list[str | None]
    ) -> Difference | None:
        if first is None or second is None:
            one = first or second
            kind: Kind = "only in the second" if first is None else "only in the first"
            return Difference(one.key if one else "", kind, first, second)
        if first.status != second.status:
            return Difference(first.key, "status", first, second)
        if not first.ok:
            return Difference(first.key, "error", first, second) if first.error != second.error else None
        names = dict.fromkeys([*first, *second])
        differing = {
            name: (first.get(name), second.get(name))
            for name in names
            if name not in self._ignore and not self._agree(name, first, second, folders)
        }
        return Difference(first.key, "values", first, second, differing) if differing else None

    def _agree(self, name: str, first: Record, second: Record, folders: list[str | None]) -> bool:
        if name not in first or name not in second:
            return False
        one, other = first[name], second[name]
        if isinstance(one, str) and isinstance(other, str) and folders[0] and folders[1]:
            # Files lie where each job was told to write them.
            one, other = (_inside(path, folder) for path, folder in zip((one, other), folders, strict=True))
        return agree(one, other, self._tolerance)


def compare_jobs(
    first: Job | str | os.PathLike[str],
    second: Job | str | os.PathLike[str],
    *,
    tolerance: float = 0.0,
    ignore: frozenset[str] | set[str] | tuple[str, ...] = (),
) -> Comparison:
    """Compare two jobs image by image, by key: whose status or values differ.

    Times, engines and attempts are not compared, nor where output folders lie.

    Parameters
    ----------
    first, second : Job or path
    tolerance : float, default 0
        Numbers agree if they differ by no more than this share of the larger one.
    ignore : set of str
        Names of values that are not compared.

    Returns
    -------
    Comparison
        Iterate over it to get each `Difference`, sorted by key; then its ``counts`` say how many there were.

    Raises
    ------
    JobError
        If one is no job, or the tolerance is none.

    Examples
    --------
    >>> comparison = parimg.compare_jobs("matches-old", "matches-new", tolerance=1e-6)  # doctest: +SKIP
    >>> for found in comparison:  # doctest: +SKIP
    ...     print(found.key, found.kind, found.values)
    """
    if not (isinstance(tolerance, int | float) and 0 <= tolerance < 1):
        raise JobError(f"tolerance must be a number from 0 on, below 1 (got {tolerance!r})")
    jobs = [job if isinstance(job, Job) else open_job(job) for job in (first, second)]
    return Comparison(Journal(jobs[0].directory), Journal(jobs[1].directory), tolerance, frozenset(ignore))


def agree(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Whether two values are the same, numbers up to a share of the larger; NaN is the same as NaN."""
    import numpy as np

    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return _arrays_agree(np.asarray(one), np.asarray(other), tolerance)
    if isinstance(one, bool) or isinstance(other, bool):
        return bool(one is other)
    if isinstance(one, int | float) and isinstance(other, int | float):
        if one == other or (one != one and other != other):  # noqa: PLR0124 - NaN
            return True
        return tolerance > 0 and math.isclose(one, other, rel_tol=tolerance)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(agree(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(agree(one[name], other[name], tolerance) for name in one)
    return bool(one == other)


def _arrays_agree(one: npt.NDArray[Any], other: npt.NDArray[Any], tolerance: float) -> bool:
    import numpy as np

    if one.shape != other.shape or one.dtype.names != other.dtype.names:
        return False
    if one.dtype.names is not None:
        return all(_arrays_agree(one[name], other[name], tolerance) for name in one.dtype.names)
    numbers = one.dtype.kind in "fc" or other.dtype.kind in "fc"
    if np.array_equal(one, other, equal_nan=numbers):
        return True
    if not tolerance or one.dtype.kind not in "iufc" or other.dtype.kind not in "iufc":
        return False
    options: dict[str, Any] = {"rtol": tolerance, "atol": 0.0, "equal_nan": True}
    return bool(np.all(np.isclose(one, other, **options) | np.isclose(other, one, **options)))


def _inside(path: str, folder: str | None) -> str:
    return os.path.relpath(path, folder) if folder and path.startswith(folder + os.sep) else path


def _side_by_side(
    first: Iterator[Record], second: Iterator[Record]
) -> Iterator[tuple[Record | None, Record | None]]:
    """Records of one key together, None where one of the two, which are sorted by key, has none."""
    one, other = next(first, None), next(second, None)
    while one is not None or other is not None:
        left, right = one, other
        if left is not None and right is not None:
            # As SQLite sorts text: by its bytes.
            a, b = left.key.encode("utf-8", "surrogatepass"), right.key.encode("utf-8", "surrogatepass")
            left, right = left if a <= b else None, right if b <= a else None
        yield left, right
        one = next(first, None) if left is not None else one
        other = next(second, None) if right is not None else other
