"""The processor that a benchmark runs on: masked as `--cpu` asks, and what it can do at most.

Both sides are masked by the environment before anything is imported, which takes a new process. `paired.py` is the
only caller of `mask_as_asked`; benchmarks set the speeds of the processor beside their ratios.
"""

import os
import sys
import time
from functools import cache

MASKS = ("native", "avx2", "sse4")
_ASKED = "PARIMG_BENCHMARK_CPU"  # how the new process knows that it is masked

_SSE4 = "+64bit,+cmov,+cx16,+fxsr,+mmx,+popcnt,+sahf,+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2"
_AVX2 = f"{_SSE4},+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
_ENVIRONMENT = {
    "native": {},
    # numba takes the host's features with another name unless they are spelt out.
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": _AVX2,
        "OPENCV_CPU_DISABLE": "AVX512-SKX",
        "OPENCV_IPP": "avx2",
        "OPENBLAS_CORETYPE": "Haswell",
        "FAISS_OPT_LEVEL": "avx2",
    },
    "sse4": {
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": _SSE4,
        "OPENCV_CPU_DISABLE": "AVX,FP16,AVX2,FMA3,AVX512-SKX",
        "OPENCV_IPP": "sse42",
        "OPENBLAS_CORETYPE": "Nehalem",
        "FAISS_OPT_LEVEL": "generic",
    },
}
_WIDEST = {"native": 64, "avx2": 32, "sse4": 16}  # bytes of a register


def mask_as_asked():
    """Start this script anew with the environment of `--cpu`, if that is among its arguments."""
    for place, argument in enumerate(sys.argv):
        if argument == "--cpu" or argument.startswith("--cpu="):
            joined = argument.partition("=")[2]
            wanted = joined or "".join(sys.argv[place + 1 : place + 2])
            break
    else:
        return
    if wanted not in MASKS:
        sys.exit(f"--cpu takes {', '.join(MASKS)} (got {wanted!r})")
    given = sys.orig_argv[1:]
    place = given.index(argument)
    del given[place : place + (1 if joined else 2)]
    environment = _ENVIRONMENT[wanted] | {"NPY_DISABLE_CPU_FEATURES": _numpy_features_beyond(wanted)}
    environment = {name: value for name, value in environment.items() if value}
    os.execve(sys.executable, [sys.executable, *given], os.environ | environment | {_ASKED: wanted})


def _numpy_features_beyond(mask):
    """NumPy refuses names that it was not built with, and they changed with its versions."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    beyond = {"native": (), "avx2": ("AVX512", "X86_V4"), "sse4": ("AVX", "FMA", "F16C", "X86_V3", "X86_V4")}
    names = [name for name in __cpu_dispatch__ if name.startswith(beyond[mask]) and __cpu_features__[name]]
    return " ".join(names) if beyond[mask] else ""


def print_mask():
    """Print what OpenCV, NumPy and numba use, after making sure that it is not more than was asked for."""
    import cv2
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    mask = os.environ.get(_ASKED, "native")
    used = [name for name in cv2.getCPUFeaturesLine().split() if not name.endswith("?")]
    numpys = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
    width = register_bytes()
    assert width <= _WIDEST[mask], f"numba uses registers of {width} bytes"
    if mask != "native":
        wide = ("AVX512", "X86_V4") if mask == "avx2" else ("AVX", "FP16", "X86_V3", "X86_V4")
        beyond = [name for name in (*used, *numpys) if name.lstrip("*").startswith(wide)]
        assert not beyond, f"{', '.join(beyond)} are not masked"
    print(
        f"--cpu {mask}: OpenCV {used[-1].lstrip('*')}, {cv2.ipp.getIppVersion().split(' 20')[0]}; NumPy "
        f"{numpys[-1] if numpys else 'baseline'}; numba registers of {width} bytes; peak multiply-adds a ns: "
        + ", ".join(f"{multiply_adds(kind) / 1e9:.1f} {kind}" for kind in ("float32", "float64", "int16"))
        + f"; copying {bytes_copied(2**25) / 1e9:.1f} GB/s, in the cache {bytes_copied(2**17) / 1e9:.0f} GB/s"
    )


@cache
def multiply_adds(dtype):
    """Multiply-adds a second, at most: of float32, float64, or of int16 to int32; fused where that exists.

    Measured by a loop over sums that stay in registers, with the features that numba uses.
    """
    loop, lanes = _chain(dtype)
    steps = 100_000
    fastest = min(_seconds(lambda: loop(steps)) for _ in range(20))
    return steps * _SUMS * lanes / fastest


@cache
def bytes_copied(size):
    """Bytes a second of copying an array of that size: what is read, not what is written besides."""
    import numpy as np

    source = np.ones(size, np.uint8)
    out = np.empty_like(source)

    def copy():
        for _ in range(turns):
            np.copyto(out, source)

    turns = max(2**22 // size, 1)
    return turns * size / min(_seconds(copy) for _ in range(20))


def register_bytes():
    """Width of the vector registers that numba's code uses."""
    loop, _ = _chain("float32")
    code = "".join(loop.inspect_asm().values())
    return next(width for width, name in ((64, "%zmm"), (32, "%ymm"), (16, "%xmm")) if name in code)


_SUMS = 12  # enough for the latency of a multiply-add, and they fit 16 registers


@cache
def _chain(dtype):
    """A compiled loop of `_SUMS` vectors that are multiplied and added to, and the multiply-adds of a vector."""
    import numba
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.core.registry import cpu_target
    from numba.extending import intrinsic

    has = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
    width = 64 if "+avx512bw" in has else 32 if "+avx2" in has else 16
    word = ir.IntType(32)
    element = {"float32": ir.FloatType(), "float64": ir.DoubleType(), "int16": word}[dtype]
    lanes = width // (8 if dtype == "float64" else 4)
    vector = ir.VectorType(element, lanes)

    def constant(number):
        return ir.Constant(vector, [number if dtype == "int16" else float(number)] * lanes)

    def step(b, total):
        if dtype != "int16":
            product = b.fmul(total, constant(0.5), flags=("contract",))
            return b.fadd(product, constant(1), flags=("contract",))
        pairs = ir.VectorType(ir.IntType(16), 2 * lanes)
        name = {64: "avx512.pmaddw.d.512", 32: "avx2.pmadd.wd", 16: "sse2.pmadd.wd"}[width]
        kind = ir.FunctionType(vector, [pairs, pairs])
        function = cgutils.get_or_insert_function(b.module, kind, f"llvm.x86.{name}")
        return b.add(total, b.call(function, [b.bitcast(total, pairs), ir.Constant(pairs, [3] * 2 * lanes)]))

    @intrinsic
    def chain(_typing_context, steps):
        def generate(_context, b, _signature, args):
            with b.goto_entry_block():
                totals = [b.alloca(vector) for _ in range(_SUMS)]
            for number, total in enumerate(totals):
                b.store(constant(number), total)
            with cgutils.for_range(b, args[0]):
                for total in totals:
                    b.store(step(b, b.load(total)), total)
            first = b.load(totals[0])
            for total in totals[1:]:
                first = (b.add if dtype == "int16" else b.fadd)(first, b.load(total))
            one = b.extract_element(first, word(0))
            return b.sitofp(one, ir.DoubleType()) if dtype == "int16" else _as_double(b, one)

        return types.float64(steps), generate

    def _as_double(b, one):
        return b.fpext(one, ir.DoubleType()) if dtype == "float32" else one

    @numba.njit
    def loop(steps):
        return chain(steps)

    loop(1)
    return loop, 2 * lanes if dtype == "int16" else lanes


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
