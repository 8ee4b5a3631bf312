"""WritingTask: the base of tasks that can write a file for each image."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, ClassVar, Self

from parimg.errors import TaskError
from parimg.files.naming import OutputNames, make_folder, write_file
from parimg.files.stores import check_url, is_url
from parimg.tasks.task import Task


@dataclass(frozen=True, eq=False)
class WritingTask(Task):
    """A task that can write a file for each image, into a folder that the client sees, or below a URL.

    A subclass has a parameter that names the folder, None where nothing is to be written, and calls `check_folder`
    in its ``__post_init__``. Its `run` writes by `write_below`, and gives the file's path in `path_column`.
    From hosts that do not see the folder the files come back, and the client writes them.
    """

    folder_parameter: ClassVar[str] = "output"
    path_column: ClassVar[str] = "path"
    writes_images: ClassVar[bool] = True
    """Whether the files would be taken for images, by a source that the folder lies in."""

    def check_folder(self) -> None:
        """Refuse what names no folder.

        Raises
        ------
        TaskError
        """
        name, value = self.folder_parameter, self._given_folder
        if value is not None and not isinstance(value, str | os.PathLike):
            raise TaskError(f"{name} must be the path of a folder, a URL, or None (got {value!r})")

    @property
    def _given_folder(self) -> str | os.PathLike[str] | None:
        given: str | os.PathLike[str] | None = getattr(self, self.folder_parameter)
        return given

    @cached_property
    def folder(self) -> str | None:
        """Absolute path or URL of the folder, also on an engine, which has another current directory."""
        given = self._given_folder
        if given is None:
            return None
        return str(given).rstrip("/") if is_url(os.fspath(given)) else os.path.abspath(given)

    @property
    def local_folder(self) -> str | None:
        """The folder, if it is one of this host's disks."""
        return None if self.folder is None or is_url(self.folder) else self.folder

    def resolve(self) -> None:
        """Make the folder, or see that something can be written below the URL."""
        if self.folder is not None:
            (check_url if is_url(self.folder) else make_folder)(self.folder)

    def redirected(self, folder: str | os.PathLike[str]) -> Self:
        """The same task, but its files go to another folder, which is made; itself, if it writes none."""
        if self.folder is None:
            return self
        other = copy.copy(self)
        other.__dict__["folder"] = os.path.abspath(folder)  # in the place of the cached property
        make_folder(os.path.abspath(folder))
        return other

    def name_files(self, names: OutputNames) -> None:
        """Be told, by whoever knows the images, what their keys have in common, before the task is sent."""
        # As a tuple: a stored task must not name the module that a class of ours lies in.
        object.__setattr__(self, "_names", (names.root, names.ending, names.alone))

    def write_below(self, key: str, extension: str, write: Callable[[BinaryIO], None]) -> str:
        """Write the file of an image into the folder, and give its path; see `parimg.files.naming`."""
        path = self.path_below(key, extension)
        return write_file(self.folder or "", path, write)

    def path_below(self, key: str, extension: str) -> str:
        """Path or URL of the file of an image."""
        if self.folder is None:
            raise TaskError(f"{self.name} has no folder to write to; give {self.folder_parameter}")
        known = getattr(self, "_names", None)  # not where it is called by hand, for one image
        names = OutputNames.of([key], "") if known is None else OutputNames(*known)
        return names.file_of(self.folder, key, extension)

    def declared_columns(self) -> dict[str, str]:
        """Arrow type by name of the columns, the file's path among them if there is a folder."""
        return {**self.columns, **({self.path_column: "string"} if self._given_folder is not None else {})}

    def __getstate__(self) -> dict[str, object]:
        _ = self.folder  # the client's
        return self.__dict__
