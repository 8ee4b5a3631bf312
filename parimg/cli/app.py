"""The command line's root, to which the commands of the other modules are added."""

from __future__ import annotations

from typing import Annotated

import typer

from parimg import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run image kernels over very many images on an IPython Parallel cluster.",
)
profiles_app = typer.Typer(no_args_is_help=True, help="Cluster profiles for `ipcluster start --profile=NAME`.")
app.add_typer(profiles_app, name="profiles")


def _version(value: bool) -> None:
    if value:
        print(f"parimg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    del version
