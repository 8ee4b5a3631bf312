"""The messages between client and engines: a chunk of images, and its answer.

Pickled by whoever sends them; both sides compare `VERSION` before anything else.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from parimg import __version__
from parimg.options import DEFAULT_READING, Reading
from parimg.protocol.shared_objects import SharedRef
from parimg.record import Row

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.errors import ImageError
    from parimg.images.readers.part import Part

TELL_SECONDS = 1.0  # between an engine's signs of progress; one takes it 0.13 ms


def _digest_of_sources() -> str:
    """Of what travels: an install in place (`pip install -e`) changes without having another version."""
    room = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*room.glob("*.py"), room.parent / "record.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


VERSION = (
    f"Python {sys.version_info.major}.{sys.version_info.minor} and parimg {__version__} "
    f"(messages {_digest_of_sources()})"
)
"""What client and engines must have in common."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of what is done with an image that is run by tiles."""

    step: str
    """See `parimg.tasks.tiled_image.Step`."""
    tile: int | None
    """Number of the tile; None: all tiles have done the step, what is next?"""


@dataclass(frozen=True, slots=True)
class NextStep:
    """What is to be done with the tiles of an image before its row can be made."""

    step: str
    count: int
    """Tiles of the step."""
    missing: list[int]
    """Those that are not done yet."""
    tile: tuple[int, int]
    """Height and width of the image's tiles."""
    columns: int
    """Tiles in a row of the image, 0 if the step's are not the image's."""


WholeContent: TypeAlias = "npt.NDArray[Any] | bytes | Part | ImageError | None"
"""The array of an image that comes with its pixels; or the bytes of its file, which the engine's host does not
see, or its part of a file that holds many, or why the client could not read that; None where the engine reads."""
Content: TypeAlias = "WholeContent | Piece"
"""That, or a piece of an image that is run by tiles."""

ChunkImage = tuple[int, str, str, "Content"]
"""Position, key, uri and content of an image."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The images sent to an engine in one message, and what to do with them."""

    version: str
    refs: tuple[SharedRef, ...]
    """The task, then the arrays it refers to."""
    folder: str
    """The job's folder of shared objects, for hosts that see it."""
    max_pixels: int
    images: list[ChunkImage]
    number: int = 0
    """Unique in a run of the job."""
    recorder: str = ""
    """Path of the engine's flight recorder in the job's directory, empty for none."""
    timeout: float | None = None
    """Seconds an image may take."""
    memory_limit: int | None = None
    """Bytes an engine may occupy."""
    reading: Reading = DEFAULT_READING
    """What of each image is read."""
    tile: tuple[int, int] | None = None
    """Height and width of the tiles that larger images are run by, None for all images whole."""
    tiles_folder: str = ""
    """Where engines leave what tiles give; empty where this host does not see that, and runs all tiles alone."""
    returns_files: bool = False
    """Whether files that the task writes come back with the answer, because the output folder is not seen."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An engine's answer: rows of the chunk's first images, or the shared objects it lacks, and then no rows."""

    host: str
    pid: int
    rows: list[Row]
    missing: list[str]
    seconds: float
    most_pages: int = 1
    """Of the images of which only the first page or frame was taken."""
    files: list[tuple[int, str, bytes]] = field(default_factory=list)
    """Place of the row, path and bytes of each file that came back."""
    steps: dict[int, NextStep] = field(default_factory=dict)
    """By place of the row, which is empty: what an image that is run by tiles needs next."""
    read_whole: str = ""
    """Why a large image was not run by tiles."""
    losses: tuple[str, ...] = ()
    """What was left out of images, as the user is to be told."""
