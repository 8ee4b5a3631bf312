"""Shards of a source: every image in one of them, and always in the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parimg.errors import SourceError
from parimg.sources.as_source import as_source, join_specs, source_from_spec
from parimg.sources.shards import Shard, parse_shard, shard_of

NAMES = [f"views/{number:04d}.png" for number in range(1000)]


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_each_image_is_in_one_shard_with_its_place_in_the_whole(n: int) -> None:
    shards = [Shard(as_source(NAMES), index, n) for index in range(1, n + 1)]
    numbered = sorted((place, image.key) for shard in shards for place, image in shard.numbered())
    assert numbered == list(enumerate(NAMES))
    assert [shard.count() for shard in shards] == [len(list(shard)) for shard in shards]
    assert all(0.8 * 1000 / n < len(list(shard)) < 1.2 * 1000 / n for shard in shards)


def test_the_shard_of_a_key_is_the_same_for_ever() -> None:
    # The first three as `printf a.png | b2sum -l 64` gives them, last digit modulo 8, plus 1.
    assert [shard_of(key, 8) for key in ("a.png", "b.png", "c.png", "caf\udce9.png")] == [7, 2, 4, 7]


def test_a_folder_that_grows_leaves_each_image_in_its_shard(tmp_path: Path) -> None:
    for name in ("b.png", "d.png", "f.png"):
        (tmp_path / name).touch()
    source = as_source(tmp_path)
    before = {image.key: index for index in (1, 2, 3) for image in Shard(source, index, 3)}
    for name in ("a.png", "c.png"):
        (tmp_path / name).touch()
    after = {image.key: index for index in (1, 2, 3) for image in Shard(source, index, 3)}
    assert {key: after[key] for key in before} == before
    assert len(after) == 5


def test_a_shard_is_listed_again_from_its_description(tmp_path: Path) -> None:
    for name in NAMES[:20]:
        (tmp_path / Path(name).name).touch()
    for whole in (as_source(NAMES), as_source(tmp_path)):
        shard = Shard(whole, 2, 3)
        again = source_from_spec(shard.spec())
        assert list(again.numbered()) == list(shard.numbered())
        assert len(list(again)) < len(list(whole))
    several = source_from_spec(join_specs(as_source(NAMES[:9]).spec(), as_source(NAMES[9:]).spec()))
    shard = Shard(several, 1, 2)
    assert list(source_from_spec(shard.spec())) == list(shard)
    other = Shard(as_source(["x.png"]), shard_of("x.png", 2), 2)
    assert [image.key for image in source_from_spec(join_specs(shard.spec(), other.spec()))] == [
        *(image.key for image in shard),
        "x.png",
    ]


def test_a_generator_is_listed_once_by_its_shard() -> None:
    shard = Shard(as_source((name, np.zeros(1)) for name in ("a.png", "b.png", "c.png")), 4, 8)
    assert shard.count() is None
    assert [image.key for image in shard] == ["c.png"]


@pytest.mark.parametrize(("index", "n"), [(0, 8), (9, 8), (-1, 8), (1, 0), (1.0, 8), (True, 8), ("1", 8)])
def test_numbers_that_name_no_shard_are_refused(index: object, n: object) -> None:
    with pytest.raises(SourceError, match=r"counted from 1, as \(1, 8\) for the first of eight"):
        Shard(as_source(NAMES), index, n)


def test_a_shard_is_typed_with_a_stroke() -> None:
    assert parse_shard("3/8") == (3, 8)
    for wrong in ("3", "3/", "/8", "a/b", "-1/8", "1/8/2", "1.5/8"):
        with pytest.raises(SourceError, match="a shard is like 1/8"):
            parse_shard(wrong)
