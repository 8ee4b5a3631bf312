"""Which pairs are matched in which block, now and when images come later.

The plan is a Parquet file with a row a block (`blocks`). It only grows: pairs that it holds are never planned
again, and its own metadata say which those are, so that it is right whenever the process dies. Runs on the client,
called by `matching`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parimg.files.atomic import whole_file
from parimg.pairs.blocks import Block, blocks_of_pairs, blocks_of_range, decode_block

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

COLUMN = "block"
"""The column of encoded blocks, for `as_source`."""
_STATE = b"parimg pairs"
_GROUP = 1024  # rows that an engine reads at once; with chosen pairs they take up to 2 MB


class PlanState(NamedTuple):
    """What a plan holds.

    Attributes
    ----------
    covers : int
        All pairs of the first so many images are in it.
    rounds : int
        How often it was added to; a part of the names of blocks.
    pairs : int
    left_out : int
        Pairs that were asked for last by name, of images that cannot be read.
    not_indexed : int
        Images that the index lacks by which pairs were chosen last.
    """

    covers: int = 0
    rounds: int = 0
    pairs: int = 0
    left_out: int = 0
    not_indexed: int = 0


def read_plan(path: str) -> PlanState:
    """What a plan holds; nothing if there is none yet."""
    import pyarrow.parquet as pq

    if not os.path.exists(path):
        return PlanState()
    return PlanState(*json.loads((pq.read_metadata(path).metadata or {})[_STATE]))


def add_pairs(
    path: str,
    wanted: npt.NDArray[np.uint32] | None,
    n_images: int,
    *,
    left_out: int = 0,
    not_indexed: int = 0,
) -> int:
    """Plan pairs that are not planned yet.

    Parameters
    ----------
    path : str
        The plan; made if it is not there, else replaced whole.
    wanted : ndarray of uint32, shape (pairs, 2), or None
        Pairs of numbers, in any order, some twice or not; None for all.
    n_images : int
    left_out, not_indexed : int
        See `PlanState`.

    Returns
    -------
    int
        How many were added.
    """
    state = read_plan(path)
    chosen_before = _chosen(path)
    if wanted is None:
        blocks = blocks_of_range(state.covers, n_images) if n_images > state.covers else iter(())
        if len(chosen_before):
            blocks = _without(blocks, chosen_before)
        covers = max(state.covers, n_images)
    else:
        pairs = np.sort(wanted.astype(np.uint32), axis=1)
        pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs[:, 1] >= state.covers)]
        new = np.setdiff1d(_codes(pairs), chosen_before)
        blocks, covers = blocks_of_pairs(_decoded(new), n_images), state.covers
    first = next(blocks, None)
    rounds = state.rounds + (first is not None)
    after = state._replace(covers=covers, rounds=rounds, left_out=left_out, not_indexed=not_indexed)
    if after == state and os.path.exists(path):
        return 0
    return _write(path, state, after, chain([] if first is None else [first], blocks))


def _write(path: str, state: PlanState, after: PlanState, blocks: Iterator[Block]) -> int:
    """Write the rows there are, and new ones behind them; the number of new pairs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(COLUMN, kind)])
    n_pairs = 0
    with whole_file(path) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        for batch in _batches(path):
            writer.write_batch(batch.cast(schema), row_group_size=_GROUP)
        while some := list(islice(blocks, _GROUP)):
            n_pairs += sum(_count(block) for block in some)
            rows = [{"bytes": block.encode(), "path": f"{state.rounds:03d}/{block.name}"} for block in some]
            writer.write_batch(pa.record_batch([pa.array(rows, kind)], schema), row_group_size=_GROUP)
        after = after._replace(pairs=state.pairs + n_pairs)
        writer.add_key_value_metadata({_STATE.decode(): json.dumps(after)})
    return n_pairs


def _count(block: Block) -> int:
    if block.chosen is not None:
        return len(block.chosen)
    if block.rows.stop <= block.columns.start:
        return len(block.rows) * len(block.columns)
    return len(block.pairs())


def _batches(path: str) -> Iterable[pa.RecordBatch]:
    import pyarrow.parquet as pq

    if not os.path.exists(path):
        return
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(_GROUP, use_threads=False)


def _chosen(path: str) -> npt.NDArray[np.uint64]:
    """Codes of the pairs that were chosen one by one, sorted."""
    found = [np.empty(0, np.uint64)]
    for batch in _batches(path):
        for data in batch.column(0).flatten()[0].to_pylist():
            block = decode_block(data)
            if block.chosen is not None:
                found.append(_codes(block.pairs()))
    return np.unique(np.concatenate(found))


def _without(blocks: Iterable[Block], known: npt.NDArray[np.uint64]) -> Iterator[Block]:
    """Blocks without the pairs that are known."""
    for block in blocks:
        pairs = block.pairs()
        is_new = ~np.isin(_codes(pairs), known, assume_unique=True)
        if is_new.all():
            yield block
        elif is_new.any():
            yield block._replace(chosen=pairs[is_new])


def _codes(pairs: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """One number for each pair."""
    codes: npt.NDArray[np.uint64] = (pairs[:, 0].astype(np.uint64) << np.uint64(32)) | pairs[:, 1]
    return codes


def _decoded(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    return np.column_stack([codes >> np.uint64(32), codes & np.uint64(0xFFFFFFFF)]).astype(np.uint32)
