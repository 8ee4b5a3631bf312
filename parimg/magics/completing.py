"""What Tab completes behind ``%parimg``: commands, options, profiles, jobs, variables, paths."""

from __future__ import annotations

import argparse
import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from parimg.job.directory import jobs_folder
from parimg.magics.arguments import make_parser


def completions(before: str, symbol: str, namespace: Mapping[str, Any]) -> list[str]:
    """What may stand at the cursor.

    Parameters
    ----------
    before : str
        The line as far as the cursor.
    symbol : str
        Its end that IPython replaces, which is less than a word where there is a ``/`` or ``-`` in it.
    namespace : mapping
        The user's variables.

    Returns
    -------
    list of str
        They begin with the symbol.
    """
    words = before.split()[1:]
    word = "" if before[-1:].isspace() or not words else words.pop()
    kept = len(word) - len(symbol)
    found = _candidates(words, word, namespace)
    return [one[kept:] for one in found if one.startswith(word)] if kept >= 0 else []


def _candidates(words: list[str], word: str, namespace: Mapping[str, Any]) -> Iterator[str]:
    _, commands = make_parser()
    if not words:
        yield from commands
        return
    parser = commands.get(words[0])
    if parser is None:
        return
    options = {name: action for action in parser._actions for name in action.option_strings}  # noqa: SLF001
    action = options.get(words[-1])
    if action is not None and action.nargs != 0:
        yield from _values(action, word)
    elif word.startswith("-"):
        yield from options
    elif words[0] in {"status", "resume", "stop"}:
        yield from _variables(namespace, "Job")
        yield from ([] if words[0] == "stop" else _jobs())
    elif words[0] in {"match", "map"}:
        yield from (name for name in namespace if not name.startswith("_"))
        yield from _paths(word)


def _values(action: argparse.Action, word: str) -> Iterable[str]:
    if action.choices is not None:
        return map(str, action.choices)
    if action.dest == "profile":
        return _profiles()
    return _paths(word) if action.dest == "job" else []


def _variables(namespace: Mapping[str, Any], kind: str) -> Iterator[str]:
    return (name for name, value in namespace.items() if type(value).__name__ == kind and not name.startswith("_"))


def _jobs() -> list[str]:
    folder = jobs_folder()
    return sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []


def _profiles() -> list[str]:
    from IPython.paths import get_ipython_dir

    found = glob.glob(os.path.join(glob.escape(get_ipython_dir()), "profile_*"))
    return sorted(os.path.basename(path).removeprefix("profile_") for path in found)


def _paths(word: str) -> list[str]:
    found = sorted(glob.glob(f"{glob.escape(os.path.expanduser(word))}*"))
    home = os.path.expanduser("~")
    if word.startswith("~/"):
        found = [f"~{path.removeprefix(home)}" for path in found]
    return [f"{path}/" if os.path.isdir(os.path.expanduser(path)) else path for path in found]
