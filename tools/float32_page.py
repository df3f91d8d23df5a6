"""Figures of docs/float32.md, from the recorded files of results/.

`tools/fill_readme.py` writes them between the marks of the page, so that no number in it is typed
by hand.
"""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any

from results.page_text import markdown

# What the order of a published figure, as results/published.csv names it, says about float32.
CARRIES = {
    "recbole-float32": "yes",
    "by time, stable sort": "tied rows only",
    "by time, unstable sort": "no; ties as the sort leaves them",
    "by time, ties not stated": "not known",
}
TIMES = {"exact-time": "exact", "recbole-float32": "float32"}
ROWS = ("as in the file", "shuffled")
RECIPE = {"learning_rate": 0.006, "max_tokens": 1600}  # the runs that differ in the order alone


def figures(results: Path) -> dict[str, str]:
    """Return the text of each mark of the page by its name."""
    measured = json.loads((results / "float32_order.json").read_text(encoding="utf-8"))
    file, exact = (measured["orders"][name] for name in ("float32, file", "exact, file"))
    trained = trained_runs(results)
    key = next(key for key, rows in trained.items() if key[1] == "float32" and len(rows) == 2)
    return {
        "step": f"{measured['ulp_seconds']:.0f} seconds",
        "size": f"{measured['users']:,} users, {measured['items']:,} films and "
        f"{measured['interactions']:,} ratings",
        "shuffles": f"{measured['shuffles']}",
        "min_users": f"{measured['min_users']}",
        "positions": _percent(file["positions_changed"]),
        "histories": _percent(1 - file["histories_kept"]),
        "targets": _percent(file["test_targets_changed"]),
        "ties": _percent(exact["zero_intervals"]),
        "ties_float32": _percent(file["zero_intervals"]),
        "agreement": _percent(file["agreement"]),
        "agreement_shuffled": _percent(measured["orders"]["float32, shuffled"]["agreement"]),
        "trained_epochs": key[0],
        "trained_file": trained[key][ROWS[0]].partition(" ")[0],
        "trained_shuffled": trained[key][ROWS[1]].partition(" ")[0],
        "orders": orders_table(measured),
        "differences": differences_table(measured),
        "trained": _table(
            ["epochs", "times", "NDCG@10, rows as in the file", "NDCG@10, rows shuffled"],
            [[*key, *(v.get(k, "") for k in ROWS)] for key, v in trained.items()],
        ),
        "published": published_table(results / "published.csv"),
    }


def orders_table(measured: dict[str, Any]) -> str:
    """Return what each order of MovieLens-1M looks like, and what it reveals."""
    rows = []
    for name, each in measured["orders"].items():
        times, kind = name.split(", ")
        hits = f"{each['transitions_hr@10']:.4f} ± {each['transitions_hr@10_se']:.4f}"
        shares = [each[k] for k in ("zero_intervals", "positions_changed", "test_targets_changed")]
        kind = ROWS[kind == "shuffled"]
        rows.append([times, kind, *map(_percent, shares), _percent(each["agreement"]), hits])
    head = ["times", "rows", "zero intervals", "positions that change", "test targets that change"]
    return _table([*head, "agreement of users", "HR@10 of counted transitions"], rows)


def differences_table(measured: dict[str, Any]) -> str:
    """Return the differences that separate the rounding from the order of the file."""
    pairs = [("float32, file", "exact, file"), ("float32, shuffled", "exact, shuffled")]
    pairs += [(f"{t}, shuffled", f"{t}, file") for t in ("float32", "exact")]
    found = {(d["of"], d["minus"]): d for d in measured["differences"]}
    rows = []
    for pair in pairs:
        value, error = (found[pair][key] for key in ("transitions_hr@10", "se"))
        low, high = value - 1.96 * error, value + 1.96 * error
        names = [name.replace(", file", ", rows of the file") for name in pair]
        rows.append([*names, f"{value:+.4f}", f"{low:+.4f} to {high:+.4f}"])
    return _table(["HR@10 of", "minus HR@10 of", "difference", "95 % interval"], rows)


def trained_runs(results: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Return NDCG@10 of SS4Rec on MovieLens-1M by (epochs, times), then by the order of rows."""
    runs: dict[tuple[int, str], dict[str, list[dict[str, float]]]] = {}
    for path in sorted(results.glob("*/ml-1m*.json")):  # of records and ablations
        run = json.loads(path.read_text(encoding="utf-8"))
        protocol, training = run["protocol"], run["config"].get("training", {})
        if run["model"] != "official" or set(run["overrides"]) - {"epochs", *RECIPE}:
            continue
        same = (protocol["split"], protocol["min_interactions"]) == ("leave-one-out", 5)
        if not same or any(training.get(name) != value for name, value in RECIPE.items()):
            continue
        wanted = {"part": "test", "target_time": "known", "masked": False}
        (test,) = (e["metrics"] for e in run["evaluations"] if wanted.items() <= e.items())
        rows = runs.setdefault((run["epochs"], TIMES[protocol["ordering"]]), {})
        rows.setdefault(ROWS[run["dataset"].endswith("shuffled")], []).append(test)
    return {
        (str(epochs), times): {order: _score(each) for order, each in rows.items()}
        for (epochs, times), rows in sorted(runs.items())
    }


def _score(runs: list[dict[str, float]]) -> str:
    """Return the mean over seeds with its spread, or one seed with its standard error."""
    values = [metrics["ndcg@10"] for metrics in runs]
    if len(runs) == 1:
        return f"{values[0]:.4f} ± {runs[0]['ndcg@10_se']:.4f} se, 1 seed"
    spread = statistics.stdev(values)
    return f"{statistics.mean(values):.4f} ± {spread:.4f} sd, {len(values)} seeds"


def published_table(path: Path) -> str:
    """Return the published figures on MovieLens-1M, and what each carries of the fault."""
    with open(path, encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["dataset"] == "ml-1m"]
    rows = [row for row in rows if row["task"] == "ranking"]
    rows.sort(key=lambda row: list(CARRIES).index(row["ordering"]))
    columns = ("model", "hr@10", "ndcg@10", "ordering")
    head = ["figure", "HR@10", "NDCG@10", "its order", "carries the fault", "source"]
    return _table(
        head, [[*(r[c] for c in columns), CARRIES[r["ordering"]], r["source"]] for r in rows]
    )


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return markdown(head, rows).rstrip()
