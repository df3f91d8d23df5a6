"""Right-padded batches of similar length under a token budget.

Glossary
    B, L    sequences in a batch; length of the longest of them
    window  consecutive interactions of one user that become one row of a batch
    token   one cell of a batch, padding included: a batch has B * L of them
    delta   seconds from an interaction to the *next* one; the last one's reaches to the target

The models are causal, so a row of length n trains n predictions at once: the target of a position
is the item of the next one. The published code makes a row of every prefix instead, which trains
the same targets at a hundred times the cost.

The published model receives, at each position, the seconds to the *next* interaction. For the last
position this is the time of the target, which is unknown when a recommendation is made. The
argument `target_time` chooses what `delta` holds:

    known      delta[k] = t[k+1] - t[k], the target's timestamp included (published)
    hidden     as `known` in training; in evaluation the last interval, the one to the target, is
               replaced by the median interval of the training part
    previous   delta[k] = t[k] - t[k-1], 0 at a user's first interaction: only the past is used
    none       delta[k] = 1 everywhere: no information about time

Arguments that the functions share: `max_tokens` is the most tokens in a batch (a single longer
window is a batch of its own), `max_len` the most interactions in a window (None for whole
histories), `seed` and `epoch` are integers from 0. All raise ValueError for an argument out of
range, and DataError when no user has two training interactions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ss4rec_lib.data.batch import Batch
from ss4rec_lib.data.sequences import Sequences
from ss4rec_lib.data.splits import Split, check_part
from ss4rec_lib.data.validation import DataError, check_integer

TARGET_TIMES = ("known", "hidden", "previous", "none")


class Batches:
    """Batches over windows of histories, assembled when asked for, always the same.

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
        *,
        last_only: bool = False,
        target_time: str = "known",
        target_interval: float | None = None,
        carried: list[bool] | None = None,
    ) -> None:
        """Keep the plan.

        Args:
            sequences: the histories.
            users: (W,) user index of each window.
            starts: (W,) where each window begins in `sequences.items`.
            lengths: (W,) inputs of each window; the entry after the last input is its target.
            groups: the windows of each batch, longest first.
            last_only: True when only the last position of a window has a target.
            target_time: one of `TARGET_TIMES`.
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
        """Return the number of batches."""
        return len(self._groups)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches in order."""
        return self.skip(0)

    def skip(self, number: int) -> Iterator[Batch]:
        """Iterate over the batches from `number` on, without assembling the earlier ones."""
        pairs = zip(self._groups[number:], self._carried[number:], strict=True)
        return (self._assemble(group, carried) for group, carried in pairs)

    def _intervals(self, index: np.ndarray, users: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Return delta, (B, L) float32 seconds, 0 in the padding."""
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
        ratings = self._sequences.ratings[index]
        wanted = steps[:-1] == lengths[:, None] - 1 if self._last_only else inside
        arrays = {
            "items": np.where(inside, items[:, :-1], 0),
            "delta": self._intervals(index, self._users[group], inside),
            "targets": np.where(wanted, items[:, 1:], 0),
            "ratings": np.where(inside, ratings[:, :-1], np.float32(0)),
            "target_ratings": np.where(wanted, ratings[:, 1:], np.float32(np.nan)),
            "lengths": lengths,
            "users": self._users[group],
            "starts": starts,
            "positions": np.flatnonzero(wanted),
        }
        return Batch(
            **{name: torch.from_numpy(array) for name, array in arrays.items()}, carried=carried
        )


def train_batches(
    split: Split,
    max_tokens: int = 3200,
    max_len: int | None = 200,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    target_time: str = "known",
) -> Batches:
    """Return the batches of one epoch, in which every training target is predicted exactly once.

    Targets are positions `1 .. train_end - 1` of each user. A user with more than `max_len` of
    them is cut into windows of `max_len`, the first one shorter by an offset drawn anew for each
    user and epoch, so that the cuts fall elsewhere every time. Windows of similar length share a
    batch; the order of the batches, and of windows of equal length, is random. Everything drawn
    depends on (seed, epoch) alone.

    Without `shuffle` nothing is drawn: windows end where the training part ends, and batches come
    by falling length.
    """
    max_tokens, max_len = _check_sizes(max_tokens, max_len)
    check_target_time(target_time)
    rng = _epoch_generator(seed, epoch)
    inputs, users = _trained_inputs(split)
    if max_len is None:
        max_len = int(inputs.max())
    drawn = rng.integers(1, max_len + 1, size=len(users))
    first = drawn if shuffle else (inputs - 1) % max_len + 1
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
    return Batches(split.sequences, users, starts, lengths, groups, target_time=target_time)


def carried_batches(
    split: Split,
    max_tokens: int = 3200,
    max_len: int = 200,
    seed: int = 0,
    epoch: int = 0,
    target_time: str = "known",
) -> Batches:
    """Return one epoch over whole histories in pieces, the state carried from piece to piece.

    The targets are those of `train_batches`, each predicted exactly once. Users of similar length
    form a group whose batches follow each other. A batch that is `carried` continues the rows of
    the one before: row i is the same user, from the next interaction on. A state space model that
    keeps its state computes exactly what it would on the whole history; only the gradient is cut
    where a piece begins (truncated back-propagation). Where the first cut falls, and the order of
    the groups, is drawn from (seed, epoch).

    The first piece of a group is between half of `max_len` and all of it.
    """
    max_tokens = check_integer("max_tokens", max_tokens, 1)
    max_len = check_integer("max_len", max_len, 1)
    check_target_time(target_time)
    rng = _epoch_generator(seed, epoch)
    inputs, users = _trained_inputs(split)
    order = np.lexsort((rng.random(len(inputs)), -inputs))
    together = _group(np.minimum(inputs, max_len), order, max_tokens)
    owners, begins, lengths, groups, carried = [], [], [], [], []
    n_windows = 0
    for members in (together[i] for i in rng.permutation(len(together))):
        begin, longest = 0, int(inputs[members[0]])
        end = longest if longest <= max_len else int(rng.integers(-(-max_len // 2), max_len + 1))
        while begin < longest:
            members = members[inputs[members] > begin]  # longest first: those left come first
            owners.append(members)
            begins.append(np.full(len(members), begin))
            lengths.append(np.minimum(inputs[members], end) - begin)
            groups.append(np.arange(n_windows, n_windows + len(members)))
            carried.append(begin > 0)
            n_windows += len(members)
            begin, end = end, end + max_len
    users = users[np.concatenate(owners)]
    starts = split.sequences.offsets[users] + np.concatenate(begins)
    return Batches(
        split.sequences, users, starts, np.concatenate(lengths), groups,
        target_time=target_time, carried=carried,
    )  # fmt: skip


def eval_batches(
    split: Split,
    part: str,
    max_tokens: int = 12_800,
    max_len: int | None = 200,
    target_time: str = "known",
) -> Batches:
    """Return every held-out target of a part exactly once, longest histories first.

    A row is the last `max_len` interactions before the target. Its last position has the target
    and, with `target_time="known"`, as delta the time to it, as in the published protocol.

    `part` is "valid" or "test".
    """
    check_part(part)
    check_target_time(target_time)
    max_tokens, max_len = _check_sizes(max_tokens, max_len)
    users, positions = split.held_out[part]
    lengths = positions if max_len is None else np.minimum(positions, max_len)
    starts = split.sequences.offsets[users] + positions - lengths
    groups = _group(lengths, np.argsort(-lengths, kind="stable"), max_tokens)
    return Batches(
        split.sequences, users, starts, lengths, groups, last_only=True, target_time=target_time,
        target_interval=typical_interval(split) if target_time == "hidden" else None,
    )  # fmt: skip


def check_target_time(target_time: str) -> str:
    """Return `target_time`, or raise ValueError when it is none of `TARGET_TIMES`."""
    if target_time not in TARGET_TIMES:
        raise ValueError(f"target_time={target_time!r}: choose one of {', '.join(TARGET_TIMES)}")
    return target_time


def typical_interval(split: Split) -> float:
    """Return the median seconds between consecutive training interactions (for `hidden`)."""
    times, offsets = split.sequences.times, split.sequences.offsets
    intervals = np.diff(times)
    # An interval belongs to the training part when the interaction after it does.
    position = np.arange(1, len(times)) - np.repeat(offsets[:-1], np.diff(offsets))[1:]
    inside = (position >= 1) & (position < np.repeat(split.train_end, np.diff(offsets))[1:])
    return float(np.median(intervals[inside])) if inside.any() else 0.0


def _trained_inputs(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs (training interactions but the last) of users with any, and these."""
    inputs = np.maximum(split.train_end - 1, 0)
    users = np.flatnonzero(inputs)
    if len(users) == 0:
        raise DataError(
            "train_batches: there is nothing to train on, no user has two training interactions "
            f"({split!r})."
        )
    return inputs[users], users


def _epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator of all that an epoch draws: it depends on seed and epoch alone."""
    return np.random.default_rng([check_integer("seed", seed, 0), check_integer("epoch", epoch, 0)])


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
