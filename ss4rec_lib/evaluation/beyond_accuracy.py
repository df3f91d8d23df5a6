"""What is recommended, not only whether it is right: coverage, popularity and concentration.

Glossary
    lists         (n, K) item ids, the K best items of each of n users, best first; 0 where fewer
                  than K items were left to recommend
    train counts  (n_items + 1,) how often each item occurs in training; entry 0 is padding
    I             the catalogue, items 1 ... n_items

Coverage, average popularity and the Gini index are those of RecBole's documentation. (RecBole's
program counts its padding id as an item of the catalogue, n_items + 1; here it is none.)
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from ss4rec_lib.data import Split, check_integer, eval_batches
from ss4rec_lib.evaluation.ranking import RankingResult, last_hidden, mask_seen_items
from ss4rec_lib.progress import progress_bar


def expected_rank(above: np.ndarray, tied: np.ndarray) -> np.ndarray:
    """Rank of each target from 1, averaged over the ways to break its ties.

    Args:
        above: Items scored above each target, (n,).
        tied: Items tied with it, itself included, (n,).

    Returns:
        (n,) float64: above + (tied + 1) / 2.
    """
    return above + (tied + 1) / 2


def mean_rank(result: RankingResult) -> float:
    """Mean over targets of the expected rank, from 1; unlike metrics at K it sees the whole list.

    Its scale is the catalogue, so it compares only within one catalogue and one masking.
    """
    return float(expected_rank(result.above, result.tied).mean())


def catalogue_coverage(lists: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that is recommended to anyone: |union of the lists| / |I|.

    Args:
        lists: (n, K) item ids.
        n_items: Size of the catalogue.

    Raises:
        ValueError: Lists that are not (n, K) ids of 0 ... n_items, repeat an item in a row, or
            recommend nothing.
    """
    counts = _recommended(_check_lists(lists, n_items), n_items)
    return float(np.count_nonzero(counts) / n_items)


def gini(lists: np.ndarray, n_items: int) -> float:
    """Gini index of how often items are recommended: 0 all alike, 1 - 1 / |I| always the same one.

    With P(1) <= ... <= P(|I|) the number of lists an item is in, items in none included:
    sum of (2 i - |I| - 1) P(i) over |I| * sum of P(i).

    Args:
        lists: (n, K) item ids.
        n_items: Size of the catalogue.

    Raises:
        ValueError: As `catalogue_coverage`.
    """
    counts = np.sort(_recommended(_check_lists(lists, n_items), n_items))  # (n_items,)
    weights = 2 * np.arange(1, n_items + 1) - n_items - 1
    return float(weights @ counts / (n_items * counts.sum()))


def mean_popularity(lists: np.ndarray, train_counts: np.ndarray) -> float:
    """Average recommendation popularity (ARP): mean training count of the items of a list.

    The mean over a user's list, then over users; users without a recommendation are left out.

    Args:
        lists: (n, K) item ids.
        train_counts: (n_items + 1,) counts.

    Raises:
        ValueError: As `catalogue_coverage`, or counts that are not (n_items + 1,) and >= 0.
    """
    return _mean_over_lists(lists, _check_counts(train_counts).astype(np.float64))


def mean_popularity_percentile(lists: np.ndarray, train_counts: np.ndarray) -> float:
    """Mean popularity percentile of recommended items, 0 the least popular item, 1 the most.

    An item's percentile is the share of the other items that are less popular, those as popular
    counting half: the mean over the catalogue is 1/2, so a uniform choice is worth 1/2 whatever the
    data, and unlike training counts it compares between datasets.

    Args:
        lists: (n, K) item ids.
        train_counts: (n_items + 1,) counts.

    Raises:
        ValueError: As `mean_popularity`.
    """
    counts = _check_counts(train_counts)
    others = max(len(counts) - 2, 1)
    percentile = (stats.rankdata(counts[1:], method="average") - 1) / others  # (n_items,)
    return _mean_over_lists(lists, np.concatenate(([0.0], percentile)))


def beyond_accuracy(lists: np.ndarray, train_counts: np.ndarray) -> dict[str, float]:
    """All measures of lists of length K: `coverage@K`, `gini@K`, `popularity@K` and its percentile.

    Args:
        lists: (n, K) item ids.
        train_counts: (n_items + 1,) counts.

    Raises:
        ValueError: As `mean_popularity`.
    """
    counts = _check_counts(train_counts)
    n_items, k = len(counts) - 1, _check_lists(lists, len(counts) - 1).shape[1]
    return {
        f"coverage@{k}": catalogue_coverage(lists, n_items),
        f"gini@{k}": gini(lists, n_items),
        f"popularity@{k}": mean_popularity(lists, counts),
        f"popularity_percentile@{k}": mean_popularity_percentile(lists, counts),
    }


def best_items(scores: torch.Tensor, k: int, order: torch.Tensor) -> torch.Tensor:
    """The k items with the highest scores, without sorting the catalogue.

    Equal scores come in the order given. (Which of them `torch.topk` returns is not defined, so it
    only finds the k-th highest score here.)

    Args:
        scores: (B, n_items + 1); column 0, padding, is ignored; -inf is never recommended.
        k: How many, at most n_items.
        order: All item ids, (n_items,): of equal scores, the item that comes first here wins.

    Returns:
        (B, k) int64 ids, best first, 0 where fewer than k items are left.

    Raises:
        ValueError: NaN among the scores, or k out of range.
    """
    check_integer("k", k, 1, len(order))
    scores = scores[:, order]  # (B, n_items)
    if torch.isnan(scores).any():
        rows = torch.isnan(scores).any(dim=1).sum().item()
        raise ValueError(f"scores hold NaN in {rows} of {len(scores)} rows: the model has diverged")
    least = scores.topk(k, dim=1).values[:, -1:]  # (B, 1)
    higher, equal = scores > least, scores == least  # (B, n_items)
    missing = k - higher.sum(dim=1, keepdim=True)  # (B, 1)
    chosen = higher | (equal & (equal.cumsum(dim=1) <= missing))  # (B, n_items), k in a row
    columns = chosen.nonzero()[:, 1].view(len(scores), k)  # ascending, so in the given order
    values, places = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    items = order[columns.gather(1, places)]  # (B, k)
    return items.masked_fill(torch.isneginf(values), 0)


@torch.no_grad()
def top_k(
    model: torch.nn.Module,
    split: Split,
    part: str = "test",
    k: int = 10,
    *,
    mask_seen: bool = False,
    max_len: int | None = 200,
    max_tokens: int = 12_800,
    target_time: str = "known",
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """The k best items of each user with a target, as `evaluate_ranking` scores them.

    Equal scores are broken by one random order of the catalogue, drawn from `seed` and the same for
    all users: lists depend neither on batching nor on the device's sort, and a model that gives all
    items one score recommends the same k items to everyone, as a deployed one would.

    Args:
        model: `forward(items, delta)` and `logits(hidden)`; put in evaluation mode meanwhile.
        split: The data.
        part: `valid` or `test`.
        k: Length of a list.
        mask_seen: Never recommend items of the user's history (but the target, if it is one).
        max_len: Most recent interactions the model sees; None for the whole history.
        max_tokens: Padded positions a batch.
        target_time: What the model is told of time; see `ss4rec_lib.data.batching`.
        seed: Of the order of equal scores.
        progress: Show a progress bar.

    Returns:
        (n, k) int64 item ids, rows in the order of `split.held_out[part][0]` and of
        `RankingResult.users`; 0 where fewer than k items are left.

    Raises:
        ValueError: No targets, k out of range, or scores with NaN.
    """
    n_items = split.sequences.n_items
    check_integer("k", k, 1, n_items)
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    users, where = split.held_out[part] if part in split.held_out else ((), ())
    if len(users) == 0:
        raise ValueError(f"part {part!r} of the split holds no targets; has {list(split.held_out)}")
    positions = np.zeros(split.sequences.n_users, dtype=np.int64)
    positions[users] = where
    lists = np.zeros((split.sequences.n_users, k), dtype=np.int64)

    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    order = torch.from_numpy(rng.permutation(n_items) + 1).to(device)  # (n_items,)
    was_training = model.training
    model.eval()
    try:
        batches = eval_batches(
            split, part, max_tokens=max_tokens, max_len=max_len, target_time=target_time
        )
        for batch in progress_bar(batches, desc=f"top {k} {part}", show=progress, leave=False):
            batch = batch.to(device)
            scores = model.logits(last_hidden(model, batch))  # (B, n_items + 1)
            batch_users = batch.users.cpu().numpy()
            if mask_seen:
                mask_seen_items(scores, batch, split, positions[batch_users])
            lists[batch_users] = best_items(scores, k, order).cpu().numpy()
    finally:
        model.train(was_training)
    return lists[users]


def _recommended(lists: np.ndarray, n_items: int) -> np.ndarray:
    """How many lists each item is in, (n_items,)."""
    return np.bincount(lists.ravel(), minlength=n_items + 1)[1:]


def _mean_over_lists(lists: np.ndarray, values: np.ndarray) -> float:
    """Mean over users of the mean of `values` (n_items + 1,) over their list."""
    lists = _check_lists(lists, len(values) - 1)
    filled = lists > 0  # (n, K)
    lengths = filled.sum(axis=1)  # (n,)
    sums = (values[lists] * filled).sum(axis=1)  # (n,)
    return float((sums[lengths > 0] / lengths[lengths > 0]).mean())


def _check_lists(lists: np.ndarray, n_items: int) -> np.ndarray:
    check_integer("n_items", n_items, 1)
    lists = np.asarray(lists)
    if lists.ndim != 2 or not np.issubdtype(lists.dtype, np.integer):
        raise ValueError(
            f"lists: expected (n, K) integer item ids, found {lists.dtype} of shape {lists.shape}"
        )
    if lists.size == 0 or not (lists > 0).any():
        raise ValueError("lists recommend nothing: expected at least one item id above 0")
    if lists.min() < 0 or lists.max() > n_items:
        raise ValueError(
            f"lists hold ids {lists.min()} to {lists.max()}: expected 1 to {n_items}, 0 for none"
        )
    ordered = np.sort(lists, axis=1)
    repeats = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > 0)).any(axis=1)
    if repeats.any():
        raise ValueError(f"an item occurs twice in {repeats.sum()} of {len(lists)} lists")
    return lists


def _check_counts(train_counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(train_counts)
    if counts.ndim != 1 or len(counts) < 2 or not (counts >= 0).all():
        raise ValueError(
            f"train_counts has shape {counts.shape}: expected (n_items + 1,) counts >= 0"
        )
    return counts
