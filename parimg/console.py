"""The one place that writes to the terminal outside the command line."""

from __future__ import annotations

import sys


def print_line(text: str) -> None:
    """Report something to the user on standard error, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)
