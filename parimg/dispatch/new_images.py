"""NewImages: which of the images that a source names are to be run, and at which position.

Those that have no record yet and are not under way; on request also those that failed in an earlier run. Reads the
journal, and is used by the dispatcher's thread alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from parimg.dispatch.in_flight import Pending
from parimg.job.journal_writer import JournalWriter
from parimg.sources.as_source import Image

_BEHIND_ALL = 2**40  # positions of images that a changed source brought between the others


class NewImages:
    """Chooses images, and owns the keys of those that were chosen and have no record yet.

    Parameters
    ----------
    journal : JournalWriter
    retry_failed : bool
        Whether images that failed in an earlier run are run again.
    on_duplicate : callable
        Called with the key of an image that the source named before.

    Attributes
    ----------
    recorded : int
        Images that the source named, and an earlier run recorded.
    """

    def __init__(self, journal: JournalWriter, *, retry_failed: bool, on_duplicate: Callable[[str], None]) -> None:
        self._journal = journal
        self._retry_failed = retry_failed
        self._on_duplicate = on_duplicate
        self.recorded = 0
        self._under_way: set[str] = set()
        self._last_position = journal.last_position()
        self._is_resumed = self._last_position >= 0

    def choose(self, listed: list[tuple[int, Image]]) -> Iterator[Pending]:
        """Those of the listed images that are to be run."""
        recorded = self._journal.recorded([image.key for _, image in listed])
        occupied = self._journal.occupied([position for position, _ in listed]) if self._is_resumed else ()
        for position, image in listed:
            earlier = recorded.get(image.key)
            if image.key in self._under_way or (earlier and earlier.run == self._journal.run):
                self._on_duplicate(image.key)
                continue
            self.recorded += earlier is not None
            if earlier is None:
                self._under_way.add(image.key)
                yield Pending(image, self._position_at_end() if position in occupied else position)
            elif self._retry_failed and earlier.status == "failed":
                self._under_way.add(image.key)
                yield Pending(image, earlier.position)

    def forget(self, keys: Iterable[str]) -> None:
        """Note that images have a record."""
        self._under_way.difference_update(keys)

    def _position_at_end(self) -> int:
        """A place behind all others, for an image whose own is taken: the source changed between two runs."""
        self._last_position = max(self._last_position + 1, _BEHIND_ALL)
        return self._last_position
