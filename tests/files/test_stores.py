"""Files in stores, on moto's S3 server, which fails now and then."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
import zarr
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

import parimg
from parimg.errors import TaskError
from parimg.files import retrying, stores


class FailingBucket:
    """moto's server; of the writes that come while `failures` are left, each is refused."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self.failures = 0
        self.refused = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            fails = self.failures > 0 and environ["REQUEST_METHOD"] in {"PUT", "POST"}
            self.failures -= fails
            self.refused += fails
        if fails:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InternalError</Code><Message>not now</Message></Error>"]
        found: Iterable[bytes] = self._app(environ, start_response)
        return found


@pytest.fixture(scope="module")
def bucket() -> Iterator[FailingBucket]:
    app = FailingBucket()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore's own
        fsspec.filesystem("s3").mkdir(
            "results"
        )  # all servers of moto in a process have the same buckets: not one of other tests
        yield app
    server.shutdown()
    thread.join()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "PAUSES", (0.01, 0.02, 0.02))


def test_a_file_is_written_again_after_a_pause_where_the_store_fails(bucket: FailingBucket) -> None:
    bucket.failures, bucket.refused = 2, 0
    stores.write_url("s3://results/a.txt", lambda file: file.write(b"abc") and None)
    assert fsspec.filesystem("s3").cat("results/a.txt") == b"abc"
    assert bucket.refused == 2


def test_a_store_that_fails_to_the_last_is_told(bucket: FailingBucket) -> None:
    bucket.failures = 1000
    try:
        with pytest.raises(TaskError, match=r"writing 's3://results/b.txt' failed 4 times, the last time with"):
            stores.write_url("s3://results/b.txt", lambda file: file.write(b"abc") and None)
    finally:
        bucket.failures = 0


def test_what_does_not_go_away_is_told_at_once(bucket: FailingBucket) -> None:
    with pytest.raises(TaskError, match="writing below the output 's3://nowhere/x' failed: FileNotFoundError"):
        parimg.Convolve("sobel", "s3://nowhere/x").resolve()
    with pytest.raises(TaskError, match="Protocol not known: nosuch"):
        parimg.Convolve("sobel", "nosuch://place").resolve()


@pytest.mark.parametrize("image_format", ["png", "npy", "ome-tiff", "ome-zarr"])
def test_results_are_written_below_a_url(bucket: FailingBucket, image_format: Any) -> None:
    image = np.random.default_rng(2).integers(0, 256, (40, 60)).astype(np.uint8)
    task = parimg.Convolve("box(3)", "s3://results/out/", format=image_format, color="gray")
    task.resolve()
    bucket.failures, bucket.refused = 2, 0
    values = task.run(image, "views/a.png")
    endings = {"png": "png", "npy": "npy", "ome-tiff": "ome.tif", "ome-zarr": "ome.zarr"}
    assert values["path"] == f"s3://results/out/views/a.{endings[image_format]}"
    assert bucket.refused == 2
    wanted = task(image)["image"]
    if image_format == "ome-zarr":
        np.testing.assert_array_equal(zarr.open_group(values["path"], mode="r")["0"][:], wanted)
    else:
        with fsspec.open(values["path"], "rb") as file:
            read = {"npy": np.load, "ome-tiff": tifffile.imread}.get(image_format)
            if read is not None:
                np.testing.assert_array_equal(read(file), wanted)
            else:
                assert file.read(4) == b"\x89PNG"


def test_a_folder_of_this_host_may_be_named_as_a_url(tmp_path: Path) -> None:
    task = parimg.Convolve("box(3)", f"file://{tmp_path}/new/out", color="gray")
    task.resolve()
    values = task.run(np.zeros((5, 5), np.uint8), "a.png")
    assert values["path"] == f"file://{tmp_path}/new/out/a.png"
    assert [path.name for path in (tmp_path / "new" / "out").iterdir()] == ["a.png"]
