"""A padded batch of sequences: what models, losses and metrics take.

Glossary
    B, L    sequences in a batch; length of the longest of them
    M       targets in a batch
    delta   seconds from an interaction to the *next* one; the last one's reaches to the target
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike

_INTEGERS = ("items", "targets", "lengths", "users", "starts", "positions")
_PER_ROW = ("lengths", "users", "starts")


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch of sequences, right-padded with 0.

    Attributes:
        items: (B, L) int64 item indices, 0 in the padding.
        delta: (B, L) float32 seconds to the next interaction, 0 in the padding.
        targets: (B, L) int64 item indices to be predicted, 0 where there is nothing to predict.
        ratings: (B, L) float32, how each of `items` was rated; 0 in the padding.
        target_ratings: (B, L) float32, how each of `targets` was rated; NaN where there is none, so
            that a loss over padding would show.
        lengths: (B,) int64, interactions in each row.
        users: (B,) int64 user indices. A user may have several rows in training.
        starts: (B,) int64, index into the split's `sequences` of each row's first interaction.
        positions: (M,) int64, ascending: where in `targets.flatten()` the targets are.
        carried: True when row i continues row i of the batch before and takes over its state.
    """

    items: torch.Tensor
    delta: torch.Tensor
    targets: torch.Tensor
    ratings: torch.Tensor
    target_ratings: torch.Tensor
    lengths: torch.Tensor
    users: torch.Tensor
    starts: torch.Tensor
    positions: torch.Tensor
    carried: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a tensor of the wrong shape or dtype."""
        rows = self.items.shape[:1]
        for name, tensor in self._tensors().items():
            dtype = torch.int64 if name in _INTEGERS else torch.float32
            shape = rows if name in _PER_ROW else self.items.shape
            if name == "positions":
                shape = tensor.shape[:1]
            if tensor.dtype != dtype or tensor.shape != shape:
                raise ValueError(
                    f"{name}: expected {dtype} of shape {tuple(shape)}, found {tensor.dtype} of "
                    f"shape {tuple(tensor.shape)}"
                )

    @property
    def n_targets(self) -> int:
        """Number of targets, known without reading a tensor."""
        return len(self.positions)

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in vars(self).items() if name != "carried"}

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on another device."""
        moved = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return Batch(**moved, carried=self.carried)

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
        part = {name: t[:, :longest] if t.ndim == 2 else t for name, t in part.items()}
        part = {name: tensor.contiguous() for name, tensor in part.items()}
        if spare:
            part["targets"] = torch.zeros_like(part["targets"])
            part["target_ratings"] = torch.full_like(part["target_ratings"], torch.nan)
        positions = part["targets"].flatten().nonzero()[:, 0]
        return Batch(**part, positions=positions, carried=self.carried)


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

    Args:
        items: (B, L) item indices 1..n_items, right-padded with 0; every row has at least one.
        delta: (B, L) seconds to the next interaction, finite and not negative.
        n_items: Size of the catalogue, `n_items` of the model.
        targets: (B, L) item indices to predict, 0 for none; by default there are none.
        ratings: (B, L) ratings of `items`; 0 by default.
        target_ratings: (B, L) ratings of `targets`; unknown (NaN) by default.
        users: (B,) user indices; 0..B-1 by default.
        starts: (B,) where each row begins in a split's `sequences`; 0 by default.

    Raises:
        ValueError: naming the argument and its first wrong value.
    """
    item = _integer_tensor("items", items)
    if item.ndim != 2 or 0 in item.shape:
        raise ValueError(f"items: expected a table (B, L), found shape {tuple(item.shape)}")
    inside = item != 0
    target = torch.zeros_like(item) if targets is None else _integer_tensor("targets", targets)
    for name, tensor in (("items", item), ("targets", target)):
        _refuse(name, tensor, (tensor < 0) | (tensor > n_items), f"indices from 0 to {n_items}")
    lengths = inside.sum(1)
    padded = torch.arange(item.shape[1]) >= lengths[:, None]
    _refuse("items", item, padded == inside, "padding (0) at the end of each row only")
    _refuse("items", item, (lengths == 0)[:, None].expand_as(item), "an item in every row")
    seconds = torch.as_tensor(delta).to(torch.float32)
    _refuse("delta", seconds, ~(seconds.isfinite() & (seconds >= 0)), "finite seconds, 0 or more")
    rated = torch.zeros(item.shape) if ratings is None else torch.as_tensor(ratings).float()
    _refuse("ratings", rated, ~rated.isfinite(), "finite ratings")
    wanted = (
        torch.full(item.shape, torch.nan)
        if target_ratings is None
        else torch.as_tensor(target_ratings).float()
    )
    rows = len(item)
    batch = Batch(
        items=item, delta=seconds, targets=target, ratings=rated, target_ratings=wanted,
        lengths=lengths,
        users=torch.arange(rows) if users is None else _integer_tensor("users", users),
        starts=(
            torch.zeros(rows, dtype=torch.int64)
            if starts is None
            else _integer_tensor("starts", starts)
        ),
        positions=target.flatten().nonzero()[:, 0],
    )  # fmt: skip
    _refuse("targets", target, padded & (target > 0), "no targets in the padding")
    return dataclasses.replace(
        batch,
        delta=seconds.masked_fill(padded, 0.0),
        ratings=rated.masked_fill(padded, 0.0),
        target_ratings=wanted.masked_fill(target == 0, torch.nan),
    )


def _integer_tensor(name: str, values: ArrayLike) -> torch.Tensor:
    tensor = torch.as_tensor(values)
    if tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex():
        raise ValueError(f"{name}: expected integers, found {tensor.dtype}")
    return tensor.to(torch.int64)


def _refuse(name: str, tensor: torch.Tensor, wrong: torch.Tensor, expected: str) -> None:
    if wrong.any():
        at = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"{name}[{', '.join(map(str, at))}]={tensor[at].item()}: expected {expected}"
        )
