"""The inner loop of convolution: a tile of sums in vector registers, compiled by its size and dtype.

It is a C function, cached on disk by the types in its signature and called by address, as are the loops of
`line_loops.py`: a new pair of input and output dtypes compiles two small loops and not everything again.
Nothing is checked here; `direct.py` calls.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Strategy: a tile is ROWS rows of VECTORS vectors of the output, whose sums stay in registers while the kernel is
# walked. A vector of the input is read once and serves every row of the tile that the kernel reaches from it, so
# a tap costs one multiply-add and a fraction of a load; no multiplication is wasted. The input lines above and
# below, that only some rows of the tile reach, are walked in pairs that reach all rows together: alone they have
# too few sums to hide the latency of a multiply-add (7 x 7 with AVX2: 460 cycles a tile, in pairs 375, at best
# 294). Where sums are not fused, lines are walked in order, so that every sum is taken in C order of the kernel,
# as SciPy does. The weights of 3 x 3 stay in registers, too: read again, they cost more than the multiply-adds.
# Those of 0 are left out: derivatives have three or four.
#
# It is written as LLVM code because LLVM's own vectoriser keeps no tile in registers: its best for 7 x 7 was
# the speed of `cv2.filter2D`, a quarter of this one's.

_TRIPLE, _NAME, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
_HAS = frozenset(_FEATURES.split(","))
HAS_32_REGISTERS = "+avx512f" in _HAS or _TRIPLE.startswith("aarch64")
HAS_FUSED = HAS_32_REGISTERS or "+fma" in _HAS
"""Multiply-adds that round once."""
_VECTOR_BYTES = 64 if "+avx512f" in _HAS else 32 if "+avx" in _HAS else 16
# Rows and vectors, of any kernel and of 3 x 3: the sums of a tile, the vectors that are read, and a weight or nine
# fill the registers, of which there are 32 or 16; without fused multiply-adds a product needs one more. On an EPYC
# with AVX2, 7 x 7 takes 371 cycles with 4 x 3, 410 with 6 x 2 and 278 with 4 x 2, for 12, 12 and 8 vectors; 3 x 3
# takes 28 with 5 x 1, 25 with 4 x 1 and 79 with 4 x 3.
_SIZE, _SIZE_3 = ((6, 4), (6, 3)) if HAS_32_REGISTERS else ((4, 3), (5, 1)) if HAS_FUSED else ((4, 2), (4, 1))
MOST_ROWS = max(_SIZE[0], _SIZE_3[0])
"""Rows of a tile, at most. The order of a sum, and so its last bit, depends on its row's place among them."""
# Multiply-adds a cycle over those of AVX2. These have AVX-512 and half the units for it.
_HALVES = ("znver4", "icelake-client", "tigerlake", "rocketlake", "cannonlake")
RELATIVE_SPEED = 2.0 if "+avx512f" in _HAS and not _NAME.startswith(_HALVES) else 1.0 if "+fma" in _HAS else 0.47
_SIDE = 3  # of the square kernel that has tiles of its own

_types: Any = types  # untyped, as is the next
_cgutils: Any = cgutils
_int32, _intp = ir.IntType(32), ir.IntType(64)
_intp_pointer = _intp.as_pointer()
_Part = tuple[ir.Value, list[tuple[int, ir.Value]]]


class Tile(NamedTuple):
    """Rows and vectors of a tile, and which of the taps of 3 x 3 it is written out for, a bit a tap, or 0."""

    rows: int
    vectors: int
    taps: int


ONE_LINE = Tile(1, 8, 0)
_WASTED_BY = 10  # a tenth of the vectors


def choose(lines: int, height: int, taps: int) -> Tile:
    """The tile for an output of so many lines and a kernel of that height; `taps` of 3 x 3, see `Tile`, else 0."""
    rows, vectors = _SIZE_3 if taps else _SIZE
    if lines < rows or height == 1:
        return ONE_LINE
    return Tile(rows, vectors, taps) if taps else Tile(min(rows, height + 1), vectors, 0)


def choose_for_width(lines: int, height: int, vectors: int) -> Tile:
    """The tile for lines of so many vectors, of which as few as possible are to be summed in vain.

    5 x 5 x 7 over lines of 64 takes 0.87 to 0.95 of the time with 6 x 2 in place of 4 x 3 (AVX2), and over lines
    of 100, which are 13 vectors, 0.8 with 6 x 2 in place of 6 x 4 (AVX-512).
    """
    chosen = choose(lines, height, 0)
    if chosen == ONE_LINE or chosen.vectors == 2:
        return chosen
    wasted = -vectors % chosen.vectors - vectors % 2
    if chosen.vectors % 2 == 0 and wasted * _WASTED_BY < vectors:
        return chosen
    return Tile(min(6, height + 1, lines), 2, 0)


def order_of_lines(rows: int, height: int) -> list[int]:
    """In which a tile of so many rows, where multiply-adds are fused, walks the lines of the input."""
    pairs = [line for y in range(rows - 1) for line in (y, height + y)]
    return [*pairs, *range(rows - 1, height)]


def taps_of(weights: NDArray[Any]) -> int:
    """Which of nine weights are not 0, a bit each, the first the lowest; 0 for any other number of weights."""
    return sum(1 << i for i, weight in enumerate(weights.flat) if weight) if weights.size == _SIDE**2 else 0


def lanes(dtype: str) -> int:
    """Elements of a vector."""
    return _VECTOR_BYTES // np.dtype(dtype).itemsize


def _add_tile(
    _typing_context: Any,
    out: Any,
    out_stride: Any,
    lines: Any,
    line_count: Any,
    weights: Any,
    planes: Any,
    height: Any,
    width: Any,
    step: Any,
    columns: Any,
    sizes: Any,
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write `columns` columns of `rows` output rows: sums over `planes` x `height` x `width` taps.

    `lines` holds `line_count` addresses a plane, of which the first height + rows - 1 are the input lines';
    neighbouring taps lie `step` elements apart. Reads up to a tile's width beyond the last column, writes none
    beyond. Nothing is passed in `sizes`: its type holds four numbers as lengths of tuples, rows and vectors of the
    tile, 0 or the taps of 3 x 3 for which everything is written out (one plane, step 1), and whether multiply-adds
    are fused.
    """
    n_rows, n_vectors, taps, is_fused = (kind.count for kind in sizes.dtype.types)
    element = ir.FloatType() if weights.dtype == types.float32 else ir.DoubleType()
    item_bytes = 4 if weights.dtype == types.float32 else 8
    lanes = _VECTOR_BYTES // item_bytes
    vector = ir.VectorType(element, lanes)

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        b = builder
        out_p, out_step, line_table, n_lines, weight_p, n_planes = args[:6]
        kernel_height, kernel_width, tap_step, n_columns = args[6:10]
        out_p = b.bitcast(out_p, element.as_pointer())
        weight_p = b.bitcast(weight_p, element.as_pointer())
        line_table = b.bitcast(line_table, _intp_pointer)
        flags = ("contract",) if is_fused else ()
        tile = [(r, v) for r in range(n_rows) for v in range(n_vectors)]
        with b.goto_entry_block():
            totals = {place: b.alloca(vector) for place in tile}
        kernel_size = b.mul(kernel_height, kernel_width)

        def in_all_lanes(scalar: ir.Value) -> ir.Value:
            undefined = ir.Constant(vector, ir.Undefined)
            one = b.insert_element(undefined, scalar, _int32(0))
            return b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_int32, lanes), [0] * lanes))

        def line_at(plane: ir.Value, y: ir.Value) -> ir.Value:
            address = b.load(b.gep(line_table, [b.add(b.mul(plane, n_lines), y)]))
            return b.inttoptr(address, element.as_pointer())

        def vectors_at(place: ir.Value) -> list[ir.Value]:
            places = [b.gep(place, [_intp(v * lanes)]) for v in range(n_vectors)]
            return [b.load(b.bitcast(at, vector.as_pointer()), align=item_bytes) for at in places]

        def add(row: int, read: list[ir.Value], weight: ir.Value) -> None:
            for v in range(n_vectors):
                product = b.fmul(read[v], weight, flags=flags)
                b.store(b.fadd(b.load(totals[row, v]), product, flags=flags), totals[row, v])

        def part(column: ir.Value, plane: ir.Value, y: ir.Value, rows: range) -> _Part:
            """The input line `y` and the output rows that it reaches, with their kernel rows."""
            first = b.gep(weight_p, [b.mul(plane, kernel_size)])
            reached = [(r, b.gep(first, [b.mul(b.sub(y, _intp(r)), kernel_width)])) for r in rows]
            return b.gep(line_at(plane, y), [column]), reached

        def walk(*parts: _Part) -> None:
            """Add what input lines give at all columns of the kernel to the rows that they reach."""
            with cgutils.for_range(b, kernel_width) as loop:
                for line, reached in parts:
                    read = vectors_at(b.gep(line, [b.mul(loop.index, tap_step)]))
                    for r, kernel_row in reached:
                        add(r, read, in_all_lanes(b.load(b.gep(kernel_row, [loop.index]))))

        def one_plane(column: ir.Value, plane: ir.Value) -> None:
            first = [part(column, plane, _intp(y), range(y + 1)) for y in range(n_rows - 1)]
            past = [b.add(kernel_height, _intp(y)) for y in range(n_rows - 1)]
            last = [part(column, plane, line, range(y + 1, n_rows)) for y, line in enumerate(past)]
            for parts in zip(first, last, strict=True) if is_fused else ((line,) for line in first):
                walk(*parts)
            with cgutils.for_range_slice(b, _intp(n_rows - 1), kernel_height, _intp(1)) as (y, _):
                walk(part(column, plane, y, range(n_rows)))
            for line in last if not is_fused else ():
                walk(line)

        none = _intp(0)
        used = [tap for tap in range(_SIDE**2) if taps >> tap & 1]
        held = {divmod(tap, _SIDE): in_all_lanes(b.load(b.gep(weight_p, [_intp(tap)]))) for tap in used}
        held_lines = [line_at(none, _intp(y)) for y in range(_SIDE + n_rows - 1 if taps else 0)]

        def written_out(column: ir.Value) -> None:
            for y, line in enumerate(held_lines):
                for x in range(_SIDE):
                    reached = [r for r in range(n_rows) if (y - r, x) in held]
                    read = vectors_at(b.gep(line, [b.add(column, _intp(x))])) if reached else []
                    for r in reached:
                        add(r, read, held[y - r, x])

        width_of_tile = n_vectors * lanes
        with cgutils.for_range_slice(b, _intp(0), n_columns, _intp(width_of_tile)) as (column, _):
            for place in tile:
                b.store(ir.Constant(vector, [0.0] * lanes), totals[place])
            if taps:
                written_out(column)
            else:
                with cgutils.for_range(b, n_planes) as loop:
                    one_plane(column, loop.index)
            left = b.sub(n_columns, column)
            whole = b.icmp_signed(">=", left, _intp(width_of_tile))
            with b.if_else(whole) as (then, otherwise):
                for branch, is_whole in ((then, True), (otherwise, False)):
                    with branch:
                        for r, v in tile:
                            place = b.gep(out_p, [b.add(b.mul(out_step, _intp(r)), column)])
                            place = b.bitcast(b.gep(place, [_intp(v * lanes)]), vector.as_pointer())
                            total = b.load(totals[r, v])
                            if is_whole:
                                b.store(total, place, align=item_bytes)
                            else:
                                _store_first(b, total, place, b.sub(left, _intp(v * lanes)), lanes, item_bytes)
        return _context.get_dummy_value()

    kinds = (out, out_stride, lines, line_count, weights, planes, height, width, step, columns, sizes)
    return types.void(*kinds), generate


def _store_first(
    b: ir.IRBuilder, value: ir.Value, place: ir.Value, count: ir.Value, lanes: int, item_bytes: int
) -> None:
    """Store the first `count` lanes, none if it is not positive."""
    numbers = ir.VectorType(_intp, lanes)
    undefined = ir.Constant(numbers, ir.Undefined)
    limit = b.shuffle_vector(
        b.insert_element(undefined, count, _int32(0)),
        undefined,
        ir.Constant(ir.VectorType(_int32, lanes), [0] * lanes),
    )
    mask = b.icmp_signed("<", ir.Constant(numbers, list(range(lanes))), limit)
    kind = ir.FunctionType(ir.VoidType(), [value.type, place.type, _int32, mask.type])
    name = f"llvm.masked.store.v{lanes}{'f32' if item_bytes == 4 else 'f64'}.p0"
    b.call(_cgutils.get_or_insert_function(b.module, kind, name), [value, place, _int32(item_bytes), mask])


_tile: Any = intrinsic(_add_tile)


def _tile_function(  # pragma: no cover
    out: Any,
    out_stride: int,
    lines: Any,
    line_count: int,
    weights: Any,
    planes: int,
    height: int,
    width: int,
    step: int,
    columns: int,
    sizes: Any,
) -> None:
    _tile(out, out_stride, lines, line_count, weights, planes, height, width, step, columns, sizes)


def tile_address(dtype: str, rows: int, vectors: int, taps: int, *, fused: bool) -> int:
    """Address of the tile of that size, compiled or loaded when first asked for."""
    sizes = _types.Tuple([_types.UniTuple(types.int8, size) for size in (rows, vectors, taps, int(fused))])
    return address(types.void, _tile_function, *tile_kinds(dtype), _types.CPointer(sizes))


def tile_kinds(dtype: str) -> list[Any]:
    return [pointer(dtype), types.intp, pointer("intp"), types.intp, pointer(dtype), *[types.intp] * 5]


def pointer(dtype: str) -> Any:
    return _types.CPointer(getattr(types, dtype))


def address(result: Any, function: Callable[..., Any], *kinds: Any) -> int:
    return int(_compiled(result, function, *kinds).address)


@cache
def _compiled(result: Any, function: Callable[..., Any], *kinds: Any) -> Any:
    """The C function, which lives as long as it is held here."""
    # Sums of x - x, zero or NaN, may be taken in any order; nothing else is a sum that LLVM could reorder.
    return numba.cfunc(result(*kinds), cache=True, fastmath={"reassoc"})(function)
