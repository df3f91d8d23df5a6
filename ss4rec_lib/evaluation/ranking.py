"""Ranking metrics over the whole catalogue.

For each target, all items of the catalogue are ranked by score. With g items scored above the
target and t tied with it (the target included), its rank is one of g+1 ... g+t, each equally
likely if ties are broken at random. Every metric here is the **expectation over that choice**,
computed exactly. No metric depends on item ids or on the order of a sort.

Definitions (one relevant item per target, r its rank), those of RecBole's documentation:
    HR@K (= Recall@K)   1 if r <= K, else 0
    NDCG@K              1 / log2(r + 1) if r <= K, else 0
    MRR@K               1 / r if r <= K, else 0
Standard errors are over targets: standard deviation / sqrt(number of targets).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ss4rec_lib.data import Batch, Split, eval_batches
from ss4rec_lib.models import Recommender

KS = (1, 5, 10, 20)

# metric -> gain of rank r (float64 array of ranks 1, 2, ...)
GAINS = {
    "hr": lambda r: np.ones_like(r),
    "ndcg": lambda r: 1 / np.log2(r + 1),
    "mrr": lambda r: 1 / r,
}


class NotFiniteError(ValueError, FloatingPointError):
    """Scores or predicted ratings that are NaN or infinite: the model has diverged."""


def expected_gain(metric: str, k: int, above: np.ndarray, tied: np.ndarray) -> np.ndarray:
    """Return metric@k of each target, (n,), averaged over the ranks that its ties allow.

    `above` (n,) counts the items scored strictly above the target, `tied` (n,) those with its
    score, itself included.
    """
    # cumulative[j] = sum of the gains of ranks 1..j, so a tie over ranks g+1..g+t is a difference.
    gains = GAINS[metric](np.arange(1, k + 1, dtype=np.float64))
    cumulative = np.concatenate(([0.0], np.cumsum(gains)))  # (k + 1,)
    first, last = np.minimum(above, k), np.minimum(above + tied, k)
    return (cumulative[last] - cumulative[first]) / tied


def parse_metric(name: str) -> tuple[str, int]:
    """Return the metric and K of a name such as `ndcg@10`; raise ValueError for another one."""
    metric, _, k = name.partition("@")
    if metric not in GAINS or not k.isdigit() or int(k) < 1:
        raise ValueError(f"metric {name!r} is unknown: expected one of {list(GAINS)} and '@K'")
    return metric, int(k)


class Metrics(dict[str, float]):
    """Numbers by name; each metric `m` is followed by its standard error `m_se`."""

    def _shown(self, names: Sequence[str]) -> str:
        return ", ".join(f"{name} {self[name]:.4f} ± {self[f'{name}_se']:.4f}" for name in names)


class RankingResult(Metrics):
    """Metrics by name (`hr@10`, `hr@10_se`, ...), and the counts they were computed from.

    (n,) each: user index `users`, items scored strictly `above` the target, and `tied` with it,
    itself included.
    """

    def __init__(
        self, users: np.ndarray, above: np.ndarray, tied: np.ndarray, ks: Sequence[int] = KS
    ) -> None:
        if len(users) == 0:
            raise ValueError("no targets to evaluate: expected at least one user with a target")
        self.users, self.above, self.tied, self.ks = users, above, tied, tuple(ks)
        n = len(users)
        for name in (f"{metric}@{k}" for k in self.ks for metric in GAINS):
            values = self.per_target(name)
            se = values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
            self.update({name: float(values.mean()), f"{name}_se": float(se)})

    def per_target(self, name: str) -> np.ndarray:
        """Return one metric, such as `ndcg@10`, of every target, (n,)."""
        metric, k = parse_metric(name)
        return expected_gain(metric, k, self.above, self.tied)

    def __repr__(self) -> str:
        ks = self.ks if len(self.ks) == 1 else [k for k in self.ks if k == 10]
        shown = self._shown([f"{metric}@{k}" for k in ks for metric in GAINS])
        return f"RankingResult({len(self.users):,} targets; {shown})"


def ranks_of_targets(scores: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Count, for each row, the items above the target and those tied with it, (B,) int64 each.

    Column 0 of the scores (B, n_items + 1), padding, is ignored. -inf takes an item out of the
    catalogue. A target counts as tied with itself.
    """
    if rows := int(torch.isnan(scores[:, 1:]).any(dim=1).sum()):
        found = f"scores hold NaN in {rows} of {len(scores)} rows"
        raise NotFiniteError(f"{found}: the model has diverged")
    of_target = scores.gather(1, targets[:, None])  # (B, 1)
    above = (scores[:, 1:] > of_target).sum(dim=1)  # (B,)
    tied = (scores[:, 1:] == of_target).sum(dim=1)  # (B,)
    return above.cpu().numpy(), tied.cpu().numpy()


def mask_seen_items(scores: torch.Tensor, batch: Batch, split: Split) -> None:
    """Set the scores of items of a user's history to -inf, but never the target's."""
    sequences = split.sequences
    begins = sequences.offsets[batch.users.cpu().numpy()]
    ends = (batch.starts + batch.lengths).cpu().numpy()  # where the target is
    histories = [sequences.items[begin:end] for begin, end in zip(begins, ends, strict=True)]
    rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    columns = np.concatenate(histories).astype(np.int64)
    targets = last_targets(batch)[:, None]  # (B, 1)
    kept = scores.gather(1, targets)
    index = torch.from_numpy(rows), torch.from_numpy(columns)
    scores[tuple(i.to(scores.device) for i in index)] = -torch.inf
    scores.scatter_(1, targets, kept)


def last_targets(batch: Batch) -> torch.Tensor:
    """Return the target of each row of a batch for evaluation, (B,)."""
    return batch.targets.flatten()[batch.positions]


def evaluate_ranking(
    model: Recommender,
    split: Split,
    part: str = "test",
    *,
    ks: Sequence[int] = KS,
    mask_seen: bool = False,
    **batching: Any,
) -> RankingResult:
    """Rank each target of `part` ("valid" or "test") against the whole catalogue.

    `ks` are cut-offs K, from 1 to the size of the catalogue. `mask_seen` takes the items of the
    user's history out of the ranking, which RecBole does not. `batching` are `max_len`,
    `max_tokens` and `target_time` of `ss4rec_lib.data.eval_batches`.
    """
    return rank_targets(model, split, part, masks=(mask_seen,), ks=ks, **batching)[mask_seen]


def rank_targets(
    model: Recommender,
    split: Split,
    part: str,
    *,
    masks: Collection[bool] = (False, True),
    ks: Sequence[int] = KS,
    **batching: Any,
) -> dict[bool, RankingResult]:
    """Return `evaluate_ranking` for each `mask_seen` in `masks`, from one pass of the model."""
    check_targets(split, part, ks)
    found: dict[bool, list[tuple[np.ndarray, ...]]] = {mask: [] for mask in sorted(masks)}
    with evaluating(model) as device:
        for batch in eval_batches(split, part, **batching):
            users = batch.users.numpy()
            batch = batch.to(device)
            scores, targets = model.scores(batch), last_targets(batch)
            for mask, columns in found.items():  # unmasked first: masking overwrites the scores
                if mask:
                    mask_seen_items(scores, batch, split)
                columns.append((users, *ranks_of_targets(scores, targets)))
    return {mask: RankingResult(*join_by_user(columns), ks=ks) for mask, columns in found.items()}


def join_by_user(columns: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Join the columns of all batches, the first of which are users, and sort them by user."""
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    order = np.argsort(joined[0], kind="stable")  # batches are sorted by length; users read better
    return [column[order] for column in joined]


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[torch.device]:
    """Put a model in evaluation mode, without gradients; yield its device."""
    tensors = (*model.parameters(), *model.buffers())
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield tensors[0].device if tensors else torch.device("cpu")
    finally:
        model.train(was_training)


def check_targets(split: Split, part: str, ks: Sequence[int]) -> None:
    """Raise ValueError if the part holds no targets, or K is below 1 or beyond the catalogue."""
    if part not in split.held_out or len(split.held_out[part][0]) == 0:
        raise ValueError(f"part {part!r} of the split holds no targets; has {list(split.held_out)}")
    n_items = split.sequences.n_items
    for k in ks:
        if not 1 <= k <= n_items:
            raise ValueError(f"K={k}: expected 1 <= K <= {n_items}, the size of the catalogue")
