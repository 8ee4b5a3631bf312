"""Files in stores that fsspec knows (``s3://...``): written whole, and again after a pause where a store fails.

The lowest floor: everything that writes files for others may call it.
"""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from parimg.errors import TaskError
from parimg.files import retrying

_IN_MEMORY = 2**26  # bytes of a file until it is on its way; more go over this host's disk

Answer = TypeVar("Answer")


def is_url(path: str) -> bool:
    """Whether a path is a URL, for fsspec.

    Examples
    --------
    >>> is_url("s3://bucket/a.png"), is_url("/data/a.png")
    (True, False)
    """
    return "://" in path


def join(folder: str, *parts: str) -> str:
    """Path or URL of something below a folder."""
    return posixpath.join(folder, *parts)


def again_if_it_fails(call: Callable[[], Answer], what: str) -> Answer:
    """Call something that talks to a store; where that fails for a reason that may pass, again after pauses.

    Parameters
    ----------
    call : callable
        May have been done in part when it fails.
    what : str
        What errors call it, such as ``"writing 's3://bucket/a.png'"``.

    Raises
    ------
    TaskError
        If it fails to the last, or for a reason that does not go away: no permission, no such bucket.
    """
    try:
        return retrying.retried(call)
    except Exception as error:
        # Every fsspec backend has errors of its own (aiohttp, botocore, ...) without a common base.
        told = f"{type(error).__name__}: {error!s:.500}"
        if not retrying.may_pass(error):
            raise TaskError(f"{what} failed: {told}") from error
        raise TaskError(
            f"{what} failed {len(retrying.PAUSES) + 1} times, the last time with {told}; is the store reachable "
            "from the engine's host?"
        ) from error


def write_url(url: str, write: Callable[[BinaryIO], None]) -> None:
    """Write a file of a store by a function that is called with it, open; it appears once it is whole.

    Parameters
    ----------
    url : str
    write : callable
        Called once, with a file that it may seek in.

    Raises
    ------
    TaskError
        If the store does not take it.

    Examples
    --------
    >>> import fsspec
    >>> write_url("memory://doctest/b.txt", lambda file: file.write(b"b"))
    >>> fsspec.filesystem("memory").cat("/doctest/b.txt")
    b'b'
    """
    from fsspec.core import url_to_fs

    with tempfile.NamedTemporaryFile(prefix="parimg-", buffering=_IN_MEMORY) as file:
        write(file)  # type: ignore[arg-type]
        file.flush()

        def send() -> None:
            filesystem, path = url_to_fs(url)
            if _has_folders(filesystem):
                filesystem.makedirs(posixpath.dirname(path), exist_ok=True)
            filesystem.put_file(file.name, path)

        again_if_it_fails(send, f"writing {url!r:.300}")


def check_url(url: str) -> None:
    """Make sure that something can be written below a URL: the package for it, the place, the permission.

    Raises
    ------
    TaskError
    """
    probe = join(url, ".parimg-probe")

    def try_it() -> None:
        from fsspec.core import url_to_fs

        filesystem, path = url_to_fs(probe)
        if _has_folders(filesystem):
            filesystem.makedirs(posixpath.dirname(path), exist_ok=True)
        filesystem.pipe_file(path, b"parimg")
        filesystem.rm_file(path)

    again_if_it_fails(try_it, f"writing below the output {url!r:.300}")


def _has_folders(filesystem: object) -> bool:
    """Whether folders are there on their own; in stores of objects they would be made as buckets."""
    protocol = getattr(filesystem, "protocol", ())
    names = {protocol} if isinstance(protocol, str) else set(protocol)
    return not names & {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"}
