"""How a job is run: what is refused, and what a resumed job changes."""

from __future__ import annotations

import pytest

from parimg.errors import JobError
from parimg.options import Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout must be a number of seconds above 0, or None .got 0"),
        ({"timeout": float("inf")}, "timeout must be a number of seconds"),
        ({"timeout": "5 s"}, "timeout must be a number of seconds"),
        ({"timeout": True}, "timeout must be a number of seconds"),
        ({"max_failures": -1}, "max_failures must be a number of images"),
        ({"max_failures": 1.0}, "a share of them .a float between 0 and 1., or None .got 1.0"),
        ({"ship": "sometimes"}, "ship must be 'auto', 'never' or 'always' .got 'sometimes'."),
        ({"max_failures": True}, "max_failures must be a number of images"),
        ({"retries": -1}, "retries must be an integer of at least 0 .got -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(JobError, match=message):
        Options(**options)


def test_a_resumed_job_keeps_its_options_but_those_that_are_changed() -> None:
    assert Options.changed({"retries": 5, "timeout": 2.0}, {"timeout": None}) == Options(retries=5)


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(JobError, match=r"there is no option 'time_out'; there are chunk_size, .*timeout"):
        Options.changed({}, {"time_out": 3})
