"""ChunkSize: how many images the next chunk has, and how many chunks an engine.

Pure arithmetic over what the dispatcher measured.
"""

from __future__ import annotations

CHUNK_SECONDS = 0.5  # what a chunk should take an engine: long against 5 ms a message, short for a progress bar
MAX_CHUNK_BYTES = 16 * 2**20  # of arrays that travel with their chunk, or come back with it
_MAX_CHUNK = 20_000  # images


class ChunkSize:
    """Grows from one image, at most doubling, until a chunk takes `CHUNK_SECONDS`.

    Parameters
    ----------
    fixed : int or None
        What the user asked for.

    Examples
    --------
    >>> size = ChunkSize(None)
    >>> size.adapt(seconds=0.001, nbytes=100)
    >>> size.next(remaining=None, engines=2), size.depth
    (2, 2)
    """

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed
        self._size = fixed or 1
        self._seconds: float | None = None

    @property
    def depth(self) -> int:
        """Chunks an engine may have: a second one spares it the wait for a message, but may get stuck there."""
        return 2 if self._seconds is not None and self._seconds * self._size < 2 * CHUNK_SECONDS else 1

    @property
    def image_seconds(self) -> float:
        """What an image takes an engine, 0 until the first has come back."""
        return self._seconds or 0.0

    def next(self, remaining: int | None, engines: int) -> int:
        """Images of the next chunk.

        Parameters
        ----------
        remaining : int or None
            Images that were not given out yet, as far as known; near the end chunks shrink, so that engines finish
            together.
        engines : int
            Engines that share them.
        """
        if self._fixed is not None or remaining is None:
            return self._size
        return max(1, min(self._size, -(-remaining // (2 * max(1, engines)))))

    def adapt(self, seconds: float, nbytes: float) -> None:
        """Learn what an image took, and how large its answer was."""
        self._seconds = seconds if self._seconds is None else (self._seconds + seconds) / 2
        if self._fixed is None:
            in_time = int(CHUNK_SECONDS / max(self._seconds, 1e-9))
            in_bytes = int(MAX_CHUNK_BYTES / nbytes)
            self._size = max(1, min(2 * self._size, in_time, in_bytes, _MAX_CHUNK))
