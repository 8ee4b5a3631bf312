"""Why numba could not compile a user's function, in its words and without its inner workings.

Used by `user_functions.py`.
"""

from __future__ import annotations

import linecache
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from numba.core.dispatcher import Dispatcher


def error_of_compiling(
    dispatcher: Dispatcher, argument_types: tuple[Any, ...], check_result: Callable[[Any], None]
) -> Exception | None:
    """The error of compiling the function alone, without the loop's own frames around it."""
    try:
        given = dispatcher.get_call_template(argument_types, {})[2]  # with defaults behind them
        compiled: Any = dispatcher.overloads[tuple(given)]
        check_result(compiled.signature.return_type)
    except Exception as error:
        return error
    return None


def reason_of(error: Exception) -> str:
    """What numba says, in one line, without its hints and the inner workings of its overloads."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", getattr(error, "msg", "") or str(error))
    text = re.sub(r"^Failed in \w+ mode pipeline \(step: .*?\)\s*", "", text.strip())
    told: list[str] = []
    for line in text.splitlines():
        if re.match(
            r"\s*(During: |File \"|This error may have been caused|There are \d+ candidate|<source|\s*$)", line
        ):
            if told:
                break
            continue
        told.append(line.strip())
    return " ".join(told) or type(error).__name__


def place_of(error: Exception) -> str:
    location = getattr(error, "loc", None)
    if location is None:
        return ""
    source = linecache.getline(location.filename, location.line).strip()
    return f" ({location.filename}, line {location.line}{f': {source}' if source else ''})"
