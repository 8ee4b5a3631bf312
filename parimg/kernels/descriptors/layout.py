"""Descriptors in the order in which the inner loop of `nearest_scan.py` reads them on this processor.

Called by `matching.py`, which has checked what it passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core.registry import cpu_target

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What the processor has, and what a user's NUMBA_CPU_NAME and NUMBA_CPU_FEATURES leave of it.
_TRIPLE, _CPU, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
_HAS = frozenset(_FEATURES.split(","))

_SUM_OF_PRODUCTS = """
define i32 @sum(<16 x i8> %a, <16 x i8> %b) {
  %c = sext <16 x i8> %a to <16 x i32>
  %d = sext <16 x i8> %b to <16 x i32>
  %e = mul <16 x i32> %c, %d
  %f = call i32 @llvm.vector.reduce.add.v16i32(<16 x i32> %e)
  ret i32 %f
}
declare i32 @llvm.vector.reduce.add.v16i32(<16 x i32>)
"""


def _multiplies_bytes_on_arm(triple: str, cpu: str, features: str) -> bool:
    """Whether LLVM may use `sdot`, which only some names of processors imply: what it makes of a sum tells."""
    if not triple.startswith(("aarch64", "arm64")):
        return False
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu, features, opt=2)
    return "sdot" in machine.emit_assembly(llvm.parse_assembly(_SUM_OF_PRODUCTS))


# A tile of QUERIES x VECTORS sums, its trains and one query fill the vector registers: 32 of them with
# AVX-512, else 16. On an EPYC with AVX-512, 8 x 2 was 4 % slower than 4 x 4, 2 x 8 7 % and 4 x 2 17 %.
LANES, VECTORS = (16, 4) if "+avx512bw" in _HAS else (8, 2)
QUERIES = 4
TRAINS = LANES * VECTORS
HAS_AVX2 = "+avx2" in _HAS
HAS_VNNI = ("+avx512vnni" if LANES == 16 else "+avxvnni") in _HAS
HAS_SDOT = _multiplies_bytes_on_arm(_TRIPLE, _CPU, _FEATURES)
MULTIPLIES_BYTES = HAS_VNNI or HAS_SDOT


class Layout(NamedTuple):
    """Descriptors in the order in which `scan` reads them, padded to whole tiles."""

    query: NDArray[Any]
    query_start: NDArray[np.int32]
    query_norm: NDArray[np.int64]
    train: NDArray[Any]
    train_norm: NDArray[np.int64]


@numba.njit(cache=True, nogil=True)
def _pad(
    values: NDArray[Any],
    centre: int,
    taken_off: int,
    padded: NDArray[Any],
    total: NDArray[np.int32],
    squares: NDArray[np.int64],
) -> None:
    """Write values less `taken_off`, the rest at the centre; sums, and sums of squares, of values less `centre`.

    Both sums of a row fit into 32 bits.
    """
    n, width = values.shape
    for i in range(len(padded)):
        row_total = row_squares = np.int32(0)
        if i < n:
            for j in range(width):
                value = np.int32(values[i, j])
                padded[i, j] = value - np.int32(taken_off)
                centred = np.int32(value - np.int32(centre))
                row_total = np.int32(row_total + centred)
                row_squares = np.int32(row_squares + np.int32(centred * centred))
            squares[i] = row_squares
        total[i] = row_total
        for j in range(width if i < n else 0, padded.shape[1]):
            padded[i, j] = centre - taken_off


@numba.njit(cache=True, nogil=True)
def _pad_in_blocks(
    values: NDArray[Any],
    centre: int,
    taken_off: int,
    padded: NDArray[Any],
    total: NDArray[np.int32],
    squares: NDArray[np.int64],
    blocks: NDArray[np.uint32],
) -> None:
    """As `_pad`, with the same 32 bits of LANES rows side by side; `padded` has room for LANES rows.

    All rows padded at once, and laid out anew by numpy, took a third longer, and another time their memory.
    """
    groups = padded.view(np.uint32)
    for block in range(len(blocks)):
        first = block * LANES
        _pad(values[first : first + LANES], centre, taken_off, padded, total, squares[first : first + LANES])
        for group in range(groups.shape[1]):
            for lane in range(LANES):
                blocks[block, group, lane] = groups[lane, group]


def _room(values: NDArray[Any], rows: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Room for rows of a multiple of 32 bits."""
    per_group = 4 // np.dtype(dtype).itemsize
    return np.empty((rows, -(-values.shape[1] // per_group) * per_group), dtype)


def _in_rows(
    values: NDArray[Any], dtype: type[np.generic], centre: int, taken_off: int
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int64]]:
    """What `_pad` writes of queries: themselves, sums of the padded rows, and sums of squares of those given."""
    padded = _room(values, -(-len(values) // QUERIES) * QUERIES, dtype)
    total, squares = np.empty(len(padded), np.int32), np.empty(len(values), np.int64)
    _pad(values, centre, taken_off, padded, total, squares)
    return padded, total, squares


def _in_blocks(
    values: NDArray[Any], dtype: type[np.generic], centre: int, taken_off: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """What `_pad_in_blocks` writes of trains: (blocks, groups, lanes), and sums of squares."""
    padded = _room(values, LANES, dtype)
    blocks = np.empty((-(-len(values) // TRAINS) * VECTORS, padded.nbytes // (4 * LANES), LANES), np.uint32)
    total, squares = np.empty(LANES, np.int32), np.empty(len(values), np.int64)
    _pad_in_blocks(values, centre, taken_off, padded, total, squares, blocks)
    return blocks.view(dtype), squares


def lay_out_bytes(query: NDArray[np.uint8], train: NDArray[np.uint8]) -> Layout:
    """Lay out for products of bytes; needs MULTIPLIES_BYTES.

    Both sides are centred on 128, which keeps distances and makes them signed. `sdot` takes them so; `vpdpbusd`
    wants unsigned trains, and the 128 that these have too much is taken off where the sums start.
    """
    rows, total, query_norm = _in_rows(query, np.int8, 128, 128)
    kind, taken_off = (np.int8, 128) if HAS_SDOT else (np.uint8, 0)
    blocks, train_norm = _in_blocks(train, kind, 128, taken_off)
    start = np.zeros_like(total) if HAS_SDOT else -128 * total
    return Layout(rows, start, query_norm, blocks, train_norm)


def lay_out_words(query: NDArray[Any], train: NDArray[Any], *, exact: bool) -> Layout:
    """Lay out for products of 16-bit integers: rounded floats, or bytes, which are exact and are centred."""
    centre = 128 if exact else 0
    rows, _, query_norm = _in_rows(query, np.int16, centre, centre)
    blocks, train_norm = _in_blocks(train, np.int16, centre, centre)
    start = np.zeros(len(rows), np.int32)
    return Layout(rows, start, query_norm, blocks.view(np.uint16) if exact else blocks, train_norm)


def lay_out_bits(query: NDArray[np.uint8], train: NDArray[np.uint8]) -> Layout:
    """Lay out for counts of differing bits.

    With |x| the number of set bits, |q xor t| = |q| + |t| - 2 |q and t|, as for squares and products.
    """
    rows = _in_rows(query, np.uint8, 0, 0)[0].view(np.uint32)
    blocks = _in_blocks(train, np.uint8, 0, 0)[0].view(np.uint32)
    start = np.zeros(len(rows), np.int32)
    query_norm, train_norm = (np.bitwise_count(side).sum(1, dtype=np.int64) for side in (query, train))
    return Layout(rows, start, query_norm, blocks, train_norm)
