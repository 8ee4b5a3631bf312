"""Failures: the failed images of a job, one by one and grouped by error, read from its journal when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from parimg.job.journal import FailureGroup, Journal
from parimg.record import Record


class Failures(Sequence[Record]):
    """The failed images of a job, in order of completion, read from its journal as they are asked for.

    Examples
    --------
    >>> job.failures  # doctest: +SKIP
    <3 failures: 2 ImageMissingError, 1 TimeoutError>
    >>> job.failures.by_error["TimeoutError"].message  # doctest: +SKIP
    'it ran longer than timeout=5 s, and its engine was ended'
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __len__(self) -> int:
        return self._journal.count_by_status()["failed"]

    def __iter__(self) -> Iterator[Record]:
        return self._journal.failed()

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...

    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        if isinstance(place, slice):
            return self._journal.failed_slice(range(*place.indices(len(self))))
        n = place if place >= 0 else len(self) + place
        records = self._journal.failed_slice(range(n, n + 1)) if n >= 0 else []
        if not records:
            raise IndexError(f"no failure {place}; there are {len(self)}")
        return records[0]

    @property
    def by_error(self) -> dict[str, FailureGroup]:
        """By type of error, most first: ``error, count``, and ``key, message`` of the first image."""
        return {group.error: group for group in self._journal.failures_by_error()}

    @property
    def commonest(self) -> FailureGroup | None:
        """The commonest error among the last 1 000 failures, found fast; None without failures."""
        return self._journal.commonest_failure()

    def _repr_html_(self) -> str:
        from parimg.job.showing import failures_html

        return failures_html(self)

    def __repr__(self) -> str:
        groups = self.by_error.values()
        kinds = ", ".join(f"{group.count} {group.error}" for group in groups)
        total = sum(group.count for group in groups)
        return f"<{total} failure{'s' * (total != 1)}{f': {kinds}' if kinds else ''}>"
