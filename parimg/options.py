"""Options: how a job is run, checked before anything is written or sent.

They stand in the job's journal; a resumed job may change them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from parimg.errors import JobError

DEFAULT_MAX_PIXELS = 2**28
"""Height times width above which an image is refused: 16 384 by 16 384, 256 MB as 8 bit gray."""
Ship = Literal["auto", "never", "always"]
TILE_STEP = 16
"""What sides of tiles are multiples of, as those of TIFF files are."""
Orientation = Literal["stored", "upright"]
Projection = Literal["max", "min"]
LEAST_RECORDS = 20  # before a share of failures says anything


@dataclass(frozen=True, slots=True)
class Reading:
    """What of an image is read, and how its gray levels are; see `parimg.Controller.submit`.

    Raises
    ------
    JobError
        If it makes no sense.
    """

    channel: int | str | None = None
    z: int | None = None
    project: Projection | None = None
    percentile: tuple[float, float] | None = None
    orientation: Orientation | None = None
    metadata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.channel, str):
            _check_optional_place("channel", self.channel, ", or the name of a channel")
        _check_optional_place("z", self.z)
        if self.project not in {None, *get_args(Projection)}:
            raise JobError(f"project must be 'max', 'min' or None (got {self.project!r})")
        if self.project is not None and self.z is not None:
            raise JobError(f"z={self.z} takes one slice and project={self.project!r} all of them: give one")
        if self.percentile is not None:
            limits = tuple(self.percentile) if isinstance(self.percentile, list | tuple) else ()
            if len(limits) != 2 or not all(map(_is_number, limits)) or not 0 <= limits[0] < limits[1] <= 100:
                raise JobError(
                    "percentile must be two numbers from 0 to 100, the lower first, such as (1, 99.8) (got "
                    f"{self.percentile!r})"
                )
            object.__setattr__(self, "percentile", limits)
        if self.orientation not in {None, *get_args(Orientation)}:
            raise JobError(f"orientation must be 'stored', 'upright' or None (got {self.orientation!r})")
        names = (self.metadata,) if isinstance(self.metadata, str) else tuple(self.metadata)
        if not all(isinstance(name, str) and name for name in names):
            raise JobError(f"metadata must be names of what files tell (got {self.metadata!r})")
        object.__setattr__(self, "metadata", names)

    @property
    def selects(self) -> bool:
        """Whether it chooses something of an image, or scales its levels."""
        return (self.channel, self.z, self.project, self.percentile) != (None, None, None, None)


@dataclass(frozen=True, slots=True)
class Options:
    """How a job is run; see `parimg.Controller.submit`.

    Raises
    ------
    JobError
        If an option makes no sense.
    """

    retries: int = 2
    chunk_size: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    timeout: float | None = None
    max_failures: float | None = None
    memory_limit: int | str | None = None
    ship: Ship = "auto"
    tiles: int | Sequence[int] | None = None
    channel: int | str | None = None
    z: int | None = None
    project: Projection | None = None
    percentile: tuple[float, float] | None = None
    orientation: Orientation | None = None
    metadata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_integer("retries", self.retries, 0)
        _check_integer("max_pixels", self.max_pixels, 1)
        if self.chunk_size is not None:
            _check_integer("chunk_size", self.chunk_size, 1, ", or None")
        if self.timeout is not None and not (_is_number(self.timeout) and 0 < self.timeout < float("inf")):
            raise JobError(f"timeout must be a number of seconds above 0, or None (got {self.timeout!r})")
        limit = self.max_failures
        if limit is not None and not (
            _is_number(limit) and (0 < limit < 1 if isinstance(limit, float) else limit >= 0)
        ):
            raise JobError(
                "max_failures must be a number of images (an integer of at least 0), a share of them (a float "
                f"between 0 and 1), or None (got {limit!r})"
            )
        if self.ship not in get_args(Ship):
            raise JobError(f"ship must be 'auto', 'never' or 'always' (got {self.ship!r})")
        if self.tiles is not None:
            object.__setattr__(self, "tiles", _checked_tiles(self.tiles))
        reading = self.reading
        object.__setattr__(self, "percentile", reading.percentile)  # JSON has no tuples
        object.__setattr__(self, "metadata", reading.metadata)
        if self.memory_limit is not None:
            object.__setattr__(self, "memory_limit", parse_size(self.memory_limit))

    @property
    def tile(self) -> tuple[int, int] | None:
        """Height and width of tiles, None for images whole."""
        return None if self.tiles is None else _checked_tiles(self.tiles)

    @property
    def reading(self) -> Reading:
        """What of each image is read."""
        return Reading(self.channel, self.z, self.project, self.percentile, self.orientation, self.metadata)

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit in bytes."""
        return None if self.memory_limit is None else parse_size(self.memory_limit)

    def has_too_many(self, failed: int, done: int) -> bool:
        """Whether so many failures among so many records end the job."""
        if self.max_failures is None:
            return False
        if isinstance(self.max_failures, int):
            return failed > self.max_failures
        return done >= LEAST_RECORDS and failed > self.max_failures * done

    @classmethod
    def changed(cls, stored: Mapping[str, Any], changes: Mapping[str, Any]) -> Self:
        """Options of a journal, some of them changed."""
        names = {field.name for field in dataclasses.fields(cls)}
        if unknown := changes.keys() - names:
            raise JobError(f"there is no option {min(unknown)!r}; there are {', '.join(sorted(names))}")
        return cls(**{name: value for name, value in {**stored, **changes}.items() if name in names})


def parse_size(size: int | str) -> int:
    """A size of memory in bytes.

    Raises
    ------
    JobError
        If it is none.

    Examples
    --------
    >>> parse_size("1.5 GiB"), parse_size("500MB"), parse_size(4096)
    (1610612736, 500000000, 4096)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?\s*", str(size), re.ASCII)
    if isinstance(size, bool) or found is None or float(found[1]) <= 0 or (found[3] and not found[2]):
        raise JobError(f'memory_limit must be a number of bytes, or a text such as "4 GiB" (got {size!r})')
    power = " kMGT".index(found[2] or " ")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def _checked_tiles(tiles: int | Sequence[int]) -> tuple[int, int]:
    sides = tuple(tiles) if isinstance(tiles, tuple | list) else (tiles, tiles)
    are_counts = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    if len(sides) != 2 or not are_counts or any(side % TILE_STEP for side in sides):
        raise JobError(
            "tiles must be the height and width of tiles in pixels, or one number for both, multiples of "
            f"{TILE_STEP} such as (2048, 2048) (got {tiles!r})"
        )
    return sides[0], sides[1]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_optional_place(name: str, value: object, otherwise: str = "") -> None:
    if value is not None:
        _check_integer(name, value, 0, f"{otherwise}, or None")


def _check_integer(name: str, value: object, least: int, otherwise: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise JobError(f"{name} must be an integer of at least {least}{otherwise} (got {value!r})")


DEFAULT_READING = Reading()
