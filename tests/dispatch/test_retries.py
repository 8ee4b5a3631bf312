"""What becomes of the images that were on an engine when it died."""

from __future__ import annotations

from concurrent.futures import Future

from parimg.dispatch.in_flight import Pending, Sent
from parimg.dispatch.retries import decide_refusal, decide_retries
from parimg.errors import EngineRefused
from parimg.options import Options
from parimg.protocol.crash_report import IDLE, PREPARING, CrashReport
from parimg.sources.as_source import Image


def sent(number: int, *names: str) -> Sent:
    images = [Pending(Image(name, ""), place) for place, name in enumerate(names)]
    return Sent(number, images, engine=0, sent_at=0.0, answer=Future())


def names(chunks: list[list[Pending]]) -> list[list[str]]:
    return [[pending.image.key for pending in chunk] for chunk in chunks]


def attempts(*chunks: Sent) -> dict[str, int]:
    return {pending.image.key: pending.attempts for chunk in chunks for pending in chunk.images}


def test_only_the_image_that_the_engine_was_at_is_blamed() -> None:
    first, second = sent(1, "a", "b"), sent(2, "c", "d", "e")
    decision = decide_retries([first, second], CrashReport(2, 1, 0, ""), "killed", Options())
    assert names(decision.again) == [["a", "b"], ["c", "e"], ["d"]]
    assert decision.failed == []
    assert attempts(first, second) == {"a": 0, "b": 0, "c": 0, "d": 1, "e": 0}


def test_without_a_record_each_image_of_the_first_chunk_is_blamed_and_runs_alone() -> None:
    first, second = sent(1, "a", "b"), sent(2, "c", "d")
    decision = decide_retries([first, second], None, "killed", Options())
    assert names(decision.again) == [["a"], ["b"], ["c", "d"]]
    assert attempts(first, second) == {"a": 1, "b": 1, "c": 0, "d": 0}


def test_an_engine_that_died_between_two_chunks_blames_nobody() -> None:
    for report in (CrashReport(1, IDLE, 0, ""), CrashReport(7, 0, 0, "")):
        chunk = sent(1, "a", "b")
        assert names(decide_retries([chunk], report, "killed", Options()).again) == [["a", "b"]]
        assert attempts(chunk) == {"a": 0, "b": 0}


def test_an_engine_that_died_of_the_task_itself_blames_all() -> None:
    chunk = sent(1, "a", "b")
    assert names(decide_retries([chunk], CrashReport(1, PREPARING, 0, ""), "killed", Options()).again) == [
        ["a"],
        ["b"],
    ]


def test_an_image_that_killed_too_many_engines_fails_with_what_is_known() -> None:
    chunk = sent(1, "a", "b")
    chunk.images[0].attempts = 2
    report = CrashReport(1, 0, 300 * 2**20, "Fatal Python error: Segmentation fault")
    decision = decide_retries([chunk], report, "engine 3, killed by SIGSEGV", Options(retries=2))
    assert names(decision.again) == [["b"]]
    [(pending, error, message, trace)] = decision.failed
    assert (pending.image.key, pending.attempts, error) == ("a", 3, "EngineDied")
    assert message == (
        "its engine died at each of 3 attempts: engine 3, killed by SIGSEGV; "
        "before this image its memory had reached 300 MiB"
    )
    assert trace == "Fatal Python error: Segmentation fault"


def test_an_image_beyond_its_time_fails_at_once() -> None:
    chunk = sent(1, "a", "b")
    report = CrashReport(1, 1, 0, "Timeout (0:00:05)!\n")
    decision = decide_retries([chunk], report, "", Options(timeout=5, retries=2))
    assert names(decision.again) == [["a"]]
    [(pending, error, message, trace)] = decision.failed
    assert (pending.image.key, error, trace) == ("b", "TimeoutError", "Timeout (0:00:05)!\n")
    assert message == "it ran longer than timeout=5 s, and its engine was ended"


def test_images_do_not_wait_for_ever_on_engines_that_die_at_once() -> None:
    chunk = sent(1, "a")
    rounds = 0
    while decide_retries([chunk], CrashReport(9, IDLE, 0, ""), "killed", Options(retries=0)).again:
        rounds += 1
    assert rounds == 10
    assert attempts(chunk) == {"a": 0}


def test_a_refused_chunk_runs_image_by_image_and_a_refused_image_fails() -> None:
    chunk = sent(1, "a", "b")
    decision = decide_refusal(chunk.images, EngineRefused("PicklingError", "cannot be sent"))
    assert names(decision.again) == [["a"], ["b"]]
    assert attempts(chunk) == {"a": 0, "b": 0}
    [(pending, error, message, trace)] = decide_refusal(
        chunk.images[:1], EngineRefused("PicklingError", "cannot be sent")
    ).failed
    assert (pending.image.key, pending.attempts, error, message, trace) == (
        "a",
        1,
        "PicklingError",
        "cannot be sent",
        None,
    )
