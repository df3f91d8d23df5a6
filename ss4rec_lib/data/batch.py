"""A padded batch, and a plan of batches that puts them together when asked for.

Glossary
    B, L    sequences in a batch; length of the longest of them
    window  consecutive interactions of one user that become one row of a batch
    token   one cell of a batch, padding included: a batch has B * L of them
    delta   seconds from an interaction to the *next* one; the last one's reaches to the target
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ss4rec_lib.data.sequences import Sequences


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
        carried: row i goes on where row i of the batch before ended, and takes over its state.
        starts: (B,) int64, where each row begins in the split's `sequences`; None in a batch that
            was not cut from any.
    """

    items: torch.Tensor
    delta: torch.Tensor
    targets: torch.Tensor
    lengths: torch.Tensor
    users: torch.Tensor
    n_targets: int
    carried: bool = False
    starts: torch.Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        moved = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return dataclasses.replace(self, **moved)

    def shard(self, index: int, count: int) -> Batch:
        """Rows index, index + count, ... : one of `count` parts that together are this batch.

        When there are fewer rows than parts, the parts left over get the first row without its
        targets: several processes must all take a step.
        """
        if count == 1:
            return self
        spare = index >= len(self.items)
        rows = slice(0, 1) if spare else slice(index, None, count)
        items, delta, targets, lengths, users = (
            tensor[rows]
            for tensor in (self.items, self.delta, self.targets, self.lengths, self.users)
        )
        if spare:
            targets = torch.zeros_like(targets)
        longest = int(lengths[0])  # rows come longest first
        return Batch(
            *(tensor[:, :longest] for tensor in (items, delta, targets)),
            lengths, users, int((targets > 0).sum()), self.carried,
            None if self.starts is None else self.starts[rows],
        )  # fmt: skip


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
        target_time: str = "known",
        target_interval: float | None = None,
        carried: list[bool] | None = None,
    ) -> None:
        """Keep the plan; batches are put together when asked for.

        Args:
            sequences: the histories.
            users: (W,) user index of each window.
            starts: (W,) where each window begins in `sequences.items`.
            lengths: (W,) inputs of each window; the entry after the last input is its target.
            groups: the windows of each batch, longest first.
            last_only: whether only the last position of a window has a target.
            target_time: what `delta` says, see `ss4rec_lib.data.target_time`.
            target_interval: seconds that replace each window's last interval; None to keep it.
            carried: for each batch whether it continues the one before; None for never.
        """
        self._sequences = sequences
        self._users, self._starts, self._lengths = users, starts, lengths
        self._groups = groups
        self._last_only = last_only
        self._target_time, self._target_interval = target_time, target_interval
        self._carried = carried or [False] * len(groups)
        tokens = sum(len(group) * int(lengths[group[0]]) for group in groups)
        self.n_targets = len(lengths) if last_only else int(lengths.sum())
        self.padding_share = 1.0 - int(lengths.sum()) / tokens

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._groups)

    def __iter__(self) -> Iterator[Batch]:
        """The batches in order."""
        return self.skip(0)

    def skip(self, number: int) -> Iterator[Batch]:
        """The batches from `number` on, without putting the earlier ones together."""
        pairs = zip(self._groups[number:], self._carried[number:], strict=True)
        return (self._assemble(group, carried) for group, carried in pairs)

    def _intervals(self, index: np.ndarray, users: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """What the model is told of time, (B, L) float32 seconds, 0 in the padding."""
        if self._target_time == "none":
            return inside.astype(np.float32)
        times = self._sequences.times
        # Subtracted in int64 and only then float32: float32 times would be 64 s apart.
        if self._target_time == "previous":
            begin = self._sequences.offsets[users][:, None]  # a first interaction has none before
            delta = times[index[:, :-1]] - times[np.maximum(index[:, :-1] - 1, begin)]
            return np.where(inside, delta, 0).astype(np.float32)
        delta = np.diff(times[index], axis=1).astype(np.float32)  # 0 where the index stands still
        if self._target_interval is not None:
            delta[np.arange(len(delta)), inside.sum(1) - 1] = self._target_interval
        return delta

    def _assemble(self, group: np.ndarray, carried: bool) -> Batch:
        lengths, starts = self._lengths[group], self._starts[group]
        steps = np.arange(lengths[0] + 1)  # the longest window comes first
        inside = steps[:-1] < lengths[:, None]  # (B, L)
        # Beyond a window's target the index is held there: it stays in range, and is masked.
        index = starts[:, None] + np.minimum(steps, lengths[:, None])  # (B, L + 1)
        items = self._sequences.items[index].astype(np.int64)
        delta = self._intervals(index, self._users[group], inside)
        wanted = steps[:-1] == lengths[:, None] - 1 if self._last_only else inside
        return Batch(
            items=torch.from_numpy(np.where(inside, items[:, :-1], 0)),
            delta=torch.from_numpy(delta),
            targets=torch.from_numpy(np.where(wanted, items[:, 1:], 0)),
            lengths=torch.from_numpy(lengths),
            users=torch.from_numpy(self._users[group]),
            n_targets=int(wanted.sum()),
            carried=carried,
            starts=torch.from_numpy(starts),
        )
