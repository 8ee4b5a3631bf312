"""One image larger than memory by tiles, against the same pixels as small images, on two engines.

    python benchmarks/tiles.py [--side 30000] [--format ome-zarr] [--rounds 3] [--folder DIR]

The image is a tiled TIFF of uint16, uncompressed, 1.8 GB for 30 000 pixels a side; the small images are its
pieces of 2048 pixels, tiled alike. Both are convolved with the same kernel of 15 x 15 that is no product, and
written in the same format, with smaller levels. Regions of the large result are first compared, bit for bit,
with `parimg.kernels.convolve`. Prints the time of both, their ratio, and the most memory of each engine, by its
own count and as seen from outside.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import tifffile
from paired import print_setting

import parimg
import parimg.kernels as pk
from parimg.images.readers import open_part
from parimg.kernels.convolution.convolve import LINES_REPEAT
from parimg.kernels.convolution.tile import MOST_ROWS

TILE = 2048
STORED = 512
N_ENGINES = 2
KERNEL = np.random.default_rng(0).normal(size=(15, 15))
REGION = 600


def write_image(path: Path, side: int) -> None:
    """Write a large image a tile at a time: noise in 12 bits, each tile of another brightness."""
    rng = np.random.default_rng(1)
    n = -(-side // STORED)
    noise = rng.integers(0, 2048, (8, STORED, STORED)).astype(np.uint16)
    tiles = (noise[k % 8] + np.uint16(2048 * k // n**2) for k in range(n * n))
    tifffile.imwrite(path, tiles, shape=(side, side), dtype="uint16", tile=(STORED, STORED), bigtiff=True)


def write_pieces(source: Path, folder: Path) -> None:
    with open_part(str(source)) as part:
        for y in range(0, part.shape[0], TILE):
            for x in range(0, part.shape[1], TILE):
                piece = part.read_region(y, x, min(y + TILE, part.shape[0]), min(x + TILE, part.shape[1]))
                tifffile.imwrite(folder / f"{y:06d}-{x:06d}.tif", piece, tile=(STORED, STORED))


class Watch:
    """The most memory that each process below this one had, sampled."""

    def __init__(self) -> None:
        self.most: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                try:
                    resident = process.memory_info().rss
                except psutil.Error:
                    continue
                self.most[process.pid] = max(self.most.get(process.pid, 0), resident)


def check(source: Path, result: str) -> None:
    """Compare regions at corners, at seams and elsewhere with what the kernel gives of their surroundings."""
    with open_part(str(source)) as part, open_part(result) as found:
        side = part.shape[0]
        for at in (0, TILE - REGION // 2, side // 2, side - REGION):
            y1, x1 = at, side - REGION - at
            # A sum's last bit, and with it the next integer, depends on the place of its row among those that are
            # summed together: that of the whole image, if the first row is a multiple of them.
            top, left = max(0, y1 - 8) // LINES_REPEAT * LINES_REPEAT, max(0, x1 - 8)
            end = min(side, y1 + REGION + 8 + MOST_ROWS)
            around = part.read_region(top, left, end, min(side, x1 + REGION + 8))
            wanted = pk.convolve(around, KERNEL, np.uint16, axes=(0, 1), method="direct", casting="saturate")
            wanted = wanted[y1 - top : y1 - top + REGION, x1 - left : x1 - left + REGION]
            made = found.read_region(y1, x1, y1 + REGION, x1 + REGION)
            np.testing.assert_array_equal(made, wanted)


def processor_seconds() -> float:
    """Of all engines, whatever else the machine does."""
    used = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            used += times.user + times.system
    return used


def run(controller: parimg.Controller, images: str, folder: Path, image_format: str, tiles: int | None):
    """Seconds of a job by the clock and of the processor, its records, and where its results are."""
    output = folder / f"out-{time.monotonic_ns()}"
    task = parimg.Convolve(KERNEL, output=output, dtype="uint16", color="unchanged", format=image_format)
    begin, used = time.perf_counter(), processor_seconds()
    job = controller.submit(task, images, tiles=tiles, max_pixels=2**40)
    job.wait()
    seconds = time.perf_counter() - begin, processor_seconds() - used
    records = list(job)
    assert all(record.ok for record in records), [record.message for record in records if not record.ok]
    return seconds, records, output


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=30_000)
    parser.add_argument("--format", default="ome-zarr", choices=["ome-zarr", "ome-tiff"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="for images and results, 12 GB for a side of 30 000")
    arguments = parser.parse_args()
    print_setting()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name, parimg.start(n=N_ENGINES) as controller:
        folder = Path(name)
        large, pieces = folder / "large.tif", folder / "pieces"
        pieces.mkdir()
        write_image(large, arguments.side)
        write_pieces(large, pieces)
        first = next(pieces.iterdir())
        for tiles in (None, STORED):  # compiles, and loads libraries
            run(controller, str(first), folder, arguments.format, tiles)
        times: dict[str, list[tuple[float, float]]] = {"by tiles": [], "small images": []}
        with Watch() as watch:
            for number in range(arguments.rounds):
                seconds, records, output = run(controller, str(large), folder, arguments.format, TILE)
                times["by tiles"].append(seconds)
                if number == 0:
                    check(large, records[0]["path"])
                    told = records[0].peak_memory
                    engines = sorted(watch.most.values(), reverse=True)[:N_ENGINES]
                shutil.rmtree(output)
                seconds, records, output = run(controller, str(pieces), folder, arguments.format, None)
                times["small images"].append(seconds)
                shutil.rmtree(output)
    for place, clock in enumerate(("s", "processor s")):
        for what, seconds_of in times.items():
            every = [seconds[place] for seconds in seconds_of]
            print(f"{what}: {statistics.median(every):.1f} {clock} ({', '.join(f'{one:.1f}' for one in every)})")
        ratios = [large[place] / small[place] for large, small in zip(*times.values(), strict=True)]
        print(f"by tiles / small images: {statistics.median(ratios):.2f}")
    print(f"most memory, by tiles: {', '.join(f'{one / 2**20:.0f} MiB' for one in engines)} an engine, sampled;")
    print(f"  {(told or 0) / 2**20:.0f} MiB by the record")


if __name__ == "__main__":
    main()
