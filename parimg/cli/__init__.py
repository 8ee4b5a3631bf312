"""The command line: ``parimg --help`` lists the commands.

A thin layer: each command parses, calls the library, and prints. Exit code 0: all went well; 1: the job or the
cluster failed; 2: something was typed wrong; 3: the job is done, but some images failed; 130: Ctrl-C.
"""

from __future__ import annotations

import io
import os
import pkgutil
import shlex
import sys
from importlib import import_module

try:
    from parimg.cli import jobs  # noqa: F401 - in the help its panel stands above that of clusters
    from parimg.cli.app import app
    from parimg.cli.options import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
    from parimg.console import say
    from parimg.errors import ParimgError

    # Every module of this room is loaded, and thereby adds its commands.
    for _found in pkgutil.iter_modules(__path__, f"{__name__}."):
        if not _found.name.endswith("__main__"):
            import_module(_found.name)
except KeyboardInterrupt:  # loading takes half a second, in which no traceback is wanted either
    sys.exit(130)


def main() -> None:
    """Run the command line, with errors as messages and exit codes; with ``--debug`` errors come through."""
    for name in ("stdout", "stderr"):  # a service may have closed them
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - to the end of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal in ASCII still shows every name
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(arguments)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, ParimgError):
            say(f"parimg: {error}", error=True)
        else:
            say(f"parimg: {type(error).__name__}: {error}", error=True)
            say(f"to see where it comes from: parimg --debug {shlex.join(arguments)}", error=True)
        sys.exit(_exit_code(error))


def _exit_code(error: Exception) -> int:
    from parimg.errors import ClusterError, ImageError, JobError, ProfileNotFoundError, SourceError, TaskError

    usage = isinstance(error, SourceError | TaskError | JobError | ImageError | ProfileNotFoundError)
    failed = isinstance(error, ClusterError) and not isinstance(error, ProfileNotFoundError)
    return EXIT_USAGE if usage and not failed else EXIT_FAILED
