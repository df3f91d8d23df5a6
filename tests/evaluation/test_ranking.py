"""Ranking metrics against brute force and RecBole's formulas; ties broken at random."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.data import leave_one_out, planted_ratings
from ss4rec_lib.evaluation import (
    RankingResult,
    evaluate_ranking,
    expected_gain,
    rank_targets,
    ranks_of_targets,
)
from ss4rec_lib.models import ModelConfig, Recommender, SS4Rec, SS4RecConfig


def gain(metric: str, rank: int, k: int) -> float:
    """One target's metric as RecBole's documentation states it, one relevant item."""
    if rank > k:
        return 0.0
    return {"hr": 1.0, "ndcg": 1 / np.log2(rank + 1), "mrr": 1 / rank}[metric]


def recbole(metric: str, hits: np.ndarray) -> float:
    """RecBole's documented formulas over a matrix of hits (users, K) in ranked order.

    Recall = |R & T| / |T|; NDCG = sum_i hit_i / log2(i + 1) over its ideal; MRR = 1 / first hit.
    """
    positions = np.arange(1, hits.shape[1] + 1)
    if metric == "hr":
        return hits.any(axis=1).mean()
    if metric == "ndcg":  # the ideal has its one relevant item first: 1 / log2(2) = 1
        return (hits / np.log2(positions + 1)).sum(axis=1).mean()
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, np.inf)
    return (1 / first).mean()


@settings(max_examples=50)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 10_000))
def test_equals_recbole_definitions_when_there_are_no_ties(n_items, n_users, seed):
    rng = np.random.default_rng(seed)
    scores = np.stack([rng.permutation(n_items).astype(np.float32) for _ in range(n_users)])
    targets = rng.integers(1, n_items + 1, n_users)
    with_padding = np.concatenate((np.full((n_users, 1), 1e9, np.float32), scores), axis=1)
    above, tied = ranks_of_targets(torch.from_numpy(with_padding), torch.from_numpy(targets))
    for k in {1, min(5, n_items), n_items}:
        ranked = np.argsort(-scores, axis=1)[:, :k] + 1  # item ids
        hits = ranked == targets[:, None]
        result = RankingResult(np.arange(n_users), above, tied, ks=(k,))
        for metric in ("hr", "ndcg", "mrr"):
            assert result[f"{metric}@{k}"] == pytest.approx(recbole(metric, hits), abs=1e-12)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.data())
def test_ties_are_the_average_over_all_ways_to_break_them(scores, data):
    target = data.draw(st.integers(0, len(scores) - 1))
    row = torch.tensor([[9.0, *scores]], dtype=torch.float32)
    above, tied = ranks_of_targets(row, torch.tensor([target + 1]))
    for metric, k in itertools.product(("hr", "ndcg", "mrr"), (1, 2, len(scores))):
        found = expected_gain(metric, k, above, tied)[0]
        gains = []
        for order in itertools.permutations(range(len(scores))):
            ranking = sorted(order, key=lambda item: -scores[item])  # stable: keeps this order
            gains.append(gain(metric, ranking.index(target) + 1, k))
        assert found == pytest.approx(np.mean(gains), abs=1e-12)


def test_constant_scores_are_worth_what_guessing_is_worth():
    above, tied = ranks_of_targets(torch.zeros(4, 101), torch.tensor([1, 7, 50, 100]))
    result = RankingResult(np.arange(4), above, tied, ks=(10,))
    assert result["hr@10"] == pytest.approx(0.1)


def test_standard_error_is_that_of_a_mean():
    above = np.array([0, 20, 0, 20, 0])
    result = RankingResult(np.arange(5), above, np.ones(5, dtype=int), ks=(10,))
    hits = np.array([1, 0, 1, 0, 1])
    assert result["hr@10_se"] == pytest.approx(hits.std(ddof=1) / np.sqrt(5))
    assert np.array_equal(result.per_target("hr@10"), hits)


class Oracle(Recommender):
    """Scores an item by how far it is, in id, from the last item seen; or whatever it is told."""

    def __init__(self, n_items: int, fill: float | None = None) -> None:
        super().__init__(n_items, ModelConfig())
        self.ids, self.fill = torch.arange(n_items + 1.0), fill

    def forward(self, items, delta):
        return torch.stack((items.float(), delta), dim=-1)

    def logits(self, hidden):
        scores = -(self.ids - hidden[..., :1]).abs()
        return torch.full_like(scores, self.fill) if self.fill is not None else scores


@pytest.fixture(scope="module")
def split():
    return leave_one_out(planted_ratings(n_users=60, n_items=40, mean_length=20, seed=1))


@pytest.mark.parametrize("mask_seen", [False, True])
@pytest.mark.parametrize("part", ["valid", "test"])
def test_evaluation_equals_a_loop_over_users(split, part, mask_seen):
    model = Oracle(split.sequences.n_items)
    result = evaluate_ranking(model, split, part, mask_seen=mask_seen, max_tokens=300)
    sequences, (users, positions) = split.sequences, split.held_out[part]
    assert np.array_equal(result.users, users)
    for row, (user, position) in enumerate(zip(users, positions, strict=True)):
        start = sequences.offsets[user]
        history = sequences.items[start : start + position].tolist()
        target = int(sequences.items[start + position])
        scores = {i: -abs(i - history[-1]) for i in range(1, sequences.n_items + 1)}
        if mask_seen:
            scores = {i: s for i, s in scores.items() if i == target or i not in history}
        assert result.above[row] == sum(s > scores[target] for s in scores.values())
        assert result.tied[row] == sum(s == scores[target] for s in scores.values())


def test_evaluation_does_not_depend_on_batching(split):
    model = Oracle(split.sequences.n_items)
    small = evaluate_ranking(model, split, max_tokens=64)
    large = evaluate_ranking(model, split, max_tokens=100_000)
    assert dict(small) == dict(large)


def test_the_model_is_left_in_the_mode_it_was_in(split):
    model = Oracle(split.sequences.n_items).train()
    evaluate_ranking(model, split)
    assert model.training


def test_nan_scores_are_an_error_never_a_rank(split):
    with pytest.raises(ValueError, match="NaN"):
        evaluate_ranking(Oracle(split.sequences.n_items, float("nan")), split)


@pytest.mark.parametrize("k", [0, 41, 10_000])
def test_cut_off_outside_the_catalogue_is_refused(split, k):
    with pytest.raises(ValueError, match=f"K={k}: expected 1 <= K <= "):
        evaluate_ranking(Oracle(split.sequences.n_items), split, ks=(k,))


def test_unknown_part_metric_and_no_targets_are_refused(split):
    with pytest.raises(ValueError, match="'train'"):
        evaluate_ranking(Oracle(split.sequences.n_items), split, "train")
    empty = np.array([], dtype=int)
    with pytest.raises(ValueError, match="no targets"):
        RankingResult(empty, empty, empty)
    result = evaluate_ranking(Oracle(split.sequences.n_items), split)
    with pytest.raises(ValueError, match="'map@10' is unknown"):
        result.per_target("map@10")


@pytest.mark.parametrize("part", ["valid", "test"])
def test_one_pass_gives_both_what_is_masked_and_what_is_not(part):
    split = leave_one_out(planted_ratings(n_users=40, n_items=60, seed=2))
    torch.manual_seed(0)
    model = SS4Rec(split.sequences.n_items, SS4RecConfig.official(hidden_size=8, d_H=8, d_P=4))
    both = rank_targets(model, split, part)
    for mask, found in both.items():
        alone = evaluate_ranking(model, split, part, mask_seen=mask)
        assert (found.above == alone.above).all() and (found.tied == alone.tied).all()
        assert dict(found) == dict(alone)
    assert (both[True].above <= both[False].above).all()
    assert (both[True].above < both[False].above).any()
