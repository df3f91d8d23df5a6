"""Build the results page and its CSV files from the recorded runs.

    records/NAME.json       one run: ranking or rating, complete in itself
    per_target/NAME.npz     its values for every test target
    ablations/NAME.json     runs that options were chosen by, without per-target values
    published.csv           figures of others, with their protocol and source
    by_interval.json        NDCG@10 by the target's interval, made by `by_interval.py`

become README.md (`page_text.py` has its words), runs.csv (one row per group of seeds and
evaluation), differences.csv (paired differences of two models) and by_history.csv (RMSE by the
number of earlier ratings). `python results/build_page.py` writes them; `--check` only reports what
is out of date. Exit status: 0, 1 for out-of-date files with `--check`, 2 for a record that cannot
be used. Such a record is reported with its field and left out.

Only json, pandas and NumPy are needed: everything that is shown stands in the records.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
import page_text

FORMAT = 2
LEVEL = 0.95
# Options that say how a run was carried out, not what was computed.
INCIDENTAL = ("seed", "device", "checkpoint_seconds")
PROTOCOL = ("split", "ordering", "min_interactions", "catalogue")
KS = (1, 5, 10, 20)
RANKING_METRICS = tuple(f"{name}@{k}" for k in KS for name in ("hr", "ndcg", "mrr"))
RATING_METRICS = ("rmse", "mae", "r2", "calibration_slope", "calibration_intercept")
PUBLISHED = ("task", "dataset", "model", *PROTOCOL, "masked", "target_time", "valid_ndcg@10")
PUBLISHED += ("hr@10", "ndcg@10", "mrr@10", "rmse", "source")
SPLITS = ("leave-one-out", "global-time", "random", "5-fold")

NUMBER, OPTIONAL_INT, OPTIONAL_TEXT = (int, float), (int, type(None)), (str, type(None))
REQUIRED: Mapping[str, Any] = {
    "task": str, "dataset": str, "model": str, "display_name": str, "overrides": dict,
    "uses_time": bool, "seed": int, "protocol": dict, "protocol.split": str,
    "protocol.ordering": OPTIONAL_TEXT, "protocol.min_interactions": int,
    "protocol.catalogue": int, "data_verified": bool, "config": dict, "config.model": dict,
    "config.training": dict, "evaluations": list, "selection": dict,
    "selection.metric": OPTIONAL_TEXT, "selection.masked": (bool, type(None)),
    "epochs": OPTIONAL_INT, "best_epoch": OPTIONAL_INT, "seconds": dict, "seconds.train": NUMBER,
    "peak_memory_bytes": OPTIONAL_INT, "machine": dict, "versions": dict,
    "revision": OPTIONAL_TEXT, "command": str, "curve": list,
}  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed, by ascending seed."""

    names: list[str]
    records: list[dict[str, Any]]

    @property
    def first(self) -> dict[str, Any]:
        """The record of the lowest seed, for everything that the runs share."""
        return self.records[0]

    @property
    def protocol(self) -> dict[str, Any]:
        """The protocol that the runs share."""
        return self.first["protocol"]

    @property
    def seeds(self) -> list[int]:
        """The seeds, ascending."""
        return [record["seed"] for record in self.records]

    @property
    def verified(self) -> bool:
        """True if the ratings of all runs were the published ones, by hash."""
        return all(record["data_verified"] for record in self.records)

    @property
    def budget(self) -> int | None:
        """Epochs that the runs could use; None for models that are not trained in epochs."""
        return self.first["config"]["training"].get("epochs")

    @property
    def is_baseline(self) -> bool:
        """True for fitted rankers: no epochs, or options chosen with seen items masked."""
        return not self.first["curve"] or bool(self.first["selection"]["masked"])

    @property
    def conditions(self) -> list[tuple[str, str | None, bool | None, str | None]]:
        """Part, target time, masked and ranked_by of each evaluation of the first run."""
        return [condition(each) for each in self.first["evaluations"]]

    def metrics(self, *wanted: Any) -> list[dict[str, Any]]:
        """Return the metrics of one condition for every run that has it."""
        return [
            each["metrics"]
            for record in self.records
            for each in record["evaluations"]
            if condition(each) == wanted
        ]


def condition(evaluation: Mapping[str, Any]) -> tuple[str, str | None, bool | None, str | None]:
    """Return what an evaluation was made under: part, target time, masked, ranked_by."""
    return tuple(evaluation[name] for name in ("part", "target_time", "masked", "ranked_by"))


# ------------------------------------------------------------------------------ reading


def problem_of(record: Any) -> str | None:
    """Return what makes a record unusable (field, value, expectation), None if nothing does."""
    if not isinstance(record, dict):
        return "holds no JSON object"
    if record.get("format") != FORMAT:
        return (
            f"format {record.get('format', 1)!r}, but this page is made from format {FORMAT}: make "
            "the run again with `ss4rec train` and keep it with `ss4rec record`"
        )
    for name, kind in REQUIRED.items():
        value = record
        for key in name.split("."):
            if key not in value:
                return f"missing field {name}"
            value = value[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, NUMBER)):
            return f"field {name} is {value!r}: unexpected type"
    if record["task"] not in ("ranking", "rating"):
        return f"field task is {record['task']!r}: expected ranking or rating"
    if record["protocol"]["split"] not in SPLITS:
        return f"field protocol.split is {record['protocol']['split']!r}: expected one of {SPLITS}"
    for number, each in enumerate(record["evaluations"]):
        for name in ("part", "target_time", "masked", "ranked_by", "metrics"):
            if not isinstance(each, dict) or name not in each:
                return f"missing field evaluations[{number}].{name}"
        needed = ("hr@10", "ndcg@10", "mrr@10") if each["ranked_by"] else ("rmse", "mae", "r2")
        for name in needed:
            if name not in each["metrics"]:
                return f"missing field evaluations[{number}].metrics.{name}"
    own = [
        e for e in record["evaluations"] if (e["ranked_by"] is None) == (record["task"] == "rating")
    ]
    if not any(each["part"] == "test" for each in own):
        return "field evaluations has none of the test part"
    return None


def read_records(folder: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    """Return the usable records of a folder by name; add a line to `problems` for each other."""
    records = {}
    for path in sorted(folder.glob("*.json")):
        label = f"{folder.name}/{path.name}"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"{label}: cannot be read ({error})")
            continue
        problem = problem_of(record)
        if problem:
            problems.append(f"{label}: {problem}")
        else:
            records[path.stem] = record
    return records


def group_seeds(records: Mapping[str, dict[str, Any]], problems: list[str]) -> list[Group]:
    """Group records that differ only in the seed; a second run of a seed is a problem."""
    found: dict[str, dict[int, str]] = {}
    for name, record in records.items():
        protocol = record["protocol"]
        names = [*PROTOCOL, "max_len", "target_time", "folds_run"]
        if protocol["split"] in ("leave-one-out", "global-time"):  # the others depend on the seed
            names.append("fingerprint")
        options = [
            {key: value for key, value in record["config"][part].items() if key not in INCIDENTAL}
            for part in ("model", "training")
        ]
        identity = [record[key] for key in ("task", "dataset", "model", "overrides")]
        identity += [*options, [protocol.get(key) for key in names]]
        seeds = found.setdefault(json.dumps(identity, sort_keys=True), {})
        if record["seed"] in seeds:
            problems.append(
                f"{name}.json and {seeds[record['seed']]}.json are the same run (field seed is "
                f"{record['seed']} in both): the first is left out, remove one of them"
            )
            continue
        seeds[record["seed"]] = name
    ordered = [[seeds[seed] for seed in sorted(seeds)] for seeds in found.values()]
    groups = [Group(names, [records[name] for name in names]) for names in ordered]
    return sorted(groups, key=_place)


def _place(group: Group) -> tuple:
    """Return the place of a group in every table: data, protocol, then simple models last."""
    first, protocol = group.first, group.protocol
    place = [first["task"] == "rating", first["dataset"], SPLITS.index(protocol["split"])]
    place += [protocol["ordering"] or "", protocol["min_interactions"], group.is_baseline]
    if first["task"] == "rating":  # from the largest error to the smallest
        place[-1] = -protocol.get("folds_run", 0)
        own = group.metrics("test", protocol.get("target_time"), None, None)
        place.append(-float(np.mean([each["rmse"] for each in own])) if own else 0.0)
    return (*place, first["display_name"], page_text.options_text(first["overrides"]))


def read_per_target(folder: Path, name: str, problems: list[str]) -> dict[str, np.ndarray] | None:
    """Return the per-target values of a run by key, None where there is no usable file."""
    path = folder / f"{name}.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        if len({len(values) for values in arrays.values()}) != 1 or "users" not in arrays:
            raise ValueError("expected `users` and values of the same length")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        problems.append(f"{folder.name}/{path.name}: cannot be read ({error})")
        return None
    return arrays


def read_published(path: Path, problems: list[str]) -> list[dict[str, str]]:
    """Return the rows of published.csv, all of them text; nothing where there is no such file."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    missing = [name for name in PUBLISHED if name not in (reader.fieldnames or ())]
    if missing:
        problems.append(f"{path.name}: missing column {', '.join(missing)}")
        return []
    return rows


# --------------------------------------------------------------------------- statistics


@cache
def t_quantile(p: float, df: float) -> float:
    """Return the quantile of Student's t distribution for 1/2 <= p < 1 and df >= 1.

    With t = sqrt(df) tan(a), the probability of |T| < t is the integral of cos(x)^(df - 1) over
    0..a, times 2 Gamma((df + 1) / 2) / (sqrt(pi) Gamma(df / 2)). It is concave in t, so Newton's
    iteration rises to the solution from 0 without overshooting.
    """
    nodes, weights = np.polynomial.legendre.leggauss(100)
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    t = 0.0
    for _ in range(100):
        angle = math.atan(t / math.sqrt(df))
        values = np.cos(angle * (nodes + 1) / 2) ** (df - 1)
        inside = scale * angle * float(weights @ values)  # the probability of |T| < t
        density = 2 * scale / math.sqrt(df) * (1 + t * t / df) ** (-(df + 1) / 2)
        step = (2 * p - 1 - inside) / density
        t += step
        if abs(step) <= 1e-12 * max(1.0, t):
            break
    return t


def gains_at_10(above: np.ndarray, tied: np.ndarray) -> np.ndarray:
    """Return NDCG@10 of each target, averaged over the ranks that its ties allow.

    Args:
        above: Items scored strictly above each target, (n,).
        tied: Items with the target's score, the target included, (n,).
    """
    cumulative = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(1, 11) + 1.0))))
    above, tied = above.astype(np.int64), tied.astype(np.int64)
    first, last = np.minimum(above, 10), np.minimum(above + tied, 10)
    return (cumulative[last] - cumulative[first]) / tied


def paired_interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of a - b over users with its paired t interval: mean, low, high.

    Args:
        a: Values of one model, (seeds, users).
        b: Values of the other for the same users; its number of seeds may differ.

    With two seeds or more on both sides the interval counts users and seeds: the variance of the
    mean over users plus that of each model's mean over seeds, with Satterthwaite's degrees of
    freedom (a crossed random effects model, as in `evaluation.difference_over_seeds`).
    """
    by_user = a.mean(axis=0) - b.mean(axis=0)
    terms = [(by_user.var(ddof=1) / by_user.size, by_user.size - 1)]
    if len(a) > 1 and len(b) > 1:
        terms += [(v.mean(axis=1).var(ddof=1) / len(v), len(v) - 1) for v in (a, b)]
    variance = sum(v for v, _ in terms)
    weight = sum(v**2 / df for v, df in terms)
    mean = float(by_user.mean())
    if weight == 0:
        return mean, mean, mean
    half = t_quantile((1 + LEVEL) / 2, float(variance**2 / weight)) * math.sqrt(variance)
    return mean, mean - half, mean + half


# ------------------------------------------------------------------------------- tables


def runs_table(groups: Sequence[Group]) -> pd.DataFrame:
    """Return one row per group of seeds and evaluation, with every metric."""
    rows = []
    for group in groups:
        first, protocol = group.first, group.protocol
        shared = {
            "task": first["task"], "dataset": first["dataset"],
            **{name: protocol[name] for name in PROTOCOL}, "model": first["model"],
            "display_name": first["display_name"],
            "overrides": page_text.options_text(first["overrides"]),
            "uses_time": first["uses_time"],
        }  # fmt: skip
        spent = {
            "epochs": first["epochs"] if group.budget is None else group.budget,
            "epochs_run": page_text.listed(record["epochs"] for record in group.records),
            "best_epochs": page_text.listed(r["best_epoch"] or "" for r in group.records),
            "train_seconds": float(np.mean([r["seconds"]["train"] for r in group.records])),
            "data_verified": group.verified,
        }
        for part, target_time, masked, ranked_by in group.conditions:
            row = shared | {
                "target_time": target_time, "masked": masked, "ranked_by": ranked_by,
                "part": part, "n_seeds": len(group.seeds), "seeds": page_text.listed(group.seeds),
            }  # fmt: skip
            found = group.metrics(part, target_time, masked, ranked_by)
            for name in (*RANKING_METRICS, *RATING_METRICS):
                values = page_text.complete(found, name)
                errors = page_text.complete(found, f"{name}_se")
                row[name] = float(np.mean(values)) if values else None
                row[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
                row[f"{name}_se"] = float(np.mean(errors)) if errors else None
            rows.append(row | spent)
    return pd.DataFrame(rows)


def differences(
    groups: Sequence[Group], values: Mapping[str, Mapping[str, np.ndarray]]
) -> list[dict[str, Any]]:
    """Return the rows of differences.csv: models that use time minus others, on the test part.

    Args:
        groups: In the order of the tables.
        values: Per-target values by the name of the run; groups without are left out.
    """
    rows = []
    for a, b in _pairs([g for g in groups if all(name in values for name in g.names)]):
        rating = a.first["task"] == "rating"
        times = dict.fromkeys(t for part, t, _, _ in a.conditions if part == "test")
        for time in [a.protocol.get("target_time")] if rating else times:
            for masked in (None,) if rating else (False, True):
                row = _difference(a, time, b, masked, values)
                if row is not None:
                    rows.append(row)
    return rows


def _pairs(groups: Sequence[Group]) -> Iterator[tuple[Group, Group]]:
    """Yield the pairs (a, b) to compare: same targets, and for ranking the same budget of epochs.

    `a` uses time. Of two ranking models that do, published SS4Rec comes first, then the one that
    receives more of the time. Rating models that use time are compared with the others only.
    """

    def place(group: Group) -> tuple:
        told = {"known": 0, "previous": 1}.get(group.protocol.get("target_time") or "none", 2)
        return not page_text.is_published_ss4rec(group), told

    for a in groups:
        for b in groups:
            if a is b or _targets(a) != _targets(b) or not a.first["uses_time"]:
                continue
            if a.first["task"] == "rating":
                wanted = not b.first["uses_time"]
            elif a.is_baseline or not (b.is_baseline or a.budget == b.budget):
                wanted = False
            else:
                order = (place(a), groups.index(a)) < (place(b), groups.index(b))
                wanted = order or not b.first["uses_time"]
            if wanted:
                yield a, b


def _targets(group: Group) -> list[Any]:
    protocol = group.protocol
    names = [*PROTOCOL, "fingerprint"]
    return [group.first["task"], group.first["dataset"], *(protocol.get(n) for n in names)]


def _difference(
    a: Group, time: str | None, b: Group, masked: bool | None,
    values: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, Any] | None:  # fmt: skip
    """Return one row of differences.csv, None if the targets of the runs cannot be paired."""
    metric = "rmse" if masked is None else "ndcg@10"
    time_b = b.protocol.get("target_time")
    users = [values[name]["users"] for name in (*a.names, *b.names)]
    if any(not np.array_equal(users[0], each) for each in users):
        return None
    if len(np.unique(users[0])) < len(users[0]):
        return None  # a user with several targets: these are not independent
    sides = [
        {s: _values(values[n], t, masked) for s, n in zip(group.seeds, group.names, strict=True)}
        for group, t in ((a, time), (b, time_b))
    ]
    over = "users and seeds"
    if min(len(side) for side in sides) < 2:  # the lowest seed that both have
        shared = sorted(sides[0].keys() & sides[1].keys())
        seeds = [shared[0]] * 2 if shared else [min(side) for side in sides]
        sides = [{seed: side[seed]} for seed, side in zip(seeds, sides, strict=True)]
        over = f"users (seed {seeds[0]})" if shared else f"users (seeds {seeds[0]}, {seeds[1]})"
    stacked = [np.stack(list(side.values())) for side in sides]
    found = paired_interval(*stacked)
    if metric == "rmse":  # a^2 - b^2 = (a - b)(a + b), with a^2 and b^2 the mean squared errors
        total = sum(math.sqrt(each.mean()) for each in stacked)
        found = tuple(each / total for each in found)
    first, protocol = a.first, a.protocol
    row = {"task": first["task"], "dataset": first["dataset"]}
    row |= {name: protocol[name] for name in PROTOCOL} | {"metric": metric}
    for side, group, t in (("a", a, time), ("b", b, time_b)):
        row |= {
            f"model_{side}": group.first["model"], f"display_{side}": group.first["display_name"],
            f"overrides_{side}": page_text.options_text(group.first["overrides"]),
            f"target_time_{side}": t,
        }  # fmt: skip
    row |= {"masked": masked} | dict(zip(("difference", "low", "high"), found, strict=True))
    return row | {"interval_over": over, "n_seeds_a": len(sides[0]), "n_seeds_b": len(sides[1])}


def _values(arrays: Mapping[str, np.ndarray], time: str | None, masked: bool | None) -> np.ndarray:
    if masked is None:
        return arrays[f"{time or 'none'}.squared_error"].astype(np.float64)
    key = f"{time}.score.{'masked' if masked else 'unmasked'}"
    return gains_at_10(arrays[f"{key}.above"], arrays[f"{key}.tied"])


def by_history_table(groups: Sequence[Group]) -> pd.DataFrame:
    """Return RMSE by the number of ratings that the user gave before, one row per run and range."""
    columns = ["dataset", "model", "seed", "more_than", "up_to", "targets", "rmse", "rmse_se"]
    rows = [
        {name: record[name] for name in columns[:3]} | part
        for group in groups
        for record in group.records
        for each in record["evaluations"]
        for part in each.get("slices", {}).get("history", ())
    ]
    return pd.DataFrame(rows, columns=columns)


# -------------------------------------------------------------------------------- files


def build(folder: Path, problems: list[str]) -> dict[str, str]:
    """Return the content of every file that is made, by name; add to `problems` what is wrong."""
    records = read_records(folder / "records", problems)
    groups = group_seeds(records, problems)
    ablations = group_seeds(read_records(folder / "ablations", problems), problems)
    archives = {name: read_per_target(folder / "per_target", name, problems) for name in records}
    values = {name: arrays for name, arrays in archives.items() if arrays is not None}
    found = differences(groups, values)
    published = read_published(folder / "published.csv", problems)
    intervals = folder / "by_interval.json"
    stored = json.loads(intervals.read_text(encoding="utf-8")) if intervals.is_file() else None
    tables = {
        "runs.csv": runs_table(groups),
        "differences.csv": pd.DataFrame(found),
        "by_history.csv": by_history_table(groups),
    }
    texts = {
        name: table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
        for name, table in tables.items()
    }
    return {"README.md": page_text.page(groups, ablations, found, published, stored), **texts}


def readme_table(folder: Path | None = None) -> str:
    """Return the table for the README of the project: at most eight rows of MovieLens-1M."""
    problems: list[str] = []
    folder = Path(__file__).parent if folder is None else folder
    return page_text.readme_table(group_seeds(read_records(folder / "records", problems), problems))


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is complete or unchanged, also after a crash."""
    handle, name = tempfile.mkstemp(prefix=f".partial-{path.name}-", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)  # mkstemp lets nobody else read
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or check them; see the module for the exit status."""
    parser = argparse.ArgumentParser(description="Build the results page from the recorded runs.")
    parser.add_argument("--check", action="store_true", help="write nothing, report only")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent, metavar="FOLDER")
    options = parser.parse_args(arguments)
    problems: list[str] = []
    stale = False
    for name, text in build(options.results, problems).items():
        path = options.results / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if not options.check:
            write_whole(path, text)
        print(f"{name}: {'out of date' if options.check else 'written'}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if problems else int(stale and options.check)


if __name__ == "__main__":
    sys.exit(main())
