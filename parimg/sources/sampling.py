"""Some images of a source, chosen at random, the same for the same seed. For previews."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from parimg.errors import EmptySourceError
from parimg.sources.source import Image, Source

LOOKED_AT = 100_000
"""Images of a listing among which is chosen: half a second for a folder of this machine."""


class Sample(NamedTuple):
    """Chosen images."""

    images: list[Image]
    """In the order of the source."""
    total: int | None
    """Images of the source, None of a generator."""


def choose(source: Source, n: int, seed: int, most: int = LOOKED_AT) -> Sample:
    """Choose some of the first `most` images, each as likely as any; of a generator take the first.

    Memory follows `n`: the listing is gone through once, and held nowhere (algorithm R of Vitter).

    Raises
    ------
    EmptySourceError
        If there are no images.
    """
    is_generator = not source.restartable and source.count() is None
    if is_generator:  # it is used up as far as it is looked at
        first = list(itertools.islice(source, n))
        return Sample(_some(first), None)
    chooser = random.Random(seed)  # noqa: S311 # nothing is kept secret by it
    kept: list[tuple[int, Image]] = []
    seen = 0
    for seen, image in enumerate(itertools.islice(source, most), start=1):
        if len(kept) < n:
            kept.append((seen, image))
        elif (place := chooser.randrange(seen)) < n:
            kept[place] = (seen, image)
    total = seen if seen < most else source.count()
    return Sample(_some([image for _, image in sorted(kept, key=lambda one: one[0])]), total)


def _some(images: list[Image]) -> list[Image]:
    if not images:
        raise EmptySourceError("there are no images to choose from")
    return images


class Chosen(Source):
    """Images that were chosen, as a source; no other process can list them."""

    restartable = False

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = images

    def __iter__(self) -> Iterator[Image]:
        return iter(self._images)

    def count(self) -> int:
        return len(self._images)

    def spec(self) -> dict[str, Any]:
        return {"kind": "arrays"}
