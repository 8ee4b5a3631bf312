"""The command line run in the tests' process: as fast as a call, with errors and exit codes as users get them."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass

import pytest

from parimg.cli import main


@dataclass(frozen=True)
class Ended:
    """A command that came to its end."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """Standard error without the frame and the line breaks that the width of the terminal makes."""
        return " ".join(self.err.replace("│", " ").split())


def parimg(*arguments: object) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["parimg", *map(str, arguments)])
        patch.setenv("COLUMNS", "300")
        patch.setenv("IPP_NONINTERACTIVE", "0")  # -q sets it, which must end with the command
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())
