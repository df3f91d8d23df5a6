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

import numpy as np

from ss4rec_lib.data.arguments import check_integer
from ss4rec_lib.data.batch import Batches
from ss4rec_lib.data.errors import DataError
from ss4rec_lib.data.splits import Split, check_part
from ss4rec_lib.data.target_time import check_target_time, typical_interval


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
    target_time: str = "known",
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
        target_time: what `delta` says, see `ss4rec_lib.data.target_time`.

    Returns:
        The batches, with `len()`, `n_targets` and `padding_share`.

    Raises:
        ValueError: an argument out of range.
        DataError: no user has two training interactions.
    """
    max_tokens, max_len = _check_sizes(max_tokens, max_len)
    check_target_time(target_time)
    rng = _epoch_generator(seed, epoch)
    inputs, users = _trained_inputs(split)
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
    return TrainBatches(split.sequences, users, starts, lengths, groups, False, target_time)


def carried_batches(
    split: Split,
    max_tokens: int = 3200,
    max_len: int = 200,
    seed: int = 0,
    epoch: int = 0,
    target_time: str = "known",
) -> TrainBatches:
    """One epoch over whole histories, piece by piece, with the state carried from piece to piece.

    The same targets as `train_batches`, each predicted exactly once. Users of similar length form
    a group; its batches follow each other, and a batch that is `carried` continues the rows of the
    one before: row i is the same user, from the next interaction on. A state space model that
    passes its state along so computes exactly what it would on the whole history; the gradient is
    cut where a piece begins (truncated back-propagation). Where the first cut falls, and the order
    of the groups, is drawn from (seed, epoch).

    Args:
        split: what to train on.
        max_tokens: most tokens (B * L) in a batch.
        max_len: longest piece; the first of a group is between half of that and all of it.
        seed: any integer from 0.
        epoch: the number of the epoch, from 0.
        target_time: what `delta` says, see `ss4rec_lib.data.target_time`.

    Returns:
        The batches, with `len()`, `n_targets` and `padding_share`.

    Raises:
        ValueError: an argument out of range.
        DataError: no user has two training interactions.
    """
    max_tokens, max_len = _check_sizes(max_tokens, max_len)
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
    return TrainBatches(
        split.sequences, users, starts, np.concatenate(lengths), groups, False,
        target_time, None, carried,
    )  # fmt: skip


def eval_batches(
    split: Split,
    part: str,
    max_tokens: int = 12_800,
    max_len: int | None = 200,
    target_time: str = "known",
) -> EvalBatches:
    """Every held-out target of a part exactly once, longest histories first.

    A row is the last `max_len` interactions before the target. Its last position has the target
    and, with `target_time="known"`, as delta the time to it, as in the published protocol.

    Args:
        split: what to evaluate on.
        part: "valid" or "test".
        max_tokens: most tokens (B * L) in a batch; a single longer window is a batch of its own.
        max_len: most interactions in a row; None for whole histories.
        target_time: what `delta` says, see `ss4rec_lib.data.target_time`.

    Returns:
        The batches, deterministic, with `len()`, `n_targets` and `padding_share`.

    Raises:
        ValueError: an argument out of range or an unknown part.
    """
    check_part(part)
    check_target_time(target_time)
    max_tokens, max_len = _check_sizes(max_tokens, max_len)
    users, positions = split.held_out[part]
    lengths = positions if max_len is None else np.minimum(positions, max_len)
    starts = split.sequences.offsets[users] + positions - lengths
    groups = _group(lengths, np.argsort(-lengths, kind="stable"), max_tokens)
    interval = typical_interval(split) if target_time == "hidden" else None
    return EvalBatches(split.sequences, users, starts, lengths, groups, True, target_time, interval)


def _trained_inputs(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Inputs a user (every training interaction but the last), and the users who have any."""
    inputs = np.maximum(split.train_end - 1, 0)
    users = np.flatnonzero(inputs)
    if len(users) == 0:
        raise DataError(
            "train_batches: there is nothing to train on, no user has two training interactions "
            f"({split!r})."
        )
    return inputs[users], users


def _epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """All that an epoch draws comes from here, so it depends on seed and epoch alone."""
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
