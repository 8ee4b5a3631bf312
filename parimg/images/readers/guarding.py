"""What libraries raise and give, as errors of ours that name the file, and as arrays that everybody takes.

Called by `part` and the registry, around whatever a format's library does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from parimg.errors import (
    ImageError,
    ImageFormatError,
    ImageMissingError,
    ImagePartError,
    ImageTooLargeError,
    ImageTruncatedError,
)
from parimg.files.retrying import may_pass, retried
from parimg.images.damage import BeyondLimitError, DamagedError, UnsuitableError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

T = TypeVar("T")


def missing(name: str) -> ImageMissingError:
    """There is no such file, where it was looked for."""
    return ImageMissingError(f"{name!r:.300} does not exist; is it reachable from the host that reads it?")


def forbidden(name: str) -> ImageError:
    """A file is there, and closed."""
    return ImageError(f"{name!r:.300} may not be read by this user; check its permissions")


def unread(name: str, error: Exception) -> ImageError:
    """Something between here and the bytes failed: every backend has errors of its own."""
    return ImageError(f"{name!r:.300} could not be read: {type(error).__name__}: {error!s:.500}")


def guarded(name: str, work: Callable[[], T], *, is_asked_again: bool = True) -> T:
    """Do what a library does with a file; of a store, again after a pause where that failed for now.

    Parameters
    ----------
    name : str
        Path or URL, for messages.
    work : callable
    is_asked_again : bool
        Whether it may be done again.

    Raises
    ------
    ImageError
        Whatever it raises.
    MemoryError
    """
    try:
        return retried(work) if is_asked_again and "://" in name else work()
    except (ImagePartError, UnsuitableError) as error:
        kind = ImagePartError if isinstance(error, ImagePartError) else ImageFormatError
        text = str(error)
        raise kind(text if text.startswith(repr(name)[:100]) else f"{name!r:.300} {text}") from None
    except (ImageError, MemoryError):
        raise
    except BeyondLimitError as error:
        raise ImageTooLargeError(f"{name!r:.300} {error}") from None
    except FileNotFoundError:
        raise missing(name) from None
    except PermissionError:
        raise forbidden(name) from None
    except DamagedError as error:
        raise ImageTruncatedError(
            f"{name!r:.300} is truncated or damaged: {error}; copy or write it again"
        ) from None
    except Exception as error:
        if "://" in name and may_pass(error):
            raise unread(name, error) from error
        # Every library has errors of its own, and damaged files lead to any of Python's.
        raise ImageTruncatedError(
            f"{name!r:.300} is truncated, damaged, or of a kind that its library does not read: "
            f"{type(error).__name__}: {error!s:.300}"
        ) from error


def read_guarded(
    name: str, read: Callable[[], Any], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Pixels of a part, contiguous, writable and of native byte order, of the shape that was told before."""
    import numpy as np  # not at the top: what only lists files needs none

    def checked() -> npt.NDArray[Any]:
        pixels = np.asarray(read())
        if pixels.shape != shape:
            raise DamagedError(f"its pixels are of shape {pixels.shape}, its header tells {shape}")
        return np.require(pixels, dtype, ["C", "W", "O"])

    return guarded(name, checked)
