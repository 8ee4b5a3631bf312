"""Compile what the kernels compile, for processors that are not here; refuse instructions that these lack.

``python tests/processors/compile_kernels.py [aarch64 aarch64-sdot avx512-vnni avx-vnni]``

The kernels are run here as if the processor were the other one, so that their constants (vector widths, dot
products) are those that it gets, and the code that numba hands to LLVM is compiled once more for it.
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

_AVX2 = "+avx,+avx2,+bmi,+bmi2,+cx16,+f16c,+fma,+lzcnt,+movbe,+popcnt,+sse3,+sse4.1,+sse4.2,+ssse3"
_AVX512 = "+avx512bw,+avx512cd,+avx512dq,+avx512f,+avx512vl,+avx512vnni"


class Target(NamedTuple):
    triple: str
    cpu: str
    features: str
    intrinsics: str
    """Names of the target's own intrinsics that it has, as a pattern."""
    used: str = ""
    """One that the kernels must use."""


_ARM = "aarch64-unknown-linux-gnu"
_X86 = "x86_64-unknown-linux-gnu"
_OF_AVX2 = r"llvm\.x86\.(avx2\..*|sse.*"
_SDOT = "llvm.aarch64.neon.sdot.v4i32.v16i8"
TARGETS = {
    "aarch64": Target(_ARM, "generic", "+neon", r"llvm\.aarch64\.(?!neon\.[us]dot).*"),
    "aarch64-sdot": Target(_ARM, "neoverse-n1", "+neon", r"llvm\.aarch64\..*", _SDOT),
    "avx512-vnni": Target(
        _X86, "cascadelake", f"{_AVX2},{_AVX512}", _OF_AVX2 + r"|avx512\..*)", "llvm.x86.avx512.vpdpbusd.512"
    ),
    "avx-vnni": Target(
        _X86,
        "alderlake",
        f"{_AVX2},+avxvnni",
        _OF_AVX2 + r"|avx512\.vpdp\w+\.(128|256))",
        "llvm.x86.avx512.vpdpbusd.256",
    ),
}
_OWN = r"llvm\.(?:x86|aarch64|arm)\.[\w.]+"
_DECLARED = re.compile(rf'^declare (<[^>]+>|\w+) @"?({_OWN})"?(\(.*\))$', re.MULTILINE)


def keep_code(target: Target) -> list[str]:
    """Have numba take this processor for the target; the list fills with what it hands to LLVM.

    Instructions of the target's own give zeros here: this processor may lack them.
    """
    import llvmlite.binding as llvm
    from numba.core import codegen

    modules: list[str] = []

    def add_ir_module(self, ir_module):
        text = str(ir_module)
        modules.append(text)
        names = {name for _, name, _ in _DECLARED.findall(text)}
        text = _DECLARED.sub(r'define internal \1 @"parimg.\2"\3 { ret \1 zeroinitializer }', text)
        for name in names:
            text = re.sub(rf'(call .*)@"?{re.escape(name)}"?\(', rf'\1@"parimg.{name}"(', text)
        module = llvm.parse_assembly(text)
        module.name = ir_module.name
        module.verify()
        self.add_llvm_module(module)

    codegen.CPUCodeLibrary.add_ir_module = add_ir_module
    codegen.CPUCodegen.magic_tuple = lambda _self: (target.triple, target.cpu, target.features)
    return modules


def compile_for(name: str) -> None:
    import llvmlite.binding as llvm

    target = TARGETS[name]
    modules = keep_code(target)
    from kernel_calls import all_calls

    for _, call in all_calls(("uint8", "float32")):
        call()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(target.cpu, target.features, opt=3)
    instructions, used = 0, set()
    for given in modules:
        used |= set(re.findall(_OWN, given))
        text = re.sub(r"^target triple = .*$", f'target triple = "{target.triple}"', given, flags=re.MULTILINE)
        layout = f'target datalayout = "{machine.target_data}"'
        text = re.sub(r"^target datalayout = .*$", layout, text, flags=re.MULTILINE)
        refused = [one for one in used if not re.fullmatch(target.intrinsics, one)]
        if refused:
            raise SystemExit(f"{name}: {refused} are no instructions of it")
        module = llvm.parse_assembly(text)
        module.verify()
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
        passes.getModulePassManager().run(module, passes)
        instructions += machine.emit_assembly(module).count("\n")
    if target.used and target.used not in used:
        raise SystemExit(f"{name}: wanted {target.used} to be used (got {sorted(used)})")
    print(
        f"{name}: {len(modules)} modules, {instructions} lines of assembly, {', '.join(sorted(used)) or 'plain'}"
    )


def _in_a_process(name: str) -> int:
    with tempfile.TemporaryDirectory() as cache:
        # What runs here is thrown away: not optimised, it takes two thirds of the time.
        masked = {"PARIMG_COMPILE_FOR": name, "NUMBA_CACHE_DIR": cache, "NUMBA_OPT": "0"}
        command = [sys.executable, "-W", "ignore:Cannot cache", __file__]
        return subprocess.run(command, env={**os.environ, **masked}).returncode


def main() -> int:
    if os.environ.get("PARIMG_COMPILE_FOR"):
        compile_for(os.environ["PARIMG_COMPILE_FOR"])
        return 0
    names = sys.argv[1:] or list(TARGETS)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failed = [name for name, code in zip(names, pool.map(_in_a_process, names), strict=True) if code]
    if failed:
        print("failed for:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
