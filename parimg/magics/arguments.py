"""What may stand behind ``%parimg``: the commands with their options, as argparse reads them."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import NoReturn

from parimg.errors import ParimgError

_LONGEST_USAGE = 120  # characters that are shown


class TypedWrong(ParimgError):
    """What stands behind ``%parimg`` cannot be read."""


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        if found := re.match(r"argument COMMAND: invalid choice: '(.*?)' \(choose from (.*)\)$", message):
            near = difflib.get_close_matches(found[1], re.findall(r"[a-z]+", found[2]), 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise TypedWrong(f"there is no command {found[1]!r}{meant}; %parimg lists them")
        usage = " ".join(self.format_usage().split())
        raise TypedWrong(f"{message}; {usage if len(usage) <= _LONGEST_USAGE else f'see {self.prog} --help'}")


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the line, and those of each command by name."""
    parser = _Parser(prog="%parimg", add_help=False, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    made: dict[str, argparse.ArgumentParser] = {}

    def command(name: str, about: str) -> argparse.ArgumentParser:
        made[name] = commands.add_parser(name, help=about, description=about, add_help=False, allow_abbrev=False)
        return made[name]

    start = command("start", "start a cluster on this machine, in an allocation, or by a profile")
    start.add_argument("-n", type=_engines, metavar="N", help="engines, or with a profile a range as 2:64")
    start.add_argument("--profile", metavar="NAME", help="IPython profile that says where engines run")
    start.add_argument("--memory-limit", metavar="SIZE", help="of each engine, as 4GiB")
    _name(start, "controller", "ctl")

    connect = command("connect", "connect to a cluster that runs")
    connect.add_argument("--profile", metavar="NAME", help="its IPython profile")
    connect.add_argument("--cluster-id", default="", metavar="ID", help="its id, if it has one")
    connect.add_argument("--timeout", type=float, default=60.0, metavar="S", help="to wait for its first engine")
    _name(connect, "controller", "ctl")

    match = command("match", "match each image's SIFT features against those of a reference")
    match.add_argument("reference", metavar="REF", help="image, or its descriptors as .npy")
    match.add_argument("--verify", choices=("homography", "fundamental"), help="geometry that explains matches")
    match.add_argument("--n-features", type=int, default=5000, metavar="N", help="kept of an image")
    match.add_argument("--max-ratio", type=float, metavar="R", help="Lowe's ratio test")
    match.add_argument("--max-size", type=int, metavar="PX", help="larger images are scaled down")
    _job(match)

    mapped = command("map", "run the cell below, the body of a function of `image`, on each image")
    mapped.add_argument(
        "--color", choices=("unchanged", "gray", "color", "stack"), default="unchanged", help="how images are read"
    )
    _job(mapped)

    resume = command("resume", "go on with a job that was stopped")
    resume.add_argument("job", metavar="JOB", nargs="?", help="name, directory or variable; by default `job`")
    resume.add_argument("--retry-failed", action="store_true", help="run images that failed again")
    _run(resume)

    status = command("status", "show how a job is, of this process or another")
    status.add_argument("job", metavar="JOB", nargs="?", help="name, directory or variable; by default `job`")
    status.add_argument("-o", "--out", metavar="NAME", help="variable that gets the job, too")

    stop = command("stop", "stop a job in order; it can be resumed")
    stop.add_argument("job", metavar="JOB", nargs="?", help="variable; by default `job`")

    jobs = command("jobs", "list the newest jobs")
    jobs.add_argument("--all", action="store_true", help="list all, not the newest 20")

    command("close", "stop running jobs in order, and end or leave the cluster")
    return parser, made


def usage(made: dict[str, argparse.ArgumentParser]) -> str:
    """All commands, a line each."""
    width = max(map(len, made))
    lines = [f"  {name:{width}}  {parser.description}" for name, parser in made.items()]
    return "\n".join(["%parimg COMMAND; its options: %parimg COMMAND --help", *lines])


def _name(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    parser.add_argument(
        "-o", "--out", default=default, metavar="NAME", help=f"variable that gets the {what}, by default {default}"
    )


def _job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders, globs, URLs, or a variable")
    parser.add_argument("--job", metavar="DIR", help="directory of the job's journal")
    parser.add_argument("--column", metavar="NAME", help="column of paths, of a table")
    parser.add_argument("--retries", type=int, default=2, metavar="N", help="of an image whose engine died")
    parser.add_argument("--timeout", type=float, metavar="S", help="an image may take")
    parser.add_argument("--max-failures", type=_limit, metavar="N", help="number or share, as 25 or 0.1")
    parser.add_argument("--targets", "-t", metavar="IDS", help="engines, as 0, 0,2, 1:3 or all")
    _run(parser)


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--block", "-b", action="store_true", default=True, help="wait for the end (default)")
    parser.add_argument("--noblock", "-a", dest="block", action="store_false", help="go on while the job runs")
    _name(parser, "job", "job")


def _engines(typed: str) -> int | tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:[:-](\d+))?", typed, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"wanted a number, or a range as 2:64 (got {typed!r})")
    return int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))


def _limit(typed: str) -> int | float:
    try:
        return float(typed) if "." in typed else int(typed)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted a number or a share, as 25 or 0.1 (got {typed!r})") from None


def parse_targets(typed: str | None, engines: Sequence[int]) -> list[int] | None:
    """The engines that ``--targets`` names, as for ``%px``: ids, or a slice of all; None for all.

    Raises
    ------
    TypedWrong

    Examples
    --------
    >>> parse_targets("1:3", [0, 1, 4, 5]), parse_targets("[0, 5]", [0, 1, 4, 5])
    ([1, 4], [0, 5])
    """
    if typed is None or typed == "all":
        return None
    plain = typed.strip("[]() ")
    if re.fullmatch(r"-?\d*(:-?\d*){1,2}", plain, re.ASCII):
        ends = [int(end) if end else None for end in plain.split(":")]
        if ends[2:] != [0]:
            return list(engines[slice(*ends)])
    if re.fullmatch(r"\d+(\s*,\s*\d+)*", plain, re.ASCII):
        return [int(one) for one in plain.split(",")]
    raise TypedWrong(f"--targets are ids of engines as 0,2, a slice as 1:3, or all (got {typed!r})")
