"""The directory of a job: where it lies, what lies in it, how it is taken and given up.

`JobDirectory` alone knows the names of what lies there: the journal and its segments, the lock and the owner file,
``shared`` with the task and its shared objects by content hash, while the job runs the flight recorders of the
engines and what the tiles of large images leave, and ``client`` where a batch system runs the client.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from parimg.errors import JobError
from parimg.files.permissions import check_private
from parimg.job import owner
from parimg.job.owner import Ownership


def jobs_folder() -> str:
    """Folder of the jobs that were given no directory: PARIMG_JOBS_DIR, else among the user's data."""
    import platformdirs

    return os.environ.get("PARIMG_JOBS_DIR") or os.path.join(platformdirs.user_data_dir("parimg"), "jobs")


def named_directory(name: str | os.PathLike[str], is_one: Callable[[str], bool]) -> str:
    """The path that was given, or that of this name among the user's jobs if only that is such a directory."""
    here, there = os.fspath(name), os.path.join(jobs_folder(), name)
    return there if is_one(there) and not is_one(here) else here


def resume_command(directory: str) -> str:
    """The shell command that runs what is missing of a job."""
    return f"parimg resume {shlex.quote(directory)}"


@dataclass(frozen=True, slots=True)
class JobDirectory:
    """The directory of one job.

    Parameters
    ----------
    path : str
        Made absolute.
    """

    path: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.path.abspath(self.path))

    @property
    def journal(self) -> str:
        """The journal, an SQLite file."""
        return os.path.join(self.path, "journal.sqlite")

    @property
    def unfinished_journal(self) -> str:
        """The journal while it is being made."""
        return f"{self.journal}.new"

    @property
    def segments(self) -> str:
        """Folder of what was recorded since the journal was written, on disks that hosts share."""
        return os.path.join(self.path, "segments")

    @property
    def lock(self) -> str:
        """The file whose lock the writing process holds."""
        return os.path.join(self.path, "lock")

    @property
    def owner(self) -> str:
        """The file that names the writing process."""
        return os.path.join(self.path, "owner")

    @property
    def shared(self) -> str:
        """Folder of the task and its shared objects."""
        return os.path.join(self.path, "shared")

    @property
    def recorders(self) -> str:
        """Folder of the engines' flight recorders."""
        return os.path.join(self.path, "engines")

    @property
    def tiles(self) -> str:
        """Folder of what the tiles of large images left, while these are run."""
        return os.path.join(self.path, "tiles")

    @property
    def client(self) -> str:
        """Folder of what a batch system said of the client, where that is a batch job itself."""
        return os.path.join(self.path, "client")

    @property
    def holds_job(self) -> bool:
        """Whether there is a journal."""
        return os.path.isfile(self.journal)

    @classmethod
    def make(cls, task: str) -> JobDirectory:
        """Make one for a job of a task, ``20261122-093015-MatchSIFT``, so that names sort by time."""
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{re.sub(r'[^A-Za-z0-9_]', '', task)}"
        folder = jobs_folder()
        for attempt in range(1000):
            path = os.path.join(folder, f"{stem}-{attempt}" if attempt else stem)
            with contextlib.suppress(FileExistsError):
                os.makedirs(path, mode=0o700)
                return cls(path)
        raise JobError(f"no free name for a job in {folder!r}")

    @classmethod
    def find(cls, name: str | os.PathLike[str]) -> JobDirectory:
        """The directory of a job that is given by its path, or by its name as ``parimg jobs`` prints it."""
        return cls(named_directory(name, lambda path: cls(path).holds_job))

    def reserve(self) -> Ownership:
        """Make the directory of a new job, and become its writer.

        It must be new, empty, or left by a client that was killed before its job began.

        Raises
        ------
        JobError
            If it holds a job or other files already, cannot be written, or can be written by others.
        """
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            check_private(self.path)
            self._check_free()
            owned = self.acquire()
        except OSError as error:
            raise JobError(f"the job directory {self.path!r} cannot be written: {error}") from error
        try:
            self._check_free()  # a job may have been made while the lock was waited for
        except JobError:
            owned.release()
            raise
        return owned

    def _check_free(self) -> None:
        if self.holds_job:
            raise JobError(
                f"{self.path!r} holds a job already; go on with it by `{resume_command(self.path)}` or "
                "ctl.resume(...), or give another job_dir"
            )
        own = {os.path.basename(path) for path in (*self._files(), self.shared, self.client)}
        if others := set(os.listdir(self.path)) - own:
            raise JobError(
                f"the job_dir {self.path!r} must be new or empty; it holds {', '.join(sorted(others)[:3])}"
            )

    def acquire(self) -> Ownership:
        """Become the writer of the job, until the process dies or gives it up; see `parimg.job.owner.acquire`."""
        return owner.acquire(self.lock, self.owner)

    def discard(self, owned: Ownership) -> None:
        """Undo `reserve` for a job that could not be made."""
        owned.release()
        with contextlib.suppress(OSError):  # the error that ended it is told
            self._clear()

    def remove(self) -> None:
        """Delete the job; other files that lie in its directory stay, and then the directory.

        Raises
        ------
        JobLockedError
            If a process writes it.
        JobError
            If it is no job, or cannot be deleted.
        """
        if not self.holds_job and os.path.dirname(self.path) != os.path.abspath(jobs_folder()):
            raise JobError(f"{self.path!r} is not a job; `parimg jobs` lists the jobs")
        try:
            self.acquire().release()
            shutil.rmtree(self.client, ignore_errors=True)
            self._clear()
        except OSError as error:
            raise JobError(f"the job {self.path!r} cannot be removed: {error}") from error

    def _files(self) -> list[str]:
        journals = (self.journal, self.unfinished_journal)
        sqlite = [f"{path}{ending}" for path in journals for ending in ("", "-wal", "-shm", "-journal")]
        unfinished = glob.glob(f"{glob.escape(self.journal)}*.part")  # of a process that was killed
        return [*sqlite, *unfinished, self.lock, self.owner]

    def _clear(self) -> None:
        for folder in (self.shared, self.segments, self.recorders, self.tiles):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        with contextlib.suppress(OSError):
            os.rmdir(self.path)

    def size(self) -> int:
        """Bytes of all files in it."""
        return sum(found.st_size for found in self._stats())

    def last_used(self) -> float:
        """When something was last written into it, seconds since the epoch."""
        return max((found.st_mtime for found in self._stats()), default=os.stat(self.path).st_mtime)

    def _stats(self) -> Iterator[os.stat_result]:
        for folder, _, names in os.walk(self.path):
            for name in names:
                with contextlib.suppress(OSError):  # a running job removes files
                    yield os.lstat(os.path.join(folder, name))
