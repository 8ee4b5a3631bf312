"""The two figures of the page: images a second, and what each engine did when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bokeh.models import ColumnDataSource, FixedTicker, LinearColorMapper, PlainText
from bokeh.plotting import figure

from parimg.console import visible
from parimg.dashboard.course import Course

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_ROWS = 128  # engines that have a row each; of more, hosts have
_NAMED = 24
_GOOD, _BAD = "#3b78b5", "#d03a2b"
_UNITS = ((180.0, 1.0, "s"), (3 * 3600.0, 60.0, "min"), (float("inf"), 3600.0, "h"))


class Throughput:
    """Images a second over time, what failed in red."""

    def __init__(self) -> None:
        self.plot = _figure("Images a second", 190)
        names = ("left", "right", "good", "all")
        self._source = ColumnDataSource({name: [] for name in names})
        box = {"source": self._source, "left": "left", "right": "right", "line_color": None}
        self.plot.quad(bottom=0, top="good", color=_GOOD, **box)
        self.plot.quad(bottom="good", top="all", color=_BAD, **box)

    def show(self, course: Course, now: float) -> None:
        """Draw a course up to a time."""
        import numpy as np

        used = course.used(now)
        done, failed = course.done[:, :used].sum(axis=0), course.failed[:, :used].sum(axis=0)
        step = int(min(used, max(1, -(-4 * used // max(int(done.sum()), 1)))))  # some images in each
        starts = np.arange(0, used, step)
        unit, name = _unit(course, now)
        left = starts * course.width
        right = np.minimum(starts + step, used) * course.width
        right = np.minimum(right, max(now - course.start, left[-1] + 1e-3))
        seconds = np.maximum(right - left, min(course.width, 1.0))
        whole, bad = np.add.reduceat(done, starts) / seconds, np.add.reduceat(failed, starts) / seconds
        self._source.data = {"left": left / unit, "right": right / unit, "good": whole - bad, "all": whole}
        self.plot.y_range.end = 1.08 * float(whole.max(initial=0.0)) or 1.0
        _label(self.plot, name, used * course.width / unit)


class Lanes:
    """Engines over time: how busy each was, and where images failed."""

    def __init__(self) -> None:
        self.plot = _figure("Engines over time: the darker, the busier; red, images failed", 120)
        self._image = ColumnDataSource({name: [] for name in ("image", "x", "y", "dw", "dh")})
        self._failed = ColumnDataSource({"x": [], "y": []})
        colors = LinearColorMapper(palette=_shades(), low=0, high=255)
        self.plot.image(source=self._image, image="image", x="x", y="y", dw="dw", dh="dh", color_mapper=colors)
        self.plot.scatter("x", "y", source=self._failed, marker="dash", angle=1.5708, size=9, color=_BAD)
        self.plot.ygrid.visible = False
        self._named: list[str] = []

    def show(self, course: Course, now: float) -> None:
        """Draw a course up to a time."""
        import numpy as np

        used = course.used(now)
        names, busy, failed = _lanes(course, used)
        if not names:
            return
        unit, name = _unit(course, now)
        span = used * course.width / unit
        shades = np.rint(255 * np.clip(busy, 0, 1)).astype(np.uint8)[::-1]
        self._image.data = {"image": [shades], "x": [0], "y": [0], "dw": [span], "dh": [len(names)]}
        rows, bins = np.nonzero(failed)
        self._failed.data = {
            "x": (bins + 0.5) * course.width / unit, "y": len(names) - 0.5 - rows.astype(float)
        }  # fmt: skip
        if names != self._named:
            self._named = names
            self._name(names)
        _label(self.plot, name, span)

    def _name(self, names: list[str]) -> None:
        """Write names beside the lanes, where there is room."""
        n = len(names)
        shown = names if n <= _NAMED else []
        self.plot.height = int(min(460, 70 + (22 * n if shown else 3 * n)))
        self.plot.y_range.update(start=0, end=n)
        self.plot.yaxis.ticker = FixedTicker(ticks=[n - place - 0.5 for place in range(len(shown))])
        # A plain str would be read for formulas.
        self.plot.yaxis.major_label_overrides = {
            n - place - 0.5: PlainText(text=visible(name)[:40]) for place, name in enumerate(shown)
        }


def _lanes(course: Course, used: int) -> tuple[list[str], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Names of the lanes, and busy shares and failures of each in each bin."""
    import numpy as np

    rows = course.by_host()
    busy, failed = course.busy[rows, :used], course.failed[rows, :used]
    hosts = [course.workers[row].host for row in rows]
    if len(rows) <= _ROWS:
        is_alone = len(set(hosts)) == 1
        names = [
            f"engine {course.workers[row].engine}" if is_alone else f"{host}, {course.workers[row].engine}"
            for row, host in zip(rows, hosts, strict=True)
        ]
        return names, busy, failed
    names = list(dict.fromkeys(hosts))
    starts = [hosts.index(name) for name in names]
    sizes = np.diff([*starts, len(hosts)])[:, None]
    return names, np.add.reduceat(busy, starts, axis=0) / sizes, np.add.reduceat(failed, starts, axis=0)


def _figure(title: str, height: int) -> Any:
    options: dict[str, Any] = {
        "tools": "",
        "x_range": (0, 1),
        "y_range": (0, 1),
        "toolbar_location": None,
        "min_border_left": 90,
    }
    plot: Any = figure(title=title, height=height, sizing_mode="stretch_width", **options)
    plot.outline_line_color = None
    plot.xgrid.visible = False
    plot.title.text_font_size = "13px"
    plot.axis.axis_line_color = "#b9c3cf"
    plot.axis.minor_tick_line_color = None
    return plot


def _label(plot: Any, unit: str, end: float) -> None:
    plot.xaxis.axis_label = unit
    plot.x_range.end = end


def _unit(course: Course, now: float) -> tuple[float, str]:
    """Seconds of the unit of the time axis, and its label."""
    span = now - course.start
    found = next((seconds, name) for most, seconds, name in _UNITS if span <= most)
    return found[0], f"{found[1]} since the first image"


def _shades() -> list[str]:
    """From almost white to the colour of work."""
    low, high = (244, 247, 250), (0x3B, 0x78, 0xB5)
    mixed = (
        [round(one + (other - one) * n / 255) for one, other in zip(low, high, strict=True)] for n in range(256)
    )
    return ["#{:02x}{:02x}{:02x}".format(*color) for color in mixed]
