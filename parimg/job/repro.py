"""One image of a job in a folder that runs alone: the image, the task, the versions, a script of ten lines.

For whoever has to find out why an image failed, crashed or hung, also on another machine. Called by users and the
command line; the script calls nothing of this.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from parimg.errors import ImageError, JobError
from parimg.images.readers.address import split_address
from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.job.plotting import options_of
from parimg.sources.names import extension

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.job.job import Job
    from parimg.options import Options
    from parimg.record import Record

SCRIPT = "run.py"
_LONGEST_ENDING = 12  # characters of a file's name


def write_repro(
    job: Job | str | os.PathLike[str],
    key: str,
    folder: str | os.PathLike[str],
    *,
    image: npt.NDArray[Any] | None = None,
) -> str:
    """Write a folder that runs one image of a job alone, without a cluster.

    It holds the image's file, the task with its arrays as engines were sent them, ``about.json`` with versions,
    options and what was recorded, and ``run.py``: ten lines that read the image and run the task under
    `faulthandler`, with the job's time limit. What a task writes goes to ``output`` in the folder. It needs
    parimg, and the modules that the task's own code imports.

    Parameters
    ----------
    job : Job or path
    key : str
        The image; its last parts are enough if no other image has them.
    folder : path
        Made; must be new or empty.
    image : ndarray, optional
        The image, if it was given to the job as an array, which no job keeps.

    Returns
    -------
    str
        What the folder lacks, in a sentence; empty if it has all.

    Raises
    ------
    JobError
        If there is no such image, the folder holds something, or others can write the job.

    Examples
    --------
    >>> parimg.write_repro(job, "views/a.png", "a-alone")  # doctest: +SKIP
    ''
    """
    journal = Journal(JobDirectory.find(job).path if isinstance(job, str | os.PathLike) else job.directory)
    record = find_record(journal, key)
    journal.check_trust()  # the script runs what it names
    path = os.path.abspath(folder)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        if os.listdir(path):
            raise JobError(f"the folder {path!r} is not empty; name a new one")
        options = options_of(journal)
        lacking, reading = _write_image(record, path, image, options)
        described = journal.meta("task")
        _copy_task(journal, [digest for digest, _ in described["refs"]], os.path.join(path, "task"))
        script = _script(
            options,
            digest=described["refs"][0][0],
            writes=bool(described.get("output")),
            read=reading,
            key=record.key,
        )
        _write(os.path.join(path, SCRIPT), script)
        _write(os.path.join(path, "about.json"), json.dumps(_about(journal, record), indent=1))
    except OSError as error:
        raise JobError(f"the folder {path!r} cannot be written: {error}") from error
    return lacking


def find_record(journal: Journal, key: str) -> Record:
    """The record of an image that is named by its key, or by the last parts of it.

    Raises
    ------
    JobError
        If there is none, or more than one.
    """
    record = journal.find(key)
    if record is None:
        found = journal.find_ending(key)
        if len(found) > 1:
            raise JobError(f"{key!r} may be {found[0]!r} or {found[1]!r}; name more of it")
        record = journal.find(found[0]) if found else None
    if record is None:
        known = journal.keys()[:3]
        such = f"; there are {', '.join(map(repr, known))}, ..." if known else "; it has none yet"
        raise JobError(f"the job {journal.directory!r} has no record of image {key!r}{such}")
    return record


def _script(options: Options, *, digest: str, writes: bool, read: str, key: str) -> str:
    """Ten lines that do to one image what an engine does, as they may be read and changed."""
    limit = f"; faulthandler.dump_traceback_later({options.timeout}, exit=True)" if options.timeout else ""
    imports = ["from parimg.engine.setup import prepare_engine"]
    if read.startswith("Described"):
        imports += ["import numpy", "from parimg.images.readers.part import Described"]
    else:
        imports += ["from parimg.options import Reading"] if "Reading(" in read else []
        imports += ["from parimg.tasks.reading import read_for"]
    last = [f"image = {read}", f"print(task.run_described(image, {key!a}))"]
    if options.memory_bytes is not None:
        imports += ["from parimg.engine import memory"]
        bound = f"with memory.limited(memory.address_limit({options.memory_bytes})):"
        last = [bound, *(f"    {line}" for line in last)]
    lines = [
        f"# One image of a job alone: python {SCRIPT}",
        "import faulthandler, os",
        "faulthandler.enable()",
        "os.chdir(os.path.dirname(os.path.abspath(__file__)))",
        "; ".join(imports),
        "from parimg.protocol.shared_objects import SharedRef, load_task",
        "prepare_engine()",
        f'task = load_task(SharedRef("{digest}", "task"), os.path.abspath("task"))'
        + ('.redirected("output")' if writes else ""),
        f"task.prepare(){limit}",  # as on an engine, loading does not count
        *last,
    ]
    return "".join(f"{line}\n" for line in lines)


def _write_image(record: Record, folder: str, image: npt.NDArray[Any] | None, options: Options) -> tuple[str, str]:
    """What is lacking, and how the script reads the image."""
    if image is not None or not record.uri:
        if image is not None:
            import numpy as np

            np.save(os.path.join(folder, "image.npy"), image, allow_pickle=False)
        lacking = "the image was an array, which no job keeps; save it as image.npy in the folder"
        return "" if image is not None else lacking, 'Described(numpy.load("image.npy"))'
    lacking, place = _copy_image(record.uri, folder)
    chosen = {name: value for name, value in asdict(options.reading).items() if value not in (None, ())}
    reading = f", reading=Reading({', '.join(f'{name}={value!a}' for name, value in chosen.items())})"
    return lacking, f"read_for(task, {place}, max_pixels={options.max_pixels}{reading if chosen else ''})"


def _copy_image(uri: str, folder: str) -> tuple[str, str]:
    """Copy an image's file; what is lacking, and what the script calls it."""
    from parimg.images.read import read_bytes

    file, part = split_address(uri)
    ending = extension(file)
    name = f"image{ending}" if ending.isascii() and len(ending) < _LONGEST_ENDING else "image"
    try:
        if os.path.isdir(file):
            shutil.copytree(file, os.path.join(folder, name))
        else:
            data = read_bytes(file)
            with open(os.path.join(folder, name), "wb") as copy:
                copy.write(data)
    except ImageError as error:
        return f"the image cannot be copied, the script reads it where it was: {error}", ascii(uri)
    return "", f"os.path.abspath({name!r})" + (f" + {'#' + part!a}" if part else "")


def _copy_task(journal: Journal, digests: list[str], folder: str) -> None:
    os.makedirs(folder, mode=0o700)
    for digest in digests:
        shutil.copyfile(os.path.join(journal.place.shared, digest), os.path.join(folder, digest))


def _about(journal: Journal, record: Record) -> dict[str, Any]:
    fields = ("key", "uri", "status", "stage", "error", "message", "traceback", "attempts", "host", "columns")
    return {
        "job": journal.directory,
        "versions": journal.meta("versions"),
        "options": journal.meta("options"),
        "task": {name: journal.meta("task")[name] for name in ("name", "parameters")},
        "record": {name: getattr(record, name) for name in fields},
    }


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
