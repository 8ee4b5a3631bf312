"""Run tests/kernels as on lesser processors: numba is told what it may use, in a process and cache of its own.

``python tests/processors/run_kernel_tests.py [generic nehalem zen3] [-- pytest options]``
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SSE2 = "+cx8,+fxsr,+mmx,+sse,+sse2,+x87"
_SSE4 = f"{_SSE2},+cx16,+popcnt,+sahf,+sse3,+sse4.1,+sse4.2,+ssse3"
# Spelt out, because numba takes the host's where only a name is given.
PROCESSORS = {
    "generic": ("x86-64", _SSE2),
    "nehalem": ("nehalem", _SSE4),
    "zen3": ("znver3", f"{_SSE4},+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+sse4a,+xsave"),
}
_CHECK = "from numba.core.registry import cpu_target; print(cpu_target.target_context.codegen().magic_tuple()[1:])"


def main() -> int:
    given = sys.argv[1:]
    names = given[: given.index("--")] if "--" in given else given
    options = given[len(names) + 1 :]
    failed = []
    for name in names or PROCESSORS:
        processor, features = PROCESSORS[name]
        with tempfile.TemporaryDirectory() as cache:
            masked = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": cache}
            environment = {**os.environ, **masked}
            told = subprocess.run(
                [sys.executable, "-c", _CHECK], env=environment, check=True, capture_output=True, text=True
            ).stdout.strip()
            if told != str((processor, features)):
                raise SystemExit(f"numba compiles for {told}, wanted {(processor, features)}")
            print(f"== {name}: {features}", flush=True)
            command = [sys.executable, "-m", "pytest", "-q", "tests/kernels", *options]
            if subprocess.run(command, cwd=ROOT, env=environment).returncode:
                failed.append(name)
    if failed:
        print("failed on:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
