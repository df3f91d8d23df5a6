"""Sampled ranking metrics: the effect of ranking the target among m negatives only.

Many papers rank the target not against the catalogue but against m negatives drawn from it. Let r
be the target's rank among all N items (ties broken at random). Of m negatives drawn uniformly, the
number X that outrank the target has a known distribution, so the expected sampled metric is exact:

    without replacement   X ~ Hypergeometric(N - 1 items, r - 1 of them above, m draws)
    with replacement      X ~ Binomial(m, (r - 1) / (N - 1))
    h(r) = E[gain(X + 1)] = sum over j < K of P(X = j) gain(j + 1)

A sampled metric is thus a full-catalogue metric with another gain: h instead of the gain it is
named after (Krichene and Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020). HR@K is a
step at rank K; its h falls slowly, around rank K N / m. The order of two models may therefore flip.
Compare sampled figures only with figures of the same m, N and sampling.
"""

from __future__ import annotations

import numpy as np
import scipy  # scipy.stats is loaded when first used: it takes a second

from ss4rec_lib.evaluation.ranking import GAINS, parse_metric


def sampled_gain(
    name: str, n_items: int, n_negatives: int, *, replacement: bool = False
) -> np.ndarray:
    """Return h(r) of ranks r = 1 ... N, the expected sampled metric at a full-catalogue rank, (N,).

    `name` is `hr@K`, `ndcg@K` or `mrr@K`, `n_items` is N (the target included) and `n_negatives` is
    m, drawn uniformly from the N - 1 others, with `replacement` if one may be drawn twice.
    """
    metric, k = _check(name, n_items, n_negatives, replacement)
    return _gain(metric, k, n_items, n_negatives, replacement, np.arange(1, n_items + 1))


def expected_sampled(
    name: str,
    above: np.ndarray,
    tied: np.ndarray,
    n_items: int | np.ndarray,
    n_negatives: int,
    *,
    replacement: bool = False,
) -> np.ndarray:
    """Return the expected sampled metric of each target from its counts in the full ranking.

    Ties are broken at random in the catalogue, as in `ranking`: the mean of h over the ranks
    above + 1 ... above + tied. `above` and `tied` (n,) are those of a `RankingResult`. `n_items`
    may be (n,) numbers where seen items are masked and users differ. See `sampled_gain` for the
    other arguments.
    """
    above, tied = np.asarray(above, dtype=np.int64), np.asarray(tied, dtype=np.int64)
    if above.ndim != 1 or above.shape != tied.shape or len(above) == 0:
        raise ValueError(f"above {above.shape} and tied {tied.shape}: expected two (n,), n >= 1")
    if np.ndim(n_items) and np.shape(n_items) != above.shape:
        raise ValueError(f"n_items has shape {np.shape(n_items)}: expected {above.shape} or one")
    sizes = np.broadcast_to(np.asarray(n_items, dtype=np.int64), above.shape)
    wrong = (above < 0) | (tied < 1) | (above + tied > sizes)
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"target {i} has {above[i]} items above it and {tied[i]} tied (itself included): "
            f"expected above >= 0, tied >= 1 and at most {sizes[i]} items together"
        )
    metric, k = _check(name, int(sizes.min()), n_negatives, replacement)
    values = np.empty(len(above))
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        first, last = above[rows] + 1, above[rows] + tied[rows]
        # Only ranks that occur: with masks there are about as many sizes as users.
        marks = np.zeros(size + 2, dtype=np.int64)
        np.add.at(marks, first, 1)
        np.add.at(marks, last + 1, -1)
        ranks = np.flatnonzero(np.cumsum(marks) > 0)
        gains = _gain(metric, k, int(size), n_negatives, replacement, ranks)
        cumulative = np.concatenate(([0.0], np.cumsum(gains)))
        begin = np.searchsorted(ranks, first)  # every rank from first to last is in `ranks`
        values[rows] = (cumulative[begin + tied[rows]] - cumulative[begin]) / tied[rows]
    return values


def _gain(
    metric: str, k: int, n_items: int, n_negatives: int, replacement: bool, ranks: np.ndarray
) -> np.ndarray:
    j = np.arange(k)[:, None]  # negatives above the target, (K, 1)
    if replacement:
        share = (ranks - 1) / max(n_items - 1, 1)
        probability = scipy.stats.binom.pmf(j, n_negatives, share)  # (K, n)
    else:
        probability = scipy.stats.hypergeom.pmf(j, n_items - 1, ranks - 1, n_negatives)  # (K, n)
    return GAINS[metric](np.arange(1, k + 1, dtype=np.float64)) @ probability


def _check(name: str, n_items: int, n_negatives: int, replacement: bool) -> tuple[str, int]:
    if n_items < 2:
        raise ValueError(f"n_items={n_items}: expected at least 2")
    if n_negatives < 1 or (n_negatives > n_items - 1 and not replacement):
        raise ValueError(f"n_negatives={n_negatives}: expected 1 to {n_items - 1}")
    metric, k = parse_metric(name)
    if k > n_negatives + 1:
        raise ValueError(f"{name}: expected K of at most {n_negatives + 1}, the items ranked")
    return metric, k
