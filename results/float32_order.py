"""Measure what float32 timestamps do to the order of histories, with shuffled rows as control.

`python results/float32_order.py` reads MovieLens-1M and writes float32_order.json beside this file.
Lesson 01 and the notebook deeper/01b_float32_order show the figures. Nothing is trained. A table of
ratings is ordered in four ways: by exact or by float32 timestamps, each with the rows as in the
file and with the rows shuffled. Rows with equal times keep the order of the table, so only in the
first case can the order of the file reach a history.

`--write-shuffled FOLDER` writes the table with shuffled rows and a description of it instead, on
which the recorded runs `ml-1m-shuffled` were trained.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ss4rec_lib.data import Split, k_core, leave_one_out, load_movielens
from ss4rec_lib.files import whole_file, write_text

HERE = Path(__file__).parent
ORDERINGS = {"exact": "exact-time", "float32": "recbole-float32"}
SMOOTHING = 0.5  # weight of popularity, so that films without a counted transition are ordered


def agreement(ratings: pd.DataFrame, min_users: int) -> np.ndarray:
    """Return, for pairs of films that share a float32 step, the share with the majority's order.

    Two ratings of a user share a step when their timestamps round to the same float32. A pair
    counts when it shares a step for at least `min_users` users. The share is 1 when all of these
    users have the two films in the same order of rows, and a little over 0.5 by chance.
    """
    user = pd.factorize(ratings["user_id"])[0]
    film = pd.factorize(ratings["item_id"], sort=True)[0]
    step = ratings["timestamp"].to_numpy().astype(np.float32).astype(np.int64)
    order = np.lexsort((step, user))  # stable: inside a step the rows keep their order
    user, step, film = user[order], step[order], film[order]
    group = np.cumsum(np.append(False, (np.diff(user) != 0) | (np.diff(step) != 0)))
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for distance in range(1, np.bincount(group).max()):
        (row,) = np.nonzero(group[distance:] == group[:-distance])
        pairs.append(np.stack([film[row], film[row + distance]]))
    before, after = np.concatenate(pairs, axis=1)
    name = np.minimum(before, after) * (film.max() + 1) + np.maximum(before, after)
    _, name = np.unique(name, return_inverse=True)
    users, ascending = np.bincount(name), np.bincount(name, weights=before < after)
    return (np.maximum(ascending, users - ascending) / users)[users >= min_users]


def next_film_hits(split: Split, k: int = 10) -> np.ndarray:
    """Return, for each test target, whether counted transitions rank it among the first `k`.

    Count how often each film follows each other one in the training part. Rank all films by the
    count after the last film before the target. This uses nothing but the order of the films.
    """
    items, offsets = split.sequences.items.astype(np.int64), split.sequences.offsets
    n = split.sequences.n_items + 1
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    train = split.in_train()
    step = (np.diff(owner) == 0) & train[1:] & train[:-1]
    counts = np.bincount(items[:-1][step] * n + items[1:][step], minlength=n * n).reshape(n, n)
    popularity = SMOOTHING * np.bincount(items[train], minlength=n) / train.sum()
    users, positions = split.held_out["test"]
    at = offsets[users] + positions
    hits = []
    for before, target in zip(items[at - 1], items[at], strict=True):
        scores = counts[before] + popularity
        hits.append((scores[1:] > scores[target]).sum() < k)
    return np.array(hits, dtype=float)


def measure(ratings: pd.DataFrame, min_users: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the figures of all orders of one table of ratings, 5-core filter included."""
    core = k_core(ratings, 5).reset_index(drop=True)
    shuffled = [core.iloc[np.random.default_rng(s).permutation(len(core))] for s in seeds]
    orders, hits = {}, {}
    for rows, tables in {"file": [core], "shuffled": shuffled}.items():
        shares = np.concatenate([agreement(table, min_users) for table in tables])
        for order, ordering in ORDERINGS.items():
            figures, hit = [], []
            for table in tables:
                split = leave_one_out(table, ordering, None)
                figures.append(_order(leave_one_out(table, "exact-time", None), split))
                hit.append(next_film_hits(split))
            name = f"{order}, {rows}"
            hits[name] = np.mean(hit, axis=0)  # per user, over the shuffles
            orders[name] = {
                **pd.DataFrame(figures).mean().to_dict(),
                "pairs": len(shares) // len(tables),
                "agreement": shares.mean(),
                "agreement_histogram": np.histogram(shares, np.linspace(0.5, 1, 21))[0].tolist(),
                "transitions_hr@10": hits[name].mean(),
                "transitions_hr@10_se": _standard_error(hits[name]),
                "transitions_hr@10_by_shuffle": [each.mean() for each in hit],
            }
    pairs = [(a, b) for place, a in enumerate(hits) for b in list(hits)[:place]]
    differences = [
        {
            "of": a,
            "minus": b,
            "transitions_hr@10": (hits[a] - hits[b]).mean(),
            "se": _standard_error(hits[a] - hits[b]),
        }
        for a, b in pairs
    ]
    return {
        "users": len(core["user_id"].unique()),
        "items": len(core["item_id"].unique()),
        "interactions": len(core),
        "min_users": min_users,
        "shuffles": len(shuffled),
        "ulp_seconds": float(np.spacing(np.float32(core["timestamp"].to_numpy().max()))),
        "orders": orders,
        "differences": differences,
    }


def write_shuffled(ratings: pd.DataFrame, name: str, folder: Path) -> None:
    """Write the ratings in random order as CSV, and a YAML description beside them."""
    rows = np.random.default_rng(0).permutation(len(ratings))
    with whole_file(folder / f"{name}.csv") as path:
        ratings.iloc[rows].to_csv(path, index=False)
    text = f"name: {name}\ninteractions: {name}.csv\ntimestamp: s\n"
    text += f"source: {ratings.attrs['dataset']} with its rows in random order\n"
    write_text(folder / f"{name}.yaml", text)


def _standard_error(values: np.ndarray) -> float:
    return values.std(ddof=1) / np.sqrt(len(values))


def _order(exact: Split, split: Split) -> dict[str, Any]:
    """Return the shares of ties, and of what differs from the exact order of the same rows."""
    one, other = exact.sequences, split.sequences
    intervals = np.diff(other.times)[np.diff(np.repeat(np.arange(one.n_users), one.lengths)) == 0]
    moved = one.items != other.items
    histories = np.logical_or.reduceat(moved, one.offsets[:-1])
    targets = (exact.targets("test")["item_id"] != split.targets("test")["item_id"]).to_numpy()
    return {
        "zero_intervals": (intervals == 0).mean(),
        "histories_kept": 1 - histories.mean(),
        "positions_changed": moved.mean(),
        "test_targets_changed": targets.mean(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one data set and write the figures as JSON."""
    parser = argparse.ArgumentParser(description="Measure what float32 timestamps do to the order.")
    parser.add_argument("--dataset", default="ml-1m", help="name of a MovieLens data set")
    parser.add_argument("--path", help="folder or file that holds it, in place of the cache")
    parser.add_argument("--min-users", type=int, default=15, help="users that share a pair")
    parser.add_argument("--shuffles", type=int, default=3, help="how many shuffled tables")
    parser.add_argument("--out", type=Path, default=HERE / "float32_order.json")
    parser.add_argument("--write-shuffled", type=Path, metavar="FOLDER", help="the control's data")
    options = parser.parse_args(arguments)
    ratings = load_movielens(options.dataset, options.path)
    if options.write_shuffled:
        write_shuffled(ratings, f"{options.dataset}-shuffled", options.write_shuffled)
        return 0
    found = measure(ratings, options.min_users, range(options.shuffles))
    head = {"dataset": options.dataset, "verified": bool(ratings.attrs["verified"])}
    text = json.dumps(head | found, indent=1, default=float)
    options.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
