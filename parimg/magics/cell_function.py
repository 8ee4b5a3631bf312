"""The cell below ``%%parimg map`` as a function of ``image``."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, cast

from parimg.magics.arguments import TypedWrong

_NAME = "cell"


def cell_function(cell: str, namespace: dict[str, Any]) -> Callable[..., object]:
    r"""Make a function of a cell: its body. Where the last line is an expression, that is what it returns.

    Parameters
    ----------
    cell : str
    namespace : dict
        What the body sees besides ``image``: the user's variables, which travel with it.

    Raises
    ------
    TypedWrong
        If it is no body of a function, or returns nothing.

    Examples
    --------
    >>> cell_function("half = image / 2\nhalf + 1", {})(5)
    3.5
    """
    try:
        body = ast.parse(cell).body
        if body and isinstance(last := body[-1], ast.Expr):
            body[-1] = ast.copy_location(ast.Return(last.value), last)
        if not any(isinstance(node, ast.Return) for statement in body for node in ast.walk(statement)):
            raise TypedWrong("the cell returns nothing: end it with an expression, or `return ...`")
        module = ast.parse(f"def {_NAME}(image): pass")
        cast("ast.FunctionDef", module.body[0]).body = body
        made: dict[str, Any] = {}
        exec(compile(module, "<%%parimg map>", "exec"), namespace, made)  # noqa: S102 - it is the user's code
    except SyntaxError as error:
        raise TypedWrong(f"line {error.lineno} of the cell: {error.msg}") from None
    return cast("Callable[..., object]", made[_NAME])
