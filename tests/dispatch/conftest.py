"""Jobs on engines that are played."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_job import Jobs

from parimg.dispatch import dispatcher as dispatcher_module
from parimg.dispatch import lost_engines


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Makes jobs; looks, questions and patience are as short as their engines' work."""
    monkeypatch.setattr(dispatcher_module, "_LOOK_SECONDS", 0.004)
    monkeypatch.setattr(lost_engines, "_PROBE_SECONDS", 0.03)
    monkeypatch.setattr(lost_engines, "_REPORT_SECONDS", 0.05)
    monkeypatch.setattr(lost_engines, "_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(lost_engines, "TELL_SECONDS", 0.01)
    made = Jobs(tmp_path)
    yield made
    made.close()
