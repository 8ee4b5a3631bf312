"""A server as Jupyter's proxy: ``/proxy/8790/x`` of it is ``/x`` of that port, websockets too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect


class _Proxy(WebSocketHandler):
    async def get(self, port: str, path: str) -> None:
        self._address = f"127.0.0.1:{port}/{path}" + (f"?{self.request.query}" if self.request.query else "")
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            await super().get()
            return
        request = HTTPRequest(
            f"http://{self._address}",
            headers=self.request.headers,
            follow_redirects=False,
            decompress_response=False,
        )
        answer = await AsyncHTTPClient().fetch(request, raise_error=False)
        self.set_status(answer.code)
        for name, value in answer.headers.get_all():
            if name not in {"Transfer-Encoding", "Content-Length", "Connection"}:
                self.add_header(name, value)
        self.finish(answer.body)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        self._subprotocols, self._is_open = subprotocols, asyncio.Event()
        return subprotocols[0] if subprotocols else None

    async def open(self, *_: str) -> None:
        headers = {name: self.request.headers[name] for name in ("Host", "Origin", "Cookie")}
        request = HTTPRequest(f"ws://{self._address}", headers=headers)
        self._other = await websocket_connect(request, subprotocols=self._subprotocols)
        self._is_open.set()
        self._task = asyncio.create_task(self._hand_back())

    async def _hand_back(self) -> None:
        while (message := await self._other.read_message()) is not None:
            await self.write_message(message, binary=isinstance(message, bytes))

    async def on_message(self, message: str | bytes) -> None:
        await self._is_open.wait()
        await self._other.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        if hasattr(self, "_other"):
            self._other.close()
            self._task.cancel()


class _Icon(RequestHandler):
    def get(self) -> None:
        self.set_status(204)


@contextmanager
def proxy() -> Iterator[str]:
    """Address of a proxy that runs meanwhile."""
    sockets = bind_sockets(0, "127.0.0.1")
    port = sockets[0].getsockname()[1]
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        paths = [(r"/proxy/(\d+)/(.*)", _Proxy), ("/favicon.ico", _Icon)]
        HTTPServer(Application(paths, log_function=lambda _: None)).add_sockets(sockets)

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f"http://localhost:{port}/proxy"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
