"""``--submit slurm``: the client itself as a job of Slurm, which hands over to the next before its wall time ends.

The same command line runs again in each of these jobs, told by a variable which job's directory is its own. At
the signal that Slurm sends before the end, the next one is submitted, to begin when this one has ended; then the
client stops as at Ctrl-C, and the next goes on. Called by the commands that run jobs, and by ``parimg status``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from parimg.console import print_line, say
from parimg.errors import ClusterError, JobError
from parimg.files.atomic import whole_file

if TYPE_CHECKING:
    from parimg.job.directory import JobDirectory

Submit = Annotated[
    Literal["slurm"] | None,
    typer.Option(metavar="slurm", help="Run all of it, the client too, as a batch job, and the rest as the next."),
]
SubmitSet = Annotated[
    list[str] | None,
    typer.Option(
        "--submit-set", metavar="KEY=VALUE", help="Of that job: time=1:00:00, partition=main; may be repeated."
    ),
]
_VARIABLE = "PARIMG_SUBMITTED"  # directory of the job that this process was submitted for
_HANDOVER_SECONDS = 120  # before the end, unless `handover=` says otherwise
_MOST_FRUITLESS = 3  # jobs in a row that recorded nothing, until no next one is submitted
_FILE = "job.json"
_OURS = {"array", "dependency", "open-mode", "output", "parsable", "signal", "wrap"}  # options of sbatch


@dataclass(frozen=True, slots=True)
class _Client:
    """The newest batch job of a client, as its file names it."""

    job_id: str
    name: str
    fruitless: int = 0
    """Jobs before it, in a row, that recorded nothing."""

    @classmethod
    def read(cls, place: JobDirectory) -> _Client | None:
        try:
            with open(os.path.join(place.client, _FILE), encoding="utf-8") as file:
                return cls(**json.load(file))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, place: JobDirectory) -> None:
        with whole_file(os.path.join(place.client, _FILE)) as path, open(path, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)


def submitted_for() -> JobDirectory | None:
    """The directory of the job that this process was submitted for, None if it was not."""
    from parimg.job.directory import JobDirectory

    return JobDirectory(os.environ[_VARIABLE]) if _VARIABLE in os.environ else None


def check_submission(submit: str | None, settings: list[str] | None) -> None:
    """Refuse what makes no sense before anything is done."""
    if settings and submit is None:
        raise typer.BadParameter("--submit-set is of the batch job that --submit slurm makes: give both")
    given = _parse(settings)
    seconds = _seconds(given["time"]) if "time" in given else None
    if seconds is not None and seconds <= _handover(given):
        raise typer.BadParameter(
            f"--submit-set time={given['time']} is no longer than the {_handover(given)} s before its end at "
            "which the next job is asked for; give more time, or --submit-set handover=SECONDS"
        )


def submit_client(
    place: JobDirectory, settings: list[str] | None, *, name: str | None = None, quiet: bool = False
) -> None:
    """Submit the command that this process was given, to be run for the job in a directory, which names it.

    Raises
    ------
    JobError
        If one was submitted for this job already, and has not ended.
    ClusterError
        If Slurm refuses it; a directory that was made for the job is removed then.
    """
    if other := describe_client(place):
        raise JobError(f"a client for {place.path!r} was submitted already: {other}; `scancel` ends it")
    was_there = os.path.isdir(place.path) and os.listdir(place.path)
    client = _Client("", _parse(settings).get("job-name") or f"parimg-{name or os.path.basename(place.path)}")
    try:
        client = _submit(place, client, settings)
    except ClusterError:
        shutil.rmtree(place.client, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):
                os.rmdir(place.path)
        raise
    if quiet:
        say(place.path)
        return
    say(f"submitted as Slurm job {client.job_id}; those that go on after it have the same name, {client.name}")
    say(f"look at it by  parimg status {shlex.quote(place.path)}")
    say(f"what it says   {os.path.join(place.client, f'slurm-{client.job_id}.log')}")
    say(f"end it by      scancel --name={shlex.quote(client.name)}")


def describe_client(place: JobDirectory) -> str:
    """What Slurm says of the newest job of a submitted client, empty if it was not submitted, or has ended."""
    from parimg.cluster.launchers.slurm_queue import find_job

    client = _Client.read(place)
    job = None if client is None else find_job(client.job_id)
    return "" if job is None or job.has_ended else f"{job}, as {client.name if client else ''}"


@contextlib.contextmanager
def handing_over(settings: list[str] | None, further: Sequence[JobDirectory] = ()) -> Iterator[None]:
    """Surround what a submitted client does, in its job's directory and `further` ones; elsewhere, do nothing."""
    place = submitted_for()
    if place is None:
        yield
        return
    handover = _HandOver(place, settings, further)
    with handover.listening():
        try:
            yield
        except KeyboardInterrupt:
            if not handover.has_next():
                raise
            raise typer.Exit from None
        except BaseException:  # it came to its end, well or not, while the next job was being asked for
            handover.withdraw()
            raise
        handover.withdraw()


class _HandOver:
    """What a submitted client does at Slurm's signals: USR1 before the wall time ends, TERM when it is cancelled.

    The signal's handler runs in the main thread, and submits in another, so that a slow ``sbatch`` does not take
    the seconds in which the running images are gathered.
    """

    def __init__(self, place: JobDirectory, settings: list[str] | None, further: Sequence[JobDirectory]) -> None:
        self._place = place
        self._settings = settings
        self._further = further
        self._done = self._count_done()
        self._client = _Client.read(place) or _Client("", "")
        self._next: _Client | None = None
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hear the signals while the body runs."""
        before = {
            signal.SIGUSR1: signal.signal(signal.SIGUSR1, self._hand_over),
            signal.SIGTERM: signal.signal(signal.SIGTERM, self._interrupt),
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self, *_: object) -> None:
        raise KeyboardInterrupt

    def _hand_over(self, *_: object) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._submit_next, name="parimg-submit")
            self._thread.start()
            raise KeyboardInterrupt

    def _submit_next(self) -> None:
        fruitless = 0 if self._count_done() > self._done else self._client.fruitless + 1
        if fruitless >= _MOST_FRUITLESS:
            print_line(
                f"{fruitless} jobs in a row recorded no image, so no other is submitted: give them more time by "
                "--submit-set time=..., or engines that come sooner"
            )
            return
        client = replace(self._client, name=os.environ.get("SLURM_JOB_NAME", ""), fruitless=fruitless)
        try:
            self._next = _submit(self._place, client, self._settings, after=os.environ["SLURM_JOB_ID"])
        except (ClusterError, OSError) as error:
            print_line(f"the next job could not be submitted: {error}")
        else:
            print_line(f"handing over to job {self._next.job_id}, which goes on when this one has ended")

    def _count_done(self) -> int:
        return sum(map(_count_done, (self._place, *self._further)))

    def has_next(self) -> bool:
        """Whether another job goes on; waits until that is known."""
        if self._thread is not None:
            self._thread.join()
        return self._next is not None

    def withdraw(self) -> None:
        """Take back the next job, which would have nothing to do."""
        from parimg.cluster.launchers.slurm_queue import cancel

        if self.has_next() and self._next is not None:
            cancel(self._next.job_id)


def _submit(place: JobDirectory, client: _Client, settings: list[str] | None, after: str | None = None) -> _Client:
    """Submit this process's command, and note which job it is."""
    from parimg.cluster.launchers.slurm_queue import submit

    os.makedirs(place.client, mode=0o700, exist_ok=True)
    given = _parse(settings)
    handover = _handover(given)
    options = {
        **{name: value for name, value in given.items() if name != "handover"},
        "job-name": client.name,
        "output": f"{place.client.replace('%', '%%')}/slurm-%j.log",
        "open-mode": "append",
        "signal": f"B:USR1@{handover}",
        "wrap": f"exec {shlex.join([sys.executable, '-m', 'parimg.cli', *sys.argv[1:]])}",
    }
    if after is not None:
        options["dependency"] = f"afterany:{after}"
    # After a node failed, the same job goes on.
    arguments = ["--requeue", *(f"--{name}={value}" for name, value in options.items())]
    submitted = replace(client, job_id=submit(arguments, {_VARIABLE: place.path}))
    submitted.write(place)
    return submitted


def _count_done(place: JobDirectory) -> int:
    """Images that are recorded."""
    from parimg.job.journal import Journal

    try:
        return sum(Journal(place.path).count_by_status().values())
    except JobError:
        return 0


def _parse(settings: list[str] | None) -> dict[str, str]:
    given = {}
    for setting in settings or []:
        key, equals, given[key] = setting.partition("=")
        if not equals or not re.fullmatch(r"[a-z][a-z-]+", key):
            raise typer.BadParameter(f"--submit-set is KEY=VALUE, an option of sbatch (got {setting!r})")
        if key in _OURS:
            raise typer.BadParameter(f"--submit-set cannot set {key}, on which handing over depends")
    return given


def _handover(given: dict[str, str]) -> int:
    """Seconds before the end at which Slurm is to send its signal."""
    text = given.get("handover", str(_HANDOVER_SECONDS))
    if not text.isdecimal() or not int(text):
        raise typer.BadParameter(f"--submit-set handover is a number of seconds (got {text!r})")
    return int(text)


def _seconds(text: str) -> int | None:
    """A time as sbatch takes it, None for what it alone may understand."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text, re.ASCII)
    if found is None:
        return None
    days, *parts = (0 if part is None else int(part) for part in found.groups())
    n = sum(part is not None for part in found.groups()[1:])
    if found[1] is not None or n == 3:  # days-hours:minutes:seconds, hours:minutes:seconds
        hours, minutes, seconds = parts
    else:  # minutes, minutes:seconds
        hours, (minutes, seconds) = 0, parts[:2]
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
