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
from torch.nn import functional

from ss4rec_lib.data import Batch, Split

if TYPE_CHECKING:
    from ss4rec_lib.models import RatingBaseline, RatingSS4Rec

RANKED_BY = ("score", "rating")
_NUMBERS = 1 << 22  # of the largest tensor held while all items are rated: 16 MiB


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
        self._model, self._by = model, by
        self.train(model.training)  # evaluation puts this mode back, the model's with it

    def last_hidden(self, batch: Batch) -> Tensor:
        """Each row's hidden state, b(history) and p_u, (B, d_model + 1 + user_factors)."""
        ratings = batch.ratings
        rows = torch.arange(len(batch.lengths), device=batch.lengths.device)
        last = batch.lengths - 1  # (B,)
        hidden = self._model(batch.items, batch.delta, ratings)[rows, last]  # (B, d_model)
        bias = self._model.history_bias(batch.items, ratings)[rows, last]  # (B,)
        state = [hidden, bias[:, None]]
        user = self._model.user_vectors(batch.users)
        if user is not None:
            state.append(user[:, 0])
        return torch.cat(state, dim=1)

    def logits(self, state: Tensor) -> Tensor:
        """Scores or expected ratings of all items, as `last_hidden` -> (B, n_items + 1)."""
        f = self._model.config.user_factors
        hidden, bias, user = state.split((state.shape[1] - 1 - f, 1, f), dim=1)
        if self._by == "score":
            return self._model.logits(hidden)
        return expected_of_everything(self._model, hidden, bias[:, 0], user if f else None)


def expected_of_everything(
    model: RatingSS4Rec, hidden: Tensor, history_bias: Tensor, user: Tensor | None = None
) -> Tensor:
    """`model.predict_ratings` of every item, with the products that items share done once.

    The head's first layer on [h, e, h * e] is W_h h + W_e e + (W_he * h) e: a vector of the row, a
    matrix of the catalogue, and one product of it with a small matrix of the row.

    Args:
        model: A `RatingSS4Rec`.
        hidden: States before the targets, (B, d_model).
        history_bias: What the history says of the user, (B,).
        user: p_u, (B, user_factors); None for strangers.

    Returns:
        (B, n_items + 1).
    """
    first, rest = model.head[0], model.head[1:]
    of_hidden, of_item, of_both = first.weight.chunk(3, dim=1)  # (d_model, d_model) each
    e = model.trunk.item_embedding.weight  # (V, d_model)
    catalogue = functional.linear(e, of_item)
    biases = model.mean + model.item_bias.weight[:, 0]  # (V,)
    found = []
    for h, bias in zip(
        *(a.split(max(1, _NUMBERS // catalogue.numel())) for a in (hidden, history_bias)),
        strict=True,
    ):
        row = functional.linear(h, of_hidden, first.bias)  # (b, d_model)
        both = e @ (of_both * h[:, None]).mT  # (b, V, d_model)
        x = both.add_(catalogue).add_(row[:, None])
        found.append(biases + bias[:, None] + rest(x)[..., 0])
    expected = torch.cat(found)
    return expected if user is None else expected + user @ model.item_factors.weight.T
