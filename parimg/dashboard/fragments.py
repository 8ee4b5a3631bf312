"""Pieces of the page as HTML. All text from outside passes `_text`, and is text then."""

from __future__ import annotations

import math
import os
from html import escape
from typing import TYPE_CHECKING

from parimg.console import byte_unit, visible
from parimg.dashboard.follow import FAILURES_LOOKED_AT
from parimg.notebook.markup import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parimg.dashboard.engines import EngineNow, HostNow
    from parimg.dashboard.follow import CauseNow, JobNow, Summary
    from parimg.dashboard.forecast import Forecast

_ENGINES = 64  # that are listed one by one; of more only those that are marked
_LETTERS = 60  # of the name of an image

STYLE = """
:host { font: 14px/1.45 system-ui, sans-serif; color: #1c2430; }
.bk-clearfix { display: block !important; width: 100%; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: .9rem 0 .4rem; }
.sub { color: #5a6675; margin: .15rem 0 .7rem; overflow-wrap: anywhere; font-size: .85rem; }
.state { font-size: .8rem; font-weight: 600; vertical-align: middle; border-radius: 1em; padding: .15em .8em; }
.state { background: #e5ebf2; }
.state.running { background: #d6e6f7; color: #174a7c; }
.state.finished { background: #d5efdd; color: #14602f; }
.state.failed, .state.aborted { background: #f8d9d5; color: #8c1d10; }
.state.interrupted { background: #fbeacb; }
.bar { height: 22px; border-radius: 6px; background: #e8edf3; overflow: hidden; display: flex; }
.bar i { display: block; height: 100%; background: #3b78b5; }
.bar.finished i { background: #3f9a5f; }
.bar i.bad { background: #d03a2b; }
.tiles { display: flex; flex-wrap: wrap; gap: .5rem; margin-top: .7rem; }
.tiles div { background: #f3f6f9; border-radius: .5rem; padding: .45rem .9rem; color: #5a6675; font-size: .8rem; }
.tiles b { display: block; font-size: 1.3rem; color: #1c2430; font-weight: 650; }
.tiles .bad b { color: #b3261e; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
td, th { text-align: left; padding: .22rem .6rem; border-bottom: 1px solid #eaeef3; overflow-wrap: anywhere; }
th { color: #5a6675; font-weight: 600; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr.host td { font-weight: 600; background: #f8fafc; }
.mark { background: #fbeacb; color: #7a4b00; border-radius: 1em; padding: .05em .6em; font-size: .78rem; }
.mark { margin-left: .5rem; white-space: nowrap; }
.share { display: inline-block; width: 5rem; height: .55rem; border-radius: .3rem; background: #e8edf3; }
.share i { display: block; height: 100%; border-radius: .3rem; background: #3b78b5; }
.bad { color: #b3261e; }
.cause { border-left: 3px solid #d03a2b; background: #fdf6f5; border-radius: .3rem; padding: .45rem .8rem; }
.cause { margin-bottom: .5rem; overflow-wrap: anywhere; }
.shots { display: flex; gap: .7rem; margin-top: .35rem; flex-wrap: wrap; }
figure { margin: 0; max-width: 150px; }
figure img { max-height: 100px; max-width: 150px; border-radius: .25rem; display: block; }
figcaption { font-size: .75rem; color: #5a6675; }
.note { background: #fbeacb; border-radius: .3rem; padding: .4rem .8rem; }
.quiet { color: #5a6675; }
.chosen td { background: #eaf2fa; }
"""


def _text(text: str, most: int = 1000) -> str:
    shown = visible(text)
    return escape(shown if len(shown) <= most else f"{shown[:most]}...")


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u2009")


def _rate(value: float) -> str:
    return f"{value:.3g}" if value < 100 else _number(value)


def _size(nbytes: float) -> str:
    size, unit = byte_unit(nbytes)
    return f"{size:.1f} {unit}" if unit in {"GiB", "TiB"} else f"{size:.0f} {unit}"


def _state(state: str) -> str:
    kind = state if state.isalpha() else ""
    return f'<span class="state {escape(kind)}">{_text(state)}</span>'


def _name(path: str) -> str:
    """The last part of a path or address."""
    return path.rstrip("/").rpartition("/")[2] or path


def note(message: str) -> str:
    """Something to tell, or nothing."""
    return f'<div class="note">{_text(message)}</div>' if message else ""


def head(job: JobNow, under_way: int | None) -> str:
    """What runs, how far it is, when it will have ended."""
    summary = job.summary
    by = f", run by {_text(summary.writer)}" if summary.writer else ""
    name = _text(os.path.basename(summary.directory))
    return (
        f"<h1>{_text(summary.task)} {_state(summary.state)}</h1>"
        f'<div class="sub">{_text(summary.source, 300)} &nbsp;·&nbsp; job {name}{by}</div>'
        f'{_bar(summary)}<div class="tiles">{"".join(_tiles(job, under_way))}</div>'
    )


def _bar(summary: Summary) -> str:
    whole = max(summary.done if summary.total is None else summary.total, 1)
    good, bad = ((summary.done - summary.failed) / whole, summary.failed / whole)
    return (
        f'<div class="bar {"finished" if summary.state == "finished" else ""}" role="progressbar">'
        f'<i style="width:{100 * good:.2f}%"></i><i class="bad" style="width:{100 * bad:.2f}%"></i></div>'
    )


def _tiles(job: JobNow, under_way: int | None) -> list[str]:
    summary = job.summary
    of = "images, more are being listed" if summary.total is None else f"of {_number(summary.total)} images"
    if summary.total:
        of += f", {100 * summary.done / summary.total:.3g} %"
    tiles = [_tile(_number(summary.done), of, "done")]
    tiles.append(_tile(_number(summary.failed), "failed", "failed bad" if summary.failed else "failed"))
    engines = sum(len(host.engines) for host in job.hosts)
    if job.running:
        tiles.append(_tile(_rate(job.rate), "images/s now", "rate"))
        tiles.append(_tile(*_ending(job.forecast), "eta"))
    if summary.left:
        chunks = "" if under_way is None or not job.running else f", {under_way} chunks on engines"
        tiles.append(_tile(_number(summary.left), f"in the queue{chunks}", "queue"))
    tiles.append(_tile(duration(summary.seconds), "so far" if job.running else "it ran", "elapsed"))
    if engines:
        where = f" on {len(job.hosts)} hosts" if len(job.hosts) > 1 else ""
        tiles.append(_tile(_number(engines), f"engines{where}", "engines"))
    return tiles


def _tile(value: str, caption: str, kind: str) -> str:
    return f'<div class="{kind}"><b>{value}</b>{caption}</div>'


def _ending(found: Forecast | None) -> tuple[str, str]:
    if found is None:
        return "?", "left: too early to say"
    if found.most - found.least < 1:
        return duration(found.seconds), "left"
    most = "?" if math.isinf(found.most) else duration(found.most)
    return duration(found.seconds), f"left ({duration(found.least)} to {most})"


def engines(hosts: Sequence[HostNow]) -> str:
    """Each engine, by host, with what is odd of it."""
    if not hosts:
        return ""
    n_engines = sum(len(host.engines) for host in hosts)
    rows = []
    for host in hosts:
        rows.append(_row(f"{_text(host.host)} ({len(host.engines)})", host, "", 'class="host"'))
        for engine in host.engines:
            if n_engines <= _ENGINES or engine.marks:
                marks = "".join(f'<span class="mark">{escape(_MARKS[mark])}</span>' for mark in engine.marks)
                rows.append(_row(f"&nbsp;&nbsp;engine {engine.worker.engine}", engine, marks, ""))
    only = "" if n_engines <= _ENGINES else '<p class="quiet">Of the engines those that differ are listed.</p>'
    return (
        "<h2>Engines, in the last half minute</h2><table><tr><th>host, engine</th><th>busy</th>"
        '<th class="n">images/s</th><th class="n">images</th><th class="n">failed</th>'
        f'<th class="n">memory</th></tr>{"".join(rows)}</table>{only}'
    )


_MARKS = {
    "slow": "slow",
    "memory": "much memory",
    "failures": "many failures",
    "silent": "nothing came back lately",
}


def _row(name: str, one: HostNow | EngineNow, marks: str, kind: str) -> str:
    busy = f"{100 * one.busy:.0f}"
    failed = f'<span class="bad">{_number(one.failed)}</span>' if one.failed else "0"
    return (
        f"<tr {kind}><td>{name}{marks}</td>"
        f'<td><span class="share"><i style="width:{busy}%"></i></span> {busy} %</td>'
        f'<td class="n">{_rate(one.rate)}</td><td class="n">{_number(one.images)}</td><td class="n">{failed}</td>'
        f'<td class="n">{_size(one.memory) if one.memory else ""}</td></tr>'
    )


def failures(causes: Sequence[CauseNow], failed: int) -> str:
    """Why images failed, the commonest first, with the newest of each."""
    if not causes:
        return ""
    of = f" (the newest {FAILURES_LOOKED_AT})" if failed > FAILURES_LOOKED_AT else ""
    return f"<h2>Why images failed{of}</h2>" + "".join(map(_cause, causes))


def _cause(cause: CauseNow) -> str:
    shots = "".join(
        "<figure>"
        + (f'<img src="{escape(shot.picture)}" alt="">' if shot.picture else "")
        + f'<figcaption title="{_text(shot.key)}">{_text(_name(shot.key), _LETTERS)}</figcaption></figure>'
        for shot in cause.newest
    )
    title = f"<b>{_number(cause.count)} &times;</b> {_text(cause.reason)}"
    return f'<div class="cause">{title}<div class="shots">{shots}</div></div>'


def jobs(summaries: Sequence[Summary], chosen: str) -> str:
    """The list of jobs; nothing if there is but one."""
    if len(summaries) < 2:
        return ""
    rows = "".join(
        f"<tr {'class=chosen' if one.directory == chosen else ''}>"
        f"<td>{_text(os.path.basename(one.directory))}</td><td>{_text(one.task)}</td>"
        f"<td>{_text(one.source, 120)}</td><td>{_state(one.state)}</td>"
        f'<td class="n">{_number(one.done)}{"" if one.total is None else f" / {_number(one.total)}"}</td>'
        f'<td class="n">{_number(one.failed)}</td></tr>'
        for one in summaries
    )
    return (
        "<h2>Jobs</h2><table><tr><th>job</th><th>task</th><th>source</th><th>state</th>"
        f'<th class="n">images</th><th class="n">failed</th></tr>{rows}</table>'
    )
