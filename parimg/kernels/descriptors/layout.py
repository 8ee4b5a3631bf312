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


def _padded(values: NDArray[Any], rows: int, fill: int) -> NDArray[Any]:
    """A copy with a multiple of `rows` rows of a multiple of 32 bits."""
    n, width = values.shape
    per_group = 4 // values.itemsize
    padded = np.full((-(-n // rows) * rows, -(-width // per_group) * per_group), fill, values.dtype)
    padded[:n, :width] = values
    return padded


def _in_blocks(values: NDArray[Any]) -> NDArray[Any]:
    """(rows, width) as (blocks, groups, lanes): the same 32 bits of LANES rows side by side."""
    groups = values.view(np.uint32)
    blocks = groups.reshape(-1, LANES, groups.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(blocks).view(values.dtype)


@numba.njit(cache=True, nogil=True)
def _add_up(values: NDArray[Any], total: NDArray[np.int32], squares: NDArray[np.int64]) -> None:
    """Write the sum and the sum of squares of every row; both fit into 32 bits."""
    for i in range(len(values)):
        row_total = np.int32(0)
        row_squares = np.int32(0)
        for j in range(values.shape[1]):
            value = np.int32(values[i, j])
            row_total += value
            row_squares += value * value
        total[i] = row_total
        squares[i] = row_squares


def _sums(values: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The sum and the sum of squares of every row."""
    total, squares = np.empty(len(values), np.int32), np.empty(len(values), np.int64)
    _add_up(values, total, squares)
    return total, squares


def lay_out_bytes(query: NDArray[np.uint8], train: NDArray[np.uint8]) -> Layout:
    """Lay out for products of bytes; needs MULTIPLIES_BYTES.

    Both sides are centred on 128, which keeps distances and makes them signed. `sdot` takes them so; `vpdpbusd`
    wants unsigned trains, and the 128 that these have too much is taken off where the sums start.
    """
    signed = (_padded(query, QUERIES, 128) ^ 128).view(np.int8)
    unsigned = _padded(train, TRAINS, 128)
    signed_train = (unsigned ^ 128).view(np.int8)
    total, query_norm = _sums(signed)
    _, train_norm = _sums(signed_train)
    start = np.zeros_like(total) if HAS_SDOT else -128 * total
    columns = _in_blocks(signed_train if HAS_SDOT else unsigned)
    return Layout(signed, start, query_norm[: len(query)], columns, train_norm[: len(train)])


def lay_out_words(query: NDArray[np.int16], train: NDArray[np.int16], *, exact: bool) -> Layout:
    """Lay out for products of 16-bit integers, which are exact, or rounded."""
    rows, columns = _padded(query, QUERIES, 0), _padded(train, TRAINS, 0)
    start = np.zeros(len(rows), np.int32)
    blocks = _in_blocks(columns)
    trains = blocks.view(np.uint16) if exact else blocks
    return Layout(rows, start, _sums(query)[1], trains, _sums(train)[1])


def lay_out_bits(query: NDArray[np.uint8], train: NDArray[np.uint8]) -> Layout:
    """Lay out for counts of differing bits.

    With |x| the number of set bits, |q xor t| = |q| + |t| - 2 |q and t|, as for squares and products.
    """
    rows = _padded(query, QUERIES, 0).view(np.uint32)
    columns = _padded(train, TRAINS, 0).view(np.uint32)
    start = np.zeros(len(rows), np.int32)
    query_norm, train_norm = (np.bitwise_count(side).sum(1, dtype=np.int64) for side in (query, train))
    return Layout(rows, start, query_norm, _in_blocks(columns), train_norm)
