"""Who writes a job: one process of one host, known by an owner file beside the operating system's lock.

The lock alone says nothing on another host, and nothing at all on disks without locks. So the writer also keeps a
small file with its host, process and a counter, which a thread of its own raises every few seconds. Others only
read that file: whoever asks whether a job is being written can never be in the writer's way. A process of this
host is looked for by its number and start; that of another host is gone when its counter stood still for a minute
by the clock of the one who looks. Called by `JobDirectory`, which knows where the files lie.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

from filelock import FileLock, Timeout

from parimg.console import print_line
from parimg.errors import JobLockedError

BEAT_SECONDS = 2.0
GONE_SECONDS = 60.0  # network disks show what another host wrote up to 20 s late
_FORGOTTEN_SECONDS = 3600.0  # after which a first look takes a writer on another host for gone; clocks may differ
_LOOK_SECONDS = 1.0
_LOCK_SECONDS = 0.5
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that writes a job, as its owner file names it."""

    host: str
    machine: str
    """Where process numbers mean the same: one boot of one machine, and there one container."""
    pid: int
    started: str
    """When the process began, in the system's own count: numbers are given again."""
    token: str
    beat: int

    @classmethod
    def me(cls) -> Owner:
        """Describe this process."""
        return cls(socket.gethostname(), _machine(), os.getpid(), _start(os.getpid()), secrets.token_hex(8), 0)

    @classmethod
    def read(cls, path: str) -> Owner | None:
        """The owner that a file names, None if there is no such file.

        A file that is just being made, or damaged, names an unknown owner, without a token, on another host.
        """
        try:
            with open(path, encoding="utf-8") as file:
                return cls(**json.load(file))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            return cls("an unknown host", "", 0, "", "", 0)

    def encode(self) -> bytes:
        """The content of an owner file, of the same length for all beats, so that no reader sees half of it."""
        text = json.dumps(asdict(self))
        return text.ljust(len(text) + 12 - len(str(self.beat))).encode()

    def lives(self) -> bool | None:
        """Whether its process is there, None if that cannot be seen from here."""
        return None if self.machine != _machine() else _start(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class OwnerWatch:
    """Whether a job is being written, as one sees it who only reads.

    Parameters
    ----------
    path : str
        The owner file, which need not be there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._sign: tuple[str, int] | None = None
        self._since = 0.0

    def look(self) -> Owner | None:
        """The process that writes the job now, None if there is none; see `lives`."""
        owner = Owner.read(self._path)
        return owner if owner is not None and self.lives(owner) else None

    def lives(self, owner: Owner, *, forget: bool = True) -> bool:
        """Whether the process that was just read from the file is there.

        One on another host is until its counter was seen standing still for a minute. Those who only look may
        `forget` it at once if its last sign is more than an hour old.
        """
        lives = owner.lives()
        if lives is None:
            now = time.monotonic()
            sign = (owner.token, owner.beat)
            if sign != self._sign:
                self._sign, self._since = sign, now
            lives = now - self._since < GONE_SECONDS and not (forget and self._age() > _FORGOTTEN_SECONDS)
        return lives

    def describe(self) -> str:
        """The process that writes the job: ``process 77 on node1``, on another host with its last sign."""
        owner = self.look()
        if owner is None:
            return ""
        return str(owner) if owner.lives() else f"{owner}, seen {self._age():.0f} s ago"

    def _age(self) -> float:
        with contextlib.suppress(OSError):
            return max(0.0, time.time() - os.stat(self._path).st_mtime)
        return 0.0


class Ownership:
    """The right to write a job, held by this process until `release`, or until the process dies.

    Made by `acquire`. The thread that raises the counter is the only one that writes the owner file.
    """

    def __init__(self, path: str, lock: FileLock | None, owner: Owner) -> None:
        self._path = path
        self._lock = lock
        self._owner = owner
        self._beaten_at = time.time()
        self._file_lock = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._beat_on, name="parimg-owner", daemon=True).start()

    def check(self) -> None:
        """Refuse to write after this host stood still for so long that another process took the job over.

        Raises
        ------
        JobLockedError
        """
        if abs(time.time() - self._beaten_at) > GONE_SECONDS / 2:
            self._beat()
        if self._ended.is_set():
            raise JobLockedError(
                f"the job {os.path.dirname(self._path)!r} was taken over by {Owner.read(self._path)}, because "
                f"{self._owner}, this one, gave no sign for {GONE_SECONDS:.0f} s; look at it with "
                "parimg.open_job(...)"
            )

    def release(self) -> None:
        """Let others write the job."""
        self._ended.set()
        with self._file_lock:
            found = Owner.read(self._path)
            if found is not None and found.token == self._owner.token:
                with contextlib.suppress(OSError):
                    os.remove(self._path)
        if self._lock is not None:
            self._lock.release()

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._beat()

    def _beat(self) -> None:
        with self._file_lock:
            if self._ended.is_set():
                return
            found = Owner.read(self._path)
            if found is not None and found.token not in {"", self._owner.token}:
                self._ended.set()
                return
            self._owner = replace(self._owner, beat=self._owner.beat + 1)
            with contextlib.suppress(OSError):  # a disk that is away for a moment; the next beat tries again
                # In place, because a full disk has no room for another file.
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
                with open(descriptor, "wb", buffering=0) as file:
                    file.write(self._owner.encode())
                self._beaten_at = time.time()


def acquire(lock_path: str, owner_path: str) -> Ownership:
    """Become the writer of a job.

    Parameters
    ----------
    lock_path, owner_path : str
        The job's lock and owner file, which need not be there.

    Raises
    ------
    JobLockedError
        If another process writes the job; host and process are named.
    OSError
        If the files cannot be written.
    """
    watch = OwnerWatch(owner_path)
    lock = _lock(lock_path, watch)
    try:
        seen = _wait_until_gone(owner_path, watch)
        owner = _claim(owner_path, seen)
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return Ownership(owner_path, lock, owner)


def _lock(path: str, watch: OwnerWatch) -> FileLock | None:
    """The operating system's lock, which is free when its process dies; None where the disk has no locks."""
    # Not per thread: the dispatcher's thread releases what the submitting thread took.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout:
        raise _refusal(path, watch.describe() or "another process") from None
    except NotImplementedError:
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return lock


def _wait_until_gone(path: str, watch: OwnerWatch) -> Owner | None:
    """The last owner, once it is sure that it does not write any more."""
    first = Owner.read(path)
    if first is not None and first.lives() is None:
        print_line(
            f"the job was last written by {first}; waiting up to {GONE_SECONDS:.0f} s to see whether it still is"
        )
    while (seen := Owner.read(path)) is not None and watch.lives(seen, forget=False):
        if seen.lives() or (first is not None and (seen.token, seen.beat) != (first.token, first.beat)):
            raise _refusal(path, watch.describe() or str(seen))
        time.sleep(_LOOK_SECONDS)
    return seen


def _claim(path: str, seen: Owner | None) -> Owner:
    """Write the owner file; of several that try at once, on whatever hosts, one gets it."""
    me = Owner.me()
    if seen is not None:
        aside = f"{path}.{me.token}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
        taken = Owner.read(aside)
        if taken is not None and taken.token != seen.token:  # another was faster
            os.rename(aside, path)
            raise _refusal(path, str(taken))
        with contextlib.suppress(FileNotFoundError):
            os.remove(aside)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise _refusal(path, str(Owner.read(path) or "another process")) from None
    with open(descriptor, "wb") as file:
        file.write(me.encode())
    return me


def _refusal(path: str, owner: str) -> JobLockedError:
    return JobLockedError(
        f"the job {os.path.dirname(path)!r} is being written by {owner}; look at it with parimg.open_job(...), or "
        "stop that process first"
    )


@lru_cache(maxsize=1)
def _machine() -> str:
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _start(pid: int) -> str:
    """When a process began, empty if there is none."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, IndexError):  # psutil's time moves when the clock is set
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            return "" if fields[0] in "ZX" else fields[19]
        return ""
    import psutil

    with contextlib.suppress(psutil.Error):
        return f"{psutil.Process(pid).create_time():.0f}"
    return ""
