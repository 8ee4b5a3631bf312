"""Guards around each image on an engine: what is recorded of it, its time limit, its memory limit.

`parimg.engine.runner` puts every image into `Guard.image`; the default guard does nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from parimg.engine import memory
from parimg.engine.flight_recorder import FlightRecorder
from parimg.protocol.messages import TELL_SECONDS

_UNWATCHED = contextlib.nullcontext()


@dataclass(slots=True)
class Guard:
    """What surrounds the images of one chunk."""

    recorder: FlightRecorder | None = None
    timeout: float | None = None
    """Seconds an image may take, decoding included."""
    address_space: int | None = None
    """What an image may bring this process to, bytes."""
    _told_at: float = field(default=0.0)

    def image(self, index: int) -> contextlib.AbstractContextManager[object]:
        """Surround the image at place `index` of the chunk, from now on."""
        memory.reset_peak()
        if self.timeout is not None:
            self._tell(index)
        watched = self.recorder.image(index, self.timeout) if self.recorder else _UNWATCHED
        return watched if self.address_space is None else self._limited(watched)

    @contextlib.contextmanager
    def _limited(self, watched: contextlib.AbstractContextManager[object]) -> Iterator[None]:
        with watched, memory.limited(self.address_space):
            yield

    def _tell(self, index: int) -> None:
        """Tell the client that this engine goes on; one that is stopped as a whole keeps no time limit."""
        now = time.monotonic()
        if now - self._told_at < TELL_SECONDS and index:
            return
        self._told_at = now
        from IPython import get_ipython

        publisher = getattr(get_ipython(), "data_pub", None)
        if publisher is not None:
            publisher.publish_data({"image": index})
