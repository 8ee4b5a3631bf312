"""What becomes of the images that were on an engine when it died."""

from __future__ import annotations

from parimg.dispatch.in_flight import Pending, Sent
from parimg.dispatch.retries import find_verdict
from parimg.engine.flight_recorder import IDLE, PREPARING, LastWords
from parimg.options import Options
from parimg.sources.as_source import Image


def sent(number: int, *names: str) -> Sent:
    return Sent(
        number, [Pending(Image(name, ""), place) for place, name in enumerate(names)], engine=0, sent_at=0.0
    )


def names(chunks: list[list[Pending]]) -> list[list[str]]:
    return [[pending.image.key for pending in chunk] for chunk in chunks]


def attempts(*chunks: Sent) -> dict[str, int]:
    return {pending.image.key: pending.attempts for chunk in chunks for pending in chunk.images}


def test_only_the_image_that_the_engine_was_at_is_blamed() -> None:
    first, second = sent(1, "a", "b"), sent(2, "c", "d", "e")
    verdict = find_verdict([first, second], LastWords(2, 1, 0, ""), "killed", Options())
    assert names(verdict.again) == [["a", "b"], ["c", "e"], ["d"]]
    assert verdict.failed == []
    assert attempts(first, second) == {"a": 0, "b": 0, "c": 0, "d": 1, "e": 0}


def test_without_a_record_each_image_of_the_first_chunk_is_blamed_and_runs_alone() -> None:
    first, second = sent(1, "a", "b"), sent(2, "c", "d")
    verdict = find_verdict([first, second], None, "killed", Options())
    assert names(verdict.again) == [["a"], ["b"], ["c", "d"]]
    assert attempts(first, second) == {"a": 1, "b": 1, "c": 0, "d": 0}


def test_an_engine_that_died_between_two_chunks_blames_nobody() -> None:
    for words in (LastWords(1, IDLE, 0, ""), LastWords(7, 0, 0, "")):
        chunk = sent(1, "a", "b")
        assert names(find_verdict([chunk], words, "killed", Options()).again) == [["a", "b"]]
        assert attempts(chunk) == {"a": 0, "b": 0}


def test_an_engine_that_died_of_the_task_itself_blames_all() -> None:
    chunk = sent(1, "a", "b")
    assert names(find_verdict([chunk], LastWords(1, PREPARING, 0, ""), "killed", Options()).again) == [
        ["a"],
        ["b"],
    ]


def test_an_image_that_killed_too_many_engines_fails_with_what_is_known() -> None:
    chunk = sent(1, "a", "b")
    chunk.images[0].attempts = 2
    words = LastWords(1, 0, 300 * 2**20, "Fatal Python error: Segmentation fault")
    verdict = find_verdict([chunk], words, "engine 3, process 12 on here, killed by SIGSEGV", Options(retries=2))
    assert names(verdict.again) == [["b"]]
    [(pending, error, message, trace)] = verdict.failed
    assert (pending.image.key, pending.attempts, error) == ("a", 3, "EngineDied")
    assert message == (
        "its engine died at each of 3 attempts: engine 3, process 12 on here, killed by SIGSEGV; "
        "before this image its memory had reached 300 MiB"
    )
    assert trace == "Fatal Python error: Segmentation fault"


def test_an_image_beyond_its_time_fails_at_once() -> None:
    chunk = sent(1, "a", "b")
    words = LastWords(1, 1, 0, "Timeout (0:00:05)!\n")
    verdict = find_verdict([chunk], words, "", Options(timeout=5, retries=2))
    assert names(verdict.again) == [["a"]]
    [(pending, error, message, trace)] = verdict.failed
    assert (pending.image.key, error, trace) == ("b", "TimeoutError", "Timeout (0:00:05)!\n")
    assert message == "it ran longer than timeout=5 s, and its engine was ended"


def test_images_do_not_wait_for_ever_on_engines_that_die_at_once() -> None:
    chunk = sent(1, "a")
    rounds = 0
    while find_verdict([chunk], LastWords(9, IDLE, 0, ""), "killed", Options(retries=0)).again:
        rounds += 1
    assert rounds == 10
    assert attempts(chunk) == {"a": 0}
