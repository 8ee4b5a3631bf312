"""``%parimg`` and ``%%parimg map``: a cluster and jobs by short commands, results as variables."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class

from parimg.console import is_silent, say
from parimg.errors import ParimgError
from parimg.job.directory import jobs_folder
from parimg.job.job import Job, open_job
from parimg.job.progress import show_progress
from parimg.magics.arguments import TypedWrong, make_parser, parse_targets, usage
from parimg.magics.cell_function import cell_function
from parimg.magics.completing import completions
from parimg.magics.job_table import JobTable
from parimg.notebook.live import can_update, show_live

if TYPE_CHECKING:
    from argparse import Namespace
    from types import SimpleNamespace

    from IPython.core.interactiveshell import InteractiveShell

    from parimg.controller.controller import Controller


class Told(Exception):
    """An error that IPython shows in one line."""

    def _render_traceback_(self) -> list[str]:
        return [f"parimg: {self}"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, which IPython shows in one line."""

    def _render_traceback_(self) -> list[str]:
        return [f"parimg: {self}"]


@magics_class
class ParimgMagics(Magics):
    """The magics of a shell, and the name of the controller that they use."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._variables: dict[str, Any] = shell.user_ns
        self._controller_name = "ctl"

    @line_cell_magic
    def parimg(self, line: str, cell: str | None = None) -> object:
        """Run images on a cluster: ``%parimg start -n 4``, then ``%parimg match REF IMAGES``.

        ``%parimg`` lists the commands, ``%parimg COMMAND --help`` its options. The controller becomes the variable
        ``ctl``, the newest job ``job``; ``-o NAME`` names them otherwise. Words that are names of variables, and
        no files, stand for what these hold.

        ``%%parimg map IMAGES`` runs the cell below on each image: it is the body of a function of ``image``.
        """
        try:
            words = shlex.split(line)
        except ValueError as error:  # a quote that is not closed
            raise Told(f"{error}: {line}") from None
        try:
            return self._run(words, cell)
        except ParimgError as error:
            raise Told(str(error)) from None
        except Interrupted:
            raise
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None

    def _run(self, words: list[str], cell: str | None) -> object:
        parser, commands = make_parser()
        if not words or words[0] in {"-h", "--help", "help"}:
            say(usage(commands))
            return None
        if words[0] in commands and {"-h", "--help"} & set(words):
            say(commands[words[0]].format_help())
            return None
        if words[0] == "map" and cell is None:
            raise TypedWrong("it is %%parimg map IMAGES, with two %, and the code for each `image` below it")
        if words[0] in commands and words[0] != "map" and cell is not None:
            raise TypedWrong(f"a cell belongs to %%parimg map IMAGES; of {words[0]} it is %parimg, with one %")
        typed = parser.parse_args(words)
        if not (typed.out if getattr(typed, "out", None) is not None else "job").isidentifier():
            raise TypedWrong(f"-o wants the name of a variable (got {typed.out!r})")
        if cell is not None:
            return self._map(typed, cell)
        run = {
            "start": self._start, "connect": self._connect, "close": self._close, "match": self._match,
            "resume": self._resume, "status": self._status, "stop": self._stop, "jobs": self._jobs,
        }[typed.command]  # fmt: skip
        return run(typed)

    # -- the cluster ------------------------------------------------------------------------------------------

    def _start(self, typed: Namespace) -> Controller:
        from parimg.controller.starting import start

        with self._replacing(typed.out):
            is_range = isinstance(typed.n, tuple)
            controller = start(
                None if is_range else typed.n,
                engines=typed.n if is_range else None,
                profile=typed.profile,
                memory_limit=typed.memory_limit,
            )
            self._variables[typed.out] = controller
        return controller

    def _connect(self, typed: Namespace) -> Controller:
        from parimg.controller.starting import connect

        with self._replacing(typed.out):
            controller = connect(typed.profile, typed.cluster_id, timeout=typed.timeout)
            self._variables[typed.out] = controller
        return controller

    @contextlib.contextmanager
    def _replacing(self, name: str) -> Iterator[None]:
        """Close the controller that has the name already, as when a cell is run again, unless a job runs on it."""
        from parimg.controller.controller import Controller

        before = self._variables.get(name)
        if isinstance(before, Controller):
            if before.running:
                raise TypedWrong(
                    f"jobs run on {name!r}: {before!r}; first %parimg stop, or take another name by -o"
                )
            before.close()
        yield
        self._controller_name = name

    def _controller(self) -> Controller:
        from parimg.controller.controller import Controller

        found = self._variables.get(self._controller_name)
        if not isinstance(found, Controller):
            raise TypedWrong("there is no cluster yet: %parimg start -n 4, or %parimg connect --profile NAME")
        return found

    def _close(self, typed: Namespace) -> None:
        del typed
        self._controller().close()

    # -- jobs -------------------------------------------------------------------------------------------------

    def _match(self, typed: Namespace) -> Job | None:
        from parimg.tasks.match_sift import MatchSIFT

        task = MatchSIFT(
            self._value(typed.reference),
            n_features=typed.n_features,
            max_ratio=typed.max_ratio,
            max_size=typed.max_size,
            verify=typed.verify,
        )
        return self._follow(self._controller().submit(task, **self._options(typed)), typed)

    def _map(self, typed: Namespace, cell: str) -> Job | None:
        function = cell_function(cell, self._variables)
        job = self._controller().map(function, color=typed.color, **self._options(typed))
        return self._follow(job, typed)

    def _options(self, typed: Namespace) -> dict[str, Any]:
        controller = self._controller()
        images = [self._value(word) for word in typed.images]
        return {
            "images": images[0] if len(images) == 1 else images,
            "job_dir": typed.job,
            "column": typed.column,
            "retries": typed.retries,
            "timeout": typed.timeout,
            "max_failures": typed.max_failures,
            "targets": parse_targets(typed.targets, controller.engines),
        }

    def _value(self, word: str) -> Any:
        """What a word stands for: a file or folder, else a variable of that name, else itself."""
        is_variable = word.isidentifier() and word in self._variables and not os.path.exists(word)
        return self._variables[word] if is_variable else os.path.expanduser(word)

    def _follow(self, job: Job, typed: Namespace) -> Job | None:
        """Name a job, and wait for it if that is asked; one that was shown meanwhile is not shown once more."""
        self._variables[typed.out] = job
        if not typed.block:
            return job
        shown = None
        try:
            if can_update():
                with contextlib.suppress(NotImplementedError):  # it has ended already
                    shown = show_live(job._repr_html_, job.__repr__, lambda: not job.ready())
            with contextlib.nullcontext() if shown or is_silent() else show_progress(job):
                job.wait()
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; to go on here: %parimg resume {_short(job)}") from None
        finally:
            if shown is not None:
                shown.join()
        return None if shown else job

    def _resume(self, typed: Namespace) -> Job | None:
        job = self._job(typed.job)
        if not job.ready():
            raise TypedWrong(f"it runs: {job!r}")
        resumed = self._controller().resume(job.directory, retry="failed" if typed.retry_failed else None)
        return self._follow(resumed, typed)

    def _status(self, typed: Namespace) -> Job:
        job = self._job(typed.job)
        if typed.out is not None:
            self._variables[typed.out] = job
        return job

    def _stop(self, typed: Namespace) -> None:
        self._job(typed.job).stop()

    def _jobs(self, typed: Namespace) -> JobTable:
        return JobTable.read(None if typed.all else 20)

    def _job(self, name: str | None) -> Job:
        """A job by its variable, its name or its directory."""
        found = self._variables.get(name or "job")
        if isinstance(found, Job):
            return found
        if name is None:
            raise TypedWrong("there is no job in `job`; name one, %parimg jobs lists them")
        return open_job(os.path.expanduser(name))


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give IPython ``%parimg`` and ``%%parimg``, with completion; called by ``%load_ext parimg``.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell

    Returns
    -------
    None

    Examples
    --------
    >>> %load_ext parimg  # doctest: +SKIP
    >>> %parimg start -n 4  # doctest: +SKIP
    """
    shell.register_magics(ParimgMagics(shell))

    def complete(_: object, event: SimpleNamespace) -> list[str]:
        return completions(event.text_until_cursor, event.symbol, shell.user_ns)

    for name in ("%parimg", "%%parimg"):
        shell.set_hook("complete_command", complete, str_key=name)  # type: ignore[no-untyped-call]


def _short(job: Job) -> str:
    """A job as one types it."""
    folder, name = os.path.split(job.directory)
    return name if folder == os.path.abspath(jobs_folder()) else shlex.quote(job.directory)
