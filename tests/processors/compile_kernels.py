"""Compile what the kernels compile, for processors that are not here; refuse instructions that these lack.

``python tests/processors/compile_kernels.py [aarch64 avx512-vnni avx-vnni]``

The kernels are run here as if the processor were the other one, so that their constants (vector widths, dot
products) are those that it gets, and the code that numba hands to LLVM is compiled once more for it.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_AVX2 = "+avx,+avx2,+bmi,+bmi2,+cx16,+f16c,+fma,+lzcnt,+movbe,+popcnt,+sse3,+sse4.1,+sse4.2,+ssse3"
_AVX512 = "+avx512bw,+avx512cd,+avx512dq,+avx512f,+avx512vl,+avx512vnni"


class Target(NamedTuple):
    triple: str
    cpu: str
    features: str
    intrinsics: str
    """Names of the target's own intrinsics that it has, as a pattern."""


_X86 = "x86_64-unknown-linux-gnu"
_OF_AVX2 = r"llvm\.x86\.(avx2\..*|sse.*"
TARGETS = {
    "aarch64": Target("aarch64-unknown-linux-gnu", "generic", "+neon", r"llvm\.aarch64\..*"),
    "avx512-vnni": Target(_X86, "cascadelake", f"{_AVX2},{_AVX512}", _OF_AVX2 + r"|avx512\..*)"),
    "avx-vnni": Target(_X86, "alderlake", f"{_AVX2},+avxvnni", _OF_AVX2 + r"|avx512\.vpdp\w+\.(128|256))"),
}


class Kept(Exception):
    """The code is kept, and not compiled for this processor, which may lack what is in it."""


def keep_code(target: Target) -> list[str]:
    """Have numba take this processor for the target; the list fills with what it hands to LLVM."""
    from numba.core import codegen

    modules: list[str] = []
    original = codegen.CPUCodeLibrary.add_ir_module

    def add_ir_module(self, ir_module):
        modules.append(str(ir_module))
        if re.search(r"@\"?llvm\.x86\.", modules[-1]):
            raise Kept
        original(self, ir_module)

    codegen.CPUCodeLibrary.add_ir_module = add_ir_module
    codegen.CPUCodegen.magic_tuple = lambda _self: (target.triple, target.cpu, target.features)
    return modules


def run_kernels() -> int:
    """Call every kernel; how many calls were cut short."""
    import numpy as np

    import parimg.kernels as pk

    spec = importlib.util.spec_from_file_location("layouts", ROOT / "tests" / "kernels" / "test_layouts.py")
    assert spec is not None
    assert spec.loader is not None
    layouts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layouts)
    calls = [
        lambda kernel=kernel, array=array, dtype=dtype: kernel(array.astype(dtype))
        for array, kernel in layouts.KERNELS.values()
        for dtype in ("uint8", "int16", "float32", "float64")
    ]
    noise = np.random.default_rng(0).random((64, 64))
    calls += [
        lambda out=out, casting=casting: pk.convolve(noise, np.eye(5), out, casting=casting)
        for casting in ("truncate", "saturate")
        for out in ("u1", "i2", "u8")
    ]
    graph = pk.pixel_graph(layouts.SKELETON)
    bits = layouts.VECTORS.astype(np.uint8)
    calls += [
        lambda: pk.match_descriptors(bits, bits, norm="hamming"),
        lambda: pk.RegionIndex(layouts.MAP, "max").search(np.arange(1.0, 9.0), exact=True),
        lambda: pk.RegionIndex(layouts.MAP, store_norms=False).search(np.arange(1.0, 9.0), step=2),
        lambda: pk.geometric_transform(noise, lambda place: (place[0] + 0.5, place[1])),
        lambda: pk.generic_filter(noise, np.median, 5, output="u1"),
        lambda: pk.jit_filter_function(lambda values, weight: values.max() * weight, extra_arguments=(2.0,)),
        lambda: pk.prune(graph, 2.0),
        lambda: pk.main_branch(graph),
        lambda: pk.sholl(graph, (4, 5), [1.0, 2.0]),
        lambda: pk.branch_label_image(graph),
    ]
    cut_short = 0
    for call in calls:
        try:
            call()
        except Kept:
            cut_short += 1
    return cut_short


def compile_for(name: str) -> None:
    import llvmlite.binding as llvm

    target = TARGETS[name]
    modules = keep_code(target)
    cut_short = run_kernels()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(target.cpu, target.features, opt=3)
    instructions = 0
    for given in modules:
        for intrinsic in set(re.findall(r"llvm\.(?:x86|aarch64|arm)\.[\w.]+", given)):
            if not re.fullmatch(target.intrinsics, intrinsic):
                raise SystemExit(f"{name}: {intrinsic} is no instruction of it")
        text = re.sub(r"^target triple = .*$", f'target triple = "{target.triple}"', given, flags=re.MULTILINE)
        layout = f'target datalayout = "{machine.target_data}"'
        text = re.sub(r"^target datalayout = .*$", layout, text, flags=re.MULTILINE)
        module = llvm.parse_assembly(text)
        module.verify()
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
        passes.getModulePassManager().run(module, passes)
        instructions += machine.emit_assembly(module).count("\n")
    print(f"{name}: {len(modules)} modules, {instructions} lines of assembly, {cut_short} calls cut short")


def main() -> int:
    if os.environ.get("PARIMG_COMPILE_FOR"):
        compile_for(os.environ["PARIMG_COMPILE_FOR"])
        return 0
    failed = []
    for name in sys.argv[1:] or TARGETS:
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "PARIMG_COMPILE_FOR": name, "NUMBA_CACHE_DIR": cache}
            if subprocess.run([sys.executable, __file__], env=environment).returncode:
                failed.append(name)
    if failed:
        print("failed for:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
