"""Stores that fail now and then: what is asked of them is asked again after a pause, and again.

Called by whatever reads or lists URLs. That an image had to be asked for again is no fault of its engine's, and
costs it no attempt.
"""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

PAUSES = (0.25, 1.0, 4.0)
"""Seconds between attempts, each up to half as long again, lest all engines come back at once."""

_OF_STORES = ("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "requests", "s3fs", "urllib3")
_PASSING = frozenset(
    (
        errno.EIO, errno.EBUSY, errno.EAGAIN, errno.EPIPE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED,
        errno.ECONNABORTED, errno.EREMOTEIO, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN,
    )
)  # fmt: skip


def retried(work: Callable[[], T]) -> T:
    """Do something with a store, again where it failed for a reason that may pass.

    Examples
    --------
    >>> answers = iter([ConnectionResetError("gone"), 7])
    >>> def ask():
    ...     answer = next(answers)
    ...     if isinstance(answer, Exception):
    ...         raise answer
    ...     return answer
    >>> retried(ask)
    7
    """
    for pause in PAUSES:
        try:
            return work()
        except Exception as error:
            if not may_pass(error):
                raise
        time.sleep(pause * random.uniform(1, 1.5))  # noqa: S311 - nothing secret
    return work()


async def retried_async(work: Callable[[], Awaitable[T]]) -> T:
    """As `retried`, of what is awaited.

    Examples
    --------
    >>> import asyncio
    >>> async def ask():
    ...     return 7
    >>> asyncio.run(retried_async(ask))
    7
    """
    for pause in PAUSES:
        try:
            return await work()
        except Exception as error:
            if not may_pass(error):
                raise
        await asyncio.sleep(pause * random.uniform(1, 1.5))  # noqa: S311 - nothing secret
    return await work()


def may_pass(error: BaseException) -> bool:
    """Whether an error, or what led to it, is of the kind that is gone a little later.

    Examples
    --------
    >>> may_pass(TimeoutError()), may_pass(FileNotFoundError()), may_pass(ValueError())
    (True, False, False)
    """
    return any(map(_may_pass, _chain(error)))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, FileNotFoundError | PermissionError):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    response = getattr(error, "response", None)  # of botocore: the server's own answer
    status = getattr(error, "status", None)  # of aiohttp
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if isinstance(status, int):
        return status >= 500 or status in {408, 425, 429}
    return type(error).__module__.partition(".")[0] in _OF_STORES
