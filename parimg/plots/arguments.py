"""Checks of what the functions of this room are given."""

from __future__ import annotations

from parimg.errors import TaskError


def check_least(name: str, value: object, least: int) -> None:
    """Refuse what is no integer, or below `least`, by TaskError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TaskError(f"{name} must be an integer of at least {least} (got {value!r})")
