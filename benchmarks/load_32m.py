"""Time and peak memory of loading a MovieLens-32M-sized CSV and splitting it into sequences.

    python benchmarks/load_32m.py [--rows 32000204] [--folder FOLDER] [--keep]

The CSV is generated (about 880 MB): grouped by user, items ascending within a user as in the
official file, ids as sparse as there, half stars, times from 1995 to 2023 with sessions. Each stage
runs in a process of its own, so that its peak is its own; `split` includes the table it reads.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

ROWS, USERS, ITEMS, HIGHEST_ITEM = 32_000_204, 200_948, 84_432, 292_757
FIRST, LAST = 789_652_009, 1_697_164_147  # seconds: January 1995 to October 2023
USERS_A_CHUNK = 2_000


def generate(path: Path, rows: int, seed: int = 0) -> dict:
    """Write the CSV; returns its size."""
    rng = np.random.default_rng(seed)
    movie_ids = np.sort(rng.choice(HIGHEST_ITEM, ITEMS, replace=False) + 1)
    popularity = rng.permutation(ITEMS)
    stars = np.array([f"{half / 2:.1f}" for half in range(11)])
    left, user = rows, 0
    with open(path, "w", encoding="ascii", newline="\n") as stream:
        stream.write("userId,movieId,rating,timestamp\n")
        while left:
            # Lengths are log-normal with a mean near 159 once repeated pairs are gone.
            lengths = 20 + rng.lognormal(4.4, 1.1, USERS_A_CHUNK).astype(np.int64)
            users = np.repeat(np.arange(USERS_A_CHUNK), lengths)
            # A steep head, and a tail of items with fewer than 5 ratings for the 5-core to drop.
            ranks = ITEMS * rng.exponential(1 / 6, len(users)) * rng.random(len(users))
            ranks = np.minimum(ranks, ITEMS - 1).astype(np.int64)
            pairs = np.unique(users * ITEMS + popularity[ranks])[:left]
            users, items = np.divmod(pairs, ITEMS)
            start = rng.integers(FIRST, LAST - 10**8, USERS_A_CHUNK)
            session = start[users] + 10**7 * rng.integers(0, 10, len(users)) * (users % 3 == 0)
            times = session + rng.exponential(1_800, len(users)).astype(np.int64)
            ratings = stars[np.clip(rng.normal(7, 2, len(users)).round().astype(int), 1, 10)]
            columns = (users + user + 1, movie_ids[items], ratings, times)
            lines = zip(*(column.tolist() for column in columns), strict=True)
            stream.writelines(map("%d,%d,%s,%d\n".__mod__, lines))
            left -= len(pairs)
            user += USERS_A_CHUNK
    return {"rows": rows, "file_bytes": path.stat().st_size}


def load(path: Path):
    """Read the CSV as ml-32m."""
    from ss4rec_lib.data import DataWarning, load_movielens

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # it is not the official file, of course
        return load_movielens("ml-32m", path=path)


def measure(stage: str, path: Path, rows: int) -> dict:
    """Run one stage in this process and say what it took."""
    if stage != "generate":
        import ss4rec_lib.data  # noqa: F401  importing PyTorch is not what is timed

    begin = time.perf_counter()
    if stage == "generate":
        told = generate(path, rows)
    elif stage == "load":
        ratings = load(path)
        told = {"rows": len(ratings), "users": int(ratings["user_id"].nunique())}
        told["items"] = int(ratings["item_id"].nunique())
    else:
        from ss4rec_lib.data import leave_one_out

        ratings = load(path)
        begin = time.perf_counter()
        split = leave_one_out(ratings)
        told = {"interactions": split.sequences.n_interactions, "users": split.sequences.n_users}
    told["seconds"] = round(time.perf_counter() - begin, 1)
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    told["peak_rss_gb"] = round(peak / 1e9, 2)
    return told


def main() -> None:
    """Run the stages one after the other and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="number of ratings")
    parser.add_argument("--folder", type=Path, help="where to put the CSV (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep the CSV, and use one kept before")
    parser.add_argument("--stage", choices=("generate", "load", "split"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        path = options.folder / "ratings.csv"
        print(json.dumps(measure(options.stage, path, options.rows)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        kept = options.keep and (folder / "ratings.csv").exists()
        for stage in ("load", "split") if kept else ("generate", "load", "split"):
            command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder)]
            command += ["--rows", str(options.rows)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            print(f"{stage:9}", done.stdout.strip(), flush=True)
        if options.folder and not options.keep:
            (folder / "ratings.csv").unlink()


if __name__ == "__main__":
    main()
