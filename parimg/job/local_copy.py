"""Copies of journals on a disk of this host, for directories in which SQLite cannot read or write in place.

That is so on a disk that several hosts share, and wherever a run on such a disk left segments. A reader's copy is
brought up to date at each look; a writer works on a copy, and puts it in place when its run ends. Called by
`Journal` and `JournalWriter`, which see one SQLite file in all cases.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import secrets
import shutil
import socket
import sqlite3
import time
from functools import cached_property
from urllib.parse import quote

from parimg.errors import JobError
from parimg.files.atomic import copy_durably
from parimg.files.file_systems import FileSystem, file_system_of, scratch_folder
from parimg.job.directory import JobDirectory
from parimg.job.segments import fold, has_segments, held_by, remove_segments

_ENDINGS = ("", "-wal", "-journal")  # what a journal consists of while a writer has it open in place
_LOG_HEADER = 32  # bytes, of which some are drawn anew when the log begins anew
_COPIES = 20  # of a journal that is changed in place meanwhile
_FORGOTTEN_SECONDS = 30 * 86_400  # after which nobody's copy is removed


class JournalFile:
    """The SQLite file in which a job's journal is read: the one in its directory, or a copy.

    Parameters
    ----------
    place : JobDirectory

    Attributes
    ----------
    working : str or None
        The file that a writer of this process has, as long as it is there.
    """

    def __init__(self, place: JobDirectory, working: str | None = None) -> None:
        self._place = place
        self.working = working

    @cached_property
    def _copies(self) -> str:
        return _copies_of(self._place)

    @cached_property
    def disk(self) -> FileSystem:
        """The disk of the job's directory."""
        return file_system_of(self._place.path)

    def open(self) -> sqlite3.Connection:
        """A connection that sees all that was recorded until now.

        Raises
        ------
        sqlite3.OperationalError, OSError, JobError
            If it cannot be read.
        """
        try:
            return self._open()
        except sqlite3.OperationalError:  # a copy was removed in this moment, because the run ended
            return self._open()

    def _open(self) -> sqlite3.Connection:
        if self.working is not None and os.path.exists(self.working):
            return open_for_reading(self.working)
        if has_segments(self._place.segments) or (self.disk.is_shared and _is_open_in_place(self._place)):
            return open_for_reading(self._copy())
        if self.disk.is_shared:
            _state(self._place)  # has the disk look how long the file is now
            _remove_copies(self._copies, "reading")
        # On a shared disk a plain journal is never written, but replaced; locks may not be there.
        return open_for_reading(self._place.journal, immutable=self.disk.is_shared)

    def _copy(self) -> str:
        folder = self._copies
        os.makedirs(folder, mode=0o700, exist_ok=True)
        state = hashlib.sha256(repr(_state(self._place)).encode()).hexdigest()[:16]
        path = os.path.join(folder, f"reading-{state}.sqlite")
        if not os.path.exists(path):
            unfinished = os.path.join(folder, f"reading-{secrets.token_hex(8)}.sqlite")
            copy_journal(self._place, unfinished)
            with contextlib.closing(_connect(unfinished)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # a look that takes long keeps no other waiting
            _remove_copies(folder, "reading", but=unfinished)
            os.replace(unfinished, path)
        with contextlib.closing(_connect(path)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            fold(connection, self._place.segments)
        return path


def open_for_reading(path: str, *, immutable: bool = False) -> sqlite3.Connection:
    """A connection that writes nothing."""
    options = "mode=ro&immutable=1" if immutable else "mode=ro"
    return sqlite3.connect(
        f"file:{quote(path)}?{options}", uri=True, check_same_thread=False, timeout=30, isolation_level=None
    )


def take_copy(place: JobDirectory) -> str:
    """A copy of all that is recorded, for the writer of the job to work on."""
    folder = _copies_of(place)
    _remove_copies(folder, "writing")  # of one that was killed: this process owns the job
    _remove_forgotten(os.path.dirname(folder))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, f"writing-{secrets.token_hex(8)}.sqlite")
    copy_journal(place, path)
    with contextlib.closing(_connect(path)) as connection:
        fold(connection, place.segments, wholly=True)
    return path


def put_in_place(connection: sqlite3.Connection, place: JobDirectory) -> None:
    """Make the journal in a job's directory one plain file, with all that the writer's copy holds.

    Raises
    ------
    OSError, sqlite3.Error
        If it cannot be written; then the segments stay, which hold the same.
    """
    whole = os.path.join(_copies_of(place), f"writing-{secrets.token_hex(8)}.sqlite")
    try:
        with contextlib.closing(_connect(whole)) as target:
            connection.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
        # By another name first: a log that another writer left belongs to the old journal, and would spoil this.
        copy_durably(whole, place.unfinished_journal)
    finally:
        _remove([whole])
    finish_replacing(place)
    remove_segments(place.segments, held_by(connection))


def fold_in_place(place: JobDirectory) -> None:
    """Make the journal of a directory one plain file, which holds what its segments do."""
    path = take_copy(place)
    with contextlib.closing(_connect(path)) as connection:
        put_in_place(connection, place)
    forget_copy(path)


def finish_replacing(place: JobDirectory) -> None:
    """Give a whole new journal its name, also if the process died that was at it; called by the writer."""
    if os.path.exists(place.unfinished_journal):
        _remove([f"{place.journal}{ending}" for ending in (*_ENDINGS[1:], "-shm")])
        os.replace(place.unfinished_journal, place.journal)


def forget_copy(path: str) -> None:
    """Remove a writer's copy."""
    _remove_copies(os.path.dirname(path), "writing")


def copy_journal(place: JobDirectory, path: str) -> None:
    """Copy the journal itself, also while a writer on a host of its own disk has it open.

    A copy is right if the journal itself was not changed while it was made, nor its log begun anew: then all that
    it lacks is in the log, to which more may have been added.

    Raises
    ------
    JobError
        If it was changed each time.
    """
    for _ in range(_COPIES):
        before = _state(place)
        for ending in _ENDINGS:
            with contextlib.suppress(FileNotFoundError):
                os.remove(f"{path}{ending}")
            try:
                shutil.copyfile(f"{place.journal}{ending}", f"{path}{ending}")
            except FileNotFoundError:
                if not ending:
                    raise
        if _is_whole(path) and _fixed(_state(place)) == _fixed(before):
            return
        time.sleep(0.5)
    raise JobError(
        f"the journal {place.journal!r} is changed faster than it can be copied from another host; look at it on "
        "the host that writes it"
    )


def _is_whole(path: str) -> bool:
    """Whether a copy is as long as its header says: disks may tell the length of an earlier file."""
    with open(path, "rb") as file:
        header = file.read(100)
    if header[:16] != b"SQLite format 3\0" or header[24:28] != header[92:96]:
        return True  # what is no journal is told by SQLite
    page = int.from_bytes(header[16:18])
    return os.path.getsize(path) >= (65_536 if page == 1 else page) * int.from_bytes(header[28:32])


def _is_open_in_place(place: JobDirectory) -> bool:
    return any(os.path.exists(f"{place.journal}{ending}") for ending in _ENDINGS[1:])


def _state(place: JobDirectory) -> list[tuple[int, int, bytes] | None]:
    """What changes with the journal's files, as the disk tells it of an open file."""
    found: list[tuple[int, int, bytes] | None] = []
    for ending in _ENDINGS:
        try:
            with open(f"{place.journal}{ending}", "rb", buffering=0) as file:
                stat = os.fstat(file.fileno())
                found.append((stat.st_size, stat.st_mtime_ns, file.read(100)))
        except FileNotFoundError:
            found.append(None)
    return found


def _fixed(state: list[tuple[int, int, bytes] | None]) -> list[object]:
    journal, log, rollback = state
    return [journal, log and log[2][:_LOG_HEADER], rollback]


def _copies_of(place: JobDirectory) -> str:
    """The folder of the copies of one job, which need not be there."""
    # Containers may share a folder of their user, and have other jobs at the same path.
    key = hashlib.sha256(f"{socket.gethostname()} {place.path}".encode()).hexdigest()[:16]
    return os.path.join(scratch_folder(), f"journal-{key}")


def _remove_copies(folder: str, kind: str, but: str | None = None) -> None:
    """Remove the copies of one kind, and the folder if it is empty then."""
    found = glob.glob(f"{glob.escape(folder)}/{kind}-*")
    _remove([path for path in found if but is None or not path.startswith(but)])
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _remove_forgotten(scratch: str) -> None:
    for folder in glob.glob(f"{glob.escape(scratch)}/journal-*"):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(folder).st_mtime > _FORGOTTEN_SECONDS:
                shutil.rmtree(folder)


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(path)}", uri=True, timeout=30, isolation_level=None)


def _remove(paths: list[str]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
