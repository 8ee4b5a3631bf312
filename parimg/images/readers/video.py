"""Video: exact frames by their number or time, as red, green and blue of 8 bit.

Called by the registry. Strategy: the packets of a file tell, without being decoded, when each frame is shown and
which of them can be decoded alone. Frame n is the n-th of these times; to read it, one seeks to the last frame
before that stands alone, and decodes until its time. The next frame needs no seeking.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from parimg.errors import ImagePartError
from parimg.images.damage import DamagedError, UnsuitableError
from parimg.images.losses import note_lost
from parimg.images.readers.address import Address
from parimg.images.readers.opening import open_or_path
from parimg.images.readers.part import Index, OpenedFile, StoredImage

if TYPE_CHECKING:
    import numpy.typing as npt


def open_file(uri: str) -> OpenedFile:
    """Open a video."""
    return _VideoFile(uri)


class _VideoFile(OpenedFile):
    def __init__(self, uri: str) -> None:
        self._container = av.open(open_or_path(uri), metadata_errors="replace")
        try:
            if not self._container.streams.video:
                raise UnsuitableError("has no video stream")
            self._image = _VideoImage(self._container)
        except BaseException:
            self._container.close()
            raise

    def addresses(self) -> Sequence[Address]:
        return [Address()]

    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        if address.path:
            raise ImagePartError(f"names {address.path!r:.100}, but its parts are frame=0 or t=0.5s")
        return self._image, frozenset()

    def close(self) -> None:
        self._container.close()


class _VideoImage(StoredImage):
    index_names = {"T": "frame"}  # noqa: RUF012 - never changed

    def __init__(self, container: Any) -> None:
        self._container = container
        stream = self._stream = container.streams.video[0]
        # As many threads as processors are another engine's.
        stream.thread_count = 1
        times: list[int] = []
        alone: list[int] = []
        for packet in container.demux(stream):
            if packet.pts is None or packet.size == 0 or packet.is_discard:
                continue
            times.append(packet.pts)
            if packet.is_keyframe:
                alone.append(packet.pts)
        if not times:
            raise DamagedError("no frame of it can be found")
        self._times = sorted(set(times))
        self._alone = sorted(alone)
        self._frames: Iterator[Any] = iter(())
        self._next = -1
        self.axes = "TYXS"
        self.shape = (len(self._times), stream.codec_context.height, stream.codec_context.width, 3)
        self.dtype = np.dtype(np.uint8)
        rate = stream.average_rate
        self.metadata = {
            **dict(container.metadata),
            **dict(stream.metadata),
            "codec": stream.codec_context.name,
            **({"frames_per_second": float(rate)} if rate else {}),
        }
        if taken := container.metadata.get("creation_time"):
            self.metadata["acquisition_time"] = taken

    def index_at(self, seconds: float) -> int:
        """The frame that is shown at a time, counted from the first one."""
        base = self._stream.time_base
        if len(self._times) > 1:
            end = 2 * self._times[-1] - self._times[-2]
        else:
            end = self._times[0] + max(1, int(1 / (base * (self._stream.average_rate or 25))))
        length = float((end - self._times[0]) * base)
        if seconds > length:
            raise ImagePartError(f"names t={seconds:g}s, but is {length:.3f} s long")
        # Half a tick more: 12.48 s times 12800 is a little less than a whole number.
        return bisect_right(self._times, self._times[0] + seconds / float(base) + 0.5) - 1

    def read(self, index: Index) -> npt.NDArray[Any]:
        at, within = index[0], index[1:]
        if isinstance(at, int):
            return self._frame(at)[within]
        return np.stack([self._frame(number)[within] for number in range(at.start, at.stop)])

    def _frame(self, number: int) -> npt.NDArray[np.uint8]:
        wanted = self._times[number]
        place = bisect_right(self._alone, wanted) - 1
        start = self._alone[max(place, 0)] if self._alone else self._times[0]
        # Frames between this and the wanted one are decoded, unless a later one stands alone.
        if not (0 <= self._next <= number and self._times[self._next] >= start):
            self._seek(start)
        try:
            for frame in self._frames:
                if frame.pts is None or frame.pts < wanted:
                    continue
                if frame.pts > wanted:
                    break
                self._next = number + 1
                if frame.is_corrupt:
                    raise DamagedError(f"frame {number} is damaged")
                if frame.format.components[0].bits > 8:
                    note_lost("video")
                pixels: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
                return pixels
        except av.FFmpegError as error:
            self._next = -1
            raise DamagedError(f"frame {number} cannot be decoded ({error})") from None
        self._next = -1
        raise DamagedError(f"frame {number} cannot be decoded")

    def _seek(self, time: int) -> None:
        self._container.seek(time, stream=self._stream, backward=True, any_frame=False)
        self._frames = self._container.decode(self._stream)
        self._next = bisect_right(self._times, time) - 1
