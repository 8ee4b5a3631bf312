"""Run the kernels on an emulated aarch64, and compare what they give with what they give here.

``python tests/processors/emulate_aarch64.py FOLDER``

FOLDER keeps an aarch64 Python: Debian's packages of it, and wheels of NumPy, SciPy, OpenCV and numba, fetched once
(500 MB). Nothing is installed. Wants qemu-aarch64-static, apt-get, dpkg and pip; without them it says so and does
nothing. Whole numbers must be the same; floats to rounding, as sums are taken in another order where registers are
shorter.
"""

import importlib.metadata
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LIBRARIES = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libffi8", "libexpat1", "libbz2-1.0", "liblzma5", "libuuid1"),
    *("libssl3", "libsqlite3-0", "libncursesw6", "libtinfo6", "libdb5.3", "libreadline8", "libnsl2", "libtirpc3"),
    "libcrypt1",
)
_WHEELS = ("numpy", "scipy", "numba", "llvmlite", "opencv-python-headless")
_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
# The first has no dot products of bytes, the second has them.
PROCESSORS = {"cortex-a72": "+neon", "neoverse-n1": "+neon,+dotprod"}
_SAME_BITS = {"detect_sift"}
"""Calls whose floats must be the same, too."""
_DTYPES = ("uint8", "float32")


def values_of(found):
    """What a kernel gave as lists, numbers and arrays, which need no class to be read."""
    if hasattr(found, "tolist"):
        return found
    if isinstance(found, dict):
        return [values_of(value) for value in found.values()]
    if isinstance(found, list | tuple):
        return [values_of(item) for item in found]
    return found


def run_script(path: str) -> None:
    from kernel_calls import all_calls

    answers = {}
    for name, call in all_calls(_DTYPES):
        answers[name] = values_of(call())
        print(".", end="", flush=True)
    print()
    Path(path).write_bytes(pickle.dumps(answers))


def difference(found, expected, *, same_bits: bool) -> str | None:
    """What differs, if something does."""
    import numpy as np

    if isinstance(expected, list):
        if len(found) != len(expected):
            return f"{len(found)} values, wanted {len(expected)}"
        pairs = zip(found, expected, strict=True)
        told = (difference(one, other, same_bits=same_bits) for one, other in pairs)
        return next((text for text in told if text), None)
    if expected is None or isinstance(expected, str):
        return None if found == expected else f"{found!r}, wanted {expected!r}"
    one, other = np.asarray(found), np.asarray(expected)
    if one.dtype != other.dtype or one.shape != other.shape:
        return f"{one.dtype} {one.shape}, wanted {other.dtype} {other.shape}"
    rtol = 0.0 if same_bits or other.dtype.kind in "biu" else 1e-4 if other.dtype == np.float32 else 1e-9
    largest = np.abs(other[np.isfinite(other)]).max(initial=0) if other.dtype.kind == "f" else 0
    if np.allclose(one, other, rtol=rtol, atol=rtol * largest / 10, equal_nan=True):
        return None
    return f"{one.ravel()[:5]}, wanted {other.ravel()[:5]}"


def fetch(folder: Path) -> None:
    """Put an aarch64 Python into an empty folder."""
    apt = folder / "apt"
    for part in ("state/lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True)
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State": apt / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": apt / "cache",
    }
    get = ["apt-get", "-qq", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    packages = [f"{_PYTHON}-minimal", f"lib{_PYTHON}-minimal", f"lib{_PYTHON}-stdlib", *_LIBRARIES]
    subprocess.run([*get, "update"], check=True)
    subprocess.run([*get, "download", *packages], check=True, cwd=apt)
    for package in apt.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
    wheels = [f"{name}=={importlib.metadata.version(name)}" for name in _WHEELS]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    places = [part for name in _PLATFORMS for part in ("--platform", name)]
    only = ["--only-binary=:all:", "--python-version", _PYTHON.removeprefix("python")]
    subprocess.run([*pip, *only, *places, "--target", folder / "site", *wheels], check=True)
    shutil.rmtree(apt)
    (folder / "whole").touch()


def python_command(folder: Path) -> list[str]:
    return ["qemu-aarch64-static", "-L", str(folder / "root"), str(folder / "root" / "usr" / "bin" / _PYTHON)]


def emulate(folder: Path, processor: str, expected: dict, scratch: str) -> list[str]:
    """What an emulated processor gives otherwise than this one, a line each."""
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": f"{scratch}/{processor}",
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": PROCESSORS[processor],
        # What is plain Python is taken from here, behind the emulated processor's own.
        "PYTHONPATH": os.pathsep.join(map(str, (folder / "site", ROOT, sysconfig.get_path("purelib")))),
        "OPENBLAS_NUM_THREADS": "1",
    }
    answers = f"{scratch}/{processor}.answers"
    ended = subprocess.run([*python_command(folder), __file__, "--run", answers], env=environment)
    if ended.returncode:
        return [f"the script ended with {ended.returncode}"]
    found = pickle.loads(Path(answers).read_bytes())
    told = {name: difference(found[name], expected[name], same_bits=name in _SAME_BITS) for name in expected}
    return [f"{name}: {text}" for name, text in told.items() if text]


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "--run":
        run_script(sys.argv[2])
        return 0
    folder = Path(sys.argv[1]).absolute()
    missing = [name for name in ("qemu-aarch64-static", "apt-get", "dpkg") if shutil.which(name) is None]
    if missing:
        print(f"not emulated: {', '.join(missing)} not found (Debian: qemu-user-static)")
        return 0
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        fetch(folder)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(len(PROCESSORS)) as pool:
        environment = {**os.environ, "NUMBA_CACHE_DIR": f"{scratch}/here", "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, __file__, "--run", f"{scratch}/expected"], check=True, env=environment)
        expected = pickle.loads(Path(f"{scratch}/expected").read_bytes())
        print(f"emulated, {len(expected)} calls each, a dot a call:", ", ".join(PROCESSORS), flush=True)
        differing = list(pool.map(lambda processor: emulate(folder, processor, expected, scratch), PROCESSORS))
    for processor, lines in zip(PROCESSORS, differing, strict=True):
        print(f"== {processor} {PROCESSORS[processor]}: {len(lines) or 'nothing'} differs", *lines, sep="\n")
    return 1 if any(differing) else 0


if __name__ == "__main__":
    sys.exit(main())
