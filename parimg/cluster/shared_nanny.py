"""One nanny for many engines of a host, in place of ipyparallel's process of 26 MiB beside each.

A nanny takes signals for an engine that may be stopped or stuck in native code, passes on what else comes for it
on the control channel, and tells the Hub at once when it ends. `parimg.cluster.forked_engines` forks this process
off before it forks engines. An engine asks for its nanny through a socket of the file system, and holds that
connection for as long as it lives.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
from typing import Any

import zmq
from ipyparallel import util
from ipyparallel.engine.nanny import KernelNanny
from tornado.ioloop import IOLoop
from zmq.eventloop.zmqstream import ZMQStream

_SOCKETS = 3  # of ZeroMQ for each engine: to the controller, to the engine, and to the Hub at its end
_SPARE_SOCKETS = 64
_LENGTH_BYTES = 8  # before a request
_ANSWER_SECONDS = 60.0  # that an engine waits for its nanny, while hundreds do


def call_nanny(path: str, about: dict[str, Any]) -> tuple[str, socket.socket]:
    """Ask for a nanny, as an engine.

    Parameters
    ----------
    path : str
        Socket of the process that `look_after_engines` runs in.
    about : dict
        What `KernelNanny` is made with.

    Returns
    -------
    url : str
        Where the engine's control channel is from now on.
    connection : socket
        To be held open: its end is the engine's end.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_SECONDS)
    connection.connect(path)
    request = pickle.dumps(about)
    connection.sendall(len(request).to_bytes(_LENGTH_BYTES, "big") + request)
    url = connection.recv(1024).decode("ascii")
    if not url:
        raise RuntimeError("the nanny of the forked engines is gone")
    return url, connection


def look_after_engines(listener: socket.socket, lifeline: int, most: int) -> None:
    """Be the nanny of all engines that call.

    Parameters
    ----------
    listener : socket
        Listening, of the file system.
    lifeline : int
        File descriptor of a pipe; when nobody can write to it any more, this returns.
    most : int
        Number of engines that are expected at once.
    """
    # Engines get them, too, and are to be seen to end.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    util._disable_session_extract_dates()  # noqa: SLF001 - as every process of ipyparallel does at its start
    loop = IOLoop()
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, _SOCKETS * most + _SPARE_SOCKETS)
    listener.setblocking(False)

    def accept(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _address = listener.accept()
                _take_up(connection, loop, context)

    loop.add_handler(listener, accept, IOLoop.READ)
    loop.add_handler(lifeline, lambda *_: loop.stop(), IOLoop.READ | IOLoop.ERROR)
    loop.start()
    context.destroy(linger=1000)


def _take_up(connection: socket.socket, loop: IOLoop, context: zmq.Context[Any]) -> None:
    connection.settimeout(_ANSWER_SECONDS)
    try:
        length = int.from_bytes(connection.recv(_LENGTH_BYTES, socket.MSG_WAITALL), "big")
        request = connection.recv(length, socket.MSG_WAITALL)
        nanny = _Nanny(connection, loop, context, pickle.loads(request))
    except Exception:  # the engine has died meanwhile
        connection.close()
        return
    nanny.begin()


class _Nanny(KernelNanny):  # type: ignore[misc]
    """ipyparallel's nanny, but in one loop with others."""

    _finish_called: bool

    def __init__(
        self, connection: socket.socket, loop: IOLoop, context: zmq.Context[Any], about: dict[str, Any]
    ) -> None:
        super().__init__(pipe=connection, log_level=30, **about)
        self.loop = loop
        self.context = context

    def begin(self) -> None:
        """Stand between the controller and the engine, and answer where."""
        self.control_socket = self.context.socket(zmq.ROUTER)
        self.control_socket.identity = self.identity
        util.connect(
            self.control_socket,
            self.control_url,
            curve_serverkey=self.curve_serverkey,
            curve_secretkey=self.curve_secretkey,
            curve_publickey=self.curve_publickey,
        )
        self.control_stream = ZMQStream(self.control_socket, self.loop)
        self.control_stream.on_recv_stream(self.dispatch_control)
        self.parent_socket = self.context.socket(zmq.DEALER)
        if self.curve_secretkey:
            self.parent_socket.setsockopt(zmq.CURVE_SERVER, 1)
            self.parent_socket.setsockopt(zmq.CURVE_SECRETKEY, self.curve_secretkey)
        port = self.parent_socket.bind_to_random_port("tcp://127.0.0.1")
        self.parent_stream = ZMQStream(self.parent_socket, self.loop)
        self.parent_stream.on_recv_stream(self.dispatch_parent)
        # Its end, by whatever way the engine ends, ends the connection, too.
        self.loop.add_handler(self.pipe, lambda *_: self.finish(), IOLoop.READ | IOLoop.ERROR)
        with contextlib.suppress(OSError):
            self.pipe.sendall(f"tcp://127.0.0.1:{port}".encode("ascii"))

    def finish(self) -> None:
        """Tell the Hub that the engine has ended, and look after the others."""
        if self._finish_called:
            return
        self._finish_called = True
        self.notify_exit()
        self.loop.remove_handler(self.pipe)
        self.pipe.close()
        for stream in (self.control_stream, self.parent_stream):
            stream.close(linger=0)


def fork_nanny(listener: socket.socket, most: int) -> tuple[int, int]:
    """Fork the nanny off.

    Returns
    -------
    pid : int
    lifeline : int
        File descriptor that this process alone must hold; when it is closed, the nanny ends.
    """
    end, lifeline = os.pipe()
    pid = os.fork()
    if pid:
        os.close(end)
        return pid, lifeline
    code = 1
    try:
        os.close(lifeline)
        look_after_engines(listener, end, most)
        code = 0
    finally:
        os._exit(code)
