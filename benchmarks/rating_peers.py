"""The rating baselines on MovieLens: RMSE, MAE and seconds, one line of JSON a model.

    pip install -e ".[peers]"
    python benchmarks/rating_peers.py --dataset ml-100k --protocol 5-fold bias svd svdpp
    python benchmarks/rating_peers.py --dataset ml-1m --protocol leave-last-out bias svd

`5-fold` and `90/10` are random splits of all ratings; figures of `5-fold` are means over the folds
(`rmse_se` too: it is the standard error of one fold). `leave-last-out` and `global-time` are the
splits of `ss4rec_lib.data`, trained on the training part, judged on the test targets;
`--min-interactions 0` turns their 5-core filter off.

Surprise publishes, for its default options and 5 folds, .944 / .934 / .919 on ml-100k and
.909 / .873 / .862 on ml-1m (bias, svd, svdpp).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator

import numpy as np

from ss4rec_lib.data import global_time_split, leave_one_out, load_movielens
from ss4rec_lib.data.rating_splits import (
    RatingTriples,
    held_out_ratings,
    k_fold,
    random_split,
    train_ratings,
)
from ss4rec_lib.evaluation.rating import rating_metrics
from ss4rec_lib.models.rating_baselines import (
    BayesianFM,
    BiasBaseline,
    BiasedMF,
    RatingBaseline,
    SVDPlusPlus,
)

MODELS: dict[str, Callable[[int], RatingBaseline]] = {
    "bias": lambda seed: BiasBaseline(),
    "svd": lambda seed: BiasedMF(seed=seed),
    "svdpp": lambda seed: SVDPlusPlus(seed=seed),
    "fm": lambda seed: BayesianFM(seed=seed),
    "fm-implicit": lambda seed: BayesianFM(implicit=True, seed=seed),
}
PROTOCOLS = ("5-fold", "90/10", "leave-last-out", "global-time")


def parts(
    dataset: str, protocol: str, seed: int, min_interactions: int
) -> Iterator[tuple[RatingTriples, RatingTriples]]:
    """Training and test ratings, once or five times."""
    ratings = load_movielens(dataset)
    if protocol in ("leave-last-out", "global-time"):
        make = leave_one_out if protocol == "leave-last-out" else global_time_split
        split = make(ratings, min_interactions=min_interactions)
        yield train_ratings(split), held_out_ratings(split, "test")
        return
    folds = k_fold(len(ratings), 5, seed) if protocol == "5-fold" else None
    columns = [ratings[name].to_numpy() for name in ("user_id", "item_id", "rating")]
    for fold in folds or [random_split(len(ratings), 0.1, seed)]:
        yield tuple(RatingTriples(*(c[rows] for c in columns)) for rows in fold)


def measure(
    name: str, dataset: str, protocol: str, seed: int, min_interactions: int
) -> dict[str, object]:
    """Fit and judge one model."""
    found, begin = [], time.perf_counter()
    for train, test in parts(dataset, protocol, seed, min_interactions):
        model = MODELS[name](seed).fit(*train)
        predicted = model.predict(test.users, test.items)
        found.append(
            rating_metrics(predicted, test.ratings, train_mean=model.mean, users=test.users)
        )
    metrics = ("rmse", "rmse_se", "mae", "r2", "calibration_slope")
    return {
        "dataset": dataset,
        "protocol": protocol,
        "model": name,
        "seed": seed,
        "n": sum(len(result.actual) for result in found),
        **{m: round(float(np.mean([result[m] for result in found])), 4) for m in metrics},
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    """Measure the models named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", choices=list(MODELS))
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--protocol", default="5-fold", choices=PROTOCOLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--min-interactions", type=int, default=5)
    given = parser.parse_args()
    options = given.dataset, given.protocol, given.seed, given.min_interactions
    for name in given.models:
        print(json.dumps(measure(name, *options)), flush=True)


if __name__ == "__main__":
    main()
