"""Every private touch of ipyparallel, each with the reason why no public way does.

One test, `tests/cluster/test_ipyparallel_internals.py`, tells whether a release of ipyparallel still has what is
relied on here. Used by this room only.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import ipyparallel as ipp
from ipyparallel.serialize import serialize_object

if TYPE_CHECKING:
    import zmq
    from jupyter_client.session import Session

_T = TypeVar("_T")
_LAST_SECONDS = 1.0  # in which a dying process ends, after its loss was reported


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine of ipyparallel to its end, and let Ctrl-C cancel it and wait for what it began.

    ipyparallel's own ``_sync`` methods leave their tasks behind ("Task was destroyed but it is pending!").
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="parimg-cluster", daemon=True)
    thread.start()
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep ipyparallel from drawing its bar of registering engines; `Cluster` passes no such option on."""
    before = ipp._NONINTERACTIVE  # noqa: SLF001
    ipp._NONINTERACTIVE = True  # noqa: SLF001
    try:
        yield
    finally:
        ipp._NONINTERACTIVE = before  # noqa: SLF001


def is_closed(client: ipp.Client) -> bool:
    """Whether a client was closed, by us or with its controller; there is no public way to ask."""
    return bool(client._closed)  # noqa: SLF001


def on_registration(client: ipp.Client, callback: Callable[[dict[str, Any]], None]) -> None:
    """Have the client's thread call back when an engine comes or goes; there is no public way to listen."""
    client._registration_callbacks.append(callback)  # noqa: SLF001


def ask_hub(client: ipp.Client) -> Future[object]:
    """Ask the Hub for a sign of life; the client's public questions wait for ever.

    Raises
    ------
    OSError
        If the client was closed, as ipyparallel does when a controller is shut down in order.
    """
    # Of no engine: the Hub answers with an error, and writes no log.
    question: Future[object] = client._send(  # noqa: SLF001
        client._query_stream,  # noqa: SLF001
        "queue_request",
        content={"targets": []},
    )
    return question


def kill_unregistered(client: ipp.Client, uuid: str) -> None:
    """Send SIGKILL to an engine that is registered no more, when it can be reached again, and wait for no answer.

    `Client.send_signal` takes engines that are registered, and waits.
    """
    session, control, identity = client.session, client._control_stream, uuid.encode()  # noqa: SLF001
    client._io_loop.add_callback(  # noqa: SLF001
        lambda: session.send(control, "signal_request", {"sig": "SIGKILL"}, ident=identity)
    )


def uuid_of(client: ipp.Client, engine_id: int) -> str | None:
    """Name of a registered engine as messages have it; there is no public way to ask."""
    uuid: str | None = client._engines.get(engine_id)  # noqa: SLF001
    return uuid


def new_session(client: ipp.Client) -> Session:
    """A session of the same cluster, with an id of its own."""
    session: Session = client.session.clone()
    session.session = uuid.uuid4().hex
    return session


def pack_call(function: Callable[..., object], arguments: Sequence[object]) -> list[bytes | memoryview[bytes]]:
    """A call as engines take it, with the function by its name.

    `ipyparallel.serialize.pack_apply_message` takes functions apart into their code, each time anew.
    """
    buffers = [buffer for argument in arguments for buffer in serialize_object(argument)]
    about = {"nargs": len(arguments), "narg_bufs": len(buffers), "kw_keys": []}
    return [pickle.dumps(function), pickle.dumps(about), *buffers]


def send_to_engine(
    client: ipp.Client,
    session: Session,
    message: dict[str, Any],
    uuid: str,
    buffers: list[bytes | memoryview[bytes]],
) -> None:
    """Send a message to one engine; views do so only with futures and an `AsyncResult`."""
    # Not by the socket itself, which would keep from its stream that an answer has come meanwhile.
    stream = client._mux_stream  # noqa: SLF001
    client._io_loop.add_callback(  # noqa: SLF001
        lambda: session.send(stream, message, ident=uuid.encode(), buffers=buffers)
    )


def intercept(
    client: ipp.Client,
    session_id: bytes,
    on_reply: Callable[[Sequence[zmq.Frame]], None],
    on_output: Callable[[Sequence[zmq.Frame]], None],
) -> None:
    """Hand what answers to a session, from its signature on, to others than the client.

    The client would unpack every part of each message before it looks whose it is.
    """

    def divert(stream: Any, take: Callable[[Sequence[zmq.Frame]], None], leave: Callable[..., None]) -> None:
        def receive(frames: list[zmq.Frame]) -> None:
            _, parts = client.session.feed_identities(frames, copy=False)
            if session_id in parts[2].bytes:  # the header of what it answers to
                take(parts)
            else:
                leave(frames)

        stream.on_recv(receive, copy=False)

    def begin() -> None:
        divert(client._mux_stream, on_reply, client._dispatch_reply)  # noqa: SLF001
        divert(client._iopub_stream, on_output, client._dispatch_iopub)  # noqa: SLF001

    client._io_loop.add_callback(begin)  # noqa: SLF001


def exit_code(launcher: Any) -> int | None:
    """Exit code of a launcher's process that is dying, None if it does not, negative if a signal killed it."""
    # The launcher's own thread reaps it; another that waits would find nothing, and spoil what the first found.
    launcher._wait_thread.join(_LAST_SECONDS)  # noqa: SLF001
    if launcher._wait_thread.is_alive():  # noqa: SLF001
        return None
    code: int | None = launcher.process.wait(0)
    return code
