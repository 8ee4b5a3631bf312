"""Record: what became of one image, and how a task's values are stored.

An engine encodes what a task returned (`encode_values`), the journal stores the two encoded parts as they
are, and a reader decodes them (`decode_values`). Scalars and short lists become JSON, arrays an uncompressed
NPZ, so that nothing in a journal is ever unpickled.

The fields of a record are declared here and nowhere else: `Row` has those that an engine knows, `Placement` those
that the client adds, `Record` all of them as users see them. The journal's columns and those of tables are made
from their names and types.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from parimg.errors import ResultError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SHOWN_VALUES = 12  # and arrays, of a record in a notebook
_PICTURE_WIDTH = 420  # px
LARGEST_ARRAY = 2**28  # bytes, of a record's arrays together; SQLite takes 10**9
_LARGEST_COLUMNS = 2**24  # characters of JSON, of a record's scalars and lists together
Status = Literal["ok", "failed"]
Stage = Literal["decode", "task", "result", "engine"]


class Row(NamedTuple):
    """One image's outcome as an engine sends it: the fields that the engine knows."""

    position: int
    key: str
    uri: str
    status: Status
    stage: Stage | None
    error: str | None
    message: str | None
    traceback: str | None
    started: float
    decode_seconds: float
    task_seconds: float
    columns: str
    arrays: bytes | None
    peak_memory: int | None = None


class Placement(NamedTuple):
    """Where an engine's rows were made."""

    engine: int | None
    host: str | None
    pid: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Record(Mapping[str, Any]):
    """What became of one image: one row of a job's table.

    It is a mapping of the task's values by name: ``record["matches"]``, ``dict(record)``.

    Attributes
    ----------
    key : str
        Name of the image, unique in its job.
    status : {"ok", "failed"}
    columns : dict
        The task's scalar values by column name; empty if the image failed.
    arrays : dict of str to ndarray
        The task's array values by name.
    stage : {"decode", "task", "result", "engine"} or None
        Where a failed image failed.
    error, message, traceback : str or None
        Type, message and traceback of the error of a failed image.
    attempts : int
        How often the image was given to an engine whose answer or death was noticed.
    engine : int or None
        Engine that ran it.
    host : str or None
        Host name of that engine.
    pid : int or None
        Process of that engine.
    started : float
        When the engine took the image up, seconds since the epoch.
    decode_seconds, task_seconds : float
        Time for reading and decoding, and for the task, seconds.
    peak_memory : int or None
        Most memory that the engine occupied while it ran the image, bytes; None if it did not tell.
    uri : str
        Absolute path or URL it was read from; empty for arrays.
    position : int
        Place of the image in its source, counted from 0.
    job : str
        Directory of the job it belongs to.
    """

    key: str
    status: Status
    columns: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    stage: Stage | None = None
    error: str | None = None
    message: str | None = None
    traceback: str | None = field(default=None, repr=False)
    attempts: int = 1
    engine: int | None = None
    host: str | None = None
    pid: int | None = None
    started: float = 0.0
    decode_seconds: float = 0.0
    task_seconds: float = 0.0
    peak_memory: int | None = None
    uri: str = ""
    position: int = 0
    job: str = field(default="", repr=False, compare=False)

    draw: ClassVar[Callable[[Record], bytes]] = staticmethod(lambda _: b"")
    """Draws a record's image with its result, as a PNG or JPEG file; set by `parimg.job`, which stands above."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self._scalars() == other._scalars() and _encode_arrays(self.arrays) == _encode_arrays(other.arrays)

    def __hash__(self) -> int:
        return hash((self.key, self.position, self.started))

    def _scalars(self) -> list[object]:
        return [getattr(self, item.name) for item in fields(self) if item.name not in {"arrays", "job"}]

    @property
    def ok(self) -> bool:
        """Whether the task gave values for this image."""
        return self.status == "ok"

    def __getitem__(self, name: str) -> Any:
        if name in self.columns:
            return self.columns[name]
        if name in self.arrays:
            return self.arrays[name]
        if not self.ok:
            raise KeyError(f"{name!r}: image {self.key!r} failed in {self.stage}: {self.error}: {self.message}")
        raise KeyError(f"{name!r}: this record has {', '.join(self) or 'no values'}")

    def __contains__(self, name: object) -> bool:
        return name in self.columns or name in self.arrays

    def __iter__(self) -> Iterator[str]:
        yield from self.columns
        yield from self.arrays

    def __len__(self) -> int:
        return len(self.columns) + len(self.arrays)

    def __bool__(self) -> bool:
        return True

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _repr_html_(self) -> str:
        from parimg.notebook import markup

        picture = markup.Markup()
        with contextlib.suppress(Exception):  # the image, the job or matplotlib is not there
            picture = markup.picture(type(self).draw(self), width=_PICTURE_WIDTH)
        seconds = self.decode_seconds + self.task_seconds
        values = dict(itertools.islice(self.columns.items(), _SHOWN_VALUES))
        arrays = {name: _described(array) for name, array in self.arrays.items()}
        about = {
            f"failed in {self.stage}": None if self.ok else f"{self.error}: {self.message}",
            **{name: "None" if value is None else value for name, value in values.items()},
            **dict(itertools.islice(arrays.items(), _SHOWN_VALUES)),
            "time": f"{markup.duration(seconds)} on engine {self.engine}, {self.host}",
            "attempts": self.attempts if self.attempts > 1 else None,
        }
        return markup.box(self.key, self.status, [picture, markup.facts(about)])


def _described(array: npt.NDArray[np.generic]) -> str:
    if array.dtype.names:
        return f"table of {len(array)} rows: {', '.join(array.dtype.names)}"
    return f"{array.dtype}, {' x '.join(map(str, array.shape))}"


def failed_row(
    position: int, key: str, uri: str, stage: Stage, error: str, message: str, traceback: str | None = None
) -> Row:
    """The row of an image that did not get as far as an engine's own guard."""
    import time

    return Row(
        position=position,
        key=key,
        uri=uri,
        status="failed",
        stage=stage,
        error=error,
        message=message,
        traceback=traceback,
        started=time.time(),
        decode_seconds=0.0,
        task_seconds=0.0,
        columns="{}",
        arrays=None,
    )


def encode_values(values: object) -> tuple[str, bytes | None]:
    """Encode what a task returned.

    Parameters
    ----------
    values : object
        A mapping of names to values, or one value, which is then named ``value``. A value is a number, bool,
        string, None, array, or a list, tuple or dict of these without arrays. As JSON has them, tuples come back
        as lists, and numbers that are names in a nested dict as text: ``{"n": {1: 5}}`` as ``{"n": {"1": 5}}``.

    Returns
    -------
    columns : str
        JSON object of all values but the arrays.
    arrays : bytes or None
        NPZ archive of the arrays, None if there are none.

    Raises
    ------
    ResultError
        If a value is of another type, or they are too large together: arrays 256 MiB, the others 16 MiB.

    Examples
    --------
    >>> encode_values({"matches": 812})
    ('{"matches":812}', None)
    """
    if type(values) is dict and all(type(name) is str for name in values):
        try:
            return _checked(_PLAIN_ENCODER.encode(values)), None  # the common case: only plain scalars
        except (TypeError, ValueError):
            pass
    if not isinstance(values, Mapping):
        values = {"value": values}
    import numpy as np

    columns: dict[str, object] = {}
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise ResultError(f"a task's values must be named by strings (got {name!r}, a {type(name).__name__})")
        if isinstance(value, np.ndarray) and value.ndim:
            if isinstance(value, np.ma.MaskedArray):
                raise ResultError(f"array {name!r} is masked; return its data and its mask as two arrays")
            if value.dtype.hasobject:
                raise ResultError(f"array {name!r} has dtype object; wanted numbers, bools or strings")
            arrays[name] = value
        else:
            columns[name] = value
    try:
        if sum(array.nbytes for array in arrays.values()) > LARGEST_ARRAY:
            raise ResultError(
                f"a record's arrays have more than {LARGEST_ARRAY} bytes together; write them to files"
            )
        return _checked(_NUMPY_ENCODER.encode(columns)), _encode_arrays(arrays) if arrays else None
    except (TypeError, ValueError) as error:  # a nested name of another type, a list that holds itself
        raise ResultError(f"a task returned what cannot be stored: {error}") from error


def _checked(columns: str) -> str:
    if len(columns) > _LARGEST_COLUMNS:
        raise ResultError(
            f"a record's values have {len(columns)} characters as JSON, more than {_LARGEST_COLUMNS}; return "
            "arrays, or write them to files"
        )
    return columns


def decode_values(columns: str, arrays: bytes | None) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.generic]]]:
    """Undo `encode_values`."""
    decoded: dict[str, npt.NDArray[np.generic]] = {}
    if arrays is not None:
        import numpy as np

        with np.load(io.BytesIO(arrays), allow_pickle=False) as archive:
            decoded = {name: archive[name] for name in archive.files}
    return json.loads(columns), decoded


def _encode_arrays(arrays: dict[str, npt.NDArray[np.generic]]) -> bytes:
    import numpy as np

    # Not np.savez(): its own parameters are names that an array could not have.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def _plain(value: object) -> object:
    import numpy as np

    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        plain = value.item()
        if isinstance(plain, bool | int | float | str):
            return plain
    raise ResultError(
        f"a task returned {value!r:.80}, a {type(value).__name__}; wanted a mapping of names to numbers, bools, "
        "strings, None, arrays, or lists of these"
    )


# Not json.dumps(): it builds an encoder at every call, which is 3 s for a million images.
_PLAIN_ENCODER = json.JSONEncoder(separators=(",", ":"))
_NUMPY_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_plain)
