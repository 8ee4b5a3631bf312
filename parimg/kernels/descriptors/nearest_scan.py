"""The inner loops of descriptor matching: nearest neighbours by products of integers in vector registers.

`scan` finds the nearest of every row and of every column in one pass over a `Layout`, `settle` finds the
exactly nearest where a scan could not tell. Nothing is checked here; `matching.py` checks and is the only
caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.descriptors.layout import HAS_AVX2, LANES, QUERIES, VECTORS, Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Strategy: |q - t|² = |q|² + |t|² - 2 q·t, and for the nearest t of one q the |q|² does not matter. A
# tile of QUERIES x VECTORS x LANES products q·t is summed in registers, 32 bits of each descriptor a step,
# and every finished product becomes two keys: |t|² - 2 q·t for its row and |q|² - 2 q·t for its column. A
# key carries an index in its low bits: the block of LANES trains for rows, the number of the query for
# columns. So the running minimum of LANES pairs is one instruction, it brings the index along, and the
# lowest index wins a tie. The second smallest is the minimum of the maxima, and so on. As the low bits
# number only 2**INDEX_BITS queries and blocks, the matrix is walked in panels of that size, and after each
# panel the keys are taken apart into values and indices.
#
# The tile is written as LLVM code because LLVM does not find `vpdpbusd`, or `sdot`, in a loop. On an EPYC with
# AVX-512 one core multiplies 47e9 pairs a second in float32 (numpy's matrix product), 160e9 in 16-bit and 350e9
# in 8-bit integers.

INDEX_BITS = 8
NOTHING = 2**31 - 1
_WORST = 2**63 - 1
# |t|² - 2 q·t is at most three times the largest squared length; it has to fit into 31 bits, with room for
# rounding.
LARGEST_LENGTH = 26750.0

_int32 = ir.IntType(32)
_lanes = ir.VectorType(_int32, LANES)


def _call(builder: ir.IRBuilder, name: str, *operands: ir.Value) -> ir.Value:
    """Call the LLVM intrinsic whose result is a vector of LANES 32-bit integers."""
    kind = ir.FunctionType(_lanes, [operand.type for operand in operands])
    return builder.call(builder.module.declare_intrinsic(name, (), kind), operands)


def _add_products_of_bytes(b: ir.IRBuilder, total: ir.Value, train: ir.Value, query: ir.Value) -> ir.Value:
    """Add to every lane the products of four unsigned with four signed bytes."""
    return _call(b, f"llvm.x86.avx512.vpdpbusd.{32 * LANES}", total, train, query)


def _add_products_of_signed_bytes(b: ir.IRBuilder, total: ir.Value, train: ir.Value, query: ir.Value) -> ir.Value:
    """Add to every lane the products of four signed bytes, a register of four lanes at a time."""
    four, bytes_ = ir.VectorType(_int32, 4), ir.VectorType(ir.IntType(8), 16)
    sdot = b.module.declare_intrinsic(
        "llvm.aarch64.neon.sdot.v4i32.v16i8", (), ir.FunctionType(four, [four, bytes_, bytes_])
    )
    halves = []
    for first in range(0, LANES, 4):
        mask = ir.Constant(ir.VectorType(_int32, 4), list(range(first, first + 4)))
        parts = [b.shuffle_vector(side, side, mask) for side in (total, train, query)]
        halves.append(b.call(sdot, [parts[0], *(b.bitcast(part, bytes_) for part in parts[1:])]))
    return b.shuffle_vector(*halves, ir.Constant(_lanes, list(range(LANES))))


def _add_products_of_words(b: ir.IRBuilder, total: ir.Value, train: ir.Value, query: ir.Value) -> ir.Value:
    """Add to every lane two products of 16-bit integers."""
    words = ir.VectorType(ir.IntType(16), 2 * LANES)
    pair = b.bitcast(train, words), b.bitcast(query, words)
    if HAS_AVX2:  # with VNNI, LLVM makes one `vpdpwssd` of this and the addition
        name = "llvm.x86.avx512.pmaddw.d.512" if LANES == 16 else "llvm.x86.avx2.pmadd.wd"
        return b.add(total, _call(b, name, *pair))
    product = b.mul(*(b.sext(side, ir.VectorType(_int32, 2 * LANES)) for side in pair))
    even, odd = (
        b.shuffle_vector(product, product, ir.Constant(_lanes, list(range(first, 2 * LANES, 2))))
        for first in (0, 1)
    )
    return b.add(total, b.add(even, odd))


def _add_common_bits(b: ir.IRBuilder, total: ir.Value, train: ir.Value, query: ir.Value) -> ir.Value:
    """Add to every lane the number of bits that are set on both sides."""
    return b.add(total, _call(b, f"llvm.ctpop.v{LANES}i32", b.and_(train, query)))


class _Product(NamedTuple):
    """How products of one dtype are summed, and how many nearest of a row and of a column are kept.

    Words may be rounded; then those kept beyond the wanted ones tell whether rounding can have changed the
    order. Those of bytes are not: their trains are said to be uint16, though the bits are the same.
    """

    add: Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]
    row_depth: int
    column_depth: int
    is_exact: bool = True


_PRODUCTS = {
    "uint8": _Product(_add_products_of_bytes, 2, 1),
    "int8": _Product(_add_products_of_signed_bytes, 2, 1),
    "int16": _Product(_add_products_of_words, 4, 3, is_exact=False),
    "uint16": _Product(_add_products_of_words, 2, 1),
    "uint32": _Product(_add_common_bits, 2, 1),
}


def _tile(
    _typing_context: Any,
    query: Any,
    query_start: Any,
    query_key: Any,
    train: Any,
    train_key: Any,
    row_keys: Any,
    column_keys: Any,
    _query: Any,
    _block: Any,
    _row: Any,
    _shift: Any,
    _mask: Any,
) -> tuple[Any, Callable[..., ir.Value]]:
    """Multiply QUERIES queries with VECTORS blocks of trains and lower the smallest keys of both.

    Those from the given query and block on, and the keys of the former from the given row on. `row_keys` is
    (queries, depth, LANES), `column_keys` is (VECTORS, depth, LANES). A product enters the keys shifted to the
    left, and, where it is not exact, only with the bits of the mask. All arrays are C-contiguous and bounds are
    not checked. Slices in place of numbers cost 40 instructions a tile, which has 100 beside its products.
    """
    product = _PRODUCTS[str(train.dtype)]

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:7], args[:7], strict=True)
        ]
        groups = builder.extract_value(arrays[3].shape, 1)
        first_query, first_block, first_row = args[7:10]
        lanes = groups.type(LANES)
        starts_at = (
            builder.mul(first_query, groups),
            first_query,
            first_query,
            builder.mul(first_block, builder.mul(groups, lanes)),
            builder.mul(first_block, lanes),
            builder.mul(first_row, groups.type(product.row_depth * LANES)),
            groups.type(0),
        )
        queries, starts, query_keys, trains, train_keys, rows, columns = (
            builder.gep(builder.bitcast(array.data, _int32.as_pointer()), [place])
            for array, place in zip(arrays, starts_at, strict=True)
        )

        def element(pointer: ir.Value, index: ir.Value | int) -> ir.Value:
            return builder.gep(pointer, [groups.type(index) if isinstance(index, int) else index])

        def vector(pointer: ir.Value, index: ir.Value | int) -> ir.Value:
            scaled = index * LANES if isinstance(index, int) else builder.mul(index, groups.type(LANES))
            return builder.bitcast(element(pointer, scaled), _lanes.as_pointer())

        def in_all_lanes(scalar: ir.Value) -> ir.Value:
            undefined = ir.Constant(_lanes, ir.Undefined)
            one = builder.insert_element(undefined, scalar, _int32(0))
            return builder.shuffle_vector(one, undefined, ir.Constant(_lanes, [0] * LANES))

        def keep_smallest(pointer: ir.Value, first: int, depth: int, keys: list[ir.Value]) -> None:
            places = [vector(pointer, first + level) for level in range(depth)]
            smallest = [builder.load(place, align=4) for place in places]
            for key in keys:
                rest = key
                for level, kept in enumerate(smallest):
                    smallest[level] = _call(builder, f"llvm.smin.v{LANES}i32", kept, rest)
                    rest = _call(builder, f"llvm.smax.v{LANES}i32", kept, rest)
            for place, value in zip(places, smallest, strict=True):
                builder.store(value, place, align=4)

        tile = [(i, j) for i in range(QUERIES) for j in range(VECTORS)]
        with builder.goto_entry_block():
            totals = {place: builder.alloca(_lanes) for place in tile}
        start = [in_all_lanes(builder.load(element(starts, i))) for i in range(QUERIES)]
        for i, j in tile:
            builder.store(start[i], totals[i, j])
        # Unrolled, LLVM adds products to each other before it adds them to the totals, and spills: slower.
        with cgutils.for_range(builder, groups) as loop:

            def step(row: int) -> ir.Value:
                return builder.add(builder.mul(groups.type(row), groups), loop.index)

            block = [builder.load(vector(trains, step(j)), align=4) for j in range(VECTORS)]
            group = [in_all_lanes(builder.load(element(queries, step(i)))) for i in range(QUERIES)]
            for i, j in tile:
                total = product.add(builder, builder.load(totals[i, j]), block[j], group[i])
                builder.store(total, totals[i, j])

        left, bits = (in_all_lanes(value) for value in args[10:])
        doubled = {place: builder.shl(builder.load(total), left) for place, total in totals.items()}
        if not product.is_exact:
            doubled = {place: builder.and_(value, bits) for place, value in doubled.items()}
        row_key = [builder.load(vector(train_keys, j), align=4) for j in range(VECTORS)]
        column_key = [in_all_lanes(builder.load(element(query_keys, i))) for i in range(QUERIES)]
        for i in range(QUERIES):
            keys = [builder.sub(row_key[j], doubled[i, j]) for j in range(VECTORS)]
            keep_smallest(rows, i * product.row_depth, product.row_depth, keys)
        for j in range(VECTORS):
            keys = [builder.sub(column_key[i], doubled[i, j]) for i in range(QUERIES)]
            keep_smallest(columns, j * product.column_depth, product.column_depth, keys)
        return context.get_dummy_value()

    pointers = (query, query_start, query_key, train, train_key, row_keys, column_keys)
    return types.void(*pointers, *[types.intp] * 3, types.int32, types.int32), generate


def _depths(_typing_context: Any, train: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """How many nearest of a row and of a column are kept: compiled in, small scans are 10 % faster."""
    product = _PRODUCTS[str(train.dtype)]
    tuple_type: Any = types.UniTuple  # numba leaves it untyped
    kind = tuple_type(types.intp, 2)

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, _args: Any) -> ir.Value:
        return context.get_constant_generic(builder, kind, (product.row_depth, product.column_depth))

    return kind(train), generate


_update_tile: Any = intrinsic(_tile)
_kept_depths: Any = intrinsic(_depths)


@numba.njit(cache=True, nogil=True)
def _keys(norm: NDArray[np.int64], rows: int, lanes: int, index_bits: int, dropped: int) -> NDArray[np.int32]:
    """Norm and index of each, `lanes` of which share an index; the largest number where there is none."""
    keys = np.full((rows, lanes), NOTHING, np.int32)
    low_bits = (1 << index_bits) - 1
    for i in range(len(norm)):
        index = i // lanes
        keys[index, i % lanes] = norm[i] >> dropped << index_bits | index & low_bits
    return keys


@numba.njit(cache=True, nogil=True)
def _take_apart(
    best: NDArray[np.int64], norm: NDArray[np.int64], index_bits: int, dropped: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Squared distances and indices, shape (norms, depth), of pairs of value and index of shape (depth, any)."""
    depth = len(best)
    squared, index = np.empty((len(norm), depth), np.int64), np.empty((len(norm), depth), np.int32)
    for i in range(len(norm)):
        for level in range(depth):
            value = best[level, i] >> 32
            squared[i, level] = (value << dropped) + norm[i]
            index[i, level] = np.int32(best[level, i] & 0xFFFFFFFF) if value < NOTHING >> index_bits else -1
    return squared, index


@numba.njit(cache=True, nogil=True)
def _scan(
    query: NDArray[Any],
    query_start: NDArray[np.int32],
    query_norm: NDArray[np.int64],
    train: NDArray[Any],
    train_norm: NDArray[np.int64],
    index_bits: int,
    dropped: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Squared distances and indices of the nearest of each row, and of each column."""
    row_depth, column_depth = _kept_depths(train)
    shift = 1 + index_bits - dropped
    query_key = _keys(query_norm, len(query), 1, index_bits, dropped)
    train_key = _keys(train_norm, len(train), LANES, index_bits, dropped)
    panel = 1 << index_bits
    low_bits = panel - 1
    queries, blocks = len(query), len(train)
    row_best = np.full((row_depth, queries), _WORST, np.int64)  # values 32 bits up, indices below
    column_best = np.full((column_depth, blocks * LANES), _WORST, np.int64)
    row_keys = np.empty((panel, row_depth, LANES), np.int32)
    column_keys = np.empty((VECTORS, column_depth, LANES), np.int32)
    for first_block in range(0, blocks, panel):
        for first in range(0, queries, panel):
            last = min(first + panel, queries)
            row_keys[:] = NOTHING
            for block in range(first_block, min(first_block + panel, blocks), VECTORS):
                column_keys[:] = NOTHING
                for i in range(first, last, QUERIES):
                    _update_tile(
                        query, query_start, query_key, train, train_key, row_keys, column_keys,
                        i, block, i - first, np.int32(shift), np.int32(~low_bits),
                    )  # fmt: skip
                for j in range(VECTORS):
                    for level in range(column_depth):
                        for lane in range(LANES):
                            key = np.int64(column_keys[j, level, lane])
                            rest = (key >> index_bits << 32) + first + (key & low_bits)
                            for place in range(column_depth):
                                kept = column_best[place, (block + j) * LANES + lane]
                                column_best[place, (block + j) * LANES + lane] = min(kept, rest)
                                rest = max(kept, rest)
            for i in range(first, last):
                for level in range(row_depth):
                    for lane in range(LANES):
                        key = np.int64(row_keys[i - first, level, lane])
                        rest = (key >> index_bits << 32) + (first_block + (key & low_bits)) * LANES + lane
                        for place in range(row_depth):
                            kept = row_best[place, i]
                            row_best[place, i] = min(kept, rest)
                            rest = max(kept, rest)
    row_squared, row_index = _take_apart(row_best, query_norm, index_bits, dropped)
    column_squared, column_index = _take_apart(column_best, train_norm, index_bits, dropped)
    return row_squared, row_index, column_squared, column_index


class Nearest(NamedTuple):
    """What a scan found: squared distances, ascending along the last axis, and the indices that go with them.

    An index of -1 means that the other side has no more. Squared distances are less than `unit` off, so exact
    when it is 1.
    """

    row_squared: NDArray[np.int64]
    row_index: NDArray[np.int32]
    column_squared: NDArray[np.int64]
    column_index: NDArray[np.int32]
    unit: int


def scan(layout: Layout, *, exact: bool) -> Nearest:
    """Find the few nearest trains of every query, and the few nearest queries of every train.

    Ties go to the lowest index. No descriptor is longer than LARGEST_LENGTH. Where lengths leave a key no
    room for INDEX_BITS of index, `exact` makes the panels smaller; without it, low bits of the distances are
    dropped.
    """
    query, start, query_norm, train, train_norm = layout
    largest_value = 3 * int(max(query_norm.max(), train_norm.max())) + 2 * (1 << INDEX_BITS)
    value_bits = largest_value.bit_length()
    index_bits = min(INDEX_BITS, 31 - value_bits) if exact else INDEX_BITS
    dropped = max(0, value_bits + index_bits - 31)
    found = _scan(query, start, query_norm, train, train_norm, index_bits, dropped)
    return Nearest(*found, 1 << dropped)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    squared = 0.0
    for i in range(len(a)):
        difference = np.float64(a[i]) - np.float64(b[i])
        squared += difference * difference
    return np.float32(np.sqrt(squared))


@numba.njit(cache=True, nogil=True)
def _keep(values: NDArray[np.float32], indices: NDArray[np.int32], value: Any, index: Any) -> None:
    """Put (value, index) into its place of a sorted list of fixed length; the last one falls out."""
    place = len(values) - 1
    if value > values[place] or (value == values[place] and index > indices[place]):
        return
    while place > 0:
        before = place - 1
        if value > values[before] or (value == values[before] and index > indices[before]):
            break
        values[place] = values[before]
        indices[place] = indices[before]
        place = before
    values[place] = value
    indices[place] = index


@numba.njit(cache=True, nogil=True)
def settle(
    query: NDArray[np.float32],
    train: NDArray[np.float32],
    rows: NDArray[np.int64],
    candidates: NDArray[np.int32],
    floor: NDArray[np.float64],
    index: NDArray[np.int32],
    distance: NDArray[np.float32],
) -> None:
    """Find the exactly nearest trains of some queries, comparing distances rounded to float32 as OpenCV does.

    Parameters
    ----------
    query, train : float32, shape (n, width) and (m, width)
    rows : int64, the queries in question
    candidates : int32, shape (n, any), trains that are looked at first; -1 is none
    floor : float64, shape (n,), no other train is nearer; all are looked at where that does not decide
    index, distance : int32 and float32, shape (n, k), C-contiguous; the given rows are written
    """
    for i in rows:
        index[i] = -1
        distance[i] = np.inf
        for j in candidates[i]:
            if j >= 0:
                _keep(distance[i], index[i], _distance(query[i], train[j]), j)
        if not np.float32(floor[i]) > distance[i, -1]:
            index[i] = -1
            distance[i] = np.inf
            for j in range(len(train)):
                _keep(distance[i], index[i], _distance(query[i], train[j]), np.int32(j))
