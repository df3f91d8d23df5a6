"""Figures, controls and live curves, in a kernel without a person and in one with."""

from __future__ import annotations

import base64
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ss4rec_lib import progress
from ss4rec_lib.lessons import Choice, FigureError, LiveCurve, Slider, Toggle, explore, show, track
from ss4rec_lib.lessons import widgets as module


@pytest.fixture(autouse=True)
def no_windows():
    with matplotlib.rc_context():
        matplotlib.use("Agg")
        yield
    assert plt.get_fignums() == [], "a figure stayed open and would be shown once more"


class Handle:
    def __init__(self, outputs: list) -> None:
        self.outputs = outputs

    def update(self, data: dict, *, raw: bool, metadata: dict) -> None:
        assert raw
        self.outputs.append((data, metadata))


@pytest.fixture
def outputs(monkeypatch) -> list[tuple[dict, dict]]:
    """Every state of the outputs that were displayed, one after another."""
    found: list = []

    def display(data: dict, metadata: dict) -> Handle:
        found.append((data, metadata))
        return Handle(found)

    monkeypatch.setattr(module, "_display", display)
    return found


@pytest.fixture
def live(monkeypatch) -> list[Any]:
    """Make the front end a live one; return the boxes of controls that it shows."""
    boxes: list = []
    monkeypatch.setattr(module, "is_live", lambda: True)
    monkeypatch.setattr("IPython.display.display", boxes.append)
    return boxes


def line(height: float = 1.0, title: str = "A line"):
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, height])
    ax.set_title(title)
    return figure


class TestShow:
    def test_a_picture_with_its_text_and_closed(self, outputs):
        show(line(), alt="A line from\n  0 to 1.")
        ((data, metadata),) = outputs
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
        assert metadata == {"image/png": {"alt": "A line from 0 to 1."}}
        assert data["text/plain"] == "<Figure with 1 Axes>"

    def test_without_text_or_title_it_is_refused(self, outputs):
        with pytest.raises(FigureError, match="'A line' has no alternative text"):
            show(line(), alt="  ")
        with pytest.raises(FigureError, match="no title"):
            show(line(title=""), alt="A line.")
        assert outputs == []

    def test_a_title_above_all_axes_is_enough(self, outputs):
        figure = line(title="")
        figure.suptitle("Together")
        show(figure, alt="A line.")
        assert len(outputs) == 1

    def test_a_plain_script_prints_a_line(self, capsys):
        show(line(), alt="A line.")
        assert capsys.readouterr().out == "<Figure with 1 Axes>\n"


def draw(height, kind, dashed):
    if kind == "table":
        return pd.DataFrame({"a": [height]})
    figure = None if kind == "text" else line(height)
    if kind is None:
        raise ValueError("no kind\nof line")
    return figure or str(dashed)


CONTROLS = {
    "height": Slider(1, 10, 2, "how high"),
    "kind": Choice({"a figure": "figure", "table": "table", "text": "text", "-": None}, "figure"),
    "dashed": Toggle(False, "dashed?"),
}


def text(height, kind, dashed):
    return f"A line of height {height}."


class TestExplore:
    def test_a_job_shows_the_default_state_and_makes_no_widget(self, outputs, monkeypatch):
        for control in (Slider, Choice, Toggle):
            monkeypatch.setattr(control, "widget", lambda *_, **__: pytest.fail("a widget"))
        explore(draw, alt=text, **CONTROLS)
        ((data, metadata),) = outputs
        assert "image/png" in data
        assert metadata["image/png"]["alt"] == "A line of height 2."

    def test_controls_change_the_same_output(self, outputs, live):
        explore(draw, alt=text, **CONTROLS)
        (box,) = live
        height, kind, dashed = box.children
        assert [c.description for c in box.children] == ["how high", "kind", "dashed?"]
        height.value = 7
        assert outputs[-1][1]["image/png"]["alt"] == "A line of height 7."
        assert outputs[-1][0]["image/png"] != outputs[0][0]["image/png"]
        kind.value = "table"
        assert "<table" in outputs[-1][0]["text/html"]
        kind.value, dashed.value = "text", True
        assert outputs[-1] == ({"text/plain": "True"}, {})
        assert len(outputs) == 5

    def test_an_error_is_one_sentence_and_the_next_state_is_drawn(self, outputs, live):
        explore(draw, alt=text, **CONTROLS)
        live[0].children[1].value = "-"
        assert outputs[-1] == ({"text/plain": "This cannot be drawn: no kind of line"}, {})
        live[0].children[1].value = "a figure"
        assert "image/png" in outputs[-1][0]

    def test_an_error_in_the_default_state_is_raised(self, outputs, live):
        with pytest.raises(ValueError, match="no kind"):
            explore(draw, alt="x", **CONTROLS | {"kind": Choice({"-": None}, None)})
        plt.close()
        assert live == []


class TestControls:
    def test_times_have_names_and_the_default_is_among_them(self):
        slider = Slider(1, 315_576_000, 7200, log=True, seconds=True).widget()
        labels, values = zip(*slider.options, strict=True)
        assert {"1 s", "1 min", "1 h", "1 d", "1 y", "10 y", "2 h"} <= set(labels)
        assert slider.value == 7200 and labels[0] == "1 s" and labels[-1] == "10 y"
        assert list(values) == sorted(values) and len(labels) == len(set(labels))

    def test_whole_numbers_stay_whole(self):
        slider = Slider(1, 5, 3).widget()
        slider.value = 4
        assert type(slider.value) is int
        assert Slider(0.0, 1.0, 0.5).widget().step == 0.01

    def test_logarithmic(self):
        slider = Slider(1e-3, 10, 0.1, log=True).widget()
        assert slider.value == pytest.approx(0.1)
        assert (slider.min, slider.max) == pytest.approx((-3, 1))

    @pytest.mark.parametrize(
        "slider",
        [Slider(0.0, 9.0, 4.0), Slider(-2.0, -0.01, -0.5), Slider(0.01, 0.99, 0.99),
         Slider(1e-7, 1.0, 0.1, log=True), Slider(1e-3, 1.0, 1e-3, log=True)],
    )  # fmt: skip
    def test_the_default_is_a_whole_number_of_steps_because_a_browser_rounds_to_steps(self, slider):
        made = slider.widget()
        at = np.log10(made.value) if slider.log else made.value
        steps = (at - made.min) / made.step
        assert steps == pytest.approx(round(steps))
        assert 60 < (made.max - made.min) / made.step < 140

    def test_a_choice_is_named_by_label_or_value(self):
        options = {"a": np.arange(2), "b": np.arange(3)}
        assert Choice(options, "b").default is options["b"]
        assert Choice(options, np.arange(2)).name == "a"
        assert Choice([10, 20], 20).widget().value == "20"

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Slider(1, 1, 1), "low < high"),
            (lambda: Slider(1, 2, 3), "between"),
            (lambda: Slider(0, 2, 1, log=True), "low > 0"),
            (
                lambda: Choice(["linear", "log"], "lin"),
                "'lin' is no option of linear, log.*'linear'",
            ),
        ],
    )
    def test_what_cannot_be_made_is_refused(self, make, message):
        with pytest.raises(FigureError, match=message):
            make()


class TestLiveCurve:
    def test_a_job_draws_once_at_the_end(self, outputs):
        with LiveCurve("Two models", y="NDCG@10") as curve:
            for epoch in (1, 2):
                curve.add(epoch, **{"with time": 0.02 * epoch, "without": 0.01})
            assert outputs == []
        ((data, metadata),) = outputs
        assert "image/png" in data
        assert metadata["image/png"]["alt"] == (
            "Two models: NDCG@10 by epoch. with time, marker o: from 0.02 to 0.04 at epoch 2; "
            "without, marker s: from 0.01 to 0.01 at epoch 2."
        )

    def test_live_it_follows_twice_a_second_and_ends_complete(self, outputs, live, monkeypatch):
        now = [100.0]
        monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
        with LiveCurve("A model") as curve:
            for epoch in range(1, 6):
                now[0] += 0.3
                curve.add(epoch, model=0.1 * epoch)
            assert len(outputs) == 3
        assert len(outputs) == 4
        assert "from 0.1 to 0.5 at epoch 5" in outputs[-1][1]["image/png"]["alt"]

    def test_the_axis_has_whole_epochs_after_the_first_one_too(self, outputs, monkeypatch):
        drawn = []
        monkeypatch.setattr(module, "_output", lambda fig, alt: drawn.append(fig) or ({}, {}))
        monkeypatch.setattr(module, "_display", lambda *_: None)
        with LiveCurve("A model") as curve:
            curve.add(1, model=0.5)
        (low, high), ticks = drawn[0].axes[0].get_xlim(), drawn[0].axes[0].get_xticks()
        assert [tick for tick in ticks if low <= tick <= high] == [1]
        plt.close(drawn[0])

    def test_it_reads_the_history_of_fit(self, outputs):
        rows = [{"epoch": 1, "ndcg@10": 0.5}, {"epoch": 2, "ndcg@10": 0.6}]
        with LiveCurve("A model") as curve:
            follow, named = curve.on_epoch("ndcg@10"), curve.on_epoch("ndcg@10", label="S5")
            for n in (1, 2):
                follow(pd.DataFrame(rows[:n]))
                named(pd.DataFrame(rows[:n]))
        assert curve.curves == {"ndcg@10": [(1, 0.5), (2, 0.6)], "S5": [(1, 0.5), (2, 0.6)]}

    def test_an_error_passes_and_draws_nothing_but_an_interruption_does(self, outputs):
        for error, count in ((ValueError, 0), (KeyboardInterrupt, 1)):
            with pytest.raises(error), LiveCurve("A model") as curve:  # noqa: PT012
                curve.add(1, model=0.1)
                raise error
            assert len(outputs) == count
        with LiveCurve("Nothing"):
            pass
        assert len(outputs) == 1


class TestProgress:
    def test_a_terminal_has_a_bar_that_can_be_turned_off(self, capsys, monkeypatch):
        monkeypatch.delenv("TQDM_DISABLE", raising=False)
        assert list(track([1, 2], "counting")) == [1, 2]
        assert "counting: 100%" in capsys.readouterr().err
        monkeypatch.setenv("TQDM_DISABLE", "1")
        assert list(track([1, 2], "counting")) == [1, 2]
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("allowed", [True, False])
    def test_the_request_tells_whether_a_person_is_there(self, allowed, monkeypatch):
        assert not progress.is_live()
        assert progress.is_live(otherwise=True)

        class Shell:
            class kernel:
                @staticmethod
                def get_parent():
                    return {"content": {"allow_stdin": allowed}}

        monkeypatch.setattr("IPython.get_ipython", Shell)
        assert progress.is_live() is progress.is_live(otherwise=True) is allowed
