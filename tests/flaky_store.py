"""An S3 server on this machine whose bucket fails now and then, for tests of reading from stores."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import fsspec
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    import pytest

_BROKEN = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


class _Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


class FlakyStore:
    """A server that answers the first requests for each object with an error.

    Attributes
    ----------
    failures : int
        How many requests for each object fail.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.failed = Counter[str]()
        self._lock = threading.Lock()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _answer(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        name = environ["PATH_INFO"]
        with self._lock:
            fails = environ["REQUEST_METHOD"] == "GET" and self.failed[name] < self.failures
            self.failed[name] += fails
        if fails:
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [_BROKEN]
        return self._app(environ, start_response)

    def put(self, bucket: str, path: Path) -> None:
        """Write a file or folder into a bucket, which is made."""
        client = boto3.client(
            "s3",
            endpoint_url=self.address,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        client.create_bucket(Bucket=bucket)
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                client.upload_file(str(file), bucket, str(file.relative_to(path.parent)))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()


@contextmanager
def flaky_store(patch: pytest.MonkeyPatch) -> Iterator[FlakyStore]:
    """A store that this process and those that it starts reach as ``s3://``, while the body runs."""
    store = FlakyStore()
    # Botocore's own retries would hide what is tested.
    options = {
        "endpoint_url": store.address,
        "key": "testing",
        "secret": "testing",
        "config_kwargs": {"retries": {"max_attempts": 0}},
        "client_kwargs": {"region_name": "us-east-1"},
    }
    patch.setenv("FSSPEC_S3", json.dumps(options))
    patch.setitem(fsspec.config.conf, "s3", options)
    try:
        yield store
    finally:
        store.close()
