"""A light way of messages to engines: what a client's views do in 1 ms of processor time a message, in a fifth.

ipyparallel keeps two futures, an `AsyncResult` and a dozen fields of each message, and unpacks every sign that an
engine gives of being busy or idle. Here messages have a session of their own, by whose id what comes back is told
from all else before it is unpacked, and one plain future waits for it. All else on the client goes its usual
way. Used by `parimg.cluster.engine_pool`; ipyparallel's inner ways are in `ipyparallel_internals`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from ipyparallel.serialize import deserialize_object

from parimg.cluster.ipyparallel_internals import (
    intercept,
    new_session,
    on_registration,
    pack_call,
    send_to_engine,
    uuid_of,
)
from parimg.errors import EngineGone, EngineRefused

if TYPE_CHECKING:
    import ipyparallel as ipp
    import zmq

_GONE = {"EngineError", "TaskAborted"}  # names of errors by which an engine says that it took nothing up


class Answer(Future[Any]):
    """What an engine answers, or `EngineGone` or `EngineRefused`."""

    def __init__(self, uuid: str) -> None:
        super().__init__()
        self.uuid = uuid
        """Of the engine that was asked."""
        self.image: int | None = None
        """The image that it last said to be at."""


class EngineLine:
    """The line to the engines of one client; `to` gives each client one.

    `_waiting` has two writers, each of whom adds or takes out whole entries: who asks, and the client's thread.
    """

    def __init__(self, client: ipp.Client) -> None:
        self._client: weakref.ref[ipp.Client] = weakref.ref(client)
        self._session = new_session(client)
        self._numbering = threading.Lock()
        self._waiting: dict[str, Answer] = {}
        intercept(client, self._session.bsession, self._take_reply, self._take_output)
        on_registration(client, self._note_registration)

    @classmethod
    def to(cls, client: ipp.Client) -> EngineLine:
        """The line of a client, made when it is first asked for."""
        with _making:
            line = _lines.get(client)
            if line is None:
                line = _lines[client] = cls(client)
            return line

    def call(self, engine_id: int, function: Callable[..., object], *arguments: object) -> Answer:
        """Have an engine call a function of a module, which it finds by its name.

        Raises
        ------
        EngineGone
            If it is not there any more.
        """
        client = self._client()
        uuid = None if client is None else uuid_of(client, engine_id)
        if client is None or uuid is None:
            raise EngineGone(f"engine {engine_id} left")
        with self._numbering:  # sessions count their messages without a lock
            message = self._session.msg("apply_request", content={}, metadata={})
        answer = self._waiting[message["header"]["msg_id"]] = Answer(uuid)
        if uuid_of(client, engine_id) != uuid:  # its end was announced before there was an answer to end
            self._waiting.pop(message["header"]["msg_id"], None)
            raise EngineGone(f"engine {engine_id} left")
        send_to_engine(client, self._session, message, uuid, pack_call(function, arguments))
        return answer

    # -- called from the client's thread -----------------------------------------------------------------------

    def _take_reply(self, frames: Sequence[zmq.Frame]) -> None:
        parts = [frame.bytes for frame in frames[:5]]
        if not self._is_signed(parts):
            return
        answer = self._waiting.pop(self._session.unpack(parts[2])["msg_id"], None)
        if answer is None:  # of an engine that was given up
            return
        content = self._session.unpack(parts[4])
        if content["status"] == "ok":
            try:
                answer.set_result(deserialize_object([frame.buffer for frame in frames[5:]])[0])
            except Exception as error:  # what the engine sent cannot be read here
                answer.set_exception(EngineRefused(type(error).__name__, str(error)))
        elif content["status"] == "aborted" or content["ename"] in _GONE:
            answer.set_exception(EngineGone(content.get("evalue", "the engine was told to take nothing up")))
        else:
            answer.set_exception(EngineRefused(content["ename"], content["evalue"]))

    def _take_output(self, frames: Sequence[zmq.Frame]) -> None:
        """Take up an engine's signs of progress; what it prints, or says of being busy or idle, nobody wants."""
        if b'"data_message"' not in frames[1].bytes:
            return
        parts = [frame.bytes for frame in frames[:5]]
        answer = self._waiting.get(self._session.unpack(parts[2])["msg_id"])
        if answer is not None and self._is_signed(parts):
            data, _ = deserialize_object([frame.buffer for frame in frames[5:]])
            answer.image = data.get("image", answer.image)

    def _is_signed(self, parts: list[bytes]) -> bool:
        """Whether a message comes from who knows the cluster's key."""
        return self._session.auth is None or compare_digest(parts[0], self._session.sign(parts[1:]))

    def _note_registration(self, event: dict[str, Any]) -> None:
        """End what waits for an engine that has left."""
        if event["event"] != "unregister":
            return
        uuid = event["uuid"]
        lost = [message for message, answer in list(self._waiting.items()) if answer.uuid == uuid]
        for message in lost:
            answer = self._waiting.pop(message, None)
            if answer is not None:
                answer.set_exception(EngineGone(f"Engine {event['id']} died"))


_lines: weakref.WeakKeyDictionary[ipp.Client, EngineLine] = weakref.WeakKeyDictionary()
_making = threading.Lock()
