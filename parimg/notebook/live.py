"""A display of a notebook that is drawn anew until what it shows has ended.

Objects call `show_live` from ``_ipython_display_``, which IPython calls where an object is the result of a cell.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from parimg.console import is_silent

_REFRESH_SECONDS = 0.5


def show_live(draw: Callable[[], str], tell: Callable[[], str], runs: Callable[[], bool]) -> threading.Thread:
    """Show an object in a notebook, and draw it anew twice a second until it has ended, and once then.

    Parameters
    ----------
    draw, tell : callable
        Give its HTML and its text.
    runs : callable
        Whether it goes on.

    Returns
    -------
    Thread
        It ends with the last drawing.

    Raises
    ------
    NotImplementedError
        If nobody would see it change: it has ended, there is no notebook, or ``IPP_NONINTERACTIVE`` is set.
        IPython then shows the object as any other.
    """
    if not runs() or not can_update():
        raise NotImplementedError
    from IPython.display import display

    def drawn() -> dict[str, str]:
        return {"text/html": draw(), "text/plain": tell()}

    handle = display(drawn(), raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def follow() -> None:
        goes_on = True
        while goes_on:
            ended.wait(_REFRESH_SECONDS)
            goes_on = runs()
            with contextlib.suppress(Exception):  # the job's directory was removed, the kernel ends
                handle.update(drawn(), raw=True)

    ended = threading.Event()
    thread = threading.Thread(target=follow, name="parimg-display", daemon=True)
    thread.start()
    return thread


def can_update() -> bool:
    """Whether this runs in a notebook, whose displays can be drawn anew, and may."""
    if is_silent():
        return False
    from IPython.core.getipython import get_ipython

    return hasattr(get_ipython(), "kernel")
