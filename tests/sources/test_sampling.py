"""Some images of a source, chosen at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from parimg.errors import EmptySourceError
from parimg.sources.as_source import as_source
from parimg.sources.sampling import Chosen, choose


def keys(paths: list[str], n: int, seed: int, **options: int) -> list[str]:
    return [image.key for image in choose(as_source(paths), n, seed, **options).images]


def test_the_same_seed_chooses_the_same_images_in_the_source_s_order() -> None:
    paths = [f"{number:03}.png" for number in range(300)]
    chosen = keys(paths, 12, 5)
    assert chosen == keys(paths, 12, 5)
    assert chosen != keys(paths, 12, 6)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 12
    assert keys(paths[:7], 12, 5) == paths[:7]
    assert choose(as_source(paths), 12, 5).total == 300


def test_each_image_is_as_likely_as_any() -> None:
    paths = [f"{number}.png" for number in range(20)]
    counts = Counter(key for seed in range(2000) for key in keys(paths, 5, seed))
    assert stats.chisquare([counts[path] for path in paths]).pvalue > 1e-4


def test_only_so_many_of_a_listing_are_looked_at_but_all_are_counted() -> None:
    paths = [f"{number:03}.png" for number in range(300)]
    assert max(keys(paths, 12, 0, most=40)) <= "039.png"
    assert choose(as_source(paths), 12, 0, most=40).total == 300


def test_a_generator_gives_its_first_images_and_no_more() -> None:
    taken = []

    def camera() -> Iterator[tuple[str, np.ndarray]]:
        for number in range(1_000_000):
            taken.append(number)
            yield f"{number}", np.zeros(2)

    chosen, total = choose(as_source(camera()), 3, 0)
    assert [image.key for image in chosen] == ["0", "1", "2"]
    assert total is None
    assert len(taken) <= 4
    assert [image.key for image in Chosen(chosen)] == ["0", "1", "2"]
    assert Chosen(chosen).count() == 3


def test_no_images_are_an_error() -> None:
    with pytest.raises(EmptySourceError):
        choose(as_source(iter(())), 3, 0)
