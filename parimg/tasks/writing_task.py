"""WritingTask: the base of tasks that can write a file for each image."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from parimg.errors import TaskError
from parimg.tasks.task import Task


@dataclass(frozen=True, eq=False)
class WritingTask(Task):
    """A task that can write a file for each image, into a folder that all engines see.

    A subclass has a parameter that names the folder, None where nothing is to be written, and calls `check_folder`
    in its ``__post_init__``. Its `run` writes below `folder`, and gives the file's path in `path_column`.
    """

    folder_parameter: ClassVar[str] = "output"
    path_column: ClassVar[str] = "path"

    def check_folder(self) -> None:
        """Refuse what names no folder.

        Raises
        ------
        TaskError
        """
        name, value = self.folder_parameter, self._given_folder
        if value is not None and not isinstance(value, str | os.PathLike):
            raise TaskError(f"{name} must be the path of a folder, or None (got {value!r})")
        if value is not None and "://" in os.fspath(value):
            raise TaskError(f"{name} must be a folder that all engines see, no URL (got {value!r})")

    @property
    def _given_folder(self) -> str | os.PathLike[str] | None:
        given: str | os.PathLike[str] | None = getattr(self, self.folder_parameter)
        return given

    @cached_property
    def folder(self) -> str | None:
        """Absolute path of the folder, also on an engine, which has another current directory than the client."""
        given = self._given_folder
        return None if given is None else os.path.abspath(given)

    def resolve(self) -> None:
        """Make the folder."""
        if self.folder is not None:
            from parimg.tasks.feature_files import make_folder

            make_folder(self.folder)

    def declared_columns(self) -> dict[str, str]:
        """Arrow type by name of the columns, the file's path among them if there is a folder."""
        return {**self.columns, **({self.path_column: "string"} if self._given_folder is not None else {})}

    def __getstate__(self) -> dict[str, object]:
        _ = self.folder  # the client's
        return self.__dict__
