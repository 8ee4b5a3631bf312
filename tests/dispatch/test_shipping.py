from __future__ import annotations

import os
import pickle
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import format_files as files
import numpy as np

from parimg.dispatch import shipping
from parimg.dispatch.in_flight import Pending
from parimg.dispatch.shipping import Shipping
from parimg.engine.reading import read_content
from parimg.errors import ImageEmptyError, ImagePartError
from parimg.images.readers import Part
from parimg.options import Reading
from parimg.sources.as_source import Image
from parimg.tasks.function import Function

if TYPE_CHECKING:
    import pytest


def pending_files(folder: Path, n: int, nbytes: int = 10) -> list[Pending]:
    images = []
    for number in range(n):
        path = folder / f"{number}.png"
        path.write_bytes(bytes([number]) * nbytes)
        images.append(Pending(Image(path.name, str(path)), number))
    return images


def wait_until_read(ship: Shipping, n: int) -> None:
    deadline = time.monotonic() + 60
    while len(ship._read) < n:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_files_that_were_read_ahead_are_not_read_again(tmp_path: Path) -> None:
    images = pending_files(tmp_path, 5)
    ship = Shipping()
    ship.read_ahead(images[:3])
    wait_until_read(ship, 3)
    for number in range(3):
        os.remove(tmp_path / f"{number}.png")
    assert ship.load(images) == [bytes([number]) * 10 for number in range(5)]
    assert ship._nbytes == 0
    ship.stop()


def test_no_more_is_read_ahead_than_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "_BYTES_AHEAD", 25)
    images = pending_files(tmp_path, 9)
    ship = Shipping()
    ship.read_ahead(images)
    wait_until_read(ship, 3)
    time.sleep(0.05)
    assert list(ship._read) == images[:3]
    assert ship.load(images[:2]) == [bytes(10), b"\1" * 10]
    wait_until_read(ship, 3)
    ship.forget(images[2:4])
    wait_until_read(ship, 3)
    assert set(ship._read) <= set(images[4:])
    ship.stop()


def test_a_file_that_is_being_read_is_waited_for_and_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, reads = threading.Event(), threading.Event(), []
    really_read = shipping.read_bytes

    def slowly(uri: str) -> bytes:
        reads.append(uri)
        begun.set()
        may_end.wait()
        return really_read(uri)

    monkeypatch.setattr(shipping, "read_bytes", slowly)
    [image] = pending_files(tmp_path, 1)
    ship = Shipping()
    ship.read_ahead([image])
    begun.wait()
    threading.Timer(0.05, may_end.set).start()
    assert ship.load([image]) == [bytes(10)]
    assert reads == [image.image.uri]
    ship.stop()


def test_arrays_and_urls_are_not_read_and_errors_are_contents(tmp_path: Path) -> None:
    array = np.zeros(3)
    (tmp_path / "empty.png").touch()
    images = [
        Pending(Image("array", "", array), 0),
        Pending(Image("url", "s3://bucket/a.png"), 1),
        Pending(Image("empty", str(tmp_path / "empty.png")), 2),
    ]
    found = Shipping().load(images)
    assert found[0] is array
    assert found[1] is None
    assert isinstance(found[2], ImageEmptyError)


def test_of_a_file_of_many_images_the_part_travels_not_the_file(tmp_path: Path) -> None:
    path = files.ome_zarr(tmp_path / "a.zarr")
    uri = f"{path}#z=1"
    (content,) = Shipping().load([Pending(Image("a", uri), 0)])
    assert isinstance(content, Part)
    assert content.nbytes == 3 * 50 * 70 * 2
    shutil.rmtree(path)
    task = Function(np.copy, color="unchanged")
    there = pickle.loads(pickle.dumps(content))
    found = read_content(task, uri, there, 10**6, Reading(channel="GFP", metadata=("version",)))
    np.testing.assert_array_equal(found.pixels, files.VOLUME[1, 1])
    assert (found.pixel_size, found.unit) == ({"Y": 0.5, "X": 0.5}, "µm")
    assert found.metadata == {"version": "0.5"}


def test_a_part_that_is_not_there_fails_as_it_would_on_an_engine(tmp_path: Path) -> None:
    path = files.hdf5(tmp_path / "r.h5")
    (content,) = Shipping().load([Pending(Image("a", f"{path}#/entry/tile"), 0)])
    assert isinstance(content, ImagePartError)
    assert "its images are /entry/data/images" in str(content)
