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


def _room(values: NDArray[Any], rows: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Room for a multiple of `rows` rows of a multiple of 32 bits."""
    n, width = values.shape
    per_group = 4 // np.dtype(dtype).itemsize
    return np.empty((-(-n // rows) * rows, -(-width // per_group) * per_group), dtype)


def _in_blocks(values: NDArray[Any]) -> NDArray[Any]:
    """(rows, width) as (blocks, groups, lanes): the same 32 bits of LANES rows side by side."""
    groups = values.view(np.uint32)
    blocks = groups.reshape(-1, LANES, groups.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(blocks).view(values.dtype)


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


def _laid_out(
    values: NDArray[Any], rows: int, dtype: type[np.generic], centre: int, taken_off: int
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int64]]:
    """What `_pad` writes of values: themselves, sums of the padded rows, and sums of squares of those given."""
    padded = _room(values, rows, dtype)
    total, squares = np.empty(len(padded), np.int32), np.empty(len(values), np.int64)
    _pad(values, centre, taken_off, padded, total, squares)
    return padded, total, squares


def lay_out_bytes(query: NDArray[np.uint8], train: NDArray[np.uint8]) -> Layout:
    """Lay out for products of bytes; needs MULTIPLIES_BYTES.

    Both sides are centred on 128, which keeps distances and makes them signed. `sdot` takes them so; `vpdpbusd`
    wants unsigned trains, and the 128 that these have too much is taken off where the sums start.
    """
    rows, total, query_norm = _laid_out(query, QUERIES, np.int8, 128, 128)
    kind, taken_off = (np.int8, 128) if HAS_SDOT else (np.uint8, 0)
    columns, _, train_norm = _laid_out(train, TRAINS, kind, 128, taken_off)
    start = np.zeros_like(total) if HAS_SDOT else -128 * total
    return Layout(rows, start, query_norm, _in_blocks(columns), train_norm)


def lay_out_words(query: NDArray[Any], train: NDArray[Any], *, exact: bool) -> Layout:
    """Lay out for products of 16-bit integers: rounded floats, or bytes, which are exact and are centred."""
    centre = 128 if exact else 0
    rows, _, query_norm = _laid_out(query, QUERIES, np.int16, centre, centre)
    columns, _, train_norm = _laid_out(train, TRAINS, np.int16, centre, centre)
    blocks = _in_blocks(columns)
    start = np.zeros(len(rows), np.int32)
    return Layout(rows, start, query_norm, blocks.view(np.uint16) if exact else blocks, train_norm)


def lay_out_bits(query: NDArray[np.uint8], train: NDArray[np.uint8]) -> Layout:
    """Lay out for counts of differing bits.

    With |x| the number of set bits, |q xor t| = |q| + |t| - 2 |q and t|, as for squares and products.
    """
    rows, columns = (
        _laid_out(values, n_rows, np.uint8, 0, 0)[0].view(np.uint32)
        for values, n_rows in ((query, QUERIES), (train, TRAINS))
    )
    start = np.zeros(len(rows), np.int32)
    query_norm, train_norm = (np.bitwise_count(side).sum(1, dtype=np.int64) for side in (query, train))
    return Layout(rows, start, query_norm, _in_blocks(columns), train_norm)
