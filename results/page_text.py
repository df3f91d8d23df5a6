"""The words and tables of the results page, as Markdown; `build_page.py` has the numbers."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from build_page import Group

METRICS = ("hr@10", "ndcg@10", "mrr@10")
Row = Mapping[str, Any]  # of published.csv (all of it text) or differences.csv
USUAL = ("exact-time", 5)  # the ordering and filter of the summary and of the README
BOTH = (False, True)  # seen items not masked, masked
UNVERIFIED = (
    "\\* The ratings came from a file whose hash is not that of the published one. The published "
    "file may give other figures.\n"
)

INTRODUCTION = """\
# Results

<!-- Made by `python results/build_page.py` from the records beside it. Do not edit. -->

This page shows what the models of this repository reach on MovieLens. Every figure comes from a
recorded run. The last section has the command that repeats it.
"""

SUMMARY = """\
## Summary

### Which film comes next?

NDCG@10 of the test part. The model ranks the whole catalogue for each user. *Masked* means that
films of the user's history are left out of the ranking. Histories are in exact order of time, with
the 5-core filter. *Target time* is what the model receives of the time of the film that it
predicts (see below). Rows in italics are baselines, whose options were chosen with seen films
masked. Compare them with the others in the masked columns. Without masking, most of them rank films
first that the user has already rated, and their order is another one: on MovieLens-1M ALS is below
popularity not masked and above it masked.
"""

SUMMARY_RATINGS = """\
### How many stars?

RMSE of each user's last rating (leave-one-out), in stars, and NDCG@10 of the same models when they
rank the catalogue for that target: by their ranking score if they have one, otherwise by the
predicted rating. A small error in ratings does not make a good ranking.
"""

SUMMARY_PUBLISHED = """\
### Compared with published figures

Test part, seen films not masked, in the order that RecBole gives to histories (`recbole-float32`).
Figures of the other tables are from `exact-time` and must not be compared with these. Where rows
are *shuffled*, the model was trained on MovieLens-1M with the rows of its file in random order, a
control that [01b](../notebooks/deeper/01b_float32_order.ipynb) explains.
"""

READING = """\
## How to read the tables

- **Protocol.** `leave-one-out` tests the last interaction of each user and validates on the one
  before. `global-time` tests each user's first interaction after one moment that is the same for
  all users. `exact-time` orders each history by its timestamps. `recbole-float32` first rounds the
  timestamps to 64 s, as RecBole does. Most published figures use that order. It is an easier task,
  so figures of the two orders cannot be compared. In both, interactions with equal times keep the
  order of the file. On MovieLens-1M that order itself reveals much about the next film
  ([01b](../notebooks/deeper/01b_float32_order.ipynb)). Models that read the same order can be
  compared, but figures are far lower on `ml-1m-shuffled`, the same rows in random order.
- **Catalogue.** Every item of the catalogue is ranked. No negatives are sampled.
- **Target time** is what the model receives of the time of the interaction that it predicts.
  `known`: the timestamp, as published. `hidden`: trained as `known`, tested with a constant
  interval. `previous`: past intervals only. `none`: no time.
- **Masked.** Items of the history are left out of the ranking. Both conditions come from the same
  run.
- **Selection.** Trained models use the epoch with the best validation NDCG@10, seen items not
  masked. The options of the baselines, and the epoch of NeuralCF, were chosen with seen items
  masked. No choice was made on the test part.
- **±** is the standard deviation over seeds (sd) where there are several runs. For a single run it
  is the standard error over users (se). A difference of less than two or three of them means
  nothing.
- **Epochs.** `36 (31)` means that 36 epochs were run and the 31st was chosen. Seconds are the mean
  training time per run, without validation.
- **Options** lists what differs from the preset. Files: [runs.csv](runs.csv) has every metric of
  every run, [differences.csv](differences.csv) every paired difference,
  [by_history.csv](by_history.csv) the RMSE by the number of earlier ratings.
"""

RANKING = """\
## Ranking: all runs

Test figures of each model and target time, without and with masking of seen items.
"""

PUBLISHED = """\
## Published figures

These figures are quoted from others, not measured here. Rows can be compared with each other and
with the runs above only where order, filter, masking and target time agree. SASRec, BERT4Rec and
GRU4Rec of arXiv 2309.07602 were evaluated with seen items left out (`filter_seen` in their
published settings), so their figures belong beside masked `exact-time` figures.
"""

DIFFERENCES = """\
## Differences in ranking

SS4Rec (published configuration) minus other models, paired by user, in thousandths of NDCG@10 on
the test part, with a 95 % paired t interval. Trained models are compared with models of the same
number of epochs, and with the baselines. [differences.csv](differences.csv) also has the other
models that use time. An interval over users and seeds describes the two architectures. An interval
over users alone describes two sets of weights. No interval is corrected for the number of rows. An
interval that includes zero is inconclusive. It does not show that two models are equal.
"""

BY_INTERVAL = """\
## Ranking by the target's interval

NDCG@10 of the test part by the time that passes between the user's last film and the target: *tied*
(the same second), *same sitting* (up to an hour), hours, days, months. Leave-one-out, exact-time,
all films ranked / seen films masked. `python results/by_interval.py` makes these figures anew from
the recorded ranks and the timestamps; [by_interval.json](by_interval.json) also has 95 % intervals
and paired differences.
"""

ABLATIONS = """\
## What single changes do, on validation

These runs differ in one or two options, and most of them are shorter than the runs above. Options
were chosen by this table, so it shows validation figures only (seen items not masked, each model
with its own target time). Records: [ablations/](ablations/). Larger ablations are
[batches](../workflow/README.md#recorded-batches). SS4Rec+ that also reads the hour and the weekday
of the target is in [hour_and_weekday.json](hour_and_weekday.json), which
`python results/hour_and_weekday.py` writes.
"""

RATINGS = """\
## Ratings: all runs

The models receive the user and the film and predict the number of stars.

- Each model learns from the training part and chooses its epoch on the validation part if it has
  one. No choice was made on the test part. No model is fitted again on the validation part. Under
  `leave-one-out` and `global-time`, however, the history that SS4Rec reads before a test rating
  includes the validation part, so it sees a few ratings of the user more than the other models. It
  also receives the time of the rating. Before a validation rating of `leave-one-out` all models
  have seen the same ratings, so the validation RMSE compares equal conditions.
- `random` holds out 10 % of all ratings, without a filter. Test ratings whose user has no earlier
  training rating are left out for every model. `5-fold` is the protocol of most published figures;
  it has no validation part and no filter, and the folds are evaluated together. Under both, a model
  learns from ratings that the same user gave later. Under `leave-one-out` it learns from later
  ratings of other users only, under `global-time` from none.
- **R²** compares with the mean of the training ratings. **Slope** is that of a regression of
  ratings on predictions: 1 if predictions are calibrated, below 1 if they are too spread out.
- **NDCG@10** ranks all items for the same targets, not masked / masked, by the predicted rating
  (not clipped) and by a ranking score if the model has one.
"""

RATING_DIFFERENCES = """\
### Differences in RMSE

SS4Rec minus other models under `leave-one-out`, paired by target, in thousandths of a star, with a
95 % t interval. Below zero SS4Rec has the smaller error. The interval is that of the mean squared
errors, divided by the sum of the two RMSEs.
"""

PROVENANCE = """\
## Where the figures come from, and how to repeat them

Each entry has the machine, the versions, the peak memory and one command per seed. A command runs
in the environment that `make` sets up and writes into a new folder. `ss4rec record FOLDER` keeps
the run here.
"""


# ----------------------------------------------------------------------- small pieces of text


def listed(values: Iterable[Any]) -> str:
    """Return values with commas between them."""
    return ", ".join(map(str, values))


def options_text(options: Mapping[str, Any]) -> str:
    """Return options as `key=value, key=value`, as `--set` reads them."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return ",".join(map(text, value))
        if isinstance(value, bool):
            return str(value).lower()
        return "none" if value is None else str(value)

    return listed(f"{key}={text(value)}" for key, value in options.items())


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def complete(metrics: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Return a metric of every run, or nothing if one of the runs does not have it."""
    values = [each[name] for each in metrics if each.get(name) is not None]
    return values if len(values) == len(metrics) else []


def figure(metrics: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return a metric of several seeds, `0.2060 ± 0.0025 sd`, or of one with its `se`."""
    values = complete(metrics, name)
    if not values:
        return "-"
    text = f"{statistics.mean(values):.4f}"
    if len(values) > 1:
        return f"{text} ± {statistics.stdev(values):.4f} sd"
    error = metrics[0].get(f"{name}_se")
    return text if error is None else f"{text} ± {error:.4f} se"


def is_published_ss4rec(group: Group) -> bool:
    """Return True if nothing but the epochs and the target time differs from the publication."""
    return group.first["display_name"] == "SS4Rec" and group.first["overrides"].keys() <= {
        "epochs",
        "target_time",
    }


def _dataset(group: Group) -> str:
    return group.first["dataset"] + ("" if group.verified else " \\*")


def _protocol(group: Group) -> str:
    """Return data, split, order, filter and catalogue: the heading of a table."""
    protocol = group.protocol
    k = protocol["min_interactions"]
    words = [_dataset(group), protocol["split"], protocol["ordering"] or ""]
    words += [f"{k}-core" if k > 1 else "no filter", f"{protocol['catalogue']:,} items"]
    return listed(word for word in words if word)


def _seconds(group: Group) -> str:
    seconds = statistics.mean(record["seconds"]["train"] for record in group.records)
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"


def _epochs(group: Group) -> str:
    each = [
        f"{r['epochs']} ({r['best_epoch']})" if r["best_epoch"] else str(r["epochs"] or "-")
        for r in group.records
    ]
    return listed(dict.fromkeys(each))


def _options(group: Group) -> str:
    return options_text(group.first["overrides"]) or "-"


def _by_protocol(groups: Sequence[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(_protocol(group), []).append(group)
    return found


def _starred(text: str, groups: Iterable[Group]) -> str:
    return text if all(group.verified for group in groups) else f"{text}\n{UNVERIFIED}"


# -------------------------------------------------------------------------------- summary


CONTROL = "ml-1m-shuffled"  # MovieLens-1M with its rows in random order: no result of its own
SUMMARY_BASELINES, SUMMARY_RATING_MODELS = 2, 7
"""Rows of the summary, which fits on one screen; the full tables have all."""


def _usual(groups: Sequence[Group], task: str) -> dict[str, list[Group]]:
    """Return the groups of the summary by dataset and split, MovieLens-1M first."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        protocol = group.protocol
        usual = protocol["ordering"], protocol["min_interactions"]
        if group.first["task"] != task or usual != USUAL or group.first["dataset"] == CONTROL:
            continue
        if task == "ranking" or protocol["split"] == "leave-one-out":
            found.setdefault(f"{_dataset(group)}, {protocol['split']}", []).append(group)
    return dict(sorted(found.items(), key=lambda item: not item[0].startswith("ml-1m")))


def _representatives(groups: Sequence[Group]) -> dict[tuple[str, str | None], Group]:
    """Return one group per model and its own target time, from runs of comparable length.

    The number of epochs is the one with which most models of the protocol were trained. Where two
    groups are left, the one with more seeds counts, then the one with the better validation.
    """
    budgets = Counter(group.budget for group in groups if not group.is_baseline)
    usual = max(budgets, key=lambda epochs: (budgets[epochs], epochs or 0), default=None)
    found: dict[tuple[str, str | None], Group] = {}
    for group in groups:
        key = group.first["display_name"], group.protocol["target_time"]
        comparable = group.is_baseline or group.budget == usual
        if comparable and (key not in found or rank(group) > rank(found[key])):
            found[key] = group
    return found


def rank(group: Group) -> tuple[int, float]:
    """Return what settings of a model are chosen by: number of seeds, validation NDCG@10."""
    valid = group.metrics("valid", group.protocol["target_time"], False, "score")
    return len(group.seeds), statistics.mean([each["ndcg@10"] for each in valid] or [0.0])


def _mean(group: Group, time: str | None, masked: bool, name: str = "ndcg@10") -> float:
    found = [each[name] for each in group.metrics("test", time, masked, "score")]
    return statistics.mean(found) if found and None not in found else 0.0


def _ranking_summary(groups: Sequence[Group]) -> str:
    columns = {k: _representatives(v) for k, v in _usual(groups, "ranking").items()}
    order: dict[tuple, None] = {}  # model, condition: baselines last, the best first
    rows: dict[tuple, dict[str, Group]] = {}
    for column, found in columns.items():
        of_column = [
            (group.is_baseline, -_mean(group, time, True), group, time)
            for group in found.values()
            if (time := group.protocol["target_time"]) != "previous"
        ]
        for baseline, _, group, time in sorted(of_column, key=lambda item: item[:2]):
            key = baseline, group.first["display_name"], time
            order.setdefault(key)
            rows.setdefault(key, {})[column] = group
    cells = []
    baselines = [key for key in order if key[0]]
    best = baselines[:SUMMARY_BASELINES]
    best += [key for key in baselines if key not in best and key[1] == "Popularity"]
    for key in [*(key for key in order if not key[0]), *best]:
        baseline, name, time = key
        row = [f"*{name}*" if baseline else name, time or "-"]
        for column in columns:
            group = rows[key].get(column)
            for masked in BOTH:
                found = [] if group is None else group.metrics("test", time, masked, "score")
                row.append(figure(found, "ndcg@10") if found else "")
        cells.append(row)
    header = ["model", "target time"]
    header += [f"{c}{', masked' * masked}" for c in columns for masked in BOTH]
    lengths = listed(
        f"{next(iter(g.budget for g in found.values() if not g.is_baseline), 0)} ({column})"
        for column, found in columns.items()
    )
    return f"{markdown(header, cells)}\nEpochs of the trained models: {lengths}.\n"


def _rating_summary(groups: Sequence[Group]) -> str:
    columns = _usual(groups, "rating")
    rows: dict[str, dict[str, Group]] = {}
    for column, found in columns.items():
        for group in found:
            if not group.first["overrides"]:
                rows.setdefault(group.first["display_name"], {})[column] = group
    cells = []
    first = next(iter(columns), "")

    def error(name: str) -> float:
        group = rows[name].get(first)
        time = None if group is None else group.protocol.get("target_time")
        return statistics.mean(
            [each["rmse"] for each in group.metrics("test", time, None, None)] if group else [9.0]
        )

    for name in sorted(rows, key=error)[:SUMMARY_RATING_MODELS]:
        by_column, row = rows[name], [name]
        for column in columns:
            group = by_column.get(column)
            if group is None:
                row += ["", "", ""]
                continue
            time = group.protocol.get("target_time")
            row.append(figure(group.metrics("test", time, None, None), "rmse"))
            for masked in BOTH:
                scored = group.metrics("test", time, masked, "score")
                row.append(
                    figure(scored or group.metrics("test", time, masked, "rating"), "ndcg@10")
                )
        cells.append(row)
    header = ["model"]
    for column in columns:
        dataset = column.split(",")[0]
        header += [f"{dataset} RMSE", f"{dataset} NDCG@10", f"{dataset} NDCG@10, masked"]
    return markdown(header, cells)


def _published_summary(groups: Sequence[Group], published: Sequence[Row]) -> str:
    cells = []
    for group in groups:
        time = group.protocol["target_time"]
        found = group.metrics("test", time, False, "score")
        if group.first["task"] == "ranking" and group.protocol["ordering"] == "recbole-float32":
            seeds = f"{len(group.seeds)} seed{'s' * (len(group.seeds) > 1)}"
            seeds += ", on a GPU" * (group.first["machine"]["device"] == "cuda")
            name = f"{group.first['display_name']}, this repository ({seeds})"
            if group.first["dataset"] == CONTROL:
                name += f", rows shuffled, {group.budget} epochs"
            elif group.first["overrides"]:
                name += f", {options_text(group.first['overrides'])}"
            cells.append([name, time, *(figure(found, m) for m in METRICS)])
    cells += [
        [row["model"], row["target_time"], *(row[m] or "-" for m in METRICS)]
        for row in published
        if row["ordering"] == "recbole-float32" and row["masked"] == "no"
    ]
    cells.sort(key=lambda row: row[3], reverse=True)  # NDCG@10
    return markdown(["model", "target time", *(m.upper() for m in METRICS)], cells)


def readme_table(groups: Sequence[Group]) -> str:
    """Return at most eight rows for the README: MovieLens-1M, not masked and masked.

    The six best trained models (each once with the target's time and once without any), the best
    baseline and popularity.
    """
    columns = _usual(groups, "ranking")
    if not columns:
        return "No run is recorded yet."
    found = list(_representatives(next(iter(columns.values()))).values())
    found.sort(key=lambda group: -_mean(group, group.protocol["target_time"], True))
    trained = [g for g in found if not g.is_baseline and g.protocol["target_time"] != "previous"]
    baselines = [g for g in found if g.is_baseline]
    rows = trained[:6] + baselines[:1]
    rows += [g for g in baselines[1:] if g.first["display_name"] == "Popularity"]
    cells = []
    for group in rows:
        time = group.protocol["target_time"]
        found_metrics = [
            figure(group.metrics("test", time, masked, "score"), name)
            for masked in BOTH
            for name in METRICS[:2]
        ]
        cells.append([group.first["display_name"], time, str(len(group.seeds)), *found_metrics])
    header = ["model", "target time", "seeds", "HR@10", "NDCG@10", "HR@10, masked"]
    text = markdown([*header, "NDCG@10, masked"], cells)
    return (
        f"{text}\n{_protocol(rows[0])}; test part; all items ranked. *Masked*: films that the user "
        "has already rated are left out of the ranking. ± is the standard deviation over seeds "
        f"(sd), or for one seed the standard error over users (se). The trained models had "
        f"{trained[0].budget if trained else 0} epochs. The baselines were tuned with seen films "
        "masked: compare them in the masked columns."
        f"{'' if rows[0].verified else ' ' + UNVERIFIED.strip()}"
    )


# ----------------------------------------------------------------------------- full tables


def _ranking_tables(groups: Sequence[Group]) -> list[str]:
    header = ["model", "options", "target time", "seeds"]
    for masked in BOTH:
        suffix = ", masked" if masked else ""
        header += [f"valid NDCG@10{suffix}", *(f"{name.upper()}{suffix}" for name in METRICS)]
    header += ["train seconds", "epochs"]
    parts = []
    for heading, members in _by_protocol(groups).items():
        rows = []
        for group in members:
            for time in dict.fromkeys(t for _, t, _, _ in group.conditions):
                row = [group.first["display_name"], _options(group), time or "-"]
                row.append(listed(group.seeds))
                for masked in BOTH:
                    row.append(figure(group.metrics("valid", time, masked, "score"), "ndcg@10"))
                    test = group.metrics("test", time, masked, "score")
                    row += [figure(test, name) for name in METRICS]
                rows.append([*row, _seconds(group), _epochs(group)])
        parts.append(f"### {heading}\n\n{_starred(markdown(header, rows), members)}")
    return parts


def _published_table(published: Sequence[Row]) -> str:
    rows = []
    for row in published:
        k = row["min_interactions"]
        core = {"": "", "0": "no filter"}.get(k, f"{k}-core")
        items = f"{int(row['catalogue']):,} items" if row["catalogue"] else ""
        protocol = listed(w for w in (row["split"], row["ordering"], core, items) if w)
        figures = [row[name] or "-" for name in ("valid_ndcg@10", *METRICS, "rmse")]
        rows.append([
            row["dataset"], row["model"], protocol, row["masked"] or "-", row["target_time"] or "-",
            *figures, row["source"],
        ])  # fmt: skip
    header = ["dataset", "model", "protocol", "masked", "target time", "valid NDCG@10"]
    return markdown([*header, *(m.upper() for m in METRICS), "RMSE", "source"], rows)


def _differences_table(differences: Sequence[Row], groups: Sequence[Group]) -> list[str]:
    published = {options_text(g.first["overrides"]) for g in groups if is_published_ss4rec(g)}
    tables: dict[str, dict[tuple, list[str]]] = {}
    names = ["overrides_a", "target_time_a", "display_b", "overrides_b", "target_time_b"]
    for row in differences:
        if row["display_a"] != "SS4Rec" or row["overrides_a"] not in published:
            continue
        k = row["min_interactions"]
        words = [row["dataset"], row["split"], row["ordering"]]
        words += [f"{k}-core" if k > 1 else "no filter", f"{row['catalogue']:,} items"]
        pair = ["SS4Rec", *(row[name] or "-" for name in names), row["interval_over"]]
        rows = tables.setdefault(listed(words), {})  # a row for each pair, masked and not
        rows.setdefault(tuple(row[name] for name in names), pair).append(_interval(row))
    header = ["model", "options", "target time", "minus", "options", "target time"]
    header += ["interval over", "not masked", "masked"]
    return [
        f"### Differences: {heading}\n\n{markdown(header, rows.values())}"
        for heading, rows in tables.items()
    ]


def _interval(row: Mapping[str, Any]) -> str:
    d, low, high = (f"{1000 * row[name]:+.1f}" for name in ("difference", "low", "high"))
    return f"{d} ({low} to {high})"


def _by_interval_tables(stored: Mapping[str, Any]) -> list[str]:
    parts = []
    for dataset, found in stored["datasets"].items():
        rows: dict[tuple, dict[str, list[str]]] = {}
        for each in found["ndcg@10"]:  # not masked before masked
            key = each["model"], each["target_time"], str(len(each["seeds"]))
            rows.setdefault(key, {}).setdefault(each["part"], []).append(f"{each['mean']:.4f}")
        header = ["model", "target time", "seeds"]
        header += [f"{name} ({count:,})" for name, count in found["targets"].items()] + ["all"]
        cells = [[*key, *(" / ".join(v) for v in row.values())] for key, row in rows.items()]
        star = "" if found["data_verified"] else " \\*"
        table = markdown(header, cells)
        heading = f"{dataset}{star}, {found['epochs']} epochs (targets in each part)"
        parts.append(f"### Intervals: {heading}\n\n{table}{UNVERIFIED if star else ''}")
    return parts


def _ablations_tables(groups: Sequence[Group]) -> list[str]:
    header = ["model", "options", "target time", "seeds", *(f"valid {m.upper()}" for m in METRICS)]
    header += ["last train loss", "train seconds"]
    parts = []
    for heading, members in _by_protocol(groups).items():
        rows = []
        for group in members:
            time = group.protocol["target_time"]
            valid = group.metrics("valid", time, False, "score")
            losses = [r["curve"][-1]["train_loss"] for r in group.records if r["curve"]]
            cells = [group.first["display_name"], _options(group), time, listed(group.seeds)]
            cells += [figure(valid, name) for name in METRICS]
            cells += [f"{statistics.mean(losses):.3f}" if losses else "-", _seconds(group)]
            best = statistics.mean([each["ndcg@10"] for each in valid] or [0.0])
            rows.append((-best, cells))
        rows.sort(key=lambda item: item[0])
        table = markdown(header, [cells for _, cells in rows])
        parts.append(f"### Validation: {heading}\n\n{_starred(table, members)}")
    return parts


def _rating_tables(groups: Sequence[Group]) -> list[str]:
    metrics = ("rmse", "mae", "r2", "calibration_slope")
    header = ["model", "options", "seeds", "valid RMSE", "RMSE", "MAE", "R²", "slope"]
    header += ["NDCG@10 by rating", "NDCG@10 by score", "train seconds", "epochs"]
    found: dict[str, list[Group]] = {}
    for group in groups:
        protocol = group.protocol
        words = [_protocol(group)]
        if protocol.get("folds_run", protocol.get("folds")) != protocol.get("folds"):
            words.append(f"{protocol['folds_run']} of {protocol['folds']} folds")
        words += [f"{protocol['n_test']:,} targets"] * bool(protocol.get("n_test"))
        words += [f"{protocol['left_out']:,} left out"] * bool(protocol.get("left_out"))
        found.setdefault(listed(words), []).append(group)
    parts = []
    for heading, members in found.items():
        rows = []
        for group in members:
            time = group.protocol.get("target_time")
            test = group.metrics("test", time, None, None)
            row = [group.first["display_name"], _options(group), listed(group.seeds)]
            row.append(figure(group.metrics("valid", time, None, None), "rmse"))
            row += [figure(test, name) for name in metrics]
            for by in ("rating", "score"):
                both = [figure(group.metrics("test", time, m, by), "ndcg@10") for m in BOTH]
                row.append("-" if both == ["-", "-"] else " / ".join(both))
            rows.append([*row, _seconds(group), _epochs(group)])
        parts.append(f"### Ratings: {heading}\n\n{_starred(markdown(header, rows), members)}")
    return parts


def _rating_differences(differences: Sequence[Row]) -> str:
    names = ("dataset", "display_a", "display_b", "interval_over")
    rows = [[*(row[name] for name in names), _interval(row)] for row in differences]
    header = ["dataset", "model", "minus", "interval over", "RMSE, thousandths"]
    return markdown(header, rows) if rows else ""


# ------------------------------------------------------------------------------ provenance


def _origin(group: Group, published: Sequence[Row]) -> str:
    records, machines = group.records, [record["machine"] for record in group.records]
    places = dict.fromkeys(
        f"{m.get('processor', 'unknown')}, {m.get('cores', '?')} cores, "
        f"{m.get('torch_threads', '?')} thread{'s' * (m.get('torch_threads') != 1)}, "
        f"device {m.get('device', 'unknown')}"
        for m in machines
    )
    torch = dict.fromkeys(record["versions"].get("torch", "unknown") for record in records)
    revisions = dict.fromkeys(record["revision"] or "unknown" for record in records)
    peaks = [record["peak_memory_bytes"] for record in records if record["peak_memory_bytes"]]
    title = f"{_protocol(group)}, {group.first['display_name']}"
    lines = [
        f"**{title}, {_options(group)}**" if group.first["overrides"] else f"**{title}**",
        "",
        "```bash",
        *(record["command"] for record in records),
        "```",
        "",
        f"- machine: {'; '.join(places)}; torch {listed(torch)}",
        f"- revision: {listed(revisions)}",
        *_time_to_published(group, published),
        *([f"- peak resident memory: {max(peaks) / 1e6:,.0f} MB"] if peaks else []),
        f"- records: {listed(f'[{name}](records/{name}.json)' for name in group.names)}",
    ]
    return "\n".join(lines) + "\n"


def _time_to_published(group: Group, published: Sequence[Row]) -> list[str]:
    """Return when each run reached the published validation figures of its protocol."""
    names = ("split", "ordering", "min_interactions", "target_time")
    own = [group.first["dataset"], *(str(group.protocol.get(name)) for name in names)]
    lines = []
    for row in published:
        if [row["dataset"], *(row[name] for name in names)] != own or not row["valid_ndcg@10"]:
            continue
        goal = float(row["valid_ndcg@10"])
        reached = [f"seed {r['seed']}: {_first_reached(r['curve'], goal)}" for r in group.records]
        lines.append(
            f"- training and validation until valid NDCG@10 {goal:.4f} ({row['model']}): "
            f"{'; '.join(reached)}"
        )
    return lines


def _first_reached(curve: Sequence[Mapping[str, Any]], goal: float) -> str:
    seconds = 0.0
    for row in curve:
        seconds += row["train_seconds"] + row["valid_seconds"]
        if row.get("ndcg@10", -math.inf) >= goal:
            return f"{seconds:,.0f} s, epoch {row['epoch']}"
    return "not reached"


def page(
    groups: Sequence[Group],
    ablations: Sequence[Group],
    differences: Sequence[Row],
    published: Sequence[Row],
    by_interval: Mapping[str, Any] | None = None,
) -> str:
    """Return the results page.

    Args:
        groups: The recorded runs, in the order of the tables.
        ablations: The runs that options were chosen by.
        differences: The rows of differences.csv.
        published: The rows of published.csv.
        by_interval: The content of by_interval.json, None where there is no such file.
    """
    ranking, rating = ([g for g in groups if g.first["task"] == t] for t in ("ranking", "rating"))
    parts = [INTRODUCTION]
    if not groups:
        parts.append("No run is recorded yet.\n")
    if _usual(ranking, "ranking"):
        parts += [SUMMARY, _starred(_ranking_summary(ranking), ranking)]
    if _usual(rating, "rating"):
        parts += [SUMMARY_RATINGS, _starred(_rating_summary(rating), rating)]
    if ranking and published:
        parts += [SUMMARY_PUBLISHED, _published_summary(ranking, published)]
    parts.append(READING)
    if ranking:
        parts += [RANKING, *_ranking_tables(ranking)]
    if published:
        parts += [PUBLISHED, _published_table(published)]
    tables = _differences_table([d for d in differences if d["task"] == "ranking"], ranking)
    parts += [DIFFERENCES, *tables] if tables else []
    parts += [BY_INTERVAL, *_by_interval_tables(by_interval)] if by_interval else []
    parts += [ABLATIONS, *_ablations_tables(ablations)] if ablations else []
    if rating:
        parts += [RATINGS, *_rating_tables(rating)]
        table = _rating_differences([d for d in differences if d["task"] == "rating"])
        parts += [RATING_DIFFERENCES, table] if table else []
    if groups:
        parts += [PROVENANCE, *(_origin(group, published) for group in groups)]
    return "\n".join(parts)
