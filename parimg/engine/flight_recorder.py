"""What an engine leaves behind when it dies: the image it was at, its memory, and a traceback.

An engine keeps one small file for each job, which says at any time which image of which chunk it is at.
`faulthandler` writes its traceback behind that when the process crashes or an image runs past its time limit,
also under native code that holds the GIL. The file lies in the job's directory where the engine's host sees that,
else in the host's own folder, where another engine of the host finds it (`fetch_crash_report`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
from collections.abc import Iterator
from typing import Self

from parimg.engine import memory
from parimg.protocol import shared_objects
from parimg.protocol.crash_report import FOLDER, HEADER, IDLE, PREPARING, read_bytes

# Windows has no O_NOFOLLOW, and other systems no O_BINARY.
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class FlightRecorder:
    """The recorder of this engine for one job.

    Parameters
    ----------
    folder : str
        The job's folder of recorders.
    name : str
        File name of this engine's.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self._path = ""
        self._descriptor = -1
        self._is_timed = False
        for place in (folder, os.path.join(shared_objects.host_folder(), FOLDER)):
            with contextlib.suppress(OSError):
                if place != folder:
                    os.makedirs(place, mode=0o700, exist_ok=True)
                path = os.path.join(place, name)
                self._descriptor = os.open(path, _FLAGS, 0o600)
                self._path = path
                faulthandler.enable(file=self._descriptor, all_threads=True)
                break

    def close(self) -> None:
        """Remove the file, because a later job has another."""
        if self._descriptor >= 0:
            faulthandler.disable()
            os.close(self._descriptor)
            self._descriptor = -1
            with contextlib.suppress(OSError):
                os.remove(self._path)

    @contextlib.contextmanager
    def chunk(self, number: int) -> Iterator[Self]:
        """Record that a chunk is taken up, and at the end that it is done."""
        self._number = number
        self._note(PREPARING)
        yield self
        self._note(IDLE)

    def image(self, index: int, timeout: float | None = None) -> Self:
        """Record that an image is taken up, and end this process if it takes more than `timeout` seconds.

        What this gives surrounds the image; a generator's context would take an image of no work 2 us more.
        """
        self._note(index)
        self._is_timed = timeout is not None
        if timeout is not None:
            # The interpreter cannot clean up then: the code that hangs may hold any lock, the GIL, too.
            file = self._descriptor if self._descriptor >= 0 else 2
            faulthandler.dump_traceback_later(timeout, exit=True, file=file)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_timed:
            faulthandler.cancel_dump_traceback_later()

    def _note(self, index: int) -> None:
        if self._descriptor < 0:
            return
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, HEADER % (self._number, index, memory.peak()))  # faulthandler's follows
        except OSError:  # a full disk costs the last words, not the image
            pass


def fetch_crash_report(name: str) -> bytes | None:
    """What an engine of this host left in the host's own folder; it is removed there."""
    path = os.path.join(shared_objects.host_folder(), FOLDER, os.path.basename(name))
    try:
        found = read_bytes(path)
        os.remove(path)
    except OSError:
        return None
    return found
