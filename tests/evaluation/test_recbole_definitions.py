"""Our metrics are RecBole's, and with ties the mean over all ways to break them.

The formulas below are those of the documentation of `recbole.evaluator.metrics`, written out in
plain Python: R(u) the set of items the user went on to, R^(u) the K items recommended, in order.
They know nothing of counts above and tied, of arrays or of our conventions.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.evaluation import RankingResult, ranks_of_targets


def average(values):
    values = list(values)
    return sum(values) / len(values)


def hit(recommended, relevant):
    """1/|U| sum over u of [R^(u) and R(u) have an item in common]."""
    return average(float(bool(set(r) & t)) for r, t in zip(recommended, relevant, strict=True))


def recall(recommended, relevant):
    """1/|U| sum over u of |R^(u) and R(u)| / |R(u)|."""
    return average(len(set(r) & t) / len(t) for r, t in zip(recommended, relevant, strict=True))


def ndcg(recommended, relevant):
    """1/|U| sum over u of DCG / IDCG, with 1 / log2(i + 1) at place i from 1."""
    values = []
    for r, t in zip(recommended, relevant, strict=True):
        ideal = sum(1 / math.log2(i + 1) for i in range(1, min(len(t), len(r)) + 1))
        found = sum(1 / math.log2(i + 1) for i, item in enumerate(r, 1) if item in t)
        values.append(found / ideal)
    return average(values)


def mrr(recommended, relevant):
    """1/|U| sum over u of 1 / the place of the first relevant item, 0 if there is none."""
    values = []
    for r, t in zip(recommended, relevant, strict=True):
        places = [i for i, item in enumerate(r, 1) if item in t]
        values.append(1 / places[0] if places else 0.0)
    return average(values)


def random_case(seed, n_items, n_users):
    """Scores without ties (users, n_items + 1), one target per user."""
    rng = np.random.default_rng(seed)
    scores = np.stack([rng.permutation(n_items + 1) for _ in range(n_users)]).astype(np.float32)
    targets = rng.integers(1, n_items + 1, n_users)
    return scores, targets


def ranked(row, k):
    """The k best of items 1, 2, ..., by a full sort in Python."""
    return sorted(range(1, len(row)), key=lambda item: -float(row[item]))[:k]


@settings(max_examples=60)
@given(st.integers(2, 30), st.integers(1, 12), st.integers(0, 10_000), st.data())
def test_metrics_are_those_of_recboles_documentation(n_items, n_users, seed, data):
    k = data.draw(st.integers(1, n_items))
    scores, targets = random_case(seed, n_items, n_users)
    recommended = [ranked(row, k) for row in scores]
    relevant = [{int(target)} for target in targets]

    above, tied = ranks_of_targets(torch.from_numpy(scores), torch.from_numpy(targets))
    result = RankingResult(np.arange(n_users), above, tied, ks=(k,))
    assert result[f"hr@{k}"] == pytest.approx(hit(recommended, relevant), abs=1e-12)
    assert result[f"hr@{k}"] == pytest.approx(recall(recommended, relevant), abs=1e-12)
    assert result[f"ndcg@{k}"] == pytest.approx(ndcg(recommended, relevant), abs=1e-12)
    assert result[f"mrr@{k}"] == pytest.approx(mrr(recommended, relevant), abs=1e-12)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=5, max_size=5), st.integers(1, 5)),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 5),
)
def test_with_ties_they_are_the_mean_over_all_ways_to_break_them(users, k):
    scores = torch.tensor([[9.0, *row] for row, _ in users])
    targets = torch.tensor([target for _, target in users])
    above, tied = ranks_of_targets(scores, targets)
    result = RankingResult(np.arange(len(users)), above, tied, ks=(k,))

    sums = dict.fromkeys(("hr", "ndcg", "mrr"), 0.0)
    orders = list(itertools.permutations(range(1, 6)))
    for order in orders:
        ranking = [sorted(order, key=lambda item: -row[item - 1]) for row, _ in users]
        recommended = [items[:k] for items in ranking]
        relevant = [{target} for _, target in users]
        sums["hr"] += hit(recommended, relevant)
        sums["ndcg"] += ndcg(recommended, relevant)
        sums["mrr"] += mrr(recommended, relevant)
    for metric in ("hr", "ndcg", "mrr"):
        assert result[f"{metric}@{k}"] == pytest.approx(sums[metric] / len(orders), abs=1e-12)
