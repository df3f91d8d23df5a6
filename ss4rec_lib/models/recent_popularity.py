"""Popularity of the last days: what was chosen most often shortly before a moment.

Ji et al., "A Re-visit of the Popularity Baseline in Recommender Systems", SIGIR 2020 (arXiv
2005.13829): a popularity baseline that counts the whole training part recommends films that were
popular at another time, or will be. Here the score of an item at moment t is the number of training
interactions with it in the window t - W < time <= t.

The moment is either the same for all, the end of the training part, or one a user. Under
leave-one-out users live in different years, so the end of the training part is the past of few of
them, and the second is the fair one. Only training interactions are ever counted, in either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ss4rec_lib.models.base import ModelConfig, Positive, check_size

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch, Split

DAY = 86_400  # seconds


class RecentPopularityConfig(ModelConfig):
    """Options of popularity of the last days.

    Attributes:
        window_days: Length of the window, days.
        moments: Where it ends: `end`, at the end of the training part for everybody; or `user`, at
            the last interaction of each user's history.
    """

    window_days: Positive = 30.0
    moments: Literal["end", "user"] = "end"

    @property
    def display_name(self) -> str:
        """The name of the model in a table."""
        return "Recent popularity" + (", user's moment" if self.moments == "user" else "")


class RecentPopularity(nn.Module):
    """Every user is offered the items chosen most often in the days before a moment.

    Args:
        items: Item ids of the training interactions, (n,), 1..n_items.
        times: Their timestamps, (n,), integer seconds, in any order.
        n_items: Size of the catalogue.
        window_days: Length W of the window, days.
        moments: The moment of each user's list, (n_users,), integer seconds, as `moments_of` gives
            them; None for the last of `times` for everybody. Given, scores depend on the user, and
            are had through `last_hidden` only.

    Raises:
        ValueError: Arrays of other shapes or kinds, ids outside the catalogue, or a window that is
            not above 0.
    """

    def __init__(
        self,
        items: np.ndarray,
        times: np.ndarray,
        n_items: int,
        window_days: float = 30.0,
        moments: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.n_items = check_size("n_items", n_items)
        items, times = np.asarray(items), np.asarray(times)
        if items.ndim != 1 or items.shape != times.shape or len(items) == 0:
            raise ValueError(
                f"items has shape {items.shape} and times {times.shape}: expected two vectors of "
                "the same length, one entry a training interaction"
            )
        for name, given in (("items", items), ("times", times), ("moments", moments)):
            if given is not None and np.asarray(given).dtype.kind not in "iu":
                raise ValueError(
                    f"{name} has dtype {np.asarray(given).dtype}, expected an integer dtype"
                )
        if items.min() < 1 or items.max() > self.n_items:
            raise ValueError(f"items holds ids outside 1 to {self.n_items}")
        if not window_days > 0:
            raise ValueError(f"window_days={window_days!r}: expected a number above 0")
        order = np.argsort(times, kind="stable")
        self._items, self._times = items[order], times[order].astype(np.int64)
        self.window_days = float(window_days)
        self.moments = None if moments is None else np.asarray(moments, dtype=np.int64)

    def at(self, moments: np.ndarray) -> RecentPopularity:
        """The same interactions, counted before other moments of the users, (n_users,)."""
        return RecentPopularity(self._items, self._times, self.n_items, self.window_days, moments)

    def forward(self, items: Tensor, delta: Tensor) -> Tensor:
        """The end of the training part at every position, (B, L, 1) int64 seconds.

        Raises:
            ValueError: The moments are the users' own, who are not known here.
        """
        if self.moments is not None:
            raise ValueError(
                "RecentPopularity with moments scores users: call last_hidden(batch), as "
                "evaluate_ranking does, or make the model without moments"
            )
        end = int(self._times[-1])
        return torch.full((*items.shape, 1), end, dtype=torch.int64, device=items.device)

    def last_hidden(self, batch: Batch) -> Tensor:
        """The moment of each row's list, (B, 1) int64 seconds."""
        if self.moments is None:
            return self(batch.items[:, :1], batch.delta[:, :1])[:, 0]
        moments = self.moments[batch.users.cpu().numpy()]
        return torch.from_numpy(moments)[:, None].to(batch.items.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """Counts in the window before each moment, (..., 1) -> (..., n_items + 1) float64."""
        moments, inverse = np.unique(hidden[..., 0].cpu().numpy(), return_inverse=True)
        first = np.searchsorted(self._times, moments - self.window_days * DAY, side="right")
        end = np.searchsorted(self._times, moments, side="right")
        counts = np.stack(
            [
                np.bincount(self._items[a:b], minlength=self.n_items + 1)
                for a, b in zip(first, end, strict=True)
            ]
        ).astype(np.float64)
        return torch.from_numpy(counts[inverse]).to(hidden.device)  # (..., n_items + 1)


def moments_of(split: Split, part: str, target_known: bool = False) -> np.ndarray:
    """When each user's list of a part is made.

    Args:
        split: Whose held-out targets are to be ranked.
        part: `valid` or `test`.
        target_known: The target's own time, less a second, so that interactions of the same second
            do not count; by default the time of the last interaction of the history, which every
            protocol knows.

    Returns:
        (n_users,) int64 seconds; of users without a target of this part, their first interaction.

    Raises:
        ValueError: Unknown part.
    """
    if part not in split.held_out:
        raise ValueError(f"part={part!r}: expected one of {', '.join(split.held_out)}")
    sequences = split.sequences
    users, positions = split.held_out[part]
    moments = sequences.times[sequences.offsets[:-1]].copy()
    at_target = sequences.offsets[users] + positions
    if target_known:
        moments[users] = sequences.times[at_target] - 1
    else:
        moments[users] = sequences.times[at_target - 1]
    return moments
