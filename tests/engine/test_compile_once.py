"""One process of a host compiles, the others load what it compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from parimg import Task
from parimg.engine import compile_once
from parimg.protocol import shared_objects


@dataclass(frozen=True, eq=False)
class Note(Task):
    """A task that notes what is known of it while it is prepared."""

    seen: list[tuple[bool, bool]]

    def prepare(self) -> None:
        self.seen.append((compile_once.is_prepared(self), compile_once.is_being_prepared(self)))


@pytest.fixture(autouse=True)
def fresh_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host on which nothing is compiled."""
    monkeypatch.setenv("PARIMG_SHARED_DIR", str(tmp_path / "host"))
    for cached in (shared_objects.host_folder, compile_once._stamps_of_package):
        cached.cache_clear()
    yield
    for cached in (shared_objects.host_folder, compile_once._stamps_of_package):
        cached.cache_clear()


def test_the_first_process_of_a_host_prepares_alone_and_the_others_afterwards(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from dataclasses import dataclass\n"
        "from parimg import Task\n"
        "from parimg.engine.compile_once import prepare_once_a_host\n"
        "@dataclass(frozen=True, eq=False)\n"
        "class Slow(Task):\n"
        "    def prepare(self):\n"
        "        begin = time.time(); time.sleep(0.3); print(begin, time.time())\n"
        "prepare_once_a_host(Slow())\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    spans = sorted(tuple(map(float, process.communicate(timeout=30)[0].split())) for process in processes)
    assert spans[0][1] <= spans[1][0]


def test_what_is_under_way_can_be_asked() -> None:
    task = Note([])
    assert (compile_once.is_prepared(task), compile_once.is_being_prepared(task)) == (False, False)
    compile_once.prepare_once_a_host(task)
    assert (compile_once.is_prepared(task), compile_once.is_being_prepared(task)) == (True, False)
    compile_once.prepare_once_a_host(task)  # loads what was compiled
    assert task.seen == [(False, True), (True, False)]


def test_a_changed_source_of_the_task_or_of_any_module_of_parimg_asks_for_another_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "parimg" / "kernels"
    package.mkdir(parents=True)
    (package / "kernel.py").write_text("VERSION = 1")
    source = tmp_path / "site-packages" / "module.py"
    source.parent.mkdir()
    source.write_text("VERSION = 1")
    monkeypatch.setattr(sys.modules["parimg"], "__path__", [str(package.parent)])
    monkeypatch.setattr(sys.modules[__name__], "__file__", str(source))
    task = Note([])
    compile_once.prepare_once_a_host(task)
    for path in (source, package / "kernel.py"):
        path.write_text("VERSION = 12")
        compile_once._stamps_of_package.cache_clear()
        assert not compile_once.is_prepared(task)
        compile_once.prepare_once_a_host(task)
        assert compile_once.is_prepared(task)
    os.rename(package / "kernel.py", package / "moved.py")
    compile_once._stamps_of_package.cache_clear()
    assert not compile_once.is_prepared(task)
