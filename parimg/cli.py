"""The command line: ``parimg --help`` lists the commands.

A thin layer: each command parses, calls the library, and prints. Exit code 0: all went well; 1: the job or the
cluster failed; 2: something was typed wrong; 3: the job is done, but some images failed; 130: Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from parimg import __version__
from parimg.errors import ParimgError

if TYPE_CHECKING:
    from parimg.controller import Controller
    from parimg.job import Job
    from parimg.record import Record

EXIT_FAILED, EXIT_USAGE, EXIT_SOME_IMAGES_FAILED, EXIT_INTERRUPTED = 1, 2, 3, 130
_SHOWN = 20  # rows of a table on the screen

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run image kernels over very many images on an IPython Parallel cluster.",
)
profiles_app = typer.Typer(no_args_is_help=True, help="Cluster profiles for `ipcluster start --profile=NAME`.")
app.add_typer(profiles_app, name="profiles")


Engines = Annotated[
    int | None,
    typer.Option("-n", "--engines", min=1, help="Engines of an own cluster; default: one per core."),
]
Profile = Annotated[str | None, typer.Option(help="Use the running cluster of this IPython profile instead.")]
ClusterId = Annotated[str, typer.Option(help="Id of the running cluster, if it was started with one.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds an image may take; longer ones fail.")]
MaxFailures = Annotated[
    str | None, typer.Option(help="Stop when more images failed: a number, 25, or a share, 0.1 or 10%.")
]
MemoryLimit = Annotated[str | None, typer.Option(help='Memory an engine may occupy, such as "4 GiB".')]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the table: .parquet or .csv.")]


def _version(value: bool) -> None:
    if value:
        print(f"parimg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    del version


@app.command()
def match(
    reference: Annotated[str, typer.Argument(help="Reference image, or its descriptors as .npy.")],
    images: Annotated[
        list[str], typer.Argument(help="Images: paths, folders, globs, URLs, .txt, .csv, .parquet.")
    ],
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    job: Annotated[Path | None, typer.Option(help="Directory for the job; default: a new one.")] = None,
    output: Output = None,
    n_features: Annotated[int, typer.Option(min=0, help="Strongest features kept in an image; 0: all.")] = 5000,
    cross_check: Annotated[
        Literal["mutual", "one-way", "none"], typer.Option(help="Rule that makes a match.")
    ] = "mutual",
    max_ratio: Annotated[float | None, typer.Option(help="Lowe's ratio test: best below this x second.")] = None,
    contrast_threshold: Annotated[float, typer.Option(help="Larger: fewer features.")] = 0.04,
    mask: Annotated[Path | None, typer.Option(help="Image whose nonzero pixels say where to look.")] = None,
    root: Annotated[bool, typer.Option("--root", help="Compare RootSIFT descriptors.")] = False,
    verify: Annotated[
        Literal["homography", "fundamental", "none"], typer.Option(help="Geometry that must explain matches.")
    ] = "none",
    verify_threshold: Annotated[float, typer.Option(help="Pixels an inlier may be off.")] = 3.0,
    max_size: Annotated[int | None, typer.Option(help="Scale larger images down to this longer side.")] = None,
    column: Annotated[str | None, typer.Option(help="Column of paths, if IMAGES is a table.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="Attempts more for an image whose engine died.")] = 2,
    max_pixels: Annotated[int, typer.Option(min=1, help="Larger images fail undecoded.")] = 2**28,
    timeout: Timeout = None,
    max_failures: MaxFailures = None,
    memory_limit: MemoryLimit = None,
) -> None:
    """Match every image's SIFT features against those of a REFERENCE."""
    _check_output(output)
    from parimg.tasks.match_sift import MatchSIFT

    task = MatchSIFT(
        reference=reference,
        n_features=n_features,
        cross_check=None if cross_check == "none" else cross_check,
        max_ratio=max_ratio,
        contrast_threshold=contrast_threshold,
        mask=mask,
        root=root,
        verify=None if verify == "none" else verify,
        verify_threshold=verify_threshold,
        max_size=max_size,
    )
    source = images[0] if len(images) == 1 else images
    _check_source(task, source, column)
    with _controller(engines, profile, cluster_id) as controller:
        running = controller.submit(
            task,
            source,
            job_dir=job,
            column=column,
            retries=retries,
            max_pixels=max_pixels,
            timeout=timeout,
            max_failures=_limit(max_failures),
            memory_limit=memory_limit,
        )
        _follow(running, output, sort_by="matches" if task.verify is None else "inliers")


@app.command()
def index(
    images: Annotated[
        list[str], typer.Argument(help="Images: paths, folders, globs, URLs, .txt, .csv, .parquet.")
    ],
    model: Annotated[str, typer.Option("-m", "--model", help="Convolutional network as an ONNX file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the index, new or to be added to.")],
    layer: Annotated[str | None, typer.Option(help="Layer whose map is taken; default: the output.")] = None,
    size: Annotated[int, typer.Option(min=1, help="Pixels of an image's longer side.")] = 640,
    mean: Annotated[str, typer.Option(help="Taken from pixels of 0 to 255: one number, or r,g,b.")] = "127",
    scale: Annotated[str, typer.Option(help="Then multiplied by: one number, or r,g,b.")] = "0.0078125",
    pooling: Annotated[Literal["max", "sum"], typer.Option(help="How regions become vectors.")] = "max",
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    column: Annotated[str | None, typer.Option(help="Column of paths, if IMAGES is a table.")] = None,
) -> None:
    """Index images for `parimg search`; again with the same folder, add what is new."""
    from parimg.retrieval import check_index, index_images

    options: dict[str, Any] = {
        "model": model,
        "layer": layer,
        "size": size,
        "mean": _per_channel("--mean", mean),
        "scale": _per_channel("--scale", scale),
        "pooling": pooling,
    }
    source = images[0] if len(images) == 1 else images
    _check_source(check_index(output, **options), source, column)
    with _controller(engines, profile, cluster_id) as controller:
        running = index_images(controller, source, output, column=column, **options)
        _follow(running, None)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="Query image; with :y1,x1,y2,x2, that part of it, in pixels.")],
    directory: Annotated[Path, typer.Argument(help="Folder of the index.")],
    top_k: Annotated[int, typer.Option("-k", min=1, help="How many images to show.")] = 20,
    rerank: Annotated[int, typer.Option(min=0, help="Search regions in the best so many.")] = 200,
    expand: Annotated[int, typer.Option(min=0, help="Add the best so many to the query, and rank again.")] = 3,
    output: Output = None,
    picture: Annotated[Path | None, typer.Option(help="Draw them with their regions: .png or .jpg.")] = None,
    engines: Annotated[
        int | None, typer.Option("-n", "--engines", min=1, help="Search on an own cluster; default: without one.")
    ] = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
) -> None:
    """Find the indexed images that show what a QUERY shows, and where in them it is."""
    _check_output(output)
    if picture is not None and picture.suffix.lower() not in {".png", ".jpg", ".jpeg"}:
        raise typer.BadParameter(f"--picture must end in .png or .jpg (got {str(picture)!r})")
    from parimg.retrieval import ImageIndex

    name, box = _parse_query(query)
    opened = ImageIndex(directory)
    opened.describe(name, box)  # its errors come before a cluster is started
    on_cluster = engines is not None or profile is not None or cluster_id
    with _controller(engines, profile, cluster_id) if on_cluster else contextlib.nullcontext() as controller:
        hits = opened.search(name, box, top_k=top_k, rerank=rerank, expand=expand, controller=controller)
    from rich.table import Table

    table = Table("rank", "image", "score", "similarity", "distance", "region y1, x1, y2, x2")
    for hit in hits:
        distance = "" if hit.distance is None else f"{hit.distance:.3f}"
        region = "" if hit.image_box is None else ", ".join(map(str, hit.image_box))
        table.add_row(str(hit.rank), hit.key, f"{hit.score:.3f}", f"{hit.similarity:.3f}", distance, region)
    table.caption = f"{len(hits)} of {len(opened)} images"
    _console().print(table)
    if output is not None:
        from parimg.retrieval import write_hits

        write_hits(hits, output)
        print(f"table: {output}")
    if picture is not None:
        from parimg.plots import draw_hits, write_picture

        write_picture(picture, draw_hits(hits, query=name, box=box))
        print(f"picture: {picture}")


def _parse_query(text: str) -> tuple[str, tuple[int, ...] | None]:
    found = re.fullmatch(r"(.+):(\d+),(\d+),(\d+),(\d+)", text)
    return (text, None) if found is None else (found[1], tuple(map(int, found.groups()[1:])))


def _per_channel(option: str, text: str) -> float | tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in {1, 3}:
        raise typer.BadParameter(f"{option} must be a number, or three as r,g,b (got {text!r})")
    return numbers[0] if len(numbers) == 1 else numbers


@app.command()
def skeleton(
    images: Annotated[
        list[str],
        typer.Argument(help="Images: paths, folders, globs, URLs, .txt, .csv, .parquet; TIFF stacks, too."),
    ],
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    job: Annotated[Path | None, typer.Option(help="Directory for the job; default: a new one.")] = None,
    output: Output = None,
    branches: Annotated[
        Path | None, typer.Option(help="Write the table of all branches: .parquet or .csv.")
    ] = None,
    overlays: Annotated[Path | None, typer.Option(help="Folder for pictures with the skeletons drawn in.")] = None,
    threshold: Annotated[
        str, typer.Option(help="Foreground is above this level: a number, otsu or none.")
    ] = "otsu",
    invert: Annotated[bool, typer.Option("--invert", help="Foreground is dark.")] = False,
    min_size: Annotated[int, typer.Option(min=0, help="Foreground of fewer pixels is left out.")] = 0,
    spacing: Annotated[
        str, typer.Option(help="Distance of pixels: a number, or one an axis, as 2,0.5,0.5.")
    ] = "1",
    prune: Annotated[float, typer.Option(min=0, help="Spurs shorter than this are left out.")] = 0.0,
    column: Annotated[str | None, typer.Option(help="Column of paths, if IMAGES is a table.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="Attempts more for an image whose engine died.")] = 2,
    max_pixels: Annotated[int, typer.Option(min=1, help="Larger images fail undecoded.")] = 2**28,
) -> None:
    """Measure the skeletons of every image's foreground, branch by branch."""
    _check_output(output)
    _check_output(branches, "--branches")
    from parimg.tasks.skeleton_graph import SkeletonGraph

    steps = [_number(step, "--spacing") for step in spacing.split(",")]
    task = SkeletonGraph(
        threshold="otsu"
        if threshold == "otsu"
        else None
        if threshold == "none"
        else _number(threshold, "--threshold"),
        invert=invert,
        min_size=min_size,
        spacing=tuple(steps) if len(steps) > 1 else steps[0],
        prune=prune,
        overlays=overlays,
    )
    source = images[0] if len(images) == 1 else images
    _check_source(task, source, column)
    with _controller(engines, profile, cluster_id) as controller:
        running = controller.submit(
            task, source, job_dir=job, column=column, retries=retries, max_pixels=max_pixels
        )
        _follow(running, output, sort_by="total_length", inner={"branch_table": branches})


@app.command()
def convolve(
    images: Annotated[
        list[str], typer.Argument(help="Images: paths, folders, globs, URLs, .txt, .csv, .parquet.")
    ],
    kernel: Annotated[
        str, typer.Option("-k", "--kernel", help='A .npy file, or a name: sobel, "gaussian(2.5)", "box(9)", ...')
    ],
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder that the results are written to.")],
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    job: Annotated[Path | None, typer.Option(help="Directory for the job; default: a new one.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write the table: .parquet or .csv.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of the results, such as float32; default: the image's.")
    ] = None,
    image_format: Annotated[
        Literal["png", "jpeg", "tiff", "npy"] | None, typer.Option("--format", help="Default: by dtype.")
    ] = None,
    mode: Annotated[
        Literal["reflect", "constant", "nearest", "mirror", "wrap"], typer.Option(help="Beyond the borders.")
    ] = "reflect",
    cval: Annotated[float, typer.Option(help="Value beyond the borders in mode constant.")] = 0.0,
    color: Annotated[
        Literal["color", "gray", "unchanged"], typer.Option(help="How images are decoded.")
    ] = "color",
    casting: Annotated[
        Literal["saturate", "round", "truncate"], typer.Option(help="How sums become integers.")
    ] = "saturate",
    column: Annotated[str | None, typer.Option(help="Column of paths, if IMAGES is a table.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="Attempts more for an image whose engine died.")] = 2,
    max_pixels: Annotated[int, typer.Option(min=1, help="Larger images fail undecoded.")] = 2**28,
    timeout: Timeout = None,
    max_failures: MaxFailures = None,
    memory_limit: MemoryLimit = None,
) -> None:
    """Convolve every image with a kernel, and write the results into a folder."""
    _check_output(table, "--table")
    from parimg.tasks.convolve import Convolve

    task = Convolve(
        kernel, folder, dtype=dtype, format=image_format, mode=mode, cval=cval, color=color, casting=casting
    )
    source = images[0] if len(images) == 1 else images
    _check_source(task, source, column)
    with _controller(engines, profile, cluster_id) as controller:
        running = controller.submit(
            task,
            source,
            job_dir=job,
            column=column,
            retries=retries,
            max_pixels=max_pixels,
            timeout=timeout,
            max_failures=_limit(max_failures),
            memory_limit=memory_limit,
        )
        _follow(running, table)


@app.command()
def resume(
    directory: Annotated[Path, typer.Argument(help="The job's directory.")],
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also run failed images again.")] = False,
    timeout: Timeout = None,
    max_failures: MaxFailures = None,
    memory_limit: MemoryLimit = None,
    output: Output = None,
) -> None:
    """Run what a job did not record before it was interrupted."""
    _check_output(output)
    from parimg.job import open_job

    open_job(directory)  # its errors come before a cluster is started
    with _controller(engines, profile, cluster_id) as controller:
        given = {"timeout": timeout, "max_failures": _limit(max_failures), "memory_limit": memory_limit}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        running = controller.resume(directory, retry="failed" if retry_failed else None, **changed)
        _follow(running, output)


@app.command()
def status(
    directory: Annotated[Path, typer.Argument(help="The job's directory.")],
    output: Output = None,
    table: Annotated[
        str | None, typer.Option(help="With -o: the table of this name of all records, as branch_table.")
    ] = None,
) -> None:
    """Tell how a job stands, also while another process runs it; with -o, export its table."""
    _check_output(output)
    from parimg.job import open_job

    job = open_job(directory)
    _print_summary(job)
    if job.state in {"interrupted", "aborted", "failed"}:
        print(f"to go on: {job.resume_command}")
    _export(job, output, table)
    _exit_by_failures(job)


@app.command()
def jobs() -> None:
    """List the jobs that were given no directory of their own."""
    from rich.table import Table

    from parimg.job import open_job
    from parimg.job_directory import jobs_folder

    folder = jobs_folder()
    table = Table("job", "task", "state", "images", "failed", "seconds", title=folder, title_justify="left")
    for name in sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []:
        try:
            job = open_job(os.path.join(folder, name))
            counts = job.counts
            done = f"{counts['done']}/{'?' if counts['total'] is None else counts['total']}"
            table.add_row(name, job.name, job.state, done, str(counts["failed"]), f"{job.wall_time:.1f}")
        except ParimgError:  # left by a client that was killed while it made the job
            table.add_row(name, "", "never began", "", "", "", style="dim")
    _console().print(table if table.row_count else f"no jobs in {folder}")


@app.command()
def doctor(engines: Engines = None, profile: Profile = None, cluster_id: ClusterId = "") -> None:
    """Check a cluster: engines, versions, threads, memory, and where the time of a round trip goes."""
    import platform
    import time

    import ipyparallel
    from rich.table import Table

    begin = time.perf_counter()
    with _controller(engines, profile, cluster_id) as controller:
        ready = time.perf_counter() - begin
        found = controller.inspect()
        table = Table(
            "engine", "host", "pid", "Python", "parimg", "threads", "memory free", "memory used", "round trip"
        )
        for engine_id, about in found.items():
            threads = ", ".join(f"{name} {count}" for name, count in about["threads"].items())
            table.add_row(
                str(engine_id), about["host"], str(about["pid"]), about["python"], about["parimg"], threads,
                f"{about['memory_available'] / 2**30:.1f} GiB", f"{about['memory_used'] / 2**20:.0f} MiB",
                f"{about['round_trip'] * 1e3:.1f} ms",
            )  # fmt: skip
        print(
            f"parimg {__version__}, Python {platform.python_version()}, ipyparallel {ipyparallel.__version__}; "
            f"cluster ready after {ready:.1f} s; {len(found)} of {len(controller)} engines answer"
        )
        _console().print(table)
        print(controller.security)
        if controller.security.warning:
            print(f"warning: {controller.security.warning}")
        busy = sorted(set(controller.engines) - set(found))
        if busy:
            print(f"engines {busy} do not answer: busy, or gone")
        else:
            for what, seconds in controller.time_round_trip().items():
                print(f"{what:<48}{seconds * 1e3:9.2f} ms")
        too_many = [
            engine_id for engine_id, about in found.items() if max(about["threads"].values(), default=1) > 1
        ]
        if too_many:
            print(f"engines {too_many} use more than one thread each")
        if busy or too_many:
            raise typer.Exit(EXIT_FAILED)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the views are written.")] = Path("parimg-demo"),
    engines: Engines = None,
) -> None:
    """Match 48 views of known photographs, one of them damaged, and check the matches."""
    from parimg import demo as demonstration
    from parimg.tasks.match_sift import MatchSIFT

    reference, views = demonstration.make_views(str(folder))
    task = MatchSIFT(reference, return_pairs=True, return_keypoints=True)
    by_name = {os.path.basename(view.path): view for view in views}
    print(f"48 views of photographs in {folder / 'views'}, reference {reference}")
    with _controller(engines, None, "") as controller:
        job = controller.submit(task, os.path.join(folder, "views"))
        with _progress(job):
            job.wait()
    from rich.table import Table

    table = Table("view", "photograph", "features", "matches", "confirmed by the homography", "error")
    for record in job.in_order():
        name = os.path.basename(record.key)
        view = by_name[name]
        if not record.ok:
            table.add_row(name, view.photograph, "", "", "", str(record.error), style="red")
            continue
        share = ""
        if view.photograph == demonstration.REFERENCE:
            confirmed = demonstration.confirmed_share(
                record["pairs"], task.reference_features.keypoints, record["keypoints"], view.homography
            )
            share = f"{confirmed:6.1%}"
        table.add_row(name, view.photograph, str(record["features"]), str(record["matches"]), share, "")
    _console().print(table)
    _print_summary(job)
    print(f"the job lies in   {job.directory}")
    print(f"export it by      parimg status {shlex.quote(job.directory)} -o matches.parquet")
    print(f"go on with it by  {job.resume_command} --retry-failed")


@profiles_app.command("list")
def list_profiles() -> None:
    """List the profiles that come with parimg."""
    from parimg.profiles import available

    for name, description in available().items():
        print(f"{name:<12}{description}")


@profiles_app.command("install")
def install_profile(
    name: str,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that were changed.")] = False,
) -> None:
    """Copy a profile to the IPython directory."""
    from parimg.profiles import install

    print(f"installed in {install(name, overwrite=overwrite)}")
    print(f"start it by  ipcluster start --profile={name} -n 4")
    print(f'use it by    parimg.connect(profile="{name}"), or parimg match ... --profile {name}')


def main() -> None:
    """Run the command line, with errors as messages and exit codes."""
    try:
        app()
    except ParimgError as error:
        print(f"parimg: {error}", file=sys.stderr)
        from parimg.errors import (
            ClusterError,
            ImageError,
            JobError,
            ProfileNotFoundError,
            SourceError,
            TaskError,
        )

        usage = isinstance(error, SourceError | TaskError | JobError | ImageError | ProfileNotFoundError)
        failed = isinstance(error, ClusterError) and not isinstance(error, ProfileNotFoundError)
        sys.exit(EXIT_USAGE if usage and not failed else EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


# -- parts of several commands --------------------------------------------------------------------------------


@contextlib.contextmanager
def _controller(engines: int | None, profile: str | None, cluster_id: str) -> Iterator[Controller]:
    if engines is not None and (profile is not None or cluster_id):
        raise typer.BadParameter(
            "-n starts an own cluster, --profile and --cluster-id use a running one: give one"
        )
    from parimg.controller import connect, start

    with connect(profile, cluster_id) if profile is not None or cluster_id else start(engines) as controller:
        yield controller


def _limit(text: str | None) -> int | float | None:
    """``25`` is a number of images, ``0.1`` and ``10%`` are shares of them."""
    if text is None:
        return None
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100
        return float(text) if "." in text else int(text)
    except ValueError:
        raise typer.BadParameter(f"--max-failures must be like 25, 0.1 or 10% (got {text!r})") from None


def _check_output(output: Path | None, option: str = "-o") -> None:
    if output is None:
        return
    if output.suffix not in {".parquet", ".csv"}:
        raise typer.BadParameter(f"{option} must end in .parquet or .csv (got {str(output)!r})")
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"{option} {str(output)!r}: there is no folder {str(output.absolute().parent)!r}")


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} wants a number (got {text!r})") from None


def _check_source(task: Any, source: str | list[str], column: str | None) -> None:
    """Tell mistakes before the seconds that a cluster takes to start; `submit` checks them again."""
    from parimg.sources import as_source

    as_source(source, column=column)
    task.resolve()


def _progress(job: Job) -> contextlib.AbstractContextManager[None]:
    from parimg.progress import show_progress

    return show_progress(job)


def _follow(
    job: Job, output: Path | None, sort_by: str | None = None, inner: Mapping[str, Path | None] | None = None
) -> None:
    """Show a job until it ends, then its table and what failed; export it, and tables of its records by name."""
    try:
        with _progress(job):
            job.wait()
    except ParimgError as error:
        _print_summary(job)
        print(f"parimg: {error}", file=sys.stderr)
        print(f"to go on: {job.resume_command}")
        raise typer.Exit(EXIT_FAILED) from None
    _print_records(job, sort_by)
    _print_summary(job)
    _export(job, output)
    for name, path in (inner or {}).items():
        _export(job, path, name)
    print(f"job: {job.directory}")
    _exit_by_failures(job)


def _print_records(job: Job, sort_by: str | None) -> None:
    import heapq

    from rich.table import Table

    good = (record for record in job.in_order() if record.ok)
    if sort_by is not None:
        shown = heapq.nlargest(_SHOWN, good, key=lambda record: record[sort_by])
    else:
        shown = [record for _, record in zip(range(_SHOWN), good, strict=False)]
    if not shown:
        return
    names = list(shown[0].columns)
    table = Table("image", *names, title=f"{sort_by}, most first" if sort_by else None, title_justify="left")
    for record in shown:
        table.add_row(record.key, *(_cell(record.columns.get(name)) for name in names))
    if (job.counts["ok"] or 0) > len(shown):
        table.caption = f"{len(shown)} of {job.counts['ok']} images"
    _console().print(table)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_summary(job: Job) -> None:
    counts = job.counts
    of = "" if counts["total"] is None else f" of {counts['total']}"
    seconds = job.wall_time
    print(
        f"{job.name}, {job.state}: {counts['done']}{of} images, {counts['failed']} failed, {seconds:.1f} s "
        f"({job.serial_time:.1f} s on engines)"
    )
    if job.duplicates:
        print(f"  {job.duplicates} images were named more than once, and run once")
    if counts["failed"]:
        for record in job.failures[:_SHOWN]:
            print(f"  {record.key}: {_reason(record)}")
        if counts["failed"] > _SHOWN:
            kinds = ", ".join(f"{group.count} {group.error}" for group in job.failures.by_error.values())
            print(f"  ... and {counts['failed'] - _SHOWN} more; in all {kinds}")


def _reason(record: Record) -> str:
    return f"{record.error}: {record.message}"


def _export(job: Job, output: Path | None, table: str | None = None) -> None:
    if output is None:
        return
    (job.to_parquet if output.suffix == ".parquet" else job.to_csv)(output, table)
    print(f"table: {output}")


def _exit_by_failures(job: Job) -> None:
    if job.counts["failed"]:
        raise typer.Exit(EXIT_SOME_IMAGES_FAILED)


def _console() -> Any:
    from rich.console import Console

    # Into a file or pipe, a table is as wide as it needs to be.
    return Console() if sys.stdout.isatty() else Console(width=200)


if __name__ == "__main__":
    main()
