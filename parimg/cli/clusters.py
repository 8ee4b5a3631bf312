"""``parimg doctor``, ``parimg cluster`` and ``parimg profiles``."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parimg import __version__
from parimg.cli.app import CLUSTERS_PANEL, app, profiles_app
from parimg.cli.completing import installed_profiles, shipped_profiles
from parimg.cli.exporting import to_json
from parimg.cli.options import EXIT_FAILED, EXIT_USAGE, ClusterId, EngineNumber, Engines, Json, Profile
from parimg.cli.running import check_engines, open_controller
from parimg.console import print_table, say
from parimg.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from parimg.cluster.lock_trial import LockTrial
    from parimg.controller.controller import Controller

cluster_app = typer.Typer(no_args_is_help=True, help="Clusters that outlive the program, as ipcluster's.")
app.add_typer(cluster_app, name="cluster", rich_help_panel=CLUSTERS_PANEL)
ProfileName = Annotated[
    str,
    typer.Option(
        "--profile", help="IPython profile that says where engines run.", autocompletion=installed_profiles
    ),
]


def _examine_disk(
    folder: Path, engines: EngineNumber | None, profile: str | None, cluster_id: str, *, as_json: bool
) -> None:
    """Check the disk of a folder here, and with a cluster on the hosts of its engines, too."""
    from parimg.cluster.lock_trial import try_lock_elsewhere

    check_engines(engines, profile, cluster_id)
    if engines is None and profile is None and not cluster_id:
        _check_disk(folder, {}, as_json=as_json)
        return
    with open_controller(engines, profile, cluster_id) as controller:
        elsewhere = try_lock_elsewhere(controller.client, str(folder.resolve()))
        if not elsewhere and not as_json:
            say("all engines run on this host, so no lock was tried on another")
        _check_disk(folder, elsewhere, as_json=as_json)


def _check_disk(folder: Path, elsewhere: Mapping[str, LockTrial], *, as_json: bool) -> None:
    """What the disk of a folder can do here, and what other hosts see of it."""
    from parimg.files.file_systems import file_system_of, scratch_folder, try_disk

    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a folder")
    disk = file_system_of(str(folder))
    found = try_disk(str(folder))
    # Without locks the owner file alone keeps writers apart; the rest is needed.
    is_fit = all(answer == "ok" for what, answer in found.items() if "lock" not in what)
    if as_json:
        about = {"folder": str(folder), "kind": disk.kind, "is_shared": disk.is_shared}
        hosts = {host: asdict(trial) for host, trial in elsewhere.items()}
        say(to_json({**about, "checks": found, "elsewhere": hosts, "ok": is_fit}))
    else:
        if disk.is_shared:
            say(f"{folder}: {disk.kind}, which hosts may share")
            say(f"journals are written in {scratch_folder()}, and sent there piece by piece")
        else:
            say(f"{folder}: {disk.kind}, a disk of this host")
            say("journals are written there")
        for what, answer in found.items():
            say(f"{what:<40}{answer}")
        _print_elsewhere(elsewhere)
    if not is_fit:
        raise typer.Exit(EXIT_FAILED)


def _print_elsewhere(elsewhere: Mapping[str, LockTrial]) -> None:
    for host, trial in elsewhere.items():
        say(f"{f'seen by {host}':<40}{'ok' if trial.sees else 'no: images are sent to it, and outputs come back'}")
        if trial.sees:
            say(f"{f'a lock of this host, tried by {host}':<40}{trial.lock}")
    if any(trial.sees and trial.lock != "ok" for trial in elsewhere.values()):
        say("without it, a second writer is kept out by the owner file alone, after a minute of watching it")


@app.command(
    "engines",
    epilog="Example: parimg engines --fork 8 --profile slurm --cluster-id mine",
    rich_help_panel=CLUSTERS_PANEL,
)
def fork_engines(
    fork: Annotated[int, typer.Option("--fork", min=1, help="How many engines.")],
    profile: ProfileName = "default",
    cluster_id: ClusterId = "",
    file: Annotated[
        Path | None, typer.Option(help="The controller's ipcontroller-engine.json, instead of a profile.")
    ] = None,
) -> None:
    """Add engines of this host to a running cluster, forked from one process that has all loaded; until Ctrl-C."""
    import os
    import sys

    from parimg.cluster.forked_engines import command

    arguments = command(fork, profile, cluster_id, None if file is None else os.fspath(file))
    sys.stdout.flush()
    os.execv(arguments[0], arguments)  # noqa: S606 - engines need nothing of the command line


@app.command(
    epilog="Example: parimg doctor --profile slurm; or parimg doctor /scratch/jobs --profile slurm",
    rich_help_panel=CLUSTERS_PANEL,
)
def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="Check the disk of this folder, not a cluster; with --profile, also what other hosts see of it.",
        ),
    ] = None,
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    as_json: Json = False,
) -> None:
    """Check a cluster: engines, versions, threads, memory, round trips; or, of a folder, what its disk can do."""
    if folder is not None:
        _examine_disk(folder, engines, profile, cluster_id, as_json=as_json)
        return
    begin = time.perf_counter()
    with open_controller(engines, profile, cluster_id) as controller:
        found = _examine(controller, time.perf_counter() - begin)
        if as_json:
            say(to_json(asdict(found) | {"ok": found.is_well}))
        else:
            _print_examination(found)
            say(str(controller.security))
            if controller.security.warning:
                say(f"warning: {controller.security.warning}")
        if not found.is_well:
            raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True, slots=True)
class _Examination:
    """What was found of a cluster."""

    parimg: str
    python: str
    ipyparallel: str
    ready_seconds: float
    engines: list[dict[str, Any]]
    silent: list[int]
    """Engines that do not answer."""
    round_trip: dict[str, float]
    """Where its time goes, seconds; empty if engines are silent."""
    security: dict[str, Any]

    @property
    def threaded(self) -> list[int]:
        """Engines that use more than one thread each."""
        return [one["engine"] for one in self.engines if max(one["threads"].values(), default=1) > 1]

    @property
    def is_well(self) -> bool:
        return not self.silent and not self.threaded


def _examine(controller: Controller, ready: float) -> _Examination:
    import platform

    import ipyparallel

    found = controller.inspect()
    silent = sorted(set(controller.engines) - set(found))
    return _Examination(
        parimg=__version__,
        python=platform.python_version(),
        ipyparallel=ipyparallel.__version__,
        ready_seconds=ready,
        engines=[{"engine": engine_id, **about} for engine_id, about in found.items()],
        silent=silent,
        round_trip={} if silent else controller.time_round_trip(),
        security=asdict(controller.security) | {"warning": controller.security.warning},
    )


def _print_examination(found: _Examination) -> None:
    rows = [
        (
            str(one["engine"]), one["host"], str(one["pid"]), one["python"], one["parimg"],
            ", ".join(f"{name} {count}" for name, count in one["threads"].items()),
            f"{one['memory_available'] / 2**30:.1f} GiB", f"{one['memory_used'] / 2**20:.0f} MiB",
            f"{one['round_trip'] * 1e3:.1f} ms",
        )
        for one in found.engines
    ]  # fmt: skip
    say(
        f"parimg {found.parimg}, Python {found.python}, ipyparallel {found.ipyparallel}; cluster ready after "
        f"{found.ready_seconds:.1f} s; {len(rows)} of {len(rows) + len(found.silent)} engines answer"
    )
    print_table(
        ("engine", "host", "pid", "Python", "parimg", "threads", "memory free", "memory used", "round trip"),
        rows,
    )
    if found.silent:
        say(f"engines {found.silent} do not answer: busy, or gone")
    for what, seconds in found.round_trip.items():
        say(f"{what:<48}{seconds * 1e3:9.2f} ms")
    if found.threaded:
        say(f"engines {found.threaded} use more than one thread each")


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
    from parimg.cluster.daemonized import look_at_daemonized, start_daemonized

    if engines.most is not None:
        raise typer.BadParameter(
            f"-n {engines} wants a program that looks after the engines: give it to the command that runs the job"
        )
    start_daemonized(profile, engines.least, cluster_id)
    say(str(look_at_daemonized(profile, cluster_id)))


@cluster_app.command("status", epilog="Example: parimg cluster status --profile slurm")
def show_cluster(profile: ProfileName = "default", cluster_id: ClusterId = "", as_json: Json = False) -> None:
    """Show its engines, and its jobs in a queue."""
    from parimg.cluster.daemonized import look_at_daemonized

    found = look_at_daemonized(profile, cluster_id)
    say(to_json(asdict(found)) if as_json else str(found))


@cluster_app.command("stop", epilog="Example: parimg cluster stop --profile slurm")
def stop_cluster(profile: ProfileName = "default", cluster_id: ClusterId = "") -> None:
    """Stop it, and take its engines out of the queue."""
    from parimg.cluster.daemonized import stop_daemonized

    stop_daemonized(profile, cluster_id)
    say("the cluster is stopped")


@profiles_app.command("list", epilog="Example: parimg profiles list")
def list_profiles(as_json: Json = False) -> None:
    """List the profiles that come with parimg."""
    from parimg.cluster.profiles import available

    if as_json:
        say(to_json(available()))
        return
    for name, description in available().items():
        say(f"{name:<12}{description}")


@profiles_app.command(
    "install", epilog="Example: parimg profiles install slurm --set partition=main --set time=4:00:00"
)
def install_profile(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `list` says.", autocompletion=shipped_profiles)],
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
    try:
        folder = install(name, as_name=as_name, settings=values, overwrite=overwrite)
    except ClusterError as error:
        say(f"parimg: {error}", error=True)
        raise typer.Exit(EXIT_USAGE) from None
    say(f"installed in {folder}")
    copied = as_name or name
    say(f"check it by  parimg profiles check {copied}")
    say(f"start it by  ipcluster start --profile={copied} -n 4")
    say(f'use it by    parimg.connect(profile="{copied}"), or parimg match ... --profile {copied}')


@profiles_app.command("check", epilog="Example: parimg profiles check slurm")
def check_profile(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="An installed profile.", autocompletion=installed_profiles)
    ],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for its engine.")] = 600,
) -> None:
    """Start a cluster of one engine by a profile, run one image on it, and end it."""
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
