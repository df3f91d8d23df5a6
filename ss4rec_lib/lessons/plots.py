"""Plot style and axes that the lessons share."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.ticker
from matplotlib.axes import Axes

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MONTH = 30.4375 * DAY  # mean length in the Julian calendar
YEAR = 365.25 * DAY

_UNITS = {"y": YEAR, "mo": MONTH, "d": DAY, "h": HOUR, "min": MINUTE, "s": 1.0, "ms": 1e-3}
_TICKS = "1 ms,10 ms,0.1 s,1 s,10 s,1 min,10 min,1 h,6 h,1 d,1 wk,1 mo,1 y,10 y,100 y".split(",")
_SIZES = _UNITS | {"wk": 7 * DAY}
SECONDS_TICKS = {tick: float(tick.split()[0]) * _SIZES[tick.split()[1]] for tick in _TICKS}
"""Labels of a time axis and their positions, in seconds."""

_FEW = ("1 ms", "1 s", "1 min", "1 h", "1 d", "1 mo", "1 y", "100 y")
_MOST_LABELS = 10  # of more, which would collide, only those of `_FEW` remain
_LOOK = {
    "figure.dpi": 110,
    "figure.figsize": (7.5, 4.0),
    "figure.constrained_layout.use": True,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "lines.linewidth": 1.8,
}


def use_style() -> None:
    """Set the look of every lesson: readable sizes and a palette for colour-blind readers."""
    import seaborn as sns  # here: it loads scipy.stats, and who only runs lessons draws nothing

    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=_LOOK)


class SecondsLocator(matplotlib.ticker.Locator):
    """Place ticks at 1 s, 1 min, 1 h, 1 d, ... inside the visible range; fewer on a wide one."""

    def __call__(self) -> Sequence[float]:
        """Return tick positions in seconds for the current view."""
        assert self.axis is not None
        return self.tick_values(*sorted(self.axis.get_view_interval()))

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Return tick positions between two times, all in seconds, ascending."""
        ticks = {name: at for name, at in SECONDS_TICKS.items() if vmin <= at <= vmax}
        if len(ticks) > _MOST_LABELS:
            ticks = {name: at for name, at in ticks.items() if name in _FEW}
        # On a symlog axis, tied interactions are zero seconds apart.
        return ([0.0] if vmin <= 0 <= vmax else []) + list(ticks.values())


def format_seconds(seconds: float, _position: int | None = None) -> str:
    """Return a time as text: the name of a tick such as "1 h", or a rounded number: "2.5 d"."""
    for name, at in SECONDS_TICKS.items():
        if abs(seconds - at) <= 1e-9 * at:
            return name
    if seconds == 0:
        return "0 s"
    unit = next((unit for unit, size in _UNITS.items() if abs(seconds) >= size), "ms")
    return f"{seconds / _UNITS[unit]:.3g} {unit}"


def seconds_axis(ax: Axes, axis: str = "x") -> None:
    """Give an axis of seconds readable ticks; a linear scale becomes logarithmic."""
    if axis not in ("x", "y"):
        raise ValueError(f"axis is {axis!r}, expected 'x' or 'y'")
    if getattr(ax, f"get_{axis}scale")() == "linear":
        getattr(ax, f"set_{axis}scale")("log")
    which = getattr(ax, f"{axis}axis")
    which.set_major_locator(SecondsLocator())
    which.set_major_formatter(matplotlib.ticker.FuncFormatter(format_seconds))
    which.set_minor_locator(matplotlib.ticker.NullLocator())
