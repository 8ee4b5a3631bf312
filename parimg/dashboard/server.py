"""The page's server: on loopback, in a thread of its own, behind a token."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import threading
import webbrowser
from collections.abc import Collection
from html import escape
from typing import TYPE_CHECKING, Any

from parimg.dashboard.jobs import JobSet
from parimg.errors import JobError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PORT = 8790
_PORTS = 20  # tried from there on
_START_SECONDS = 60.0


class Dashboard:
    """A page of jobs, which is served until it is closed; made by ``ctl.dashboard()``.

    Parameters
    ----------
    jobs : JobSet
    port : int, optional
        On loopback; by default 8790, or the next that is free.
    origins : collection of str
        Hosts, as ``hub.example.org``, whose proxies hand the page on under another name than they tell.

    Attributes
    ----------
    port : int
    url : str
        Address with the token. Whoever has it sees the jobs, and may stop them where there is a button.

    Raises
    ------
    JobError
        If bokeh is not installed, or the port is taken.
    """

    def __init__(self, jobs: JobSet, port: int | None = None, origins: Collection[str] = ()) -> None:
        try:
            import bokeh.server.server  # noqa: F401
        except ImportError as error:
            raise JobError(f"the live page needs bokeh: pip install 'parimg[dashboard]' ({error})") from error
        self._jobs, self._origins = jobs, origins
        self._token = secrets.token_urlsafe(24)
        self._socket = _listen(port)
        self.port = int(self._socket.getsockname()[1])
        self._is_up = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="parimg-dashboard", daemon=True)
        self._thread.start()
        self._is_up.wait(_START_SECONDS)
        if self._error is not None:
            raise JobError(f"the live page could not be started: {self._error}") from self._error

    @property
    def url(self) -> str:
        """Address with the token."""
        return f"http://127.0.0.1:{self.port}/?token={self._token}"

    def __repr__(self) -> str:
        return f"<Dashboard {'at ' + self.url if self._thread.is_alive() else 'closed'}>"

    def _repr_html_(self) -> str:
        if not self._thread.is_alive():
            return "live page, closed"
        return f'live page: <a href="{escape(self.url)}" target="_blank">{escape(self.url)}</a>'

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open_browser(self) -> None:
        """Open the page in the user's browser, if there is one."""
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(self.url)

    def close(self) -> None:
        """End the server and its pages; the jobs run on."""
        loop, end = self._loop, self._end
        if loop is not None and end is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(end.set)
        self._thread.join(10.0)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._socket.close()
            self._is_up.set()

    async def _serve(self) -> None:
        from bokeh.server.server import BaseServer
        from tornado.httpserver import HTTPServer
        from tornado.ioloop import IOLoop

        from parimg.dashboard.gate import GuardedApplication
        from parimg.dashboard.page import Board, Page

        board = Board(self._jobs)

        def fill(document: Any) -> None:
            Page(document, board)

        application = GuardedApplication(fill, self._token, self._origins)
        http = HTTPServer(application)
        server = BaseServer(IOLoop.current(), application, http)
        http.add_socket(self._socket)
        server.start()
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._is_up.set()
        try:
            await self._end.wait()
        finally:
            http.stop()
            server.stop()
            await http.close_all_connections()
            board.close()


def _listen(port: int | None) -> socket.socket:
    """A socket on loopback; of ports that nobody chose, the first that is free."""
    tried = [port] if port is not None else [*range(PORT, PORT + _PORTS), 0]
    reason: OSError | None = None
    for one in tried:
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", one))
            found.listen(64)
        except (OSError, OverflowError) as error:
            found.close()
            if isinstance(error, OverflowError):
                raise JobError(f"port must be a number from 0 to 65535 (got {one})") from error
            reason = error
        else:
            found.setblocking(False)
            return found
    raise JobError(
        f"port {port} of this machine cannot be had: {reason}; name another, or 0 for any that is free"
    ) from reason
