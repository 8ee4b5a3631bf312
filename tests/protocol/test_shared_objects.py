"""Shared objects: what is cut out of a task, and how an engine finds it again."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest

from parimg import Function, Task
from parimg.errors import ParimgError, TaskError
from parimg.protocol import shared_objects
from parimg.protocol.shared_objects import SharedObjectMissing, SharedRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

LEVEL = 40


@dataclass(frozen=True, eq=False)
class Compare(Task):
    """A task with an array among its parameters."""

    reference: Any

    def __call__(self, image: npt.NDArray[Any]) -> dict[str, object]:
        return {"sum": int((self.reference * image).sum()) + LEVEL}


@dataclass(frozen=True, eq=False)
class Apply(Task):
    """A task with a function among its parameters."""

    function: Callable[..., object]

    def __call__(self, image: npt.NDArray[Any]) -> dict[str, object]:
        return {"result": self.function(image)}


def add_level(image: npt.NDArray[Any], times: int = 1) -> object:
    return image + times * LEVEL


class AddLevel:
    def __call__(self, image: npt.NDArray[Any]) -> object:
        return add_level(image)

    def twice(self, image: npt.NDArray[Any]) -> object:
        return add_level(image, 2)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "job" / "shared")


@pytest.fixture
def host_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of received objects, of this test alone."""
    monkeypatch.setenv("PARIMG_SHARED_DIR", str(tmp_path / "host"))
    shared_objects.host_folder.cache_clear()
    yield tmp_path / "host"
    shared_objects.host_folder.cache_clear()


def large(seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (128, 128), np.uint8)


# -- writing -------------------------------------------------------------------------------------------------


def test_an_array_of_16_kib_is_cut_out_of_the_task(folder: str) -> None:
    array = large()
    assert array.nbytes == 16_384
    task_ref, array_ref = shared_objects.write_task(folder, Compare(array))
    assert task_ref.kind == "task"
    assert array_ref.kind == "array"
    assert sorted(os.listdir(folder)) == sorted([task_ref.digest, array_ref.digest])
    np.testing.assert_array_equal(np.load(os.path.join(folder, array_ref.digest)), array)
    assert os.path.getsize(os.path.join(folder, task_ref.digest)) < 16_384


def test_a_smaller_array_stays_inside_the_task(folder: str) -> None:
    [ref] = shared_objects.write_task(folder, Compare(large().ravel()[:16_383]))
    assert ref.kind == "task"
    assert os.listdir(folder) == [ref.digest]
    assert os.path.getsize(os.path.join(folder, ref.digest)) > 16_383


def test_a_large_array_that_a_lambda_refers_to_is_cut_out(folder: str) -> None:
    reference = large()
    task_ref, array_ref = shared_objects.write_task(folder, Function(lambda image: int((image * reference).sum())))
    np.testing.assert_array_equal(np.load(os.path.join(folder, array_ref.digest)), reference)
    task = shared_objects.load_task(task_ref, folder)
    expected = int((reference * np.uint8(2)).sum())
    assert task(np.full((128, 128), 2, np.uint8)) == {"value": expected}


def test_arrays_deep_inside_the_parameters_are_cut_out(folder: str) -> None:
    refs = shared_objects.write_task(folder, Compare({"levels": [(large(1), large(2))], "small": np.arange(3)}))
    assert [ref.kind for ref in refs] == ["task", "array", "array"]


def test_an_array_of_objects_stays_inside_the_task(folder: str) -> None:
    assert len(shared_objects.write_task(folder, Compare(np.full(5000, None)))) == 1


def test_a_digest_is_the_sha256_of_the_file(folder: str) -> None:
    for ref in shared_objects.write_task(folder, Compare(large())):
        data = Path(folder, ref.digest).read_bytes()
        assert ref.digest == hashlib.sha256(data).hexdigest()
        assert shared_objects.read_shared(folder, ref.digest) == data


def test_equal_content_has_one_digest_and_one_file(folder: str) -> None:
    refs = shared_objects.write_task(folder, Compare([large(), large().copy(), large()[:]]))
    assert len(refs) == 2
    assert len(os.listdir(folder)) == 2


def test_tasks_with_the_same_array_share_its_file(folder: str) -> None:
    first = shared_objects.write_task(folder, Compare(large()))
    second = shared_objects.write_task(folder, Compare([large(), 1]))
    assert first[1] == second[1]
    assert first[0] != second[0]
    assert len(os.listdir(folder)) == 3


def test_other_content_has_another_digest(folder: str) -> None:
    changed = large()
    changed[0, 0] += 1
    first = shared_objects.write_task(folder, Compare(large()))
    assert first[1] != shared_objects.write_task(folder, Compare(changed))[1]


def test_the_folder_is_made_for_its_owner_only(folder: str) -> None:
    shared_objects.write_task(folder, Compare(1))
    assert os.stat(folder).st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "culprit", [threading.Lock(), (n for n in range(3)), sys.stderr], ids=["lock", "generator", "file"]
)
def test_a_task_that_cannot_be_pickled_is_refused_by_name(folder: str, culprit: object) -> None:
    with pytest.raises(TaskError, match=r"^Compare cannot be sent to engines: .*; it must not hold open files"):
        shared_objects.write_task(folder, Compare(culprit))


def test_a_function_that_refers_to_a_lock_is_refused_by_its_name(folder: str) -> None:
    lock = threading.Lock()

    def guarded(image: npt.NDArray[Any]) -> object:
        with lock:
            return image.sum()

    with pytest.raises(TaskError, match=r"^guarded cannot be sent to engines: TypeError"):
        shared_objects.write_task(folder, Function(guarded))


# -- loading -------------------------------------------------------------------------------------------------


def test_a_loaded_task_gives_what_the_original_gives(folder: str) -> None:
    task = Compare(large())
    ref, *_ = shared_objects.write_task(folder, task)
    image = np.ones((128, 128), np.uint8)
    assert shared_objects.load_task(ref, folder)(image) == task(image)


def test_a_large_array_is_memory_mapped_and_read_only(folder: str) -> None:
    array = np.asfortranarray(np.arange(4096.0).reshape(64, 64))
    ref, _ = shared_objects.write_task(folder, Compare(array))
    loaded: Any = shared_objects.load_task(ref, folder)
    assert isinstance(loaded.reference, np.memmap)
    assert not loaded.reference.flags.writeable
    assert loaded.reference.dtype == np.float64
    np.testing.assert_array_equal(loaded.reference, array)
    with pytest.raises(ValueError, match="read-only"):
        loaded.reference[0, 0] = 1


def test_a_memory_mapped_array_can_be_shared_again(folder: str, tmp_path: Path) -> None:
    ref, array_ref = shared_objects.write_task(folder, Compare(large()))
    again = shared_objects.write_task(str(tmp_path / "second"), shared_objects.load_task(ref, folder))
    assert again[1] == array_ref


def test_a_slice_is_shared_without_the_array_it_was_cut_from(folder: str) -> None:
    whole = np.arange(100_000)
    _, ref = shared_objects.write_task(folder, Compare(whole[::10]))
    assert os.path.getsize(os.path.join(folder, ref.digest)) < 100_000
    np.testing.assert_array_equal(np.load(os.path.join(folder, ref.digest)), whole[::10])


def test_a_host_without_a_copy_reports_what_it_lacks(folder: str, host_cache: Path) -> None:
    refs = shared_objects.write_task(folder, Compare(large()))
    assert shared_objects.missing(refs, folder) == []
    assert shared_objects.missing(refs, "/not/seen/here") == [ref.digest for ref in refs]
    with pytest.raises(SharedObjectMissing) as caught:
        shared_objects.load_task(refs[0], "/not/seen/here")
    assert caught.value.digest == refs[0].digest


def test_received_objects_are_used_where_the_job_folder_is_not_seen(folder: str, host_cache: Path) -> None:
    task = Compare(large())
    refs = shared_objects.write_task(folder, task)
    shared_objects.receive(refs[0].digest, shared_objects.read_shared(folder, refs[0].digest))
    assert shared_objects.missing(refs, "/not/seen/here") == [refs[1].digest]
    shared_objects.receive(refs[1].digest, shared_objects.read_shared(folder, refs[1].digest))
    assert shared_objects.missing(refs, "/not/seen/here") == []
    assert sorted(os.listdir(host_cache)) == sorted(ref.digest for ref in refs)
    image = np.ones((128, 128), np.uint8)
    assert shared_objects.load_task(refs[0], "/not/seen/here")(image) == task(image)


def test_an_object_may_arrive_twice(folder: str, host_cache: Path) -> None:
    _, ref = shared_objects.write_task(folder, Compare(large()))
    data = shared_objects.read_shared(folder, ref.digest)
    shared_objects.receive(ref.digest, data)
    shared_objects.receive(ref.digest, memoryview(data))  # type: ignore[arg-type] # as ipyparallel hands it over
    assert os.listdir(host_cache) == [ref.digest]
    assert (host_cache / ref.digest).read_bytes() == data


def test_a_damaged_message_is_refused_and_not_kept(host_cache: Path) -> None:
    digest = hashlib.sha256(b"sent").hexdigest()
    with pytest.raises(ParimgError, match="arrived damaged"):
        shared_objects.receive(digest, b"came")
    assert not host_cache.exists()


def test_a_changed_file_is_not_used(folder: str, host_cache: Path) -> None:
    refs = shared_objects.write_task(folder, Compare(large()))
    path = Path(folder, refs[1].digest)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert shared_objects.missing(refs, folder) == [refs[1].digest]
    with pytest.raises(SharedObjectMissing):
        shared_objects.load_task(refs[0], folder)
    with pytest.raises(ParimgError, match="was changed after it was written"):
        shared_objects.read_shared(folder, refs[1].digest)


def test_a_changed_file_of_the_job_gives_way_to_the_sound_one_of_the_host(folder: str, host_cache: Path) -> None:
    _, ref = shared_objects.write_task(folder, Compare(large()))
    shared_objects.receive(ref.digest, shared_objects.read_shared(folder, ref.digest))
    Path(folder, ref.digest).write_bytes(b"changed")
    assert shared_objects.missing([ref], folder) == []


def test_the_host_folder_is_among_the_caches_of_the_user_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARIMG_SHARED_DIR")
    shared_objects.host_folder.cache_clear()
    try:
        assert Path(shared_objects.host_folder()).parts[-2:] == ("parimg", "shared")
    finally:
        shared_objects.host_folder.cache_clear()


# -- on an engine that lacks the modules of the client -------------------------------------------------------


def called_elsewhere(task: Task, folder: str) -> str:
    """What `task` gives for the image 2 in a process that cannot import this file."""
    ref, *_ = shared_objects.write_task(folder, task)
    script = (
        "import sys; from parimg.protocol import shared_objects\n"
        f"sys.modules[{__name__!r}] = None\n"  # an import of it fails, wherever the tests lie
        "print(shared_objects.load_task(shared_objects.SharedRef(sys.argv[1], 'task'), sys.argv[2])(2))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, ref.digest, folder],
        capture_output=True,
        text=True,
        cwd="/",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Function(add_level), "{'value': 42}"),
        (Function(lambda image: add_level(image, 2)), "{'value': 82}"),
        (Function(AddLevel()), "{'value': 42}"),
        (Function(AddLevel().twice), "{'value': 82}"),
        (Function(functools.partial(add_level, times=3)), "{'value': 122}"),
        (Apply(add_level), "{'result': 42}"),
        (Apply(np.sqrt), f"{{'result': {np.sqrt(2)!r}}}"),
    ],
    ids=[
        "function",
        "lambda",
        "callable object",
        "bound method",
        "partial",
        "task class",
        "task class, installed function",
    ],
)
def test_code_of_a_file_that_is_not_installed_travels_with_the_task(
    task: Task, expected: str, folder: str
) -> None:
    assert called_elsewhere(task, folder) == expected


def test_code_of_installed_packages_travels_by_name(folder: str) -> None:
    ref, *_ = shared_objects.write_task(folder, Function(np.linalg.norm))
    assert os.path.getsize(os.path.join(folder, ref.digest)) < 300


SOURCE = "def mark(image):\n    return 'sent by value'\n"


def is_sent_by_value(module: str, folder: str, path: Path, setup: str = "") -> bool:
    """Whether a function of `module` travels as code from a process that has `path` on its PYTHONPATH."""
    script = (
        f"import sys; {setup}\nimport {module} as module; from parimg import Function\n"
        "from parimg.protocol import shared_objects\n"
        "print(shared_objects.write_task(sys.argv[1], Function(module.mark))[0].digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, folder],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{Path(shared_objects.__file__).parents[2]}"},
    )
    assert done.returncode == 0, done.stderr
    return b"sent by value" in Path(folder, done.stdout.strip()).read_bytes()


def lay_out(folder: Path, *modules: str) -> Path:
    for module in modules:
        (folder / module).parent.mkdir(parents=True, exist_ok=True)
        (folder / module).write_text(SOURCE, encoding="utf-8")
    return folder


def describe(folder: Path, name: str, **files: str) -> None:
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    for file, text in files.items():
        (about / file.replace("_txt", ".txt")).write_text(text, encoding="utf-8")


def test_a_package_with_a_distribution_beside_it_travels_by_name_and_loose_files_beside_it_as_code(
    folder: str, tmp_path: Path
) -> None:
    path = lay_out(tmp_path / "modules", "alpha/__init__.py", "alpha/inner/deep.py", "beta.py", "loose.py")
    describe(path, "Alpha", RECORD="alpha/__init__.py,,\nalpha/inner/deep.py,,\n")
    describe(path, "other-name", top_level_txt="beta\n")
    assert not is_sent_by_value("alpha", folder, path)
    assert not is_sent_by_value("alpha.inner.deep", folder, path)
    assert not is_sent_by_value("beta", folder, path)
    assert is_sent_by_value("loose", folder, path)


def test_a_distribution_elsewhere_that_has_a_package_of_the_same_name_does_not_count(
    folder: str, tmp_path: Path
) -> None:
    describe(tmp_path / "installed", "tests", top_level_txt="tests\n")
    path = lay_out(tmp_path / "mine", "tests/__init__.py")
    assert is_sent_by_value("tests", folder, path, f"sys.path.append({str(tmp_path / 'installed')!r})")


@pytest.mark.parametrize("place", ["lib/python3/dist-packages", ".local/lib/python3.11/site-packages"])
def test_what_lies_in_a_folder_of_installed_packages_of_any_interpreter_travels_by_name(
    folder: str, tmp_path: Path, place: str
) -> None:
    path = lay_out(tmp_path / place, "gamma/__init__.py", "delta.py")
    assert not is_sent_by_value("gamma", folder, path)
    assert not is_sent_by_value("delta", folder, path)


def test_a_zipped_package_travels_by_name(folder: str, tmp_path: Path) -> None:
    contents = lay_out(tmp_path / "contents", "epsilon/__init__.py")
    describe(contents, "epsilon")
    assert not is_sent_by_value("epsilon", folder, Path(shutil.make_archive(str(contents), "zip", contents)))


@pytest.mark.parametrize("layout", [".", "src"])
def test_a_package_of_ones_own_that_is_installed_in_place_travels_by_name_and_scripts_beside_it_as_code(
    folder: str, tmp_path: Path, layout: str
) -> None:
    project = lay_out(tmp_path / "project", f"{layout}/zeta/__init__.py", "script.py")
    (project / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n"
        "[project]\nname = 'my-project'\nversion = '1'\n"
        f"[tool.hatch.build]\ndev-mode-dirs = ['{layout}']\n"
        f"[tool.hatch.build.targets.wheel]\npackages = ['{layout}/zeta']\n",
        encoding="utf-8",
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--prefix", str(tmp_path / "environment"), "-e", str(project)], check=True)
    [site] = (tmp_path / "environment").rglob("site-packages")
    setup = f"import site; site.addsitedir({str(site)!r})"
    assert not is_sent_by_value("zeta", folder, tmp_path, setup)
    assert is_sent_by_value("script", folder, project, setup)


def test_pickling_by_value_ends_with_the_task(folder: str) -> None:
    before = cloudpickle.list_registry_pickle_by_value()
    shared_objects.write_task(folder, Function(add_level))
    assert cloudpickle.list_registry_pickle_by_value() == before
    with pytest.raises(TaskError):
        shared_objects.write_task(folder, Compare(threading.Lock()))
    assert cloudpickle.list_registry_pickle_by_value() == before


def test_a_module_that_the_user_registered_stays_registered(folder: str) -> None:
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        shared_objects.write_task(folder, Function(add_level))
        assert __name__ in cloudpickle.list_registry_pickle_by_value()
    finally:
        if __name__ in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.unregister_pickle_by_value(module)


def test_references_to_shared_objects_survive_json(folder: str) -> None:
    """The journal keeps them so."""
    refs = shared_objects.write_task(folder, Compare(large()))
    assert [SharedRef(*list(ref)) for ref in refs] == refs
