"""A shard of a source: the images that one of several controllers runs, chosen by their keys.

Made by the controller; `source_from_spec` makes it again. An image is in the same shard whatever comes before it
in the listing, so a folder that grows leaves each image where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from parimg.errors import SourceError
from parimg.sources.source import Image, Source


class Shard(Source):
    """One of several parts of a source, which have every image in one of them, and about as many each.

    Parameters
    ----------
    whole : Source
    index, n : int
        Which of how many, from 1.

    Raises
    ------
    SourceError
        If they are no such numbers.

    Examples
    --------
    >>> from parimg.sources.as_source import as_source
    >>> whole = as_source(["a.png", "b.png", "c.png", "d.png"])
    >>> [[image.key for image in Shard(whole, index, 2)] for index in (1, 2)]
    [['a.png', 'd.png'], ['b.png', 'c.png']]
    """

    def __init__(self, whole: Source, index: int, n: int) -> None:
        if any(isinstance(number, bool) or not isinstance(number, int) for number in (index, n)) or not (
            1 <= index <= n
        ):
            raise SourceError(
                f"a shard is its number and how many there are, counted from 1, as (1, 8) for the first of eight "
                f"(got {(index, n)!r})"
            )
        self._whole = whole
        self._index = index
        self._n = n
        self.restartable = whole.restartable

    def __iter__(self) -> Iterator[Image]:
        return (image for _, image in self.numbered())

    def numbered(self) -> Iterator[tuple[int, Image]]:
        """Give the images of this shard with their places in the whole."""
        return (
            (place, image)
            for place, image in self._whole.numbered()
            if shard_of(image.key, self._n) == self._index
        )

    def count(self) -> int | None:
        # Only what can be listed twice is counted by listing it.
        if self._whole.count() is None:
            return None
        return sum(1 for _ in self)

    def spec(self) -> dict[str, Any]:
        return {**self._whole.spec(), "shard": [self._index, self._n]}

    def left_out(self) -> Counter[str]:
        return self._whole.left_out()


def shard_of(key: str, n: int) -> int:
    """Which of n shards an image is in, from 1: the same on every host, and in every version of Python."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % n + 1


def parse_shard(text: str) -> tuple[int, int]:
    """``"3/8"`` as ``(3, 8)``.

    Raises
    ------
    SourceError
        If it is not of that kind; whether the numbers are right, `Shard` knows.
    """
    index, _, n = text.partition("/")
    if not (index.isdecimal() and n.isdecimal()):
        raise SourceError(f"a shard is like 1/8, the first of eight (got {text!r})")
    return int(index), int(n)


def whole_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What `Source.spec` would have given of the whole."""
    return {name: value for name, value in spec.items() if name != "shard"}
