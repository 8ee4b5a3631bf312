"""The command line's root, to which the commands of the other modules are added."""

from __future__ import annotations

from typing import Annotated

import typer

from parimg import __version__

# Blank lines part the lines of an epilog.
_EPILOG = (
    "Exit codes: 0, all went well; 1, the job or the cluster failed; 2, something was typed wrong; 3, the job is "
    "done, but some images failed; 130, Ctrl-C.\n\n"
    "First steps: parimg demo, then parimg match REFERENCE IMAGES -o matches.csv\n\n"
    "Completion in the shell: parimg --install-completion"
)

JOBS_PANEL, CLUSTERS_PANEL = "Jobs", "Clusters"  # of the help, below the commands that run tasks

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run image kernels over very many images on an IPython Parallel cluster.",
    epilog=_EPILOG,
)
profiles_app = typer.Typer(no_args_is_help=True, help="Cluster profiles for `ipcluster start --profile=NAME`.")
app.add_typer(profiles_app, name="profiles", rich_help_panel=CLUSTERS_PANEL)


def _version(value: bool) -> None:
    if value:
        print(f"parimg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error comes from.")] = False,
) -> None:
    del version, debug  # `main` takes --debug away, wherever it stands
