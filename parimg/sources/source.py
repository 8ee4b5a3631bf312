"""What a source is: the names of a job's images one after the other, never the images themselves.

Imported by all kinds of sources, and by what lists them. `as_source` makes one of what a user gave.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from parimg.errors import EmptySourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from parimg.sources.names import Place

QUOTED = 200
"""Characters of what a user gave that an error message quotes."""


class Image(NamedTuple):
    """One unit of input: how it is called, and where it is read or what it is.

    Examples
    --------
    >>> Image("views/a.png", "/data/views/a.png").array is None
    True
    """

    key: str
    """Stable, and unique in its job: path below the current directory, absolute path, URL or given name."""
    uri: str
    """Absolute local path or URL; empty for an array."""
    array: npt.NDArray[Any] | None = None
    """The pixels, where they need not be read."""


class Source(ABC):
    """The images of a job, named one after the other.

    Iterating is lazy, and begins anew each time, except over a generator, which is used up by the first time.
    """

    restartable: bool = True
    """Whether another process can list the images again, from what `spec` says."""

    @abstractmethod
    def __iter__(self) -> Iterator[Image]:
        """Give the images in an order that is the same every time."""

    def numbered(self) -> Iterator[tuple[int, Image]]:
        """Give the images with their places, from 0; of a part, those in the whole."""
        return enumerate(self)

    @abstractmethod
    def count(self) -> int | None:
        """Tell the number of images without reading one; None where only the end will tell."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Describe the images in JSON's types, for `source_from_spec`."""

    def left_out(self) -> Counter[str]:
        """Files that the last listing met and did not take, as far as it came: their number by the reason."""
        return Counter()


class NamedSource(Source):
    """One path or URL names all images."""

    def __init__(self, kind: str, path: str, place: Place, column: str | None = None) -> None:
        self._kind = kind
        self._path = path
        self._place = place
        self._column = column

    def count(self) -> int:
        return sum(1 for _ in self)

    def spec(self) -> dict[str, Any]:
        return {"kind": self._kind, "images": self._path, "column": self._column, **self._place.spec()}

    def _refuse_empty(self, problem: str) -> None:
        raise EmptySourceError(f"{self._path!r:.{QUOTED}} {problem} (looked in {self._place.cwd!r})")


class Several(Source):
    """One source after the other; none is a generator or holds arrays."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def __iter__(self) -> Iterator[Image]:
        return chain.from_iterable(self._sources)

    def count(self) -> int | None:
        counts = [source.count() for source in self._sources]
        return None if None in counts else sum(count or 0 for count in counts)

    def spec(self) -> dict[str, Any]:
        return {"kind": "several", "sources": [source.spec() for source in self._sources]}

    def left_out(self) -> Counter[str]:
        return sum((source.left_out() for source in self._sources), Counter())
