"""Planned departure: an engine that is sent SIGTERM, as before its Slurm job ends, finishes its image and leaves.

By itself ipyparallel's engine finishes its whole chunk, and where its nanny got the signal, too, the Hub learns
only after 30 s of missing heartbeats that it is gone. Here the engine answers with the records that it has, the
rest of its chunk goes to others, and it unregisters before it stops. `parimg.engine.runner` asks after each image.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

_ANSWER_SECONDS = 0.1  # for the last answer to get out


class _State:
    """What this engine knows of its end; written by the main thread only, which signals interrupt."""

    is_leaving: bool = False
    is_working: bool = False


_state = _State()


def is_leaving() -> bool:
    """Whether this engine shall take up no other image."""
    return _state.is_leaving


@cache
def leave_on_sigterm() -> None:
    """Have SIGTERM end this engine in order, if this process is one."""
    app = _engine()
    if app is None or threading.current_thread() is not threading.main_thread():  # where Python sets no handlers
        return

    def leave(*_: object) -> None:
        _state.is_leaving = True
        if not _state.is_working:
            app.loop.add_callback_from_signal(_leave, app)

    signal.signal(signal.SIGTERM, leave)


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Surround a chunk, which a signal does not break off.

    Raises
    ------
    ipyparallel.error.EngineError
        If this engine is leaving; to the client it says that nothing was taken up.
    """
    if _state.is_leaving:
        from ipyparallel.error import EngineError

        raise EngineError("the engine is leaving")
    _state.is_working = True
    try:
        yield
    finally:
        _state.is_working = False
        if _state.is_leaving and (app := _engine()) is not None:
            app.loop.call_later(_ANSWER_SECONDS, _leave, app)


def _engine() -> Any:
    """The application of this process, None if it is no engine."""
    module = sys.modules.get("ipyparallel.engine.app")
    return module.IPEngine.instance() if module is not None and module.IPEngine.initialized() else None


def _leave(app: Any) -> None:
    app.session.send(app.registrar, "unregistration_request", content={"id": app.id})
    app._signal_stop(signal.SIGTERM, None)  # noqa: SLF001 - what it does at this signal by itself
