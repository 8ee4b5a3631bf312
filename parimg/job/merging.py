"""Merging: one job of several, such as those of controllers that each ran a shard of one source.

Reads the journals of all, under their locks, and writes a new one. Called by the user, and by ``parimg merge``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from parimg.errors import JobError
from parimg.job.directory import JobDirectory
from parimg.job.job import Job
from parimg.job.journal import RECORD_FIELDS, Journal
from parimg.job.journal_writer import JournalWriter
from parimg.sources.as_source import join_specs
from parimg.sources.shards import whole_of

_KEY, _POSITION, _STATUS, _URI, _STARTED = map(
    RECORD_FIELDS.index, ("key", "position", "status", "uri", "started")
)
_VALUES = [RECORD_FIELDS.index(name) for name in ("columns", "arrays")]


def merge_jobs(
    jobs: Sequence[str | os.PathLike[str]],
    into: str | os.PathLike[str],
    *,
    conflicts: Literal["error", "newest"] = "error",
) -> Job:
    """Make one job of several that ran the same task.

    Of an image that several jobs have a record of, one record stays: one that is ``ok`` before one that failed,
    the newer of two that failed. Two that are both ``ok`` must say the same of the same file.

    Parameters
    ----------
    jobs : sequence of path
        The jobs' directories, or their names as ``parimg jobs`` prints them. They stay as they are.
    into : path
        Directory of the new job, which must be new or empty.
    conflicts : {"error", "newest"}
        What is done about an image of which two jobs say different things: refuse, or take what was run last.

    Returns
    -------
    Job
        With all records, by place in the source. Where images are left to run, as of a job that was interrupted,
        or of a shard that is missing, it is ``interrupted``, and `Controller.resume` runs them.

    Raises
    ------
    JobLockedError
        If a live process writes one of the jobs.
    JobError
        If there is nothing to merge, a job has another task, two jobs contradict each other, or the directory
        cannot take a job.

    Examples
    --------
    Three lines on each of eight controllers, and one at the end:

    >>> with parimg.start() as ctl:                                                       # doctest: +SKIP
    ...     job = ctl.submit(task, "photos/", shard=(3, 8), job_dir="part-3")
    ...     job.wait()
    >>> job = parimg.merge_jobs([f"part-{n}" for n in range(1, 9)], into="whole")         # doctest: +SKIP
    """
    if isinstance(jobs, (str, os.PathLike)):
        raise JobError(f"merge_jobs takes a list of jobs (got {os.fspath(jobs)!r})")
    if conflicts not in {"error", "newest"}:
        raise JobError(f"conflicts must be 'error' or 'newest' (got {conflicts!r})")
    places = [JobDirectory.find(path) for path in jobs]
    if len({os.path.realpath(place.path) for place in places}) < max(1, len(places)):
        raise JobError("merge_jobs takes one or more jobs, each once")
    with contextlib.ExitStack() as held:
        journals = [Journal(place.path) for place in places]
        for journal in journals:
            journal.check_trust()
            held.callback(journal.place.acquire().release)
        _check_tasks(journals)
        _write(journals, JobDirectory(os.fspath(into)), is_newest_taken=conflicts == "newest")
    return Job(Journal(os.path.abspath(into)))


def _check_tasks(journals: list[Journal]) -> None:
    """Refuse jobs of different tasks, by the digests of what was sent to the engines."""
    first = journals[0].meta("task")
    for journal in journals[1:]:
        task = journal.meta("task")
        if task == first:
            continue
        differing = sorted(
            name
            for name in first["parameters"].keys() | task["parameters"].keys()
            if first["parameters"].get(name) != task["parameters"].get(name)
        )
        if task["name"] != first["name"]:
            what = f"{first['name']} and {task['name']}"
        elif differing:
            what = ", ".join(
                f"{name}={first['parameters'].get(name)} and {name}={task['parameters'].get(name)}"
                for name in differing
            )
        else:
            what = "what was sent to the engines differs, such as the reference, a function's code, or versions"
        raise JobError(
            f"{journals[0].directory!r} and {journal.directory!r} have different tasks: {what}; only jobs of one "
            "task can be merged"
        )


def _write(journals: list[Journal], place: JobDirectory, *, is_newest_taken: bool) -> None:
    owned = place.reserve()
    try:
        for name in {name for journal in journals for name in _shared_files(journal)}:
            origin = next(journal for journal in journals if name in _shared_files(journal))
            os.makedirs(place.shared, mode=0o700, exist_ok=True)
            shutil.copy2(os.path.join(origin.place.shared, name), place.shared)
        specs = [journal.meta("source") for journal in journals]
        source, are_shards = _source_of(specs)
        meta = {name: journals[0].meta(name) for name in ("task", "options", "versions")}
        writer = JournalWriter.create(place, owned, {**meta, "source": source, "total": None})
    except BaseException as error:
        place.discard(owned)
        if isinstance(error, OSError):
            raise JobError(f"the job directory {place.path!r} cannot be written: {error}") from error
        raise
    try:
        for journal in journals:
            shift = 0 if are_shards else writer.last_position() + 1
            for batch in journal.fields(*RECORD_FIELDS):
                writer.take_over(_chosen(batch, writer, journal, shift, is_newest_taken=is_newest_taken))
        is_whole = all(journal.last_run().state == "finished" for journal in journals) and "shard" not in source
        totals = [journal.meta("total") for journal in journals]
        records = sum(writer.count_by_status().values())
        if is_whole:
            writer.set_meta("total", records)
        elif "shard" not in source and None not in totals:
            writer.set_meta("total", max(records, sum(totals)))
        writer.end_run("finished" if is_whole else "interrupted", None, 0)
        writer.note_span(*_span(journals))
    except BaseException:
        writer.close()
        place.remove()
        raise
    writer.close()


def _shared_files(journal: Journal) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(journal.place.shared)
    return []


def _source_of(specs: list[dict[str, Any]]) -> tuple[Mapping[str, Any], bool]:
    """What the images of all jobs are, and whether all are shards of one source, whose places they have."""
    wholes = [whole_of(spec) for spec in specs]
    shards = [tuple(spec.get("shard", ())) for spec in specs]
    are_shards = all(shards) and all(whole == wholes[0] for whole in wholes)
    if are_shards and {n for _, n in shards} == {len(set(shards))}:
        return wholes[0], True
    joined: Mapping[str, Any] = specs[0]
    for spec in specs[1:]:
        joined = join_specs(joined, spec)
    return joined, are_shards


def _chosen(
    batch: list[tuple[Any, ...]], writer: JournalWriter, journal: Journal, shift: int, *, is_newest_taken: bool
) -> Iterator[list[Any]]:
    """Those of a job's records that are better than what stands there, each at the place that its image has."""
    known = writer.raw_among([row[_KEY] for row in batch])
    for row in batch:
        earlier = known.get(row[_KEY])
        if earlier is None:
            place = row[_POSITION] + shift
        elif _is_better(row, earlier, journal, is_newest_taken=is_newest_taken):
            place = earlier[_POSITION]
        else:
            continue
        values = list(row)
        values[_POSITION] = place
        yield values


def _is_better(row: tuple[Any, ...], earlier: tuple[Any, ...], journal: Journal, *, is_newest_taken: bool) -> bool:
    """Whether one of two records of a key is to stay, and not the earlier one."""
    is_newer = bool(row[_STARTED] > earlier[_STARTED])
    is_same_file = row[_URI] == earlier[_URI]
    if is_same_file and row[_STATUS] != earlier[_STATUS]:
        return bool(row[_STATUS] == "ok")
    if is_same_file and (row[_STATUS] == "failed" or all(row[place] == earlier[place] for place in _VALUES)):
        return is_newer
    if is_newest_taken:
        return is_newer
    about, place = ("its values are", _VALUES[0]) if is_same_file else ("it was read from", _URI)
    raise JobError(
        f"two jobs have a record of {row[_KEY]!r} and do not agree: {about} {row[place]!r:.200} in "
        f"{journal.directory!r}, and {earlier[place]!r:.200} in a job before it; conflicts='newest' takes the one "
        "that was run last"
    )


def _span(journals: list[Journal]) -> tuple[float, float]:
    """When the first run of all began, and the last one ended."""
    spans = [span for journal in journals for span in journal.seconds_by_run()]
    return min(start for start, _ in spans), max(end or start for start, end in spans)
