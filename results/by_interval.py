"""Group the recorded rankings by the time that passes before the target, and by its popularity.

`python results/by_interval.py` reads the per-target ranks of the recorded runs and the timestamps
of their data set, and writes by_interval.json: NDCG@10 of the test part for targets that are tied
with the film before, follow in the same sitting, or come hours, days or months later, and for four
groups of about as many targets by the number of their training interactions. The data set
must be the one of the records (same fingerprint); `SS4REC_ML_1M` names a local copy of
MovieLens-1M. `--check` writes nothing and reports whether the file is out of date.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import build_page
import page_text

from ss4rec_lib.data import leave_one_out, load_dataset
from ss4rec_lib.lessons import DAY, HOUR, MONTH

PARTS = {  # name: seconds from (included) and to (not included)
    "tied": (0, 1),
    "same sitting": (1, HOUR),
    "hours": (HOUR, DAY),
    "days": (DAY, MONTH),
    "months": (MONTH, None),
}
EPOCHS = {"ml-1m": 16, "ml-100k": 12}  # the length that every model below was trained for
MODELS = [  # display name, target time
    ("SS4Rec", "known"),
    ("SS4Rec", "previous"),
    ("SS4Rec", "none"),
    ("SASRec with time", "known"),
    ("SASRec", "none"),
    ("Mamba4Rec", "none"),
    ("SS4Rec+", "known"),
    ("SASRec+ with time", "known"),
    ("Mamba4Rec+", "known"),
]
DIFFERENCES = [  # the first minus the second
    (("SS4Rec", "known"), ("SS4Rec", "none")),
    (("SS4Rec", "known"), ("SASRec with time", "known")),
    (("SS4Rec", "previous"), ("SS4Rec", "none")),
    (("SASRec with time", "known"), ("SASRec", "none")),
    (("SS4Rec+", "known"), ("SS4Rec", "known")),
    (("SS4Rec+", "known"), ("SASRec+ with time", "known")),
]


def of_dataset(dataset: str, folder: Path) -> dict[str, Any]:
    """Return the figures of one data set.

    Args:
        dataset: Its name, one of `EPOCHS`.
        folder: The results, with records/ and per_target/.
    """
    split = leave_one_out(load_dataset(dataset), "exact-time")
    users, at = split.target_entries("test")
    interval = split.sequences.times[at] - split.sequences.times[at - 1]
    inside = {
        name: (interval >= low) & (interval < (np.inf if high is None else high))
        for name, (low, high) in PARTS.items()
    }
    problems: list[str] = []
    groups = build_page.group_seeds(build_page.read_records(folder / "records", problems), problems)
    found = {}
    for group in groups:
        first, protocol = group.first, group.protocol
        name = first["display_name"], protocol.get("target_time")
        if first["task"] != "ranking" or protocol.get("fingerprint") != split.fingerprint():
            continue
        if name not in MODELS or group.budget != EPOCHS[dataset]:
            continue
        # Of several settings the one that the summary of the page shows.
        if name not in found or page_text.rank(group) > page_text.rank(found[name]):
            found[name] = group
    if problems or not found:
        raise ValueError("\n".join(problems) or f"{dataset}: no recorded run on these ratings")

    values = {}
    for (model, time), group in found.items():
        for masked in (False, True):
            rows = []
            for name in group.names:
                arrays = build_page.read_per_target(folder / "per_target", name, problems)
                if arrays is None or not np.array_equal(arrays["users"], users):
                    raise ValueError(f"{name}: per-target values are missing or of other users")
                rows.append(build_page._values(arrays, time, masked))
            values[model, time, masked] = np.stack(rows)  # (seeds, users)

    counts = split.train_counts()[split.sequences.items[at]]  # of each target
    ends = [-1, *np.quantile(counts, [0.25, 0.5, 0.75]).astype(int).tolist(), int(counts.max())]
    popular = {
        f"{low + 1} to {high}": (counts > low) & (counts <= high)
        for low, high in itertools.pairwise(ends)
    }
    seeds = {key: group.seeds for key, group in found.items()}
    return {
        "epochs": EPOCHS[dataset],
        "fingerprint": split.fingerprint(),
        "data_verified": all(group.verified for group in found.values()),
        "records": [name for group in found.values() for name in group.names],
        **_grouped(values, seeds, inside),
        "by_popularity": _grouped(values, seeds, popular),
    }


def _grouped(
    values: Mapping[tuple, np.ndarray], seeds: Mapping[tuple, Any], inside: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Return NDCG@10 of each model and the differences of pairs of them, by group of targets."""
    rows = []
    for key in seeds:
        for masked in (False, True):
            own = values[*key, masked]
            shared = {"model": key[0], "target_time": key[1], "masked": masked}
            shared |= {"seeds": seeds[key]}
            rows += [shared | part for part in _parts(own, np.zeros_like(own), inside)]
    pairs = []
    for a, b in DIFFERENCES:
        for masked in (False, True) if a in seeds and b in seeds else ():
            sides = values[*a, masked], values[*b, masked]
            over = "users" if min(map(len, sides)) < 2 else "users and seeds"
            if over == "users":  # the lowest seed of both
                sides = sides[0][:1], sides[1][:1]
            shared = {"model_a": a[0], "target_time_a": a[1], "model_b": b[0]}
            shared |= {"target_time_b": b[1], "masked": masked, "interval_over": over}
            pairs += [shared | part for part in _parts(*sides, inside)]
    targets = {name: int(rows.sum()) for name, rows in inside.items()}
    return {"targets": targets, "ndcg@10": rows, "differences": pairs}


def _parts(a: np.ndarray, b: np.ndarray, inside: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return mean and interval of a - b, each (seeds, users), by part and for all targets."""
    every = {**inside, "all": np.ones(a.shape[1], dtype=bool)}
    parts = []
    for name, rows in every.items():
        if rows.sum() > 1:
            found = build_page.paired_interval(a[:, rows], b[:, rows])
            numbers = (round(number, 6) for number in found)
            parts.append({"part": name} | dict(zip(("mean", "low", "high"), numbers, strict=True)))
    return parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the file; return 0, or 1 if `--check` found another content."""
    parser = argparse.ArgumentParser(
        description="Group recorded rankings by the target's interval."
    )
    parser.add_argument("--check", action="store_true", help="write nothing, report only")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent, metavar="FOLDER")
    options = parser.parse_args(arguments)
    content = {"parts": {name: list(ends) for name, ends in PARTS.items()}}
    content |= {"datasets": {name: of_dataset(name, options.results) for name in EPOCHS}}
    text = json.dumps(content, indent=1) + "\n"
    text = re.sub(r"\{[^{}]*\}", lambda row: " ".join(row[0].split()), text)  # one line per row
    path = options.results / "by_interval.json"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    if not options.check:
        build_page.write_whole(path, text)
    print(f"{path.name}: {'out of date' if options.check else 'written'}")
    return int(options.check)


if __name__ == "__main__":
    sys.exit(main())
