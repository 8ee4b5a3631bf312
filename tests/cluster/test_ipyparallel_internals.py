"""What of ipyparallel's inner ways is relied on, and that this release still has it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import ipyparallel as ipp
import pytest
from ipyparallel.serialize import unpack_apply_message
from waiting import wait_until

import parimg
from parimg.cluster import ipyparallel_internals as internals


def test_this_release_of_ipyparallel_has_all_that_is_relied_on(controller: parimg.Controller) -> None:
    assert ipp._NONINTERACTIVE in {True, False}
    before = ipp._NONINTERACTIVE
    with internals.quiet():
        assert ipp._NONINTERACTIVE is True
    assert ipp._NONINTERACTIVE is before

    with ipp.Client(controller.security.connection_file) as client:
        assert not internals.is_closed(client)
        [one, *_] = client.ids
        assert internals.uuid_of(client, 999) is None
        uuid = internals.uuid_of(client, one)
        assert uuid == client._engines[one]
        session = internals.new_session(client)
        assert session.key == client.session.key
        assert session.session != client.session.session
        replies: list[str] = []
        internals.intercept(
            client,
            session.bsession,
            lambda frames: replies.append(session.unpack(frames[2].bytes)["msg_id"]),
            lambda frames: None,
        )
        message = session.msg("apply_request", content={}, metadata={})
        buffers = internals.pack_call(os.path.join, ["a", "b"])
        assert unpack_apply_message(buffers) == (os.path.join, ("a", "b"), {})
        internals.send_to_engine(client, session, message, uuid, buffers)
        wait_until(lambda: replies == [message["header"]["msg_id"]])
        assert client[one].apply_async(abs, -3).get(20) == 3  # what others send goes its usual way
        # The Hub answers, if with an error, because the question is about no engine.
        assert internals.ask_hub(client).result(20) is not None

        heard: list[dict[str, object]] = []
        internals.on_registration(client, heard.append)
        [victim, *_] = client.ids
        uuid = client._engines[victim]
        launcher = controller._cluster._launchers()[client[victim].apply_async(os.getpid).get(20)]
        assert launcher._wait_thread.is_alive()
        internals.kill_unregistered(client, uuid)  # it takes engines that are registered, too
        wait_until(lambda: any(event["event"] == "unregister" for event in heard))
        assert [event for event in heard if event["event"] == "unregister"] == [
            {"event": "unregister", "id": victim, "uuid": uuid}
        ]
    assert internals.is_closed(client)
    assert internals.exit_code(launcher) == -signal.SIGKILL
    wait_until(lambda: len(controller) == 2)


def test_a_coroutine_runs_to_its_end_and_gives_its_value_or_its_error() -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    assert internals.run(double(21)) == 42
    with pytest.raises(ValueError, match="no"):
        internals.run(fail())


def test_ctrl_c_cancels_a_coroutine_and_waits_for_what_it_began() -> None:
    ended = []

    async def helper() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("helper")

    async def wait_long() -> None:
        task = asyncio.ensure_future(helper())
        await asyncio.sleep(0)
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
        await task

    with pytest.raises(KeyboardInterrupt):
        internals.run(wait_long())
    assert ended == ["helper"]
    assert not [thread for thread in threading.enumerate() if thread.name == "parimg-cluster"]
