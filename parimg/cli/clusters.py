"""``parimg doctor`` and ``parimg profiles``."""

from __future__ import annotations

from typing import Annotated

import typer

from parimg import __version__
from parimg.cli.app import CLUSTERS_PANEL, app, profiles_app
from parimg.cli.options import EXIT_FAILED, ClusterId, Engines, Profile
from parimg.cli.running import open_controller
from parimg.console import print_table, say


@app.command(epilog="Example: parimg doctor --profile slurm", rich_help_panel=CLUSTERS_PANEL)
def doctor(engines: Engines = None, profile: Profile = None, cluster_id: ClusterId = "") -> None:
    """Check a cluster: engines, versions, threads, memory, and where the time of a round trip goes."""
    import platform
    import time

    import ipyparallel

    begin = time.perf_counter()
    with open_controller(engines, profile, cluster_id) as controller:
        ready = time.perf_counter() - begin
        found = controller.inspect()
        rows = []
        for engine_id, about in found.items():
            threads = ", ".join(f"{name} {count}" for name, count in about["threads"].items())
            rows.append((
                str(engine_id), about["host"], str(about["pid"]), about["python"], about["parimg"], threads,
                f"{about['memory_available'] / 2**30:.1f} GiB", f"{about['memory_used'] / 2**20:.0f} MiB",
                f"{about['round_trip'] * 1e3:.1f} ms",
            ))  # fmt: skip
        say(
            f"parimg {__version__}, Python {platform.python_version()}, ipyparallel {ipyparallel.__version__}; "
            f"cluster ready after {ready:.1f} s; {len(found)} of {len(controller)} engines answer"
        )
        print_table(
            ("engine", "host", "pid", "Python", "parimg", "threads", "memory free", "memory used", "round trip"),
            rows,
        )
        say(str(controller.security))
        if controller.security.warning:
            say(f"warning: {controller.security.warning}")
        busy = sorted(set(controller.engines) - set(found))
        if busy:
            say(f"engines {busy} do not answer: busy, or gone")
        else:
            for what, seconds in controller.time_round_trip().items():
                say(f"{what:<48}{seconds * 1e3:9.2f} ms")
        too_many = [
            engine_id for engine_id, about in found.items() if max(about["threads"].values(), default=1) > 1
        ]
        if too_many:
            say(f"engines {too_many} use more than one thread each")
        if busy or too_many:
            raise typer.Exit(EXIT_FAILED)


@profiles_app.command("list", epilog="Example: parimg profiles list")
def list_profiles() -> None:
    """List the profiles that come with parimg."""
    from parimg.cluster.profiles import available

    for name, description in available().items():
        say(f"{name:<12}{description}")


@profiles_app.command("install", epilog="Example: parimg profiles install slurm")
def install_profile(
    name: str,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that were changed.")] = False,
) -> None:
    """Copy a profile to the IPython directory."""
    from parimg.cluster.profiles import install

    say(f"installed in {install(name, overwrite=overwrite)}")
    say(f"start it by  ipcluster start --profile={name} -n 4")
    say(f'use it by    parimg.connect(profile="{name}"), or parimg match ... --profile {name}')
