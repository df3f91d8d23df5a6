"""The table of the recorded rating experiments, and the commands that make them again."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ss4rec_lib.experiments.cells import markdown, over_seeds
from ss4rec_lib.experiments.changes import as_text
from ss4rec_lib.experiments.labels import dataset_of
from ss4rec_lib.experiments.rating_differences import compare_ratings
from ss4rec_lib.experiments.rating_results import (
    RatingGroup,
    changed_options,
    rating_command,
    rating_groups,
)

_METRICS = ("rmse", "mae", "r2", "calibration_slope")

_READING = """\
- Each model learns from the training part, may choose its epoch by the validation part, and is
  judged on the test part once. Nothing is fitted anew on the validation part, but under
  `leave-last-out` and `global-time` the history that SS4Rec reads before a test rating goes on
  until then: it knows a few ratings of the user more than the models of users and items do. It is
  also told when the rating was given. Before a validation rating of `leave-last-out` all models
  have seen the same ratings: there the valid RMSE compares like with like.
- `random`: 90/10 of all ratings, no filter; test ratings whose user has no earlier training rating
  are left out for every model. `5-fold`: as most published figures are made, no validation part,
  no filter; the folds are judged together. Both let a model learn from what the user rated after
  the rating it is asked for. `leave-last-out` (each user's last rating) lets it learn from what
  others rated later, `global-time` (each user's first rating after one moment) from nothing later.
- **R²** compares with the mean of the training ratings. **Calibration slope** is that of ratings on
  predictions: 1 when a prediction means what it says, below 1 when predictions are too spread out.
- **NDCG@10** ranks all items for the same targets, unmasked / items of the history masked: by the
  rating that the model expects (not clipped), and by scores of its own where it has any.
- **±** is the standard deviation over seeds (sd) where there are several, else the standard error
  over users (se) of the one run.
"""


_DIFFERENCES = """\
SS4Rec's RMSE minus that of the other models, leave-last-out, target by target: in thousandths of
a star, with its 95 % interval; below zero SS4Rec errs less. An interval over users and seeds says
what holds for these architectures; one over users alone speaks of two fitted models. None is
corrected for the number of figures.
"""


def ratings_table(
    records: Mapping[str, dict[str, Any]], errors: Mapping[str, np.ndarray] | None = None
) -> str:
    """The rating experiments as tables, and beneath them the command of every run.

    Args:
        records: By name, as `rating_results.load_rating_records` gives them.
        errors: Their squared errors by name, as `rating_differences.load_errors` gives them; None
            leaves differences out.

    Returns:
        Markdown without a heading; a sentence when there is no record.

    Raises:
        ExperimentError: Two records of the same run.
    """
    if not records:
        return "No rating experiment is recorded yet.\n"
    groups = rating_groups(records)
    header = ["dataset", "split", "model", "settings", "valid RMSE", "RMSE", "MAE", "R²"]
    header += ["calibration slope", "NDCG@10 by rating", "NDCG@10 by score"]
    header += ["train seconds", "epochs", "seeds"]
    commands = [
        rating_command(record, name)
        for group in groups
        for name, record in zip(group.names, group.records, strict=True)
    ]
    parts = [_READING, markdown(header, [_row(group) for group in groups])]
    if not all(record["data_verified"] for record in records.values()):
        parts.append(
            "\\* From a file of ratings that is not the published one by its hash, so these "
            "figures may differ from what the published file would give.\n"
        )
    differences = differences_table(groups, errors or {})
    parts += [_DIFFERENCES, differences] if differences else []
    return "\n".join([*parts, "```bash", *commands, "```\n"])


def differences_table(groups: Sequence[RatingGroup], errors: Mapping[str, np.ndarray]) -> str:
    """SS4Rec minus the others, a row for each pair; empty if nothing can be compared."""
    rows = [
        [
            dataset_of(found.a),
            *(_named(group) for group in (found.a, found.b)),
            f"{1000 * found.difference:+.1f} ({1000 * found.low:+.1f} to {1000 * found.high:+.1f})",
            found.counts,
        ]
        for found in compare_ratings(groups, errors)
    ]
    header = ["dataset", "this", "minus", "RMSE, thousandths", "interval over"]
    return markdown(header, rows) if rows else ""


def _named(group: RatingGroup) -> str:
    return ", ".join([group.first["model"], *_changes(group)])


def _changes(group: RatingGroup) -> list[str]:
    return [f"{key}={as_text(value)}" for key, value in changed_options(group.first).items()]


def _row(group: RatingGroup) -> list[str]:
    valid, tests = ([record[part] for record in group.records] for part in ("valid", "test"))
    seconds = statistics.mean(record["train_seconds"] for record in group.records)
    epochs = dict.fromkeys(_epochs(record) for record in group.records)
    return [
        dataset_of(group),
        _split(group.first["protocol"]),
        group.first["model"],
        ", ".join(_changes(group)) or "default",
        _figure(valid if all(valid) else [], "rmse"),
        *(_figure(tests, name) for name in _METRICS),
        *(_both_rankings(group, by) for by in ("rating", "score")),
        f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}",
        ", ".join(epochs),
        ", ".join(str(record["seed"]) for record in group.records),
    ]


def _figure(metrics: Sequence[Mapping[str, Any]], name: str) -> str:
    if not metrics or any(each[name] is None for each in metrics):
        return "-"  # the calibration line of one prediction for all
    return over_seeds(metrics, name)


def _both_rankings(group: RatingGroup, by: str) -> str:
    cells = [_figure(group.ranking(by, masked), "ndcg@10") for masked in (False, True)]
    return "-" if cells == ["-", "-"] else " / ".join(cells)


def _epochs(record: Mapping[str, Any]) -> str:
    best = record["best_epoch"]
    return f"{record['epochs']}" if best is None else f"{record['epochs']} ({best})"


def _split(protocol: Mapping[str, Any]) -> str:
    """The split with what a figure must name: order, filter, how many targets, how many not."""
    k, words = protocol["min_interactions"], [protocol["split"]]
    words += [protocol["ordering"]] * (protocol["ordering"] is not None)
    words.append(f"{k}-core" if k > 1 else "no filter")
    if protocol.get("folds_run", protocol.get("folds")) != protocol.get("folds"):
        words.append(f"{protocol['folds_run']} of {protocol['folds']} folds")
    words.append(f"{protocol['n_test']:,} targets")
    words += [f"{protocol['left_out']:,} left out"] * bool(protocol["left_out"])
    return ", ".join(words)
