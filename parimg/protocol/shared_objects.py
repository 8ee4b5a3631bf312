"""Shared objects: what every engine needs and no chunk carries, by content hash.

A task is pickled once; every large array in it, also one that a lambda refers to, is cut out and becomes a
shared object of its own, as does the pickle. The client writes each as a file of the job's directory. An engine
finds it in its own memory, else in a file: the job's directory where its host sees that, else its host's cache,
which `receive` fills with the one message that the client sends when an engine reports the object missing.
Arrays are memory-mapped, so engines of one host hold one copy. A file is used only after its hash was checked
against the digest that came with the (signed) request.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterable
from functools import cache, lru_cache
from glob import glob
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import cloudpickle

from parimg.errors import ParimgError, TaskError
from parimg.files.permissions import check_private

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    import numpy as np
    import numpy.typing as npt

    from parimg.tasks.task import Task

_PICKLING = threading.Lock()  # cloudpickle's registry of modules belongs to the process
_INSTALLED = {"site-packages", "dist-packages"}  # folders of what is installed, of whichever interpreter
_MAIN = {"__main__", "__mp_main__"}  # cloudpickle sends their code anyway
_HIDDEN_FILE = "<dynamic-code>"
_LARGE = 16_384  # bytes; an array below travels inside the task's pickle


class SharedRef(NamedTuple):
    """Names a shared object: its content hash and what it is."""

    digest: str
    kind: Literal["task", "array"]


class SharedObjectMissing(ParimgError):
    """A host has no copy of a shared object yet; the client answers by sending it."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


# -- on the client --------------------------------------------------------------------------------------------


def write_task(folder: str, task: Task) -> list[SharedRef]:
    """Write a task and its large arrays into `folder`.

    Parameters
    ----------
    folder : str
        Created if it does not exist, readable by its owner only.
    task : Task

    Returns
    -------
    list of SharedRef
        The task first, then the arrays it refers to.

    Raises
    ------
    TaskError
        If the task cannot be pickled.
    """
    with _PICKLING:
        return _write_task(folder, task)


def _write_task(folder: str, task: Task) -> list[SharedRef]:
    buffer = io.BytesIO()
    pickler = _TaskPickler(buffer, folder)
    unregistered = set(sys.modules) - cloudpickle.list_registry_pickle_by_value() - _MAIN
    by_value = [sys.modules[name] for name in sorted(unregistered) if sys.modules[name] and is_loose(name)]
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        pickler.dump(task)
    except Exception as error:
        raise TaskError(
            f"{task.name} cannot be sent to engines: {type(error).__name__}: {error}; it must not hold open "
            "files, locks, sockets or clusters"
        ) from error
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)
    return [SharedRef(_write(folder, buffer.getvalue()), "task"), *dict.fromkeys(pickler.refs)]


def read_shared(folder: str, digest: str) -> bytes:
    """Bytes of a shared object, as the client reads them before it sends them.

    Raises
    ------
    ParimgError
        If the file is not the one that was written.
    """
    path = os.path.join(folder, digest)
    with open(path, "rb") as file:
        data = file.read()
    if _digest(data) != digest:
        raise ParimgError(f"the shared object {path!r} was changed after it was written")
    return data


class _TaskPickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle is untyped
    """Pickles functions by value where needed, and cuts large arrays out."""

    def __init__(self, file: io.BytesIO, folder: str) -> None:
        super().__init__(file, protocol=5)
        self.folder = folder
        self.refs: list[SharedRef] = []

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, CodeType):
            # cloudpickle 3.1.3 hides the file of a function, which tracebacks on engines shall name.
            make, values = self.dispatch_table[CodeType](obj)
            return make, tuple(obj.co_filename if value == _HIDDEN_FILE else value for value in values)
        return super().reducer_override(obj)

    def persistent_id(self, obj: object) -> tuple[str, str] | None:
        # A plain tuple: stored tasks must not name the module that a class of ours lies in.
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(obj, numpy.ndarray):
            return None
        if type(obj) not in {numpy.ndarray, numpy.memmap} or obj.nbytes < _LARGE or obj.dtype.hasobject:
            return None
        buffer = io.BytesIO()
        numpy.save(buffer, obj, allow_pickle=False)
        ref = SharedRef(_write(self.folder, buffer.getvalue()), "array")
        self.refs.append(ref)
        return ref.digest, ref.kind


def is_loose(name: str) -> bool:
    """Whether a module is a user's loose file, as a script or a test: engines are sent its code."""
    module, top = sys.modules.get(name), name.partition(".")[0]
    if module is None or top in _MAIN:
        return True
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or top == "parimg":
        return False
    folders = tuple(os.path.dirname(path) for path in getattr(sys.modules.get(top), "__path__", [file]))
    return not (_is_installed(file) or _has_distribution(top, folders))


@cache  # 1 400 modules, each looked up on disk: 0.1 s a job
def _is_installed(file: str) -> bool:
    resolved = os.path.realpath(file)
    parts = {*file.split(os.sep), *resolved.split(os.sep)}
    return not parts.isdisjoint(_INSTALLED) or resolved.startswith(_library_folders())


@cache
def _library_folders() -> tuple[str, ...]:
    paths = (sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    return tuple({os.path.realpath(path) + os.sep for path in paths})


def _has_distribution(top: str, folders: tuple[str, ...]) -> bool:
    """Whether the top-level module in one of these folders or archives was installed, if in place."""
    if any(top in _names_in(folder) for folder in folders):
        return True
    inside = [os.path.join(os.path.realpath(folder), "") for folder in folders]
    return any(top in names and any(one.startswith(root) for one in inside) for root, names in _in_place())


@cache
def _names_in(folder: str) -> frozenset[str]:
    """Top-level modules of the distributions that lie in a folder or archive."""
    from importlib.metadata import distributions

    return frozenset().union(*map(_top_names, distributions(path=[folder])))


@cache
def _in_place() -> list[tuple[str, frozenset[str]]]:
    """Folder and top-level modules of each distribution that `pip install -e` installed."""
    from importlib.metadata import distributions
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    found = []
    for distribution in distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            root = os.path.realpath(url2pathname(urlsplit(origin["url"]).path))
            found.append((os.path.join(root, ""), _top_names(distribution)))
    return found


def _top_names(distribution: Distribution) -> frozenset[str]:
    """Top-level modules of a distribution: as it declares them, of its files, or of its own name."""
    names = {re.sub(r"[-_.]+", "_", distribution.metadata["Name"] or "").lower()}
    for file in distribution.files or ():
        names.add(file.parts[0].partition(".")[0])
        if file.suffix == ".pth":  # of an install in place: the packages of the folder that it adds to the path
            with contextlib.suppress(OSError):
                for folder in filter(os.path.isdir, file.read_text().splitlines()):
                    names.update(os.path.dirname(init) for init in glob("*/__init__.py", root_dir=folder))
    return frozenset(names | set((distribution.read_text("top_level.txt") or "").split()))


# -- on an engine ---------------------------------------------------------------------------------------------


@cache
def host_folder() -> str:
    """Folder of this host's cache of received objects."""
    import platformdirs

    return os.environ.get("PARIMG_SHARED_DIR") or os.path.join(platformdirs.user_cache_dir("parimg"), "shared")


def receive(digest: str, data: bytes) -> None:
    """Write an object that the client sent into this host's cache."""
    if _digest(data) != digest:
        raise ParimgError(f"shared object {digest} arrived damaged: its hash is {_digest(data)}")
    _write(host_folder(), bytes(data))


def missing(refs: Iterable[SharedRef], folder: str) -> list[str]:
    """Digests of those objects that this host has no copy of.

    Parameters
    ----------
    refs : iterable of SharedRef
    folder : str
        The job's folder of shared objects, where this host sees it.
    """
    lacking = []
    for ref in refs:
        try:
            _find(ref.digest, folder)
        except SharedObjectMissing:
            lacking.append(ref.digest)
    return lacking


def load_task(ref: SharedRef, folder: str) -> Task:
    """The task, with its large arrays memory-mapped and read-only.

    Raises
    ------
    SharedObjectMissing
        If this host has no copy of it or of one of its arrays.
    JobError
        If others can write the copy or its folder.
    """
    path = _find(ref.digest, folder)
    for place in (os.path.dirname(path), path):
        check_private(place)
    with open(path, "rb") as file:
        task: Task = _TaskUnpickler(file, folder).load()
    return task


class _TaskUnpickler(pickle.Unpickler):
    def __init__(self, file: Any, folder: str) -> None:
        super().__init__(file)
        self.folder = folder

    def persistent_load(self, ref: tuple[str, str]) -> npt.NDArray[np.generic]:
        digest, _ = ref
        return _load_array(_find(digest, self.folder))


@lru_cache(maxsize=64)  # paths, of all jobs since the engine started
def _find(digest: str, folder: str) -> str:
    for place in (folder, host_folder()):
        path = os.path.join(place, digest)
        try:
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                    return path
        except OSError:
            continue
    raise SharedObjectMissing(digest)


@lru_cache(maxsize=64)
def _load_array(path: str) -> npt.NDArray[np.generic]:
    import numpy as np

    array: npt.NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


# -- on both --------------------------------------------------------------------------------------------------


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(folder: str, data: bytes) -> str:
    digest = _digest(data)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=folder, prefix=f"{digest}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.replace(unfinished, os.path.join(folder, digest))  # several engines of a host may receive it at once
    return digest
