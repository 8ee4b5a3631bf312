"""The command line: ``parimg --help`` lists the commands.

A thin layer: each command parses, calls the library, and prints. Exit code 0: all went well; 1: the job or the
cluster failed; 2: something was typed wrong; 3: the job is done, but some images failed; 130: Ctrl-C.
"""

from __future__ import annotations

import sys

# Commands appear in the help in this order.
# isort: off
from parimg.cli import matching, filtering, skeletons, retrieval, jobs, clusters, demonstration  # noqa: F401

# isort: on
from parimg.cli.app import app
from parimg.cli.options import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from parimg.errors import ParimgError


def main() -> None:
    """Run the command line, with errors as messages and exit codes."""
    try:
        app()
    except ParimgError as error:
        print(f"parimg: {error}", file=sys.stderr)
        from parimg.errors import (
            ClusterError,
            ImageError,
            JobError,
            ProfileNotFoundError,
            SourceError,
            TaskError,
        )

        usage = isinstance(error, SourceError | TaskError | JobError | ImageError | ProfileNotFoundError)
        failed = isinstance(error, ClusterError) and not isinstance(error, ProfileNotFoundError)
        sys.exit(EXIT_USAGE if usage and not failed else EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
