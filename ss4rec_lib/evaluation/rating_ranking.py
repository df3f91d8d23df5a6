"""Ranking with a rating model: by the ratings it expects, or by scores of its own.

A model of ratings ranks the catalogue by how much it expects the user to like each item, whatever
the chance that the user takes it: that is the ranking that a small RMSE promises. `ByRating` and
`RankingOfRatingModel` put rating models into the form that `rank_targets` evaluates, with its
batches, masks, exact treatment of ties and standard errors. Expected ratings are not clipped here:
clipped ones tie at the end of the scale, just where a ranking begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ss4rec_lib.data import Split
from ss4rec_lib.data.batch import Batch

if TYPE_CHECKING:
    from ss4rec_lib.models.rating import RatingSS4Rec
    from ss4rec_lib.models.rating_baselines import RatingBaseline

RANKED_BY = ("score", "rating")
_NUMBERS = 1 << 24  # of the largest tensor held while all items are rated


class ByRating(nn.Module):
    """All items by the rating that a model of users and items expects.

    Args:
        model: Fitted on the users' original ids and the item indices of the split.
        split: The split it is evaluated on.
    """

    def __init__(self, model: RatingBaseline, split: Split) -> None:
        super().__init__()
        self._model, self._user_ids = model, split.sequences.user_ids
        self._items = np.arange(split.sequences.n_items + 1)  # 0 is padding, and not looked at

    def last_hidden(self, batch: Batch) -> Tensor:
        """Each row's user, (B,): all that the ratings depend on."""
        return batch.users

    def logits(self, users: Tensor) -> Tensor:
        """Expected ratings, user indices (U,) -> (U, n_items + 1) float64."""
        users = self._user_ids[users.cpu().numpy()]
        return torch.from_numpy(self._model.scores(users, self._items))


class RankingOfRatingModel(nn.Module):
    """All items by the scores of a sequence rating model, or by the ratings it expects.

    Args:
        model: A `RatingSS4Rec`.
        split: The split it is evaluated on; the history's ratings come from there.
        by: `score` or `rating`.

    Raises:
        ValueError: Another `by`.
    """

    def __init__(self, model: RatingSS4Rec, split: Split, by: str = "score") -> None:
        super().__init__()
        if by not in RANKED_BY:
            raise ValueError(f"by={by!r}: choose one of {', '.join(RANKED_BY)}")
        self._model, self._ratings, self._by = model, split.sequences.ratings, by
        self.train(model.training)  # evaluation puts this mode back, the model's with it

    def last_hidden(self, batch: Batch) -> Tensor:
        """Each row's hidden state and what its history says of the user, (B, d_model + 1)."""
        lengths = batch.lengths.cpu().numpy()[:, None]  # (B, 1)
        steps = np.minimum(np.arange(batch.items.shape[1]), lengths - 1)
        known = np.asarray(self._ratings[batch.starts.cpu().numpy()[:, None] + steps])
        ratings = torch.from_numpy(known).to(batch.delta.device).masked_fill(batch.items == 0, 0.0)
        rows = torch.arange(len(lengths), device=batch.lengths.device)
        last = batch.lengths - 1  # (B,)
        hidden = self._model(batch.items, batch.delta, ratings)[rows, last]  # (B, d_model)
        bias = self._model.history_bias(batch.items, ratings)[rows, last]  # (B,)
        return torch.cat((hidden, bias[:, None]), dim=1)

    def logits(self, state: Tensor) -> Tensor:
        """Scores or expected ratings of all items, (B, d_model + 1) -> (B, n_items + 1)."""
        hidden, bias = state[:, :-1], state[:, -1:]  # (B, d_model), (B, 1)
        if self._by == "score":
            return self._model.logits(hidden)
        items = torch.arange(self._model.n_items + 1, device=state.device)  # (V,)
        rows = max(1, _NUMBERS // (3 * hidden.shape[1] * len(items)))
        shape = len(items), hidden.shape[1]
        found = [
            self._model.predict_ratings(h[:, None].expand(-1, *shape), items.expand(len(h), -1), b)
            for h, b in zip(hidden.split(rows), bias.split(rows), strict=True)
        ]
        return torch.cat(found)
