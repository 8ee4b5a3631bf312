"""The engines of a real client, as the dispatcher sees them: plain futures, two errors, nothing of ipyparallel."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

import parimg
from parimg.cluster.engine_pool import ClientEngines
from parimg.engine.setup import disks
from parimg.errors import EngineGone, EngineRefused
from parimg.protocol.disk_sharing import NONE_SEEN, DiskQuestion

WAIT = 60.0  # s


@pytest.fixture
def own() -> Iterator[parimg.Controller]:
    with parimg.start(n=2) as started:
        yield started


def ready_pool(controller: parimg.Controller, n: int = 2) -> ClientEngines:
    pool = ClientEngines(controller.client)
    wait_until(lambda: len(pool.ready()) >= n)
    return pool


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_chunk_that_an_engine_cannot_take_is_refused_by_name_and_message(controller: parimg.Controller) -> None:
    pool = ready_pool(controller)
    answer = pool.run(b"no pickle", pool.ids()[0])
    with pytest.raises(EngineRefused, match=r"UnpicklingError: ") as caught:
        answer.result(WAIT)
    assert caught.value.name == "UnpicklingError"
    assert caught.value.message
    assert pool.image_at(answer) is None


def test_an_engine_answers_a_question_behind_its_chunks(controller: parimg.Controller) -> None:
    pool = ready_pool(controller)
    engine = pool.ids()[-1]
    before = pool.run(b"no pickle", engine)
    assert pool.probe(engine).result(WAIT) == 0
    assert before.done()


def test_an_engine_that_is_not_there_is_gone(controller: parimg.Controller) -> None:
    pool = ready_pool(controller)
    for ask in (lambda: pool.run(b"", 999), lambda: pool.probe(999), lambda: pool.send_shared("digest", b"", 999)):
        with pytest.raises(EngineGone, match="engine 999 left"):
            ask()
    pool.kill(999)
    assert pool.fetch_crash_report("recorder", 999) is None


def test_engines_of_an_own_cluster_are_known_to_see_the_disks_of_this_process(
    controller: parimg.Controller,
) -> None:
    pool = ready_pool(controller)
    engine = pool.ids()[0]
    assert pool.disks(engine) == (socket.gethostname(), disks())
    assert pool.disks(999) is None
    question = DiskQuestion("token", "/not/here", "", 0, "")
    assert pool.look_at_disks(question, engine).result(WAIT) == NONE_SEEN


def test_without_a_client_all_engines_are_gone(controller: parimg.Controller) -> None:
    pool = ready_pool(controller)
    engine = pool.ids()[0]
    pool.use(None)
    assert pool.ids() == pool.ready() == []
    with pytest.raises(EngineGone, match="lost with its controller"):
        pool.run(b"", engine)


def test_the_chunks_of_an_engine_that_dies_raise_that_it_is_gone(own: parimg.Controller) -> None:
    pool = ready_pool(own)
    engine = pool.ids()[0]
    process = pool.process(engine)
    assert process is not None
    os.kill(process[1], signal.SIGSTOP)
    answers = [pool.run(b"no pickle", engine), pool.probe(engine)]
    os.kill(process[1], signal.SIGKILL)
    for answer in answers:
        with pytest.raises(EngineGone, match=f"Engine {engine} died"):
            answer.result(WAIT)
    wait_until(lambda: engine not in pool.ids())
    with pytest.raises(EngineGone, match="left"):
        pool.probe(engine)


def test_answers_of_two_pools_of_one_client_go_each_to_its_own(controller: parimg.Controller) -> None:
    first, second = ready_pool(controller), ready_pool(controller)
    engine = first.ids()[0]
    wanted = ClientEngines._ask
    answers = [
        wanted(pool, engine, os.path.join, name, str(number))
        for number in range(50)
        for pool, name in ((first, "first"), (second, "second"))
    ]
    assert [answer.result(WAIT) for answer in answers] == [
        f"{name}/{number}" for number in range(50) for name in ("first", "second")
    ]


def test_large_bytes_arrive_as_they_were_in_both_ways(controller: parimg.Controller) -> None:
    pool = ready_pool(controller)
    data = os.urandom(3 * 2**20)
    assert ClientEngines._ask(pool, pool.ids()[0], bytes.swapcase, data).result(WAIT) == data.swapcase()
