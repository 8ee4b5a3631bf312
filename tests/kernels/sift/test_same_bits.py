"""SIFT is the same to the bit whatever instructions it is compiled to."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

_AVX2 = "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe"
_AVX512 = f"{_AVX2},+avx512f,+avx512cd,+avx512bw,+avx512dq,+avx512vl"

_DIGEST = """
import hashlib, sys
import numpy as np
from skimage import data
import parimg.kernels as pk
from parimg.kernels.sift import vectors

digest = hashlib.sha256()
noise = np.random.default_rng(0).integers(0, 256, (97, 131)).astype(np.uint8)
for image, parameters in (
    (data.camera(), {}), (data.coins(), {"n_features": 200}), (noise, {"contrast_threshold": 0.0}),
    (data.brick()[:201, :333], {"n_octave_layers": 4, "sigma": 1.9}),
):
    for column in pk.detect_sift(image, **parameters):
        digest.update(column.tobytes())
print(vectors.WIDTH, digest.hexdigest())
"""

_WITHOUT_LIBRARY = """
import re
import numpy as np
import parimg.kernels as pk
from parimg.kernels.sift import detection, description

pk.detect_sift(np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8))
for function in (detection.find_keypoints, description.describe):
    (code,) = function.inspect_llvm().values()
    arithmetic = re.findall(r"= (f(?:add|sub|mul|div|rem|cmp).*)", code)
    called = set(re.findall(r"call [^@]*@(\\"?[\\w.$]+)", code))
    print(len(arithmetic) > 100, [line for line in arithmetic if re.search("fast|contract|reassoc|arcp", line)])
    print(sorted(name for name in called if re.search("fma|muladd|reduce.f|^(exp|sin|cos|pow|atan|ldexp)", name)))
"""


def run(code: str, **variables: str) -> str:
    environment = {**os.environ, **variables}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert not result.returncode, result.stderr
    return result.stdout.strip()


def processor_has(feature: str) -> bool:
    try:
        return feature in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(900)  # compiles anew for each: 20 s of a processor
@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="the features named are those of x86")
def test_sse2_avx2_and_avx512_give_the_same_bits(tmp_path: Path) -> None:
    processors = {"4": ("x86-64", "")}
    if processor_has("avx2"):
        processors["8"] = ("haswell", _AVX2)
    if processor_has("avx512vl"):
        processors["16"] = ("skylake-avx512", _AVX512)
    if len(processors) < 2:
        pytest.skip("this processor has SSE2 only")
    printed = [
        run(_DIGEST, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=str(tmp_path))
        for name, features in processors.values()
    ]
    printed.append(run(_DIGEST))  # whatever this processor is, as users have it
    lanes, digests = zip(*(line.split() for line in printed), strict=True)
    assert lanes[:-1] == tuple(processors)
    assert len(set(digests)) == 1


@pytest.mark.slow
def test_the_code_leaves_a_compiler_no_freedom(tmp_path: Path) -> None:
    """No flag that allows another order or a fused sum, and no function of a C library: so for any processor."""
    assert run(_WITHOUT_LIBRARY, NUMBA_CACHE_DIR=str(tmp_path)).splitlines() == ["True []", "[]"] * 2
