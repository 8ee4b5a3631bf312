"""The report of a job: one HTML file with everything in it."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from parimg import __version__
from parimg.console import byte_unit, visible
from parimg.errors import JobError
from parimg.files.atomic import whole_file
from parimg.job import pictures as drawing
from parimg.job.causes import LOOKED_AT
from parimg.job.job import Job, open_job
from parimg.job.journal import Journal
from parimg.job.plotting import choose_records, draw_course, load_task, options_of, plot_timeline
from parimg.job.timeline import Timeline, read_timeline
from parimg.notebook.markup import address, duration
from parimg.report.facts import Facts, best_images, read_facts, shown_values, when

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from parimg.options import Options
    from parimg.record import Record
    from parimg.tasks.task import Task

_SHOWN = 12  # images of a kind


def write_report(
    job: Job | str | os.PathLike[str], path: str | os.PathLike[str], *, pictures: int = _SHOWN
) -> None:
    """Write what a job did as one HTML file, which needs nothing else to be read.

    What was run, with which versions, options and code; counts, throughput, memory, engines over time; why images
    failed; the slowest, the failed and the best images with pictures, as far as they are still there.

    Parameters
    ----------
    job : Job or path
        Also one that runs, or of another process.
    path : path
        The file; it appears once it is whole.
    pictures : int, default 12
        Images shown of a kind. 0: none is read.

    Returns
    -------
    None

    Raises
    ------
    JobError
        If there is no such job, jinja2 or matplotlib is not installed, or the file cannot be written.

    Examples
    --------
    >>> parimg.write_report(job, "report.html")  # doctest: +SKIP
    """
    found = job if isinstance(job, Job) else open_job(job)
    check_libraries()
    write_page(path, "report.html", report_context(found, Journal(found.directory), pictures))


def check_libraries() -> None:
    """Refuse, by JobError, to begin a page that could not be made."""
    for name in ("jinja2", "matplotlib"):
        try:
            import_module(name)
        except ImportError as error:
            raise JobError(f"pages need jinja2 and matplotlib: pip install 'parimg[report]' ({error})") from error


def write_page(path: str | os.PathLike[str], template: str, context: dict[str, Any]) -> None:
    """Fill a template of this room, all text from outside being escaped, into a file."""
    import jinja2

    def shown(value: object) -> object:
        return visible(value, lines=True) if type(value) is str else value

    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader("parimg.report"),
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, when=when, size=_size, number=_number, shell=shlex.quote)
    text = environment.get_template(template).render(version=__version__, **context)
    try:
        with whole_file(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise JobError(f"the page {os.fspath(path)!r} cannot be written: {error}") from error


def report_context(job: Job, journal: Journal, most: int) -> dict[str, Any]:
    """What the template of a report is filled with."""
    task, options = load_task(journal), options_of(journal)
    facts, timeline = read_facts(job, journal, task), read_timeline(journal)
    n_recorded = timeline.images
    best = best_images(journal, facts, most)
    shown = best or (choose_records(journal, most) if job.counts["ok"] else [])
    failed = job.failures[:most]

    def small(record: Record) -> dict[str, Any]:
        return {"record": record, "picture": address(drawing.thumbnail(task, record, options)), **_told(record)}

    return {
        "job": job,
        "counts": job.counts,
        "facts": facts,
        "timeline": timeline,
        "plots": _plots(job, journal, facts, timeline) if n_recorded else {},
        "peak": int(timeline.memory.max()) if n_recorded else 0,
        "rate": n_recorded / timeline.seconds if n_recorded else 0.0,
        "is_ranked": bool(best),
        "shown": [_drawn(task, record, options) for record in shown],
        "failed": [small(record) for record in failed],
        "slowest": [small(record) for record in journal.slowest(most)] if most else [],
        "looked_at": LOOKED_AT,
        "made_at": when(time.time()),
    }


def _told(record: Record) -> dict[str, Any]:
    return {"values": shown_values(record), "seconds": record.decode_seconds + record.task_seconds}


def _drawn(task: Task, record: Record, options: Options) -> dict[str, Any]:
    return {"record": record, "picture": address(drawing.record_picture(task, record, options)), **_told(record)}


def _plots(job: Job, journal: Journal, facts: Facts, timeline: Timeline) -> dict[str, str]:
    names, rows = facts.plotted, len(timeline.workers)
    drawn: dict[str, Callable[[Axes], object]] = {
        "What the images gave": lambda ax: draw_course(journal, names, ax, facts.course),
        "Engines over time": lambda ax: plot_timeline(journal, ax, timeline),
        "Images a second": lambda ax: _plot_rate(timeline, ax),
        "Memory of the largest engine": lambda ax: _plot_memory(timeline, ax),
    }
    if not names or not job.counts["ok"]:
        del drawn["What the images gave"]
    if not timeline.memory.any():
        del drawn["Memory of the largest engine"]
    heights = {"What the images gave": 3.6, "Engines over time": min(6.0, 1.8 + 0.25 * max(rows, 3))}
    return {title: address(drawing.plot(draw, 9.5, heights.get(title, 2.4))) for title, draw in drawn.items()}


def _plot_rate(timeline: Timeline, ax: Axes) -> None:
    import numpy as np

    # Wide enough for some images each: what is left are steps, no needles.
    bins = len(timeline.done)
    least = min(bins, -(-8 * bins // max(timeline.images, 1)))
    joined = next(n for n in range(least, bins + 1) if bins % n == 0)
    edges = timeline.edges[::joined]
    ax.stairs(timeline.done.reshape(-1, joined).sum(axis=1) / np.diff(edges), edges, fill=True, color="#3b78b5")
    ax.set(xlabel="seconds of work", ylabel="images / s", xlim=(0, timeline.seconds))
    ax.grid(alpha=0.3)


def _plot_memory(timeline: Timeline, ax: Axes) -> None:
    known = timeline.memory > 0
    middle = (timeline.edges[:-1] + timeline.edges[1:]) / 2
    ax.plot(middle[known], timeline.memory[known] / 2**20, ".-", markersize=3, linewidth=1, color="#7a4fa3")
    ax.set(xlabel="seconds of work", ylabel="MiB", xlim=(0, timeline.seconds))
    ax.set_ylim(0, 1.1 * timeline.memory.max() / 2**20)
    ax.grid(alpha=0.3)


def _size(nbytes: float) -> str:
    size, unit = byte_unit(nbytes)
    return f"{size:.3g} {unit}" if unit in {"GiB", "TiB"} else f"{size:.4g} {unit}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.4g}"
