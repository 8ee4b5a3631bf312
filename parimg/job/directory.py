"""The directory of a job: where it lies, how it is taken and given up, and its lock.

It holds ``journal.sqlite``, ``lock``, and ``shared/``, the task and its shared objects by content hash.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import time

from filelock import FileLock, Timeout

from parimg.errors import JobError, JobLockedError
from parimg.files.permissions import check_private

JOURNAL_FILE = "journal.sqlite"


def jobs_folder() -> str:
    """Folder of the jobs that were given no directory: PARIMG_JOBS_DIR, else among the user's data."""
    import platformdirs

    return os.environ.get("PARIMG_JOBS_DIR") or os.path.join(platformdirs.user_data_dir("parimg"), "jobs")


def resume_command(directory: str) -> str:
    """The shell command that runs what is missing of a job."""
    return f"parimg resume {shlex.quote(directory)}"


def new_job_dir(name: str) -> str:
    """Make a directory for a job of task `name`, ``20261122-093015-MatchSIFT``, so that names sort by time."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{re.sub(r'[^A-Za-z0-9_]', '', name)}"
    folder = jobs_folder()
    for attempt in range(1000):
        path = os.path.join(folder, f"{stem}-{attempt}" if attempt else stem)
        with contextlib.suppress(FileExistsError):
            os.makedirs(path, mode=0o700)
            return path
    raise JobError(f"no free name for a job in {folder!r}")


def reserve_job_dir(directory: str) -> FileLock:
    """Make a job's directory and take its lock.

    Parameters
    ----------
    directory : str
        New, empty, or left by a client that was killed before its job began.

    Raises
    ------
    JobError
        If it holds a job or other files already, cannot be written, or can be written by others.
    """
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        check_private(directory)
        found = set(os.listdir(directory))
        if JOURNAL_FILE in found:
            raise JobError(
                f"{directory!r} holds a job already; go on with it by `{resume_command(directory)}` or "
                "ctl.resume(...), or give another job_dir"
            )
        if others := found - {"shared", "lock", "lock.owner", f"{JOURNAL_FILE}.new"}:
            raise JobError(
                f"the job_dir {directory!r} must be new or empty; it holds {', '.join(sorted(others)[:3])}"
            )
        lock = acquire_lock(directory)
    except OSError as error:
        raise JobError(f"the job directory {directory!r} cannot be written: {error}") from error
    if os.path.exists(os.path.join(directory, JOURNAL_FILE)):  # made while the lock was waited for
        lock.release()
        return reserve_job_dir(directory)  # raises
    return lock


def discard_job_dir(directory: str, lock: FileLock) -> None:
    """Undo `reserve_job_dir` for a job that could not be made."""
    lock.release()
    shutil.rmtree(os.path.join(directory, "shared"), ignore_errors=True)
    for name in ("lock", "lock.owner", f"{JOURNAL_FILE}.new"):
        with contextlib.suppress(OSError):
            os.remove(os.path.join(directory, name))
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def remove_job_dir(directory: str) -> None:
    """Remove a job; files that are no part of it stay.

    Raises
    ------
    JobError
        If there is no job, or a live process writes it.
    """
    journal = os.path.join(directory, JOURNAL_FILE)
    if not os.path.exists(journal):  # perhaps left by a client that was killed before its job began
        if not os.path.isdir(directory):
            raise JobError(f"there is no job {directory!r}; `parimg jobs` lists the jobs")
        discard_job_dir(directory, reserve_job_dir(directory))
        return
    lock = acquire_lock(directory)
    for name in (journal, f"{journal}-wal", f"{journal}-shm", f"{journal}-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(name)
    shutil.rmtree(os.path.join(directory, "engines"), ignore_errors=True)
    discard_job_dir(directory, lock)


def acquire_lock(directory: str) -> FileLock:
    """Take the lock of a job's directory, which the operating system frees when this process dies.

    Raises
    ------
    JobLockedError
        If another live process holds it; host and process are named.
    """
    path = os.path.join(directory, "lock")
    # Not per thread: the dispatcher's thread releases what the submitting thread took.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0.5)  # a reader that asks whether the job is written holds it for an instant
    except Timeout:
        with open(f"{path}.owner", encoding="utf-8") as file:
            owner = file.read()
        raise JobLockedError(
            f"the job {directory!r} is being written by {owner}; look at it with parimg.open_job(...), or stop "
            "that process first"
        ) from None
    with open(f"{path}.owner", "w", encoding="utf-8") as file:
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
    return lock
