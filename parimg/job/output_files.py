"""The files that a job's task writes: how they are called, and that no job takes them for its images.

Called by the controller before a task is sent, and by the command line before a cluster is started.
"""

from __future__ import annotations

from parimg.console import print_line
from parimg.files.naming import OutputNames
from parimg.sources.outside import OutsideFolder
from parimg.sources.source import Source
from parimg.tasks.task import Task
from parimg.tasks.writing_task import WritingTask


def name_files(task: Task, source: Source) -> Source:
    """Tell a task that writes files what images are called; the source without what lies where it writes.

    Raises
    ------
    EmptySourceError
        If there are no others.
    """
    if not isinstance(task, WritingTask) or task.folder is None or isinstance(source, OutsideFolder):
        return source
    outside = OutsideFolder(source, task.local_folder if task.writes_images else None)
    seen = outside.look()
    task.name_files(OutputNames.of(seen.keys, seen.root, are_all=seen.are_all))
    if seen.n_left_out:
        print_line(f"{seen.n_left_out} images in the output folder {task.folder!r} are left out of the source")
    return outside
