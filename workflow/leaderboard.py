"""The leaderboard of an experiment: means over seeds, intervals, and paired differences.

`leaderboard.md` is to be read, `leaderboard.csv` has the same numbers unrounded, a line per row and
metric, and `leaderboard.png` shows every seed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from results.page_text import markdown
from ss4rec_lib.evaluation import standard_error
from ss4rec_lib.experiments import ExperimentError, compare, evaluation_of
from ss4rec_lib.files import whole_file, write_text

if TYPE_CHECKING:
    from workflow.experiment import Plan

Records = Mapping[str, Mapping[str, Any]]  # by the name of the job
SMALLER_IS_BETTER = ("rmse", "mae", "seconds", "loss")
MOST_ROWS = 40  # of the picture


def write_leaderboard(plan: Plan, records: Records, store: Path, folder: Path) -> str:
    """Write the three files into a folder and return the table as text."""
    found = table(plan, records, store)
    text = as_markdown(found)
    parts = [f"# {plan.name}", plan.experiment.description.strip(), text]
    parts += [notes(plan, found, records)]
    write_text(folder / "leaderboard.md", "\n\n".join(filter(None, parts)) + "\n")
    write_text(folder / "leaderboard.csv", found.to_csv(index=False, lineterminator="\n"))
    picture(plan, found, folder / "leaderboard.png")
    return text


def table(plan: Plan, records: Records, store: Path) -> pd.DataFrame:
    """Return a line per row, metric and condition, the best row first.

    `low` and `high` are the 95 % interval of the mean: over seeds (Student's t) where two or more
    differ, else over users by the metric's standard error. `difference` is the row minus the one
    that it is compared with; `over` says what its interval counts.
    """
    rank, lines = plan.leaderboard, []
    masks = rank.masked if "config" in plan.jobs[0].spec else (None,)
    for metric in plan.metrics:
        for masked in masks if "@" in metric else masks[:1]:
            for row in plan.rows:
                jobs = [job for job in plan.jobs if job.row == row and job.name in records]
                by_seed = {j.seed: _value(records[j.name], plan, metric, masked) for j in jobs}
                values = [value for value, _ in by_seed.values() if value is not None]
                errors = [error for _, error in by_seed.values() if error is not None]
                line = {"row": row, "metric": metric, "masked": masked if "@" in metric else None}
                line |= {"seeds": len(values), "of": len(plan.experiment.seeds)}
                line |= _spread(values, errors) | {"values": values}
                line |= {"seconds": np.mean([_wall(records[j.name]) for j in jobs] or [math.nan])}
                lines.append(line)
    found: Any = pd.DataFrame(lines)
    first = found.drop_duplicates("row")  # the first metric under the first condition
    ranked = first.sort_values("mean", ascending=_smaller(plan.metrics[0]), kind="stable")["row"]
    order = {row: place for place, row in enumerate(ranked)}
    found = found.sort_values("row", key=lambda rows: rows.map(order), kind="stable")
    against = rank.against or next(iter(ranked))
    differences = [
        _difference(plan, line, against, records, store) for line in found.to_dict("records")
    ]
    found = found.reset_index(drop=True).join(pd.DataFrame(differences))
    found["values"] = [" ".join(f"{value:.6g}" for value in values) for values in found["values"]]
    return found


def _smaller(metric: str) -> bool:
    return any(word in metric for word in SMALLER_IS_BETTER)


def _value(
    record: Mapping[str, Any], plan: Plan, metric: str, masked: bool | None
) -> tuple[float | None, float | None]:
    """Return a metric of a record and its standard error over users, None where it has none."""
    if record["task"] == "lesson":
        metrics = record["evaluations"][0]["metrics"]
    else:
        time, seen = plan.leaderboard.target_time, masked if "@" in metric else None
        metrics = evaluation_of(dict(record), plan.leaderboard.part, time, seen) or {}
    return metrics.get(metric), metrics.get(f"{metric}_se")


def _wall(record: Mapping[str, Any]) -> float:
    return record["seconds"].get("wall") or math.nan


def _spread(values: Sequence[float], errors: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation over seeds, and the 95 % interval of the mean."""
    n, sd, half = len(values), math.nan, math.nan
    mean = float(np.mean(values)) if n else math.nan
    if n > 1 and (len(set(values)) > 1 or not errors):
        error = standard_error(np.array(values))
        sd, half = error * math.sqrt(n), float(stats.t.ppf(0.975, n - 1)) * error
    elif n and errors:
        half = 1.96 * errors[0]
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}


def _difference(
    plan: Plan, line: Mapping[str, Any], against: str, records: Records, store: Path
) -> dict[str, Any]:
    """Return a row minus another, paired by user and seed where possible, else by seed."""
    empty = {"against": against, "difference": math.nan, "from": math.nan, "to": math.nan}
    if line["row"] == against:
        return empty | {"over": None}
    of = {
        row: {j.seed: j for j in plan.jobs if j.row == row and j.name in records}
        for row in (line["row"], against)
    }
    mine, other = of[line["row"]], of[against]
    if "config" in plan.jobs[0].spec and plan.leaderboard.part == "test" and mine and other:
        a, b = ([store / "jobs" / job.name for job in side.values()] for side in (mine, other))
        time, masked = plan.leaderboard.target_time, bool(line["masked"])
        how = {"masked": masked, "target_time_a": time, "target_time_b": time}
        try:
            found = compare(a, b, line["metric"], **how)
        except ExperimentError:  # other targets: another split, catalogue or order of time
            pass
        else:
            ends = {"difference": found.difference, "from": found.low, "to": found.high}
            return empty | ends | {"over": found.interval_over}
    pairs = []
    for seed in mine.keys() & other.keys():
        a, b = (
            _value(records[side[seed].name], plan, line["metric"], line["masked"])[0]
            for side in (mine, other)
        )
        if a is not None and b is not None:
            pairs.append(a - b)
    found = _spread(pairs, [])
    ends = {"difference": found["mean"], "from": found["low"], "to": found["high"]}
    return empty | ends | {"over": "seeds" if len(pairs) > 1 else None}


def _condition(metric: str, masked: Any) -> str:
    """Return a metric in capitals and, where it is true, `masked`; it may be missing in a table."""
    name = metric.upper() if re.fullmatch(r"\w+@\d+|rmse|mae|r2", metric) else metric
    return f"{name}, masked" if masked is True or masked == 1 else name


def as_markdown(found: pd.DataFrame) -> str:
    """Return the table: a column per metric and condition, and the difference of the first."""
    lines = []
    for row, group in found.groupby("row", sort=False):
        line = {"": row, "seeds": f"{group['seeds'].max()} of {group['of'].max()}"}
        for entry in group.to_dict("records"):
            line[_condition(entry["metric"], entry["masked"])] = _figure(entry)
        first = group.iloc[0]
        against = first["against"]
        text = ""
        if row != against and first["difference"] == first["difference"]:
            text = f"{first['difference']:+.4f}"
            if first["from"] == first["from"]:
                text += f" ({first['from']:+.4f} to {first['to']:+.4f})"
        line[f"{_condition(str(first['metric']), None)} minus {against}"] = text
        line["seconds"] = "-" if math.isnan(first["seconds"]) else f"{first['seconds']:.0f}"
        lines.append(line)
    rows = [[str(value).replace("|", "\\|") for value in line.values()] for line in lines]
    return markdown([str(name) for name in lines[0]], rows).rstrip()


def _figure(entry: Mapping[str, Any]) -> str:
    mean, sd, half = entry["mean"], entry["sd"], entry["high"] - entry["mean"]
    if math.isnan(mean):
        return "-"
    if not math.isnan(sd):
        return f"{mean:.4f} ± {sd:.4f} sd"
    return f"{mean:.4f}" if math.isnan(half) else f"{mean:.4f} ± {half / 1.96:.4f} se"


def notes(plan: Plan, found: pd.DataFrame, records: Records) -> str:
    """Return what must be known to read the table."""
    rank, one = plan.leaderboard, next(iter(records.values()))
    training = "config" in plan.jobs[0].spec
    lines = []
    if training:
        protocol = one["protocol"]
        words = (protocol.get("split"), protocol.get("ordering"))
        what = ", ".join(str(word) for word in (one["dataset"], *words) if word)
        part = "Test part" if rank.part == "test" else "Validation part"
        lines.append(f"{part}; the first run: {what}. *Masked*: items that the user has seen are "
                     "left out of the ranking.")  # fmt: skip
    lines.append(
        "± is the standard deviation over seeds (sd), or for one seed, and where no seed changes "
        "the figure, the standard error over users (se). *seconds*: wall time of a run, mean."
    )
    over = ", ".join(dict.fromkeys(found["over"].dropna()))
    if over:
        lines.append(
            f"Differences have 95 % intervals over {over}. Where no difference is real, one "
            "interval in twenty leaves out zero by chance."
        )
    revisions = sorted({str(record.get("revision"))[:7] for record in records.values()})
    lines.append(f"Revisions of the code: {', '.join(revisions)}.")
    return "\n\n".join(lines)


def picture(plan: Plan, found: pd.DataFrame, path: Path) -> None:
    """Draw the first metric: seeds, mean and interval of each row, and the differences."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from ss4rec_lib.lessons import use_style

    use_style()
    conditions = found.query("metric == @plan.metrics[0]")
    rows = list(dict.fromkeys(conditions["row"]))[:MOST_ROWS]
    shown = conditions.query("row in @rows")
    groups: list[Any] = [group for _, group in shown.groupby("masked", dropna=False)]
    places, size = np.arange(len(rows)), (11.5, (1.5 + 0.35 * len(rows)) * len(groups))
    figure, axes = plt.subplots(len(groups), 2, figsize=size, squeeze=False, sharey=True)
    for (left, right), lines in zip(axes, groups, strict=True):
        name = _condition(plan.metrics[0], lines["masked"].iloc[0])
        for place, line in zip(places, lines["values"], strict=True):
            seeds = [float(value) for value in line.split()]
            left.plot(seeds, [place] * len(seeds), "o", color="C0", alpha=0.5, markersize=5)
        bars = {"color": "black", "markersize": 12, "capsize": 3}
        half = (lines["high"] - lines["mean"]).fillna(0)
        left.errorbar(lines["mean"], places, xerr=half, fmt="|", **bars)
        left.set(xlabel=name, yticks=places, yticklabels=[_shorter(row) for row in rows])
        left.set_title("each seed; mean, 95 %")
        half = [lines["difference"] - lines["from"], lines["to"] - lines["difference"]]
        half = [side.fillna(0) for side in half]
        right.errorbar(lines["difference"], places, xerr=half, fmt="o", color="C1", capsize=3)
        right.axvline(0, color="black", linewidth=1)
        right.set(xlabel=f"difference of {name}", ylim=(len(rows) - 0.5, -0.5))
        right.set_title(f"minus {_shorter(str(lines['against'].iloc[0]))}")
    if len(plan.rows) > MOST_ROWS:
        figure.suptitle(f"the best {MOST_ROWS} of {len(plan.rows)} rows")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


def _shorter(text: str) -> str:
    return text if len(text) <= 42 else f"{text[:39]}..."
