from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ss4rec_lib.lessons import plots


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def labels(ax, axis: str = "x") -> list[str]:
    ax.figure.canvas.draw()
    low, high = getattr(ax, f"get_{axis}lim")()
    ticks = getattr(ax, f"{axis}axis").get_major_ticks()
    return [tick.label1.get_text() for tick in ticks if low <= tick.get_loc() <= high]


def test_every_tick_has_its_own_name():
    for name, at in plots.SECONDS_TICKS.items():
        assert plots.format_seconds(at) == name
    assert list(plots.SECONDS_TICKS.values()) == sorted(plots.SECONDS_TICKS.values())


@pytest.mark.parametrize(
    ("seconds", "name"),
    [(0, "0 s"), (90, "1.5 min"), (0.5, "500 ms"), (2.5 * 86400, "2.5 d"), (7200, "2 h")],
)
def test_other_times_get_the_largest_unit_that_fits(seconds, name):
    assert plots.format_seconds(seconds) == name


def test_a_linear_axis_becomes_logarithmic_with_human_ticks(ax):
    ax.plot([1, 86400 * 365.25 * 2], [0, 1])
    plots.seconds_axis(ax)
    assert ax.get_xscale() == "log"
    shown = labels(ax)
    assert {"1 s", "1 min", "1 h", "1 d", "1 mo", "1 y"} <= set(shown)
    assert len(shown) <= 11


def test_a_wide_axis_has_fewer_labels(ax):
    ax.set_xscale("log")
    ax.set_xlim(1e-4, 1e10)
    plots.seconds_axis(ax)
    assert labels(ax) == ["1 ms", "1 s", "1 min", "1 h", "1 d", "1 mo", "1 y", "100 y"]


def test_the_y_axis_and_a_narrow_range(ax):
    ax.plot([0, 1], [30, 1000])
    plots.seconds_axis(ax, axis="y")
    assert ax.get_yscale() == "log"
    assert ax.get_xscale() == "linear"
    assert labels(ax, "y") == ["1 min", "10 min"]


def test_symlog_is_kept_and_shows_the_ties(ax):
    ax.plot([0, 1e5], [0, 1])
    ax.set_xscale("symlog", linthresh=1)
    plots.seconds_axis(ax)
    assert ax.get_xscale() == "symlog"
    assert labels(ax)[:2] == ["0 s", "1 ms"] or "0 s" in labels(ax)


def test_unknown_axis_is_refused(ax):
    with pytest.raises(ValueError, match="'z'"):
        plots.seconds_axis(ax, axis="z")


def test_style_is_readable_and_tells_colours_apart():
    with plt.rc_context():
        plots.use_style()
        assert plt.rcParams["figure.dpi"] == 110
        assert plt.rcParams["axes.labelsize"] >= 10
        colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
        first = [np.array(matplotlib.colors.to_rgb(colour)) for colour in colours[:2]]
        assert np.abs(first[0] - first[1]).max() > 0.3
