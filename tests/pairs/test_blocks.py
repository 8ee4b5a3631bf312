"""Blocks: which pairs they hold, and that a plan holds each pair once, whatever comes later."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from parimg.errors import JobError
from parimg.pairs.blocks import Block, blocks_of_pairs, blocks_of_range, decode_block, tile_size
from parimg.pairs.planning import add_pairs, read_plan
from parimg.sources.as_source import as_source


def pairs_of(blocks: list[Block]) -> list[tuple[int, int]]:
    return [tuple(pair) for block in blocks for pair in block.pairs().tolist()]


def planned(path: Path) -> list[tuple[int, int]]:
    rows = pq.read_table(path)["block"].to_pylist()
    return pairs_of([decode_block(row["bytes"]) for row in rows])


@pytest.mark.parametrize("n_images", [2, 3, 32, 47, 100])
def test_the_blocks_of_a_range_hold_every_pair_once(n_images: int) -> None:
    found = pairs_of(list(blocks_of_range(0, n_images)))
    assert sorted(found) == list(itertools.combinations(range(n_images), 2))


def test_blocks_of_added_images_hold_the_pairs_of_these_with_all() -> None:
    found = pairs_of(list(blocks_of_range(40, 50)))
    assert sorted(found) == [pair for pair in itertools.combinations(range(50), 2) if pair[1] >= 40]


def test_blocks_have_at_most_32_images_on_a_side() -> None:
    sides = [len(side) for block in blocks_of_range(0, 1000) for side in (block.rows, block.columns)]
    assert max(sides) == 32
    assert tile_size(10) == 4


def test_chosen_pairs_that_share_rows_lie_in_one_block_however_far_their_columns_are() -> None:
    pairs = np.array([[0, 99], [3, 4], [98, 99], [2, 98], [3, 50]], np.uint32)
    blocks = list(blocks_of_pairs(pairs, 100))
    assert [block.pairs().tolist() for block in blocks] == [[[3, 4], [3, 50], [2, 98], [0, 99]], [[98, 99]]]
    assert [(block.rows, block.columns) for block in blocks] == [
        (range(4), range(4, 100)), (range(98, 99), range(99, 100))
    ]  # fmt: skip


def test_blocks_of_scattered_pairs_are_few_and_have_few_images() -> None:
    pairs = np.random.default_rng(3).integers(0, 4000, (40_000, 2), np.uint32)
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    blocks = list(blocks_of_pairs(pairs, 4000))
    assert sorted(pairs_of(blocks)) == [tuple(pair) for pair in pairs.tolist()]
    assert max(len(np.unique(block.pairs())) for block in blocks) <= 96
    assert len({block.name for block in blocks}) == len(blocks) < len(pairs) / 40


def test_a_block_is_the_same_after_its_way_through_bytes() -> None:
    block = Block(range(64, 96), range(96, 10**6), np.array([[64, 99], [95, 999_999]], np.uint32))
    assert pairs_of([decode_block(block.encode())]) == [(64, 99), (95, 999_999)]
    with pytest.raises(JobError, match="is no block of pairs"):
        decode_block(b"abc")


def test_a_plan_grows_by_the_pairs_that_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    assert add_pairs(str(path), None, 10) == 45
    assert add_pairs(str(path), None, 10) == 0
    assert add_pairs(str(path), None, 13) == 33
    assert read_plan(str(path)).pairs == 78
    assert sorted(planned(path)) == list(itertools.combinations(range(13), 2))


def test_pairs_that_were_chosen_first_are_not_planned_again_with_all(tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    chosen = np.array([[5, 3], [3, 5], [7, 7], [0, 41]], np.uint32)
    assert add_pairs(str(path), chosen, 42) == 2
    assert add_pairs(str(path), chosen[:1], 42) == 0
    assert add_pairs(str(path), None, 42) == 42 * 41 // 2 - 2
    assert add_pairs(str(path), np.array([[1, 2], [41, 42]], np.uint32), 43) == 1
    found = planned(path)
    assert len(found) == len(set(found)) == 42 * 41 // 2 + 1


def test_the_plan_is_a_source_with_a_name_a_block(tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    add_pairs(str(path), None, 5)
    add_pairs(str(path), None, 6)
    keys = [image.key for image in as_source(str(path), column="block")]
    assert keys == ["000/0000000x0000000", "000/0000000x0000004", "001/0000000x0000005", "001/0000004x0000005"]
