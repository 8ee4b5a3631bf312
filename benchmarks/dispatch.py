"""The cost of dispatch: images a second when the task does nothing, memory, and efficiency with many engines.

python benchmarks/dispatch.py [--items 100000 1000000] [--engines 64]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import psutil
from paired import print_setting

import parimg

MIB = 2**20


def tiny_arrays(n: int) -> Iterator[tuple[str, np.ndarray]]:
    return ((f"image{number:07d}", np.full((2, 2), number)) for number in range(n))


def do_nothing(image):
    return None


def sleep_100_ms(image):
    import time

    time.sleep(0.1)


def measure_rate(controller: parimg.Controller, n: int) -> None:
    """Items a second, and how much client and schedulers grow from the first tenth to the end."""
    client = psutil.Process()
    schedulers = [child for child in client.children(recursive=True) if "engine" not in " ".join(child.cmdline())]

    def memory() -> tuple[float, float]:
        return client.memory_info().rss / MIB, sum(process.memory_info().rss for process in schedulers) / MIB

    begin = time.perf_counter()
    job = controller.map(do_nothing, tiny_arrays(n), job_dir=tempfile.mkdtemp())
    while job.progress < n / 10 and not job.ready():
        time.sleep(0.01)
    early = memory()
    job.wait()
    seconds = time.perf_counter() - begin
    late = memory()
    assert job.counts == {"ok": n, "failed": 0, "done": n, "total": n}
    print(
        f"{n:>9} arrays of 2 x 2, 2 engines: {n / seconds:8.0f} items/s; growth from the first tenth to the end: "
        f"client {late[0] - early[0]:+.1f} MiB, controller and schedulers {late[1] - early[1]:+.1f} MiB"
    )


def measure_efficiency(n_engines: int, per_engine: int) -> None:
    """Share of the wall time in which sleeping engines sleep, counted from submission to the last record."""
    begin = time.perf_counter()
    with parimg.start(n=n_engines) as controller:
        started = time.perf_counter() - begin
        n = n_engines * per_engine
        begin = time.perf_counter()
        job = controller.map(sleep_100_ms, tiny_arrays(n), job_dir=tempfile.mkdtemp())
        job.wait()
        seconds = time.perf_counter() - begin
        assert job.counts["ok"] == n
    print(
        f"{n_engines} engines that sleep 100 ms an item, {per_engine} items each: efficiency "
        f"{n * 0.1 / n_engines / seconds:.1%} (engines ready after {started:.0f} s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--engines", type=int, default=64)
    parser.add_argument("--per-engine", type=int, default=300)
    options = parser.parse_args()
    print_setting("ipyparallel", "numpy")
    with parimg.start(n=2) as controller:
        controller.map(do_nothing, tiny_arrays(100), job_dir=tempfile.mkdtemp()).wait()
        for n in options.items:
            measure_rate(controller, n)
    if options.engines:
        measure_efficiency(options.engines, options.per_engine)


if __name__ == "__main__":
    main()
