"""The one place that writes to the terminal: text from outside is shown as it is, and never obeyed.

Names of files, messages and values come from outside. Neither the terminal (escape sequences) nor rich (markup,
emoji codes) may act on them. The command line prints all it has to say by way of this module.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence

_SLOW_SECONDS = 0.5

# Control characters (an escape begins commands of a terminal), line separators, what turns the direction of
# writing, and lone surrogates, which no terminal takes.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, *, lines: bool = False) -> str:
    r"""Text with what a terminal would obey written out.

    Parameters
    ----------
    text : str
    lines : bool
        Leave line feeds and tabs as they are.

    Examples
    --------
    >>> visible("a\x1b[2J\n.png")
    'a\\x1b[2J\\n.png'
    """
    return _OBEYED.sub(lambda found: found[0] if lines and found[0] in "\n\t" else ascii(found[0])[1:-1], text)


def say(text: str, *, error: bool = False) -> None:
    """Print a line, or several, on standard output or standard error."""
    print(visible(text, lines=True), file=sys.stderr if error else sys.stdout)


def print_line(text: str) -> None:
    """Report something to the user on standard error, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(visible(text, lines=True), file=sys.stderr)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str | None = None,
    caption: str | None = None,
    whole_names: bool = False,
) -> None:
    """Print a table; into a file or pipe it is as wide as it needs to be.

    Parameters
    ----------
    columns : sequence of str
    rows : iterable of sequence of str
    title, caption : str, optional
    whole_names : bool
        Break the first column's texts into lines last of all, so that they can be copied.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def cell(text: str) -> Text:
        return Text(visible(text), overflow="fold")  # a str would be read as markup

    table = Table(
        title=cell(title) if title else None, caption=cell(caption) if caption else None, title_justify="left"
    )
    for place, column in enumerate(columns):
        table.add_column(cell(column), overflow="fold", no_wrap=whole_names and place == 0)
    for row in rows:
        table.add_row(*map(cell, row))
    # Not as rich's own display in a notebook, which stands beside what this prints.
    Console(width=None if sys.stdout.isatty() else 10_000, force_jupyter=False).print(table)


def report(text: str) -> None:
    """Report what is going on, unless ``IPP_NONINTERACTIVE`` is set, as for ipyparallel's own progress bars."""
    if not is_silent():
        print_line(text)


def is_silent() -> bool:
    """Whether ``IPP_NONINTERACTIVE`` asks for no progress and no displays."""
    return os.environ.get("IPP_NONINTERACTIVE", "") not in {"", "0"}


def byte_unit(nbytes: float) -> tuple[float, str]:
    """A number of bytes in the largest unit of which there is one.

    Examples
    --------
    >>> byte_unit(1536), byte_unit(0)
    ((1.5, 'KiB'), (0.0, 'B'))
    """
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return size, unit
        size /= 1024
    return size, "TiB"


@contextlib.contextmanager
def report_if_slow(text: str) -> Iterator[None]:
    """Report what the body does if that takes more than half a second."""
    timer = threading.Timer(_SLOW_SECONDS, report, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
