"""Damaged files through every task, on one engine: a record each, and an engine that lives or is replaced.

A short version runs with all tests, ``make fuzz`` runs 10 000 files through each task.
"""

from __future__ import annotations

import collections
import io
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

import parimg
from parimg import errors

N = int(os.environ.get("PARIMG_FUZZ_FILES", "400"))
OF_DECODING = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.ImageError) and kind is not errors.ImageError
} | {"MemoryError"}


def whole_files() -> dict[str, bytes]:
    """A small photograph in every format that many have, and a map."""
    photograph = np.ascontiguousarray(data.astronaut()[:96:2, :128:2])
    files = {}
    for extension in ("png", "jpg", "bmp", "tif", "webp", "ppm", "jp2"):
        encoded = cv2.imencode(f".{extension}", photograph)
        assert encoded[0], extension
        files[extension] = encoded[1].tobytes()
    buffer = io.BytesIO()
    Image.fromarray(photograph).save(buffer, "gif")
    files["gif"] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).random((3, 6, 8), dtype=np.float32))
    files["npy"] = buffer.getvalue()
    return files


def truncate(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def flip_bits(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 3, 30])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def damage_header(content: bytearray, rng: random.Random) -> None:
    """Wrong sizes, mostly: numbers within the first 64 bytes."""
    place = rng.randrange(min(64, len(content) - 4))
    content[place : place + 4] = struct.pack(
        ">I", rng.choice([0, 1, 2**16, 2**31 - 1, 2**32 - 1, rng.getrandbits(32)])
    )


def blank(content: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(content))
    length = min(rng.randrange(1, 500), len(content) - place)
    content[place : place + length] = bytes(length)


def insert(content: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(content))
    content[place:place] = rng.randbytes(rng.randrange(1, 200))


def repeat(content: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(content))
    content[place:place] = content[place : place + rng.randrange(1, 300)]


def png_bomb(side: int) -> bytes:
    """A whole and right PNG of a few kB, that decodes to `side` times `side` black pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = bytes(1 + side // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def damaged_files(n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    rng = random.Random(seed)
    originals = list(whole_files().items())
    yield "bomb.png", png_bomb(40_000)
    yield "small-bomb.png", png_bomb(8_000)
    yield "empty.png", b""
    for number in range(3, n):
        extension, whole = rng.choice(originals)
        damage = rng.choice([truncate, flip_bits, damage_header, blank, insert, repeat])
        content = bytearray(whole)
        damage(content, rng)
        yield f"{number:05d}-{damage.__name__}.{extension}", bytes(content)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    for name, content in damaged_files(N, seed=20_261_122):
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def one_engine() -> Iterator[parimg.Controller]:
    with parimg.start(n=1) as started:
        yield started


TASKS: dict[str, Callable[[str, str], parimg.Task]] = {
    "Function, gray": lambda photograph, model: parimg.Function(np.mean, color="gray"),
    "Function, unchanged": lambda photograph, model: parimg.Function(np.mean, color="unchanged"),
    "MatchSIFT": lambda photograph, model: parimg.MatchSIFT(photograph),
    "Convolve": lambda photograph, model: parimg.Convolve("gaussian(1.5)"),
    "NeighbourhoodFilter": lambda photograph, model: parimg.NeighbourhoodFilter(np.median, size=3),
    "FeatureMap": lambda photograph, model: parimg.FeatureMap(model),
    "SkeletonGraph": lambda photograph, model: parimg.SkeletonGraph(),
    "RegionSearch": lambda photograph, model: parimg.RegionSearch([0.1, 1, 0.5]),
}


def test_no_task_is_forgotten() -> None:
    tasks = {
        name
        for name in parimg.__all__
        if isinstance(kind := getattr(parimg, name), type) and issubclass(kind, parimg.Task)
    }
    assert tasks - {"Task"} == {name.partition(",")[0] for name in TASKS}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.timeout(3600 if N > 1000 else 300)
def test_every_damaged_file_gets_one_record(
    one_engine: parimg.Controller,
    damaged: Path,
    tmp_path: Path,
    tiny_path: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    photograph = str(tmp_path / "photograph.png")
    cv2.imwrite(photograph, data.astronaut())
    task = TASKS[name](photograph, tiny_path())
    files = sorted(str(path) for path in damaged.iterdir())
    job = one_engine.submit(task, files, max_pixels=2**20, timeout=30, memory_limit="3 GiB")
    assert job.wait(3000)
    records = list(job)
    assert sorted(record.uri for record in records) == files
    for record in records:
        if record.stage == "decode":
            assert record.error in OF_DECODING, record
    kinds = collections.Counter(record.error or "ok" for record in records)
    assert kinds["ok"] < len(files)
    pids = len({record.pid for record in records if record.pid is not None})
    with capsys.disabled():
        if N > 1000:
            print(f"\n{name}: {dict(kinds.most_common())}, {pids} engine processes")
    assert one_engine.map(np.max, {"one": np.ones(1)}).get(60)[0]["value"] == 1
