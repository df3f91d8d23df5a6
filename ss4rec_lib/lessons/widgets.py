"""Figures with alternative text, and controls that leave nothing behind in a saved notebook.

Every figure of a lesson is shown by `show`, `explore` or `LiveCurve`. Controls are made only where
a person can move them. A job (papermill, nbval, nbconvert) shows the default state, which is also
what a file, a web page and a printed page hold.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ss4rec_lib.configuration import did_you_mean
from ss4rec_lib.lessons.parameters import LessonError
from ss4rec_lib.lessons.plots import SECONDS_TICKS, format_seconds
from ss4rec_lib.progress import is_live, progress_bar

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
_MARKERS = "os^DvPX*"
_PAUSE = 0.5  # seconds between two updates of a live curve


class FigureError(LessonError):
    """A figure that a reader could not understand, or a control that cannot be made."""


def show(figure: Figure, *, alt: str) -> None:
    """Display a figure once, with a text for readers who do not see it, and close it."""
    _display(*_output(figure, alt))


@dataclass(frozen=True)
class Slider:
    """A number between two bounds; `seconds` shows it as a time such as "1 h"."""

    low: float
    high: float
    default: float
    label: str = ""
    log: bool = False
    step: float | None = None
    seconds: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or not self.low <= self.default <= self.high:
            raise FigureError(f"{self}: expected low < high and a default between them")
        if self.log and self.low <= 0:
            raise FigureError(f"{self}: a logarithmic slider needs low > 0")

    def widget(self, **options: Any) -> Any:
        """Return the slider as a widget."""
        import ipywidgets

        bounds = {"min": self.low, "max": self.high, "value": self.default, **options}
        if self.seconds:
            make = np.geomspace if self.log else np.linspace
            ticks = [t for t in SECONDS_TICKS.values() if self.low <= t <= self.high]
            places = sorted({self.default, *ticks, *make(self.low, self.high, 60).tolist()})
            named = {format_seconds(at): at for at in (*places, *ticks, self.default)}
            pairs = sorted(named.items(), key=lambda pair: pair[1])
            return ipywidgets.SelectionSlider(options=pairs, **options, value=self.default)
        if self.log:
            ends = {"min": np.log10(self.low), "max": np.log10(self.high)}
            step = self.step or _step(ends["min"], ends["max"], np.log10(self.default))
            return ipywidgets.FloatLogSlider(**bounds | ends, step=step, readout_format=".3g")
        if all(isinstance(x, int) for x in (self.low, self.high, self.default, self.step or 1)):
            return ipywidgets.IntSlider(**bounds, step=self.step or 1)
        step = self.step or _step(self.low, self.high, self.default)
        return ipywidgets.FloatSlider(**bounds, step=step, readout_format=".3g")


class Choice:
    """One of several values, shown by their labels."""

    def __init__(
        self, options: Sequence[Any] | Mapping[str, Any], default: Any, label: str = ""
    ) -> None:
        if not isinstance(options, Mapping):
            options = {str(option): option for option in options}
        self.options, self.label = dict(options), label
        pairs = self.options.items()
        found = [name for name, value in pairs if value is default or np.array_equal(name, default)]
        found += [name for name, value in pairs if np.array_equal(value, default)]
        if not found:
            near = did_you_mean(default, self.options)
            raise FigureError(f"{default!r} is no option of {', '.join(self.options)}.{near}")
        self.name, self.default = found[0], self.options[found[0]]

    def widget(self, **options: Any) -> Any:
        """Return a list to choose from."""
        import ipywidgets

        return ipywidgets.Dropdown(options=list(self.options), value=self.name, **options)


@dataclass(frozen=True)
class Toggle:
    """A value that is true or false."""

    default: bool
    label: str = ""

    def widget(self, **options: Any) -> Any:
        """Return a box to tick."""
        import ipywidgets

        return ipywidgets.Checkbox(value=self.default, **options)


def explore(
    draw: Callable[..., Figure | pd.DataFrame | str],
    *,
    alt: str | Callable[..., str] = "",
    **controls: Slider | Choice | Toggle,
) -> None:
    """Display what `draw` returns for the default values; where it is live, controls change it.

    Args:
        draw: Called with a value for each control; returns a figure, a table or text.
        alt: Alternative text of a figure, or a function of the same values that returns it.
        **controls: By name of the argument of `draw`.
    """
    values = {name: control.default for name, control in controls.items()}

    def output() -> tuple[dict[str, Any], dict[str, Any]]:
        return _output(draw(**values), alt(**values) if callable(alt) else alt)

    handle = _display(*output())
    if handle is None or not is_live():
        return
    import ipywidgets
    from IPython.display import display

    def changed(name: str, control: Slider | Choice | Toggle, change: Any) -> None:
        new, before = change["new"], plt.get_fignums()
        values[name] = control.options[new] if isinstance(control, Choice) else new
        try:
            data, metadata = output()
        except Exception as error:  # a traceback would go to a log that nobody reads
            for number in set(plt.get_fignums()).difference(before):
                plt.close(number)
            text = " ".join(str(error).split()) or type(error).__name__
            data, metadata = {"text/plain": f"This cannot be drawn: {text}"}, {}
        handle.update(data, raw=True, metadata=metadata)

    made = []
    look = {"layout": {"width": "34em"}, "style": {"description_width": "12em"}}
    for name, control in controls.items():
        made.append(control.widget(description=control.label or name, **look))
        made[-1].observe(partial(changed, name, control), names="value")
    display(ipywidgets.VBox(made))


class LiveCurve:
    """Curves that grow while models are trained.

        with LiveCurve("Training on MovieLens-100K") as curve:
            fit(model, split, on_epoch=curve.on_epoch("ndcg@10"))

    A job draws them once, at the end.
    """

    def __init__(self, title: str, x: str = "epoch", y: str = "NDCG@10 (validation)") -> None:
        self.title, self.x, self.y = title, x, y
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self._handle, self._drawn = None, 0.0

    def __enter__(self) -> LiveCurve:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Draw the finished curves, also after an interruption."""
        if self.curves and (kind in (None, KeyboardInterrupt) or self._handle is not None):
            self._update()

    def add(self, step: float, **values: float) -> None:
        """Add one point to each of the named curves."""
        for label, value in values.items():
            self.curves.setdefault(label, []).append((float(step), float(value)))
        if is_live() and time.monotonic() - self._drawn >= _PAUSE:
            self._update()

    def on_epoch(self, metric: str, label: str | None = None) -> Callable[[pd.DataFrame], None]:
        """Return a function for `fit(..., on_epoch=)` that adds the last value of a metric."""

        def add(history: pd.DataFrame) -> None:
            last = history.iloc[-1]
            self.add(last["epoch"], **{label or metric: last[metric]})

        return add

    def alt(self) -> str:
        """Return the alternative text: every curve with its first and last value."""
        parts = [
            f"{label}, marker {_MARKERS[i % len(_MARKERS)]}: from {curve[0][1]:.4g} to "
            f"{curve[-1][1]:.4g} at {self.x} {curve[-1][0]:g}"
            for i, (label, curve) in enumerate(self.curves.items())
        ]
        return f"{self.title}: {self.y} by {self.x}. {'; '.join(parts)}."

    def _update(self) -> None:
        figure, ax = plt.subplots()
        for i, (label, curve) in enumerate(self.curves.items()):
            marker = _MARKERS[i % len(_MARKERS)] if len(curve) <= 40 else ""
            ax.plot(*zip(*curve, strict=True), marker=marker, label=label)
        ax.set(title=self.title, xlabel=self.x, ylabel=self.y)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(self.curves) > 1:
            ax.legend()
        output = _output(figure, self.alt())
        if self._handle is None:
            self._handle = _display(*output)
        else:
            self._handle.update(output[0], raw=True, metadata=output[1])
        self._drawn = time.monotonic()


def track(iterable: Iterable[T], label: str = "", **options: Any) -> Iterable[T]:
    """Go through `iterable` with a progress bar."""
    return progress_bar(iterable, desc=label, **options)


def _step(low: float, high: float, default: float) -> float:
    """Return about a hundredth of the range; the slider rounds its value, the default too."""
    steps = round(100 * (default - low) / (high - low))
    return (default - low) / steps if steps else (high - low) / 100


def _output(made: Any, alt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the data and metadata of an output."""
    if isinstance(made, str):
        return {"text/plain": made}, {}
    if not isinstance(made, Figure):
        return {"text/plain": str(made), "text/html": made.to_html()}, {}
    plt.close(made)
    texts = [ax.get_title(loc) for ax in made.axes for loc in ("left", "center", "right")]
    title = next(filter(None, [made.get_suptitle(), *texts]), None)
    if title is None:
        raise FigureError("the figure has no title: call ax.set_title(...) or fig.suptitle(...)")
    if not alt.strip():
        raise FigureError(f"the figure {title!r} has no alternative text: pass alt='what it shows'")
    file = io.BytesIO()
    tight = None if made.get_layout_engine() else "tight"
    made.savefig(file, format="png", dpi=made.dpi, bbox_inches=tight)
    picture = base64.b64encode(file.getvalue()).decode()
    name = f"<Figure with {len(made.axes)} Axes>"
    return {"image/png": picture, "text/plain": name}, {"image/png": {"alt": " ".join(alt.split())}}


def _display(data: dict[str, Any], metadata: dict[str, Any]) -> Any:
    """Display an output; return its handle, or None in a plain script."""
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        return print(data["text/plain"])
    return display(data, raw=True, metadata=metadata, display_id=True)
