"""How a job is run: what is refused, and what a resumed job changes."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from parimg.errors import JobError
from parimg.options import Options, Reading


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
        ({"tiles": 100}, r"multiples of 16 such as .2048, 2048. .got 100"),
        ({"tiles": (64, 0)}, "tiles must be the height and width of tiles in pixels"),
        ({"tiles": (64, 64, 64)}, "tiles must be the height and width of tiles in pixels"),
        ({"tiles": "2048"}, "tiles must be the height and width of tiles in pixels"),
        ({"tiles": 64.0}, "tiles must be the height and width of tiles in pixels"),
        ({"channel": -1}, "channel must be an integer of at least 0, or the name of a channel, or None .got -1"),
        ({"z": "4"}, "z must be an integer of at least 0, or None .got '4'"),
        ({"project": "mean"}, "project must be 'max', 'min' or None .got 'mean'"),
        ({"project": "max", "z": 1}, "z=1 takes one slice and project='max' all of them: give one"),
        ({"percentile": 99}, "percentile must be two numbers from 0 to 100"),
        ({"percentile": (99, 1)}, "percentile must be two numbers from 0 to 100, the lower first"),
        ({"percentile": (0, 101)}, "percentile must be two numbers from 0 to 100"),
        ({"orientation": "up"}, "orientation must be 'stored', 'upright' or None .got 'up'"),
        ({"metadata": (1,)}, "metadata must be names of what files tell"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(JobError, match=message):
        Options(**options)


def test_a_resumed_job_keeps_its_options_but_those_that_are_changed() -> None:
    assert Options.changed({"retries": 5, "timeout": 2.0}, {"timeout": None}) == Options(retries=5)


def test_options_are_the_same_after_they_were_stored_as_json() -> None:
    options = Options(channel="GFP", percentile=(1, 99.8), metadata=("KVP",), project="max")
    assert Options.changed(json.loads(json.dumps(asdict(options))), {}) == options
    assert options.reading == Reading("GFP", None, "max", (1, 99.8), None, ("KVP",))


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(JobError, match=r"there is no option 'time_out'; there are channel, chunk_size, .*timeout"):
        Options.changed({}, {"time_out": 3})


def test_tiles_are_height_and_width_also_after_a_journal() -> None:
    assert Options(tiles=64).tile == (64, 64)
    stored = json.loads(json.dumps(asdict(Options(tiles=(64, 32)))))
    assert Options.changed(stored, {}).tile == (64, 32)
    assert Options().tile is None
