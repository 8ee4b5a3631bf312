"""Images that ask for more memory than an engine may have, on real engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import parimg
from parimg.errors import JobError, TaskError

MIB = 2**20


@pytest.fixture(scope="module")
def limited() -> Iterator[parimg.Controller]:
    with parimg.start(n=1, memory_limit="1 GiB") as started:
        yield started


def with_numpy(size: int) -> int:
    return int(np.ones(size, np.uint8)[-1])


def with_python(size: int) -> int:
    return bytearray(size)[-1] + 1


def with_opencv(size: int) -> int:
    return int(cv2.resize(np.ones((1, 1), np.uint8), (size // 1024, 1024))[0, -1])


def with_numba(size: int) -> int:
    import numba

    @numba.njit
    def fill(size):
        return np.ones(size, np.uint8)[-1]

    return int(fill(size))


@pytest.mark.parametrize("allocate", [with_numpy, with_python, with_opencv, with_numba])
def test_an_image_that_asks_for_too_much_fails_and_its_engine_lives(
    limited: parimg.Controller, allocate: object
) -> None:
    sizes = {"small": 10 * MIB, "huge": 3000 * MIB, "last": 20 * MIB}
    job = limited.map(lambda image: allocate(int(image[0])), {key: np.full(1, sizes[key]) for key in sizes})
    records = {record.key: record for record in job.get(120)}
    assert (records["small"]["value"], records["last"]["value"]) == (1, 1)
    assert (records["huge"].error, records["huge"].stage) == ("MemoryError", "task")
    assert len({record.pid for record in records.values()}) == 1
    assert [record.attempts for record in records.values()] == [1, 1, 1]


def test_an_image_that_takes_too_much_to_decode_fails_with_its_reason(
    limited: parimg.Controller, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((16_000, 16_000, 3), np.uint8))  # 732 MiB
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((16, 16, 3), np.uint8))
    job = limited.map(np.max, tmp_path, color="color", memory_limit="500 MiB")
    records = {Path(record.key).name: record for record in job.get(120)}
    assert (records["large.png"].error, records["large.png"].stage) == ("MemoryError", "decode")
    assert records["small.png"].ok


def test_the_peak_of_an_image_is_a_column_and_not_its_neighbours(controller: parimg.Controller) -> None:
    sizes = {"before": 1, "large": 1000, "after": 1}

    def allocate(image: np.ndarray) -> int:
        return int(np.ones(image[0] * 2**20, np.uint8).max())

    job = controller.map(allocate, {key: np.full(1, sizes[key]) for key in sizes}, chunk_size=3)
    job.wait(60)
    peaks = job.to_pandas().set_index("key")["peak_memory"] / MIB
    assert peaks["large"] > 1000
    assert peaks["large"] - peaks["after"] > 400
    assert peaks["large"] - peaks["before"] > 400


def test_a_limit_below_what_an_engine_occupies_ends_the_job_with_the_numbers(
    controller: parimg.Controller,
) -> None:
    job = controller.map(np.max, {"one": np.ones(1)}, memory_limit="1 MiB")
    with pytest.raises(
        TaskError, match=r"memory_limit=1048576 bytes \(1 MiB\) is too little .* MiB before its first"
    ):
        job.wait(60)


@pytest.mark.parametrize("limit", ["much", "4 iB", 0, -1, "", True])
def test_a_limit_that_is_no_size_is_refused(controller: parimg.Controller, limit: object) -> None:
    with pytest.raises(JobError, match='memory_limit must be a number of bytes, or a text such as "4 GiB"'):
        controller.map(np.max, {"one": np.ones(1)}, memory_limit=limit)


def test_a_chunk_holds_one_decoded_image_at_a_time(controller: parimg.Controller, tmp_path: Path) -> None:
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((7_000, 7_000), number, np.uint8))  # 47 MiB each
    job = controller.map(lambda image: int(image[0, 0]), tmp_path, chunk_size=8)
    job.wait(120)
    peaks = [record.peak_memory / MIB for record in job.in_order()]
    assert max(peaks) - min(peaks) < 60
