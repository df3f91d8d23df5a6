"""Right-padded batches of similar length under a token budget.

    B, L, M sequences in a batch; length of the longest of them; targets in a batch
    window  consecutive interactions of one user that become one row of a batch
    token   one cell of a batch, padding included: B * L are at most `max_tokens`, or one window
    delta   seconds from an interaction to the *next* one; the last one's reaches to the target

The models are causal, so a row of length n trains n predictions at once: the target of a position
is the item of the next one. The published code makes a row of every prefix instead: the same
targets at a hundred times the cost. It also knows the time of the target, which is unknown when a
recommendation is made; `target_time` chooses what `delta` holds:

    known      delta[k] = t[k+1] - t[k], the target's timestamp included (published)
    hidden     as `known`, but in evaluation the last interval is the median of the training part
    previous   delta[k] = t[k] - t[k-1], 0 at a user's first interaction: only the past is used
    none       delta[k] = 1 everywhere: no information about time

`max_len` is the most interactions in a window (None for whole histories).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from ss4rec_lib.data.sequences import Sequences
from ss4rec_lib.data.splits import PARTS, Split
from ss4rec_lib.data.validation import DataError, check_choice, check_integer

TARGET_TIMES = ("known", "hidden", "previous", "none")


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch of sequences, right-padded with 0."""

    items: torch.Tensor  # (B, L) int64 item indices
    delta: torch.Tensor  # (B, L) float32 seconds to the next interaction
    targets: torch.Tensor  # (B, L) int64 item indices, 0 where there is nothing to predict
    ratings: torch.Tensor  # (B, L) float32 ratings of `items`
    target_ratings: torch.Tensor  # (B, L) float32 ratings of `targets`, NaN where there are none
    lengths: torch.Tensor  # (B,) int64, interactions in each row
    users: torch.Tensor  # (B,) int64 user indices; in training a user may have several rows
    starts: torch.Tensor  # (B,) int64, index into `sequences` of each row's first interaction
    positions: torch.Tensor  # (M,) int64, ascending: where in `targets.flatten()` the targets are
    carried: bool = False  # row i continues row i of the batch before and takes over its state

    def __post_init__(self) -> None:
        """Raise ValueError for a tensor of the wrong shape or dtype."""
        table, rows = self.items.shape, self.items.shape[:1]
        shapes = {"lengths": rows, "users": rows, "starts": rows, "positions": (self.n_targets,)}
        for name, tensor in self._tensors().items():
            floats = name in ("delta", "ratings", "target_ratings")
            dtype, shape = torch.float32 if floats else torch.int64, shapes.get(name, table)
            if tensor.dtype != dtype or tensor.shape != shape:
                found = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
                raise ValueError(f"{name}: expected {dtype} of shape {tuple(shape)}, found {found}")

    @property
    def n_targets(self) -> int:
        """Number of targets, known without reading a tensor."""
        return len(self.positions)

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in vars(self).items() if name != "carried"}

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on another device."""
        ahead = torch.device(device).type == "cuda"  # Python need not wait for a copy to a GPU
        moved = {name: t.to(device, non_blocking=ahead) for name, t in self._tensors().items()}
        return dataclasses.replace(self, **moved)

    def shard(self, index: int, count: int) -> Batch:
        """Return rows index, index + count, ...: one of `count` parts that together are this batch.

        When there are fewer rows than parts, the parts left over get the first row without its
        targets, because several processes must all take a step.
        """
        if count == 1:
            return self
        spare = index >= len(self.items)
        rows = slice(0, 1) if spare else slice(index, None, count)
        part = {name: t[rows] for name, t in self._tensors().items() if name != "positions"}
        longest = int(part["lengths"][0])  # rows come longest first
        part = {n: (t[:, :longest] if t.ndim == 2 else t).contiguous() for n, t in part.items()}
        if spare:
            part["targets"] = torch.zeros_like(part["targets"])
            part["target_ratings"] = torch.full_like(part["target_ratings"], torch.nan)
        part["positions"] = part["targets"].flatten().nonzero()[:, 0]
        return dataclasses.replace(self, **part)


def make_batch(
    items: ArrayLike,
    delta: ArrayLike,
    n_items: int,
    targets: ArrayLike | None = None,
    ratings: ArrayLike | None = None,
    target_ratings: ArrayLike | None = None,
    users: ArrayLike | None = None,
    starts: ArrayLike | None = None,
) -> Batch:
    """Make a batch from data that does not come from a `Split`, and check its values.

    `items` (B, L) are indices 1..n_items right-padded with 0, at least one in every row; `delta`
    (B, L) are seconds, finite and not negative. `targets`, `ratings` and `target_ratings` are (B,
    L) too, by default none (0), 0 and unknown (NaN); `users` (by default 0..B-1) and `starts` (0)
    are (B,). A ValueError names the argument and its first wrong value.
    """
    item = _integers("items", items)
    if item.ndim != 2 or 0 in item.shape:
        raise ValueError(f"items: expected a table (B, L), found shape {tuple(item.shape)}")
    if ratings is None or torch.as_tensor(ratings).isnan().all():  # `Sequences` without ratings
        ratings = torch.zeros(item.shape)
    inside = item != 0
    lengths = inside.sum(1)
    padded = torch.arange(item.shape[1]) >= lengths[:, None]
    target = torch.zeros_like(item) if targets is None else _integers("targets", targets)
    wanted = torch.full(item.shape, torch.nan) if target_ratings is None else target_ratings
    batch = Batch(  # checks the shapes
        items=item,
        delta=torch.as_tensor(delta).float(),
        targets=target,
        ratings=torch.as_tensor(ratings).float(),
        target_ratings=torch.as_tensor(wanted).float(),
        lengths=lengths,
        users=torch.arange(len(item)) if users is None else _integers("users", users),
        starts=torch.zeros_like(lengths) if starts is None else _integers("starts", starts),
        positions=target.flatten().nonzero()[:, 0],
    )
    misplaced = (padded == inside) | (lengths == 0)[:, None]
    indices, seconds = f"indices from 0 to {n_items}", batch.delta
    for name, wrong, expected in (
        ("items", (item < 0) | (item > n_items), indices),
        ("targets", (target < 0) | (target > n_items), indices),
        ("items", misplaced, "at least one item in every row, and padding (0) at its end only"),
        ("targets", padded & (target > 0), "no targets in the padding"),
        ("delta", ~(seconds.isfinite() & (seconds >= 0)), "finite seconds, 0 or more"),
        ("ratings", ~batch.ratings.isfinite(), "finite ratings"),
    ):
        for at in wrong.nonzero().tolist():
            value = getattr(batch, name)[tuple(at)].item()
            raise ValueError(f"{name}{at}={value}: expected {expected}")
    return dataclasses.replace(
        batch,
        delta=batch.delta.masked_fill(padded, 0.0),
        ratings=batch.ratings.masked_fill(padded, 0.0),
        target_ratings=batch.target_ratings.masked_fill(target == 0, torch.nan),
    )


def _integers(name: str, values: ArrayLike) -> torch.Tensor:
    tensor = torch.as_tensor(values)
    if tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex():
        raise ValueError(f"{name}: expected integers, found {tensor.dtype}")
    return tensor.to(torch.int64)


@dataclass(frozen=True, eq=False, repr=False)
class Batches:
    """Batches over windows of histories, assembled when asked for, always the same.

    Window w, of user `users[w]`, has the `lengths[w]` inputs from `sequences.items[starts[w]]` on;
    the entry after the last input is its target.
    """

    sequences: Sequences
    users: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    groups: list[np.ndarray]  # the windows of each batch, longest first
    target_time: str = "known"
    last_only: bool = False  # only the last position of a window has a target
    target_interval: float | None = None  # seconds that replace each window's last interval
    carried: list[bool] | None = None  # for each batch whether it continues the one before

    @property
    def n_targets(self) -> int:
        """Return the number of predictions in all batches together."""
        return len(self.lengths) if self.last_only else int(self.lengths.sum())

    @property
    def padding_share(self) -> float:
        """Return the share of all tokens that is padding, 0 to 1."""
        tokens = sum(len(group) * int(self.lengths[group[0]]) for group in self.groups)
        return 1.0 - int(self.lengths.sum()) / tokens

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Batch]:
        return self.skip(0)

    def skip(self, number: int) -> Iterator[Batch]:
        """Iterate over the batches from `number` on, without assembling the earlier ones."""
        return map(self._assemble, range(number, len(self)))

    def _intervals(self, index: np.ndarray, users: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Return delta, (B, L) float32 seconds, 0 in the padding."""
        if self.target_time == "none":
            return inside.astype(np.float32)
        times = self.sequences.times
        # Subtracted in int64 and only then float32: float32 times would be 64 s apart.
        if self.target_time == "previous":
            begin = self.sequences.offsets[users][:, None]  # a first interaction has none before
            delta = times[index[:, :-1]] - times[np.maximum(index[:, :-1] - 1, begin)]
            return np.where(inside, delta, 0).astype(np.float32)
        delta = np.diff(times[index], axis=1).astype(np.float32)  # 0 where the index stands still
        if self.target_interval is not None:
            delta[np.arange(len(delta)), inside.sum(1) - 1] = self.target_interval
        return delta

    def _assemble(self, number: int) -> Batch:
        group = self.groups[number]
        lengths, starts, users = self.lengths[group], self.starts[group], self.users[group]
        steps = np.arange(lengths[0] + 1)  # the longest window comes first
        inside = steps[:-1] < lengths[:, None]  # (B, L)
        # Beyond a window's target the index is held there: it stays in range, and is masked.
        index = starts[:, None] + np.minimum(steps, lengths[:, None])  # (B, L + 1)
        items = self.sequences.items[index].astype(np.int64)
        ratings = self.sequences.ratings[index]
        known = np.nan_to_num(ratings[:, :-1])  # NaN where the data have no ratings
        wanted = steps[:-1] == lengths[:, None] - 1 if self.last_only else inside
        arrays = {
            "items": np.where(inside, items[:, :-1], 0),
            "delta": self._intervals(index, users, inside),
            "targets": np.where(wanted, items[:, 1:], 0),
            "ratings": np.where(inside, known, np.float32(0)),
            "target_ratings": np.where(wanted, ratings[:, 1:], np.float32(np.nan)),
            "positions": np.flatnonzero(wanted),
        } | {"lengths": lengths, "users": users, "starts": starts}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Batch(**tensors, carried=bool(self.carried and self.carried[number]))


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

    A user with more than `max_len` targets is cut into windows of `max_len`, the first one shorter,
    by an offset drawn anew. Windows of similar length share a batch, in random order; what is drawn
    depends on (seed, epoch) alone. Without `shuffle` windows end where the training part ends, and
    batches come by falling length.
    """
    _check(max_tokens, max_len, target_time)
    rng, users, inputs = _epoch(split, seed, epoch)
    max_len = max_len or int(inputs.max())
    drawn = rng.integers(1, max_len + 1, size=len(users))
    first = np.where(inputs > max_len, drawn, inputs) if shuffle else (inputs - 1) % max_len + 1
    pieces = 1 + -(-(inputs - first) // max_len)
    owner = np.repeat(np.arange(len(users)), pieces)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    end = first[owner] + piece * max_len
    begin = np.maximum(end - max_len, 0)
    lengths = np.minimum(end, inputs[owner]) - begin
    tie_breaker = rng.random(len(lengths)) if shuffle else np.arange(len(lengths))
    groups = _group(lengths, np.lexsort((tie_breaker, -lengths)), max_tokens)
    if shuffle:
        groups = [groups[i] for i in rng.permutation(len(groups))]
    users = users[owner]
    starts = split.sequences.offsets[users] + begin
    return Batches(split.sequences, users, starts, lengths, groups, target_time)


def carried_batches(
    split: Split,
    max_tokens: int = 3200,
    max_len: int = 200,
    seed: int = 0,
    epoch: int = 0,
    target_time: str = "known",
) -> Batches:
    """Return one epoch over whole histories in pieces, the state carried from piece to piece.

    The targets are those of `train_batches`. The batches of a group of users of similar length
    follow each other: row i of a `carried` batch continues row i of the one before. A model that
    keeps its state computes exactly what it would on the whole history; only the gradient is cut
    where a piece begins (truncated back-propagation). The first cut (from half of `max_len` to all
    of it) and the order of the groups are drawn from (seed, epoch).
    """
    _check(max_tokens, check_integer("max_len", max_len, 1), target_time)
    rng, users, inputs = _epoch(split, seed, epoch)
    order = np.lexsort((rng.random(len(inputs)), -inputs))
    together = _group(np.minimum(inputs, max_len), order, max_tokens)
    windows = []  # of each batch: its users, the position where they begin, and their lengths
    for members in (together[i] for i in rng.permutation(len(together))):
        begin, longest = 0, int(inputs[members[0]])
        end = longest if longest <= max_len else int(rng.integers(-(-max_len // 2), max_len + 1))
        while begin < longest:
            members = members[inputs[members] > begin]  # longest first: those left come first
            windows.append((members, begin, np.minimum(inputs[members], end) - begin))
            begin, end = end, end + max_len
    owners, begins, lengths = zip(*windows, strict=True)
    ends = np.cumsum([len(members) for members in owners])
    groups = np.split(np.arange(ends[-1]), ends[:-1])
    users, lengths = users[np.concatenate(owners)], np.concatenate(lengths)
    starts = split.sequences.offsets[users] + np.repeat(begins, np.diff(ends, prepend=0))
    carried = [begin > 0 for begin in begins]
    return Batches(split.sequences, users, starts, lengths, groups, target_time, carried=carried)


def eval_batches(
    split: Split,
    part: str,
    max_tokens: int = 12_800,
    max_len: int | None = 200,
    target_time: str = "known",
) -> Batches:
    """Return every held-out target of "valid" or "test" exactly once, longest histories first.

    A row is the last `max_len` interactions before the target. Its last position has the target
    and, with `target_time="known"`, as delta the time to it, as in the published protocol.
    """
    check_choice("part", part, PARTS)
    _check(max_tokens, max_len, target_time)
    users, positions = split.held_out[part]
    lengths = positions if max_len is None else np.minimum(positions, max_len)
    starts = split.sequences.offsets[users] + positions - lengths
    groups = _group(lengths, np.argsort(-lengths, kind="stable"), max_tokens)
    interval = typical_interval(split) if target_time == "hidden" else None
    return Batches(split.sequences, users, starts, lengths, groups, target_time, True, interval)


def check_target_time(target_time: str) -> str:
    """Return `target_time`, or raise ValueError when it is none of `TARGET_TIMES`."""
    return check_choice("target_time", target_time, TARGET_TIMES)


def typical_interval(split: Split) -> float:
    """Return the median seconds between consecutive training interactions (for `hidden`)."""
    inside = split.in_train()[1:]  # an interval belongs to the interaction after it
    inside[split.sequences.offsets[1:-1] - 1] = False
    return float(np.median(np.diff(split.sequences.times)[inside])) if inside.any() else 0.0


def _epoch(
    split: Split, seed: int, epoch: int
) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """Return the epoch's generator, the users to train on, and how many inputs each has."""
    rng = np.random.default_rng([check_integer("seed", seed, 0), check_integer("epoch", epoch, 0)])
    inputs = np.maximum(split.train_end - 1, 0)  # the last training interaction is a target only
    users = np.flatnonzero(inputs)
    if len(users) == 0:
        raise DataError(f"train_batches: no user has two training interactions ({split!r}).")
    return rng, users, inputs[users]


def _group(lengths: np.ndarray, order: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Cut windows sorted by falling length into batches of at most `max_tokens`."""
    groups = []
    while len(order):
        rows = max(1, max_tokens // int(lengths[order[0]]))
        groups.append(order[:rows])
        order = order[rows:]
    return groups


def _check(max_tokens: int, max_len: int | None, target_time: str) -> None:
    check_integer("max_tokens", max_tokens, 1)
    check_integer("max_len", 1 if max_len is None else max_len, 1)
    check_target_time(target_time)
