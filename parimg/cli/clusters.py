"""``parimg doctor``, ``parimg cluster`` and ``parimg profiles``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parimg import __version__
from parimg.cli.app import CLUSTERS_PANEL, app, profiles_app
from parimg.cli.options import EXIT_FAILED, ClusterId, EngineNumber, Engines, Profile
from parimg.cli.running import check_engines, open_controller
from parimg.console import print_table, say

if TYPE_CHECKING:
    from parimg.controller.controller import Controller

cluster_app = typer.Typer(no_args_is_help=True, help="Clusters that outlive the program, as ipcluster's.")
app.add_typer(cluster_app, name="cluster", rich_help_panel=CLUSTERS_PANEL)
ProfileName = Annotated[str, typer.Option("--profile", help="IPython profile that says where engines run.")]


def _check_disk(folder: Path) -> None:
    from parimg.files.file_systems import file_system_of, scratch_folder, try_disk

    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a folder")
    disk = file_system_of(str(folder))
    if disk.is_shared:
        say(f"{folder}: {disk.kind}, which hosts may share")
        say(f"journals are written in {scratch_folder()}, and sent there piece by piece")
    else:
        say(f"{folder}: {disk.kind}, a disk of this host")
        say("journals are written there")
    found = try_disk(str(folder))
    for what, answer in found.items():
        say(f"{what:<40}{answer}")
    # Without locks the owner file alone keeps writers apart; the rest is needed.
    if any(answer != "ok" for what, answer in found.items() if "lock" not in what):
        raise typer.Exit(EXIT_FAILED)


def _check_disk_elsewhere(folder: Path, controller: Controller) -> None:
    from parimg.cluster.lock_trial import try_lock_elsewhere

    found = try_lock_elsewhere(controller.client, str(folder.resolve()))
    if not found:
        say("all engines run on this host, so no lock was tried on another")
    for host, trial in found.items():
        say(f"{f'seen by {host}':<40}{'ok' if trial.sees else 'no: images are sent to it, and outputs come back'}")
        if trial.sees:
            say(f"{f'a lock of this host, tried by {host}':<40}{trial.lock}")
    if any(trial.sees and trial.lock != "ok" for trial in found.values()):
        say("without it, a second writer is kept out by the owner file alone, after a minute of watching it")


@app.command(
    epilog="Example: parimg doctor --profile slurm; or parimg doctor /scratch/jobs --profile slurm",
    rich_help_panel=CLUSTERS_PANEL,
)
def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            help="Check the disk of this folder, not a cluster; with --profile, also what other hosts see of it.",
        ),
    ] = None,
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
) -> None:
    """Check a cluster: engines, versions, threads, memory, round trips; or, of a folder, what its disk can do."""
    if folder is not None:
        check_engines(engines, profile, cluster_id)
        _check_disk(folder)
        if engines is not None or profile is not None or cluster_id:
            with open_controller(engines, profile, cluster_id) as controller:
                _check_disk_elsewhere(folder, controller)
        return
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


@cluster_app.command("start", epilog="Example: parimg cluster start --profile slurm -n 64")
def start_cluster(
    engines: Annotated[
        EngineNumber,
        typer.Option("-n", "--engines", parser=EngineNumber.parse, metavar="N", help="How many engines."),
    ],
    profile: ProfileName = "default",
    cluster_id: ClusterId = "",
) -> None:
    """Start a controller here, and engines as the profile says."""
    from parimg.cluster.daemonized import describe_daemonized, start_daemonized

    if engines.most is not None:
        raise typer.BadParameter(
            f"-n {engines} wants a program that looks after the engines: give it to the command that runs the job"
        )
    start_daemonized(profile, engines.least, cluster_id)
    say(describe_daemonized(profile, cluster_id))


@cluster_app.command("status", epilog="Example: parimg cluster status --profile slurm")
def show_cluster(profile: ProfileName = "default", cluster_id: ClusterId = "") -> None:
    """Show its engines, and its jobs in a queue."""
    from parimg.cluster.daemonized import describe_daemonized

    say(describe_daemonized(profile, cluster_id))


@cluster_app.command("stop", epilog="Example: parimg cluster stop --profile slurm")
def stop_cluster(profile: ProfileName = "default", cluster_id: ClusterId = "") -> None:
    """Stop it, and take its engines out of the queue."""
    from parimg.cluster.daemonized import stop_daemonized

    stop_daemonized(profile, cluster_id)
    say("the cluster is stopped")


@profiles_app.command("list", epilog="Example: parimg profiles list")
def list_profiles() -> None:
    """List the profiles that come with parimg."""
    from parimg.cluster.profiles import available

    for name, description in available().items():
        say(f"{name:<12}{description}")


@profiles_app.command(
    "install", epilog="Example: parimg profiles install slurm --set partition=main --set time=4:00:00"
)
def install_profile(
    name: str,
    as_name: Annotated[str | None, typer.Option("--as", help="Name of the copy.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting: time=4:00:00, hosts=a:4,b:8; may be repeated.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that were changed.")] = False,
) -> None:
    """Copy a profile to the IPython directory."""
    from parimg.cluster.profiles import install

    values = {}
    for setting in settings or []:
        key, equals, values[key] = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set is KEY=VALUE (got {setting!r})")
    say(f"installed in {install(name, as_name=as_name, settings=values, overwrite=overwrite)}")
    copied = as_name or name
    say(f"check it by  parimg profiles check {copied}")
    say(f"start it by  ipcluster start --profile={copied} -n 4")
    say(f'use it by    parimg.connect(profile="{copied}"), or parimg match ... --profile {copied}')


@profiles_app.command("check", epilog="Example: parimg profiles check slurm")
def check_profile(
    name: str, timeout: Annotated[float, typer.Option(help="Seconds to wait for its engine.")] = 600
) -> None:
    """Start a cluster of one engine by a profile, run one image on it, and end it."""
    import time

    import numpy as np

    from parimg.controller.starting import start

    begin = time.perf_counter()
    with start(1, profile=name, timeout=timeout) as controller:
        say(f"an engine is there after {time.perf_counter() - begin:.1f} s")
        for about in controller.inspect().values():
            versions = f"Python {about['python']}, parimg {about['parimg']}"
            say(f"it is process {about['pid']} on {about['host']}: {versions}")
        say(str(controller.security))
        if controller.security.warning:
            say(f"warning: {controller.security.warning}")
        begin = time.perf_counter()
        record = controller.map(np.mean, {"check": np.full((480, 640), 7, np.uint8)}).get(timeout)[0]
        if record.status != "ok" or record["value"] != 7.0:
            say(f"an image failed: {record.error}: {record.message}")
            raise typer.Exit(EXIT_FAILED)
        say(f"an image came back right after {time.perf_counter() - begin:.1f} s")
    say("the cluster is stopped")
