"""Right-padded batches of similar length under a token budget.

Glossary
    B, L    sequences in a batch; length of the longest of them
    window  consecutive interactions of one user that become one row of a batch
    token   one cell of a batch, padding included: a batch has B * L of them
    delta   seconds from an interaction to the *next* one; the last one's reaches to the target

The model is causal, so a row of length n trains n predictions at once: the target of a position is
the item of the next one. (The published code makes a row of every prefix instead: the same targets
for a hundred times the work.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ss4rec_lib.data.arguments import check_integer
from ss4rec_lib.data.errors import DataError
from ss4rec_lib.data.sequences import Sequences
from ss4rec_lib.data.splits import Split, check_part


@dataclass(frozen=True, eq=False)
class Batch:
    """One padded batch; rows are right-padded with 0, and padding has delta 0.

    Attributes:
        items: (B, L) int64 item indices, 0 for padding.
        delta: (B, L) float32 seconds to the next interaction, the last one's to the target.
        targets: (B, L) int64 item indices to be predicted, 0 where there is nothing to predict.
        lengths: (B,) int64, interactions in each row.
        users: (B,) int64 user indices. A user may have several rows in training, one a part in
            evaluation.
        n_targets: how many of `targets` are not 0 (kept, so that asking a GPU is not needed).
    """

    items: torch.Tensor
    delta: torch.Tensor
    targets: torch.Tensor
    lengths: torch.Tensor
    users: torch.Tensor
    n_targets: int

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        moved = (
            tensor.to(device, non_blocking=non_blocking)
            for tensor in (self.items, self.delta, self.targets, self.lengths, self.users)
        )
        return Batch(*moved, n_targets=self.n_targets)


class Batches:
    """Batches over windows of histories; can be iterated any number of times, always the same.

    Attributes:
        n_targets: predictions in all batches together.
        padding_share: the share of all tokens that is padding, 0 to 1.
    """

    def __init__(
        self,
        sequences: Sequences,
        users: np.ndarray,
        starts: np.ndarray,
        lengths: np.ndarray,
        groups: list[np.ndarray],
        last_only: bool,
    ) -> None:
        """Keep the plan; batches are put together when asked for.

        Args:
            sequences: the histories.
            users: (W,) user index of each window.
            starts: (W,) where each window begins in `sequences.items`.
            lengths: (W,) inputs of each window; the entry after the last input is its target.
            groups: the windows of each batch, longest first.
            last_only: whether only the last position of a window has a target.
        """
        self._sequences = sequences
        self._users, self._starts, self._lengths = users, starts, lengths
        self._groups = groups
        self._last_only = last_only
        tokens = sum(len(group) * int(lengths[group[0]]) for group in groups)
        self.n_targets = len(lengths) if last_only else int(lengths.sum())
        self.padding_share = 1.0 - int(lengths.sum()) / tokens

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._groups)

    def __iter__(self) -> Iterator[Batch]:
        """The batches in order."""
        return (self._assemble(group) for group in self._groups)

    def _assemble(self, group: np.ndarray) -> Batch:
        lengths, starts = self._lengths[group], self._starts[group]
        steps = np.arange(lengths[0] + 1)  # the longest window comes first
        inside = steps[:-1] < lengths[:, None]  # (B, L)
        # Beyond a window's target the index is held there: it stays in range, and is masked.
        index = starts[:, None] + np.minimum(steps, lengths[:, None])  # (B, L + 1)
        items = self._sequences.items[index].astype(np.int64)
        # Subtracted in int64 and only then float32: float32 times would be 64 s apart.
        delta = np.diff(self._sequences.times[index], axis=1).astype(np.float32)
        wanted = steps[:-1] == lengths[:, None] - 1 if self._last_only else inside
        return Batch(
            items=torch.from_numpy(np.where(inside, items[:, :-1], 0)),
            delta=torch.from_numpy(delta),  # 0 in the padding, where the index stands still
            targets=torch.from_numpy(np.where(wanted, items[:, 1:], 0)),
            lengths=torch.from_numpy(lengths),
            users=torch.from_numpy(self._users[group]),
            n_targets=int(wanted.sum()),
        )


class TrainBatches(Batches):
    """What `train_batches` returns."""


class EvalBatches(Batches):
    """What `eval_batches` returns."""


def train_batches(
    split: Split,
    max_tokens: int = 3200,
    max_len: int | None = 200,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
) -> TrainBatches:
    """One epoch: every training target is predicted exactly once.

    Targets are positions `1 .. train_end - 1` of each user. A user with more than `max_len` of
    them is cut into windows of `max_len`, the first one shorter by an offset drawn anew for each
    user and epoch, so that the cuts fall elsewhere every time. Windows of similar length share a
    batch; the order of the batches, and of windows of equal length, is random. Everything drawn
    depends on (seed, epoch) alone.

    Args:
        split: what to train on.
        max_tokens: most tokens (B * L) in a batch; a single longer window is a batch of its own.
        max_len: most interactions in a window; None for whole histories.
        seed: any integer from 0.
        epoch: the number of the epoch, from 0.
        shuffle: False draws nothing: windows end where the training part ends, batches come by
            falling length.

    Returns:
        The batches, with `len()`, `n_targets` and `padding_share`.

    Raises:
        ValueError: an argument out of range.
        DataError: no user has two training interactions.
    """
    max_tokens, max_len = _check_sizes(max_tokens, max_len)
    rng = np.random.default_rng([check_integer("seed", seed, 0), check_integer("epoch", epoch, 0)])
    inputs = np.maximum(split.train_end - 1, 0)
    users = np.flatnonzero(inputs)
    if len(users) == 0:
        raise DataError(
            "train_batches: there is nothing to train on, no user has two training interactions "
            f"({split!r})."
        )
    inputs = inputs[users]
    if max_len is None:
        max_len = int(inputs.max())
    if shuffle:
        first = rng.integers(1, max_len + 1, size=len(users))
    else:
        first = (inputs - 1) % max_len + 1
    first = np.where(inputs > max_len, first, inputs)
    pieces = 1 + -(-(inputs - first) // max_len)
    owner = np.repeat(np.arange(len(users)), pieces)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = np.where(piece == 0, 0, first[owner] + (piece - 1) * max_len)
    end = np.minimum(first[owner] + piece * max_len, inputs[owner])
    lengths = end - begin
    tie_breaker = rng.random(len(lengths)) if shuffle else np.arange(len(lengths))
    groups = _group(lengths, np.lexsort((tie_breaker, -lengths)), max_tokens)
    if shuffle:
        groups = [groups[i] for i in rng.permutation(len(groups))]
    users = users[owner]
    starts = split.sequences.offsets[users] + begin
    return TrainBatches(split.sequences, users, starts, lengths, groups, last_only=False)


def eval_batches(
    split: Split, part: str, max_tokens: int = 12_800, max_len: int | None = 200
) -> EvalBatches:
    """Every held-out target of a part exactly once, longest histories first.

    A row is the last `max_len` interactions before the target. Its last position has the target,
    and as delta the time to it: the target's timestamp is known to the model, as in the published
    protocol.

    Args:
        split: what to evaluate on.
        part: "valid" or "test".
        max_tokens: most tokens (B * L) in a batch; a single longer window is a batch of its own.
        max_len: most interactions in a row; None for whole histories.

    Returns:
        The batches, deterministic, with `len()`, `n_targets` and `padding_share`.

    Raises:
        ValueError: an argument out of range or an unknown part.
    """
    check_part(part)
    max_tokens, max_len = _check_sizes(max_tokens, max_len)
    users, positions = split.held_out[part]
    lengths = positions if max_len is None else np.minimum(positions, max_len)
    starts = split.sequences.offsets[users] + positions - lengths
    groups = _group(lengths, np.argsort(-lengths, kind="stable"), max_tokens)
    return EvalBatches(split.sequences, users, starts, lengths, groups, last_only=True)


def _group(lengths: np.ndarray, order: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Cut windows sorted by falling length into batches of at most `max_tokens`."""
    groups = []
    begin = 0
    while begin < len(order):
        rows = max(1, max_tokens // int(lengths[order[begin]]))
        groups.append(order[begin : begin + rows])
        begin += rows
    return groups


def _check_sizes(max_tokens: int, max_len: int | None) -> tuple[int, int | None]:
    max_tokens = check_integer("max_tokens", max_tokens, 1)
    if max_len is not None:
        max_len = check_integer("max_len", max_len, 1, alternative="or None for whole histories")
    return max_tokens, max_len
