"""The planted data's ceilings: closed form against simulation, and what models make of them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ss4rec_lib.data import PlantedTruth, leave_one_out, planted_ratings, planted_truth
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.models import SS4Rec, SS4RecConfig
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import TrainingConfig, fit

sys.path.insert(0, str(Path(__file__).parent))
from planted_oracle import PlantedOracle


def in_index_terms(truth: PlantedTruth, item_ids: np.ndarray) -> PlantedTruth:
    """The rule in the item indices of a split, whose catalogue must hold every film."""
    index = np.zeros(truth.n_items + 1, dtype=np.int64)
    index[item_ids[1:]] = np.arange(1, len(item_ids))
    assert len(item_ids) == truth.n_items + 1
    short, long = np.zeros_like(index), np.zeros_like(index)
    short[index], long[index] = index[truth.short], index[truth.long]
    return PlantedTruth(short, long, truth.epsilon, truth.threshold, truth.share_within)


@pytest.mark.parametrize("interval_known", [True, False])
@pytest.mark.parametrize(("seed", "epsilon"), [(0, 0.1), (1, 0.5)])
def test_the_ceiling_is_what_an_oracle_reaches(interval_known, seed, epsilon):
    split = leave_one_out(
        planted_ratings(n_users=4_000, n_items=50, mean_length=12, seed=seed, epsilon=epsilon)
    )
    truth = in_index_terms(planted_truth(50, seed, epsilon), split.sequences.item_ids)
    found = evaluate_ranking(PlantedOracle(truth, interval_known), split, ks=(1, 2, 10))
    for k in (1, 2, 10):
        for name, ceiling in (("hr", truth.best_hit_rate), ("ndcg", truth.best_ndcg)):
            expected = ceiling(k, interval_known)
            assert abs(found[f"{name}@{k}"] - expected) < 4 * found[f"{name}@{k}_se"], (name, k)
    if interval_known:
        blind = evaluate_ranking(PlantedOracle(truth, False), split, ks=(1,))
        assert found["hr@1"] > blind["hr@1"] + 4 * found["hr@1_se"]


def shuffled_times(ratings, seed):
    """The same films in the same order, every user's intervals dealt out anew.

    Of the true order only the file's row order is kept; which interval stands before which film is
    left to chance.
    """
    rng = np.random.default_rng(seed)
    ordered = ratings.sort_values(["user_id", "timestamp"], kind="stable").reset_index(drop=True)
    times = ordered["timestamp"].to_numpy().copy()
    for rows in ordered.groupby("user_id").indices.values():
        gaps = np.diff(times[rows])
        times[rows[1:]] = times[rows[0]] + np.cumsum(rng.permutation(gaps))
    # Dealt anew, a film may meet itself in one second; a table of ratings has it once.
    shuffled = ordered.assign(timestamp=times)
    return shuffled.drop_duplicates(["user_id", "item_id", "timestamp"], ignore_index=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_time_lifts_ss4rec_above_the_blind_ceiling_and_only_time(seed):
    """Known time: within 5 % of the aware ceiling. No time, or shuffled: not above the blind."""
    n_items = 100
    ratings = planted_ratings(n_users=1_500, n_items=n_items, mean_length=40, seed=seed)
    truth = planted_truth(n_items, seed)
    aware, blind = truth.best_hit_rate(1), truth.best_hit_rate(1, interval_known=False)
    config = SS4RecConfig.official(hidden_size=32, d_H=32, d_P=16, d_state=8, n_layers=1)
    found = {}
    for name, table, time in (
        ("known", ratings, "known"),
        ("none", ratings, "none"),
        ("shuffled", shuffled_times(ratings, seed), "known"),
    ):
        split = leave_one_out(table)
        seed_everything(seed)
        model = SS4Rec(split.sequences.n_items, config)
        options = TrainingConfig(epochs=8, learning_rate=1e-2, target_time=time, device="cpu")
        fit(model, split, options, progress=False)
        torch.manual_seed(seed)
        found[name] = evaluate_ranking(model, split, target_time=time)
    slack = 3 * found["known"]["hr@1_se"]
    assert found["known"]["hr@1"] > 0.95 * aware - slack
    assert found["known"]["hr@1"] > blind + slack
    for name in ("none", "shuffled"):
        assert found[name]["hr@1"] < blind + slack, name
        assert found[name]["hr@1"] > 0.9 * blind - slack, f"{name}: it has learned nothing"
