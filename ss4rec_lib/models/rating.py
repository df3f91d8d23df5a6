"""SS4Rec for ratings: what will this user give this item, told the item but not its rating.

    x      = item_embedding(items) + rating_embedding(ratings)      # of PAST interactions
    hidden = the blocks of an SS4Rec trunk over x and delta         # (B, L, d_model), causal
    rating = mu + b_item[target] + b(history) + head([hidden, e_target, hidden * e_target])

`hidden[k]` knows items and ratings 0..k and the interval to interaction k + 1; the target's item
enters only here, after the trunk, and its rating nowhere. There is no parameter for a user unless
one is asked for: in place of a user's bias stands the one that the history shows, the shrunken mean
of its residuals

    b(history) = sum_{j <= k} (r_j - mu - b_item[i_j]) / (k + 1 + shrinkage)

which is the b_u of the bias baseline, computed from the past alone, so that a new user needs no
training. The last layer of the head starts at 0: an untrained model *is* that baseline.

With `user_factors` the model also keeps what no history of limited length can show, a vector for
each user as in matrix factorisation, and adds `p_u . q_item`, with the squared lengths of both as a
penalty (Koren, Bell, Volinsky 2009, equation 5). p_u starts at 0 and stays there for somebody who
was not trained on.

The scores of the catalogue are the trunk's, so the same hidden state ranks and rates, and can be
trained for either or both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ss4rec_lib.data import Batch
from ss4rec_lib.models.base import Dropout, Recommender
from ss4rec_lib.models.ss4rec import SS4Rec, SS4RecConfig

TRAIN_FOR = ("rating", "ranking", "both")


@dataclass(frozen=True)
class RatingConfig:
    """The trunk's shape and what the whole is trained for.

    Attributes:
        trunk: of the SS4Rec underneath; its `loss_type` is the ranking loss.
        train_for: `rating`, the squared error alone; `ranking`, the trunk's loss alone (the head
            stays as it is, so ratings are predicted by the biases); `both`, their weighted sum.
        rating_weight: with `both`, the loss is ranking loss + rating_weight * squared error.
        use_ratings: whether the history's ratings enter: the embedding and b(history). Without
            them the model knows what was rated and when, never how.
        user_factors: length of p_u and q_item; 0 for none, a model without users.
        user_penalty: what is added to a target's squared error for each unit of
            |p_u|^2 + |q_item|^2.
        levels: the ratings there are, ascending; a rating enters as the nearest of them, and
            predictions are clipped to their range.
    """

    trunk: SS4RecConfig = field(default_factory=SS4RecConfig)
    train_for: str = "rating"
    rating_weight: float = 1.0
    use_ratings: bool = True
    user_factors: int = 0
    user_penalty: float = 0.05
    levels: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)

    def __post_init__(self) -> None:
        """Refuse what no model can be built from.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if self.train_for not in TRAIN_FOR:
            raise ValueError(f"train_for={self.train_for!r}: choose one of {', '.join(TRAIN_FOR)}")
        if not (math.isfinite(self.rating_weight) and self.rating_weight > 0):
            raise ValueError(f"rating_weight={self.rating_weight}: expected a number above 0")
        if not isinstance(self.user_factors, int) or self.user_factors < 0:
            raise ValueError(f"user_factors={self.user_factors!r}: expected an integer from 0")
        if not (math.isfinite(self.user_penalty) and self.user_penalty >= 0):
            raise ValueError(f"user_penalty={self.user_penalty}: expected 0 or more")
        levels = tuple(self.levels)
        rising = all(a < b for a, b in zip(levels, levels[1:], strict=False))
        if len(levels) < 2 or not all(map(math.isfinite, levels)) or not rising:
            raise ValueError(f"levels={self.levels!r}: expected at least two ratings, ascending")

    @property
    def loss_type(self) -> str:
        """The trunk's ranking loss."""
        return self.trunk.loss_type

    def model_dump(self) -> dict[str, Any]:
        """Return all options by name."""
        return vars(self) | {"trunk": self.trunk.model_dump()}

    @property
    def criterion(self) -> str:
        """The validation metric that chooses the epoch: `rmse`, or `ndcg@10` for ranking alone."""
        return "ndcg@10" if self.train_for == "ranking" else "rmse"


class RatingSS4Rec(Recommender):
    """An SS4Rec trunk with a head for ratings.

    Args:
        trunk: What reads the history; trained or not. It becomes a part of this model.
        config: Options; `trunk` in it must be the trunk's own configuration.
        mean: mu, the mean of the training ratings.
        item_bias: Where b_item starts, (n_items + 1,), entry 0 for padding; 0 when None.
            `ss4rec_lib.training.ratings.rating_model` takes both from the training part.
        shrinkage: Where the shrinkage of b(history) starts, in ratings; it is learned.
        owners: With `user_factors`, whose each history is: (n_histories,), integers from 0, one
            vector for each. A random split has many histories of one person.

    Raises:
        ValueError: A configuration of another trunk, a mean that is not finite, biases of another
            catalogue, vectors for nobody.
    """

    reads_histories: ClassVar[bool] = True

    def __init__(
        self,
        trunk: SS4Rec,
        config: RatingConfig | None = None,
        mean: float = 3.5,
        item_bias: np.ndarray | None = None,
        shrinkage: float = 15.0,
        owners: np.ndarray | None = None,
    ) -> None:
        super().__init__(trunk.n_items, config or RatingConfig(trunk=trunk.config))
        if self.config.trunk != trunk.config:
            raise ValueError(
                "config.trunk is not the configuration of the trunk given: make it with "
                "RatingConfig(trunk=trunk.config, ...)"
            )
        if not math.isfinite(mean):
            raise ValueError(f"mean={mean}: expected the mean of the training ratings")
        if not (math.isfinite(shrinkage) and shrinkage > 0):
            raise ValueError(f"shrinkage={shrinkage}: expected a number of ratings above 0")
        self.trunk = trunk
        d, levels = trunk.config.hidden_size, torch.tensor(self.config.levels)
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("boundaries", (levels[1:] + levels[:-1]) / 2)  # (n_levels - 1,)
        self.item_bias = nn.Embedding(self.n_items + 1, 1, padding_idx=0)
        nn.init.zeros_(self.item_bias.weight)
        if item_bias is not None:
            start = torch.as_tensor(np.asarray(item_bias), dtype=torch.float32)
            if start.shape != (self.n_items + 1,) or not torch.isfinite(start).all():
                raise ValueError(
                    f"item_bias has shape {tuple(start.shape)}: expected ({self.n_items + 1},), "
                    "finite, entry 0 for padding"
                )
            with torch.no_grad():
                self.item_bias.weight[1:, 0] = start[1:]
        if self.config.use_ratings:
            self.log_shrinkage = nn.Parameter(torch.tensor(math.log(shrinkage)))
            self.rating_embedding = nn.Embedding(len(levels) + 1, d, padding_idx=0)
            nn.init.normal_(self.rating_embedding.weight[1:], std=trunk.config.initializer_range)
            with torch.no_grad():
                self.rating_embedding.weight[0] = 0
        if self.config.user_factors:
            owners = np.zeros(0, dtype=np.int64) if owners is None else np.asarray(owners)
            if owners.ndim != 1 or len(owners) == 0 or owners.min() < 0:
                raise ValueError(
                    f"owners has shape {owners.shape} with user_factors={self.config.user_factors}"
                    ": expected whose each history is, (n_histories,), integers from 0"
                )
            f = self.config.user_factors
            self.register_buffer("owners", torch.from_numpy(owners.astype(np.int64)))
            # Zero times something has a gradient, zero times zero none: one side starts at random.
            self.user_embedding = nn.Embedding(int(owners.max()) + 2, f, padding_idx=0)
            self.item_factors = nn.Embedding(self.n_items + 1, f, padding_idx=0)
            nn.init.zeros_(self.user_embedding.weight)
            nn.init.normal_(self.item_factors.weight[1:], std=0.1)
            with torch.no_grad():
                self.item_factors.weight[0] = 0
        self.head = nn.Sequential(
            nn.Linear(3 * d, d), nn.SiLU(), Dropout(trunk.config.dropout_prob), nn.Linear(d, 1)
        )
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)

    @property
    def score_weight(self) -> Tensor:
        """The trunk's, (n_items + 1, d_model)."""
        return self.trunk.score_weight

    def logits(self, hidden: Tensor) -> Tensor:
        """The trunk's scores of all items, (..., d_model) -> (..., n_items + 1)."""
        return self.trunk.logits(hidden)

    def _check(self, items: Tensor, ratings: Tensor | None) -> None:
        if not self.config.use_ratings:
            return
        if ratings is None:
            raise ValueError(
                "ratings=None, but this model reads the history's ratings (use_ratings=True): "
                "give them, (B, L); to rank with it, use evaluate_both"
            )
        if ratings.shape != items.shape or not ratings.is_floating_point():
            raise ValueError(
                f"ratings is {ratings.dtype} of shape {tuple(ratings.shape)}: expected a floating "
                f"dtype and the shape of items, {tuple(items.shape)}"
            )
        if not torch.isfinite(ratings).all():
            raise ValueError("ratings has NaN or infinite entries, expected 0 in the padding")

    def forward(self, items: Tensor, delta: Tensor, ratings: Tensor | None = None) -> Tensor:
        """Hidden states, causal in all three arguments.

        Args:
            items: Item ids, (B, L), integer; right-padded with 0.
            delta: Seconds from each interaction to the next one, (B, L), floating, >= 0.
            ratings: How `items` were rated, (B, L), floating; ignored without `use_ratings`.

        Returns:
            (B, L, d_model). Position k depends on items, delta and ratings 0..k.

        Raises:
            ValueError: Ids outside the catalogue, intervals that are not seconds, or ratings that
                lack, do not fit or are not finite.
        """
        self._check(items, ratings)
        if not self.config.use_ratings:
            return self.trunk(items, delta)
        level = torch.bucketize(ratings, self.boundaries) + 1  # (B, L)
        level = level.masked_fill(items == 0, 0)
        return self.trunk(items, delta, extra=self.rating_embedding(level))  # (B, L, d_model)

    def encode(self, batch: Batch, state: object = None, return_state: bool = False) -> Tensor:
        """Return the hidden states of a batch, (B, L, d_model); no state is carried."""
        return self(batch.items, batch.delta, batch.ratings)

    def history_bias(self, items: Tensor, ratings: Tensor | None) -> Tensor:
        """b(history) after each position, (B, L); 0 without `use_ratings`, meaningless in padding.

        Args:
            items: Item ids, (B, L).
            ratings: How they were rated, (B, L).
        """
        if not self.config.use_ratings:
            return self.mean.new_zeros(items.shape)
        # Padding comes last, so nothing of it reaches a valid position.
        residual = ratings - self.mean - self.item_bias(items)[..., 0]  # (B, L)
        count = torch.arange(1, items.shape[1] + 1, device=items.device)  # (L,)
        return residual.cumsum(1) / (count + self.log_shrinkage.exp())

    @property
    def knows_users(self) -> bool:
        """Whether there is a vector for each user: then `rate` is to be given `users`."""
        return self.config.user_factors > 0

    def user_vectors(self, users: Tensor | None) -> Tensor | None:
        """p_u of each row, (B, 1, user_factors); None without `user_factors`, or without users.

        Args:
            users: Indices of histories, (B,), integer, as `Batch.users`; below 0 or beyond the
                last one, a stranger's, whose vector is 0.
        """
        if not self.knows_users or users is None:
            return None
        known = (users >= 0) & (users < len(self.owners))
        rows = torch.where(known, self.owners[users.where(known, 0)] + 1, 0)  # row 0: strangers
        return self.user_embedding(rows)[:, None]  # (B, 1, user_factors)

    def predict_ratings(
        self,
        hidden: Tensor,
        target_items: Tensor,
        history_bias: Tensor | float = 0.0,
        user: Tensor | None = None,
    ) -> Tensor:
        """Expected ratings, not clipped: what is trained.

        Args:
            hidden: States before the targets, (..., d_model).
            target_items: Item ids, (...).
            history_bias: As `history_bias` gives it at the same positions, (...).
            user: p_u at the same positions, (..., user_factors); None for a stranger's.

        Returns:
            (...).
        """
        e = self.trunk.item_embedding(target_items)  # (..., d_model)
        rest = self.head(torch.cat((hidden, e, hidden * e), dim=-1))[..., 0]  # (...)
        if user is not None:
            rest = rest + (user * self.item_factors(target_items)).sum(-1)
        return self.mean + self.item_bias(target_items)[..., 0] + history_bias + rest

    def penalty(self, target_items: Tensor, user: Tensor | None) -> Tensor | float:
        """The penalty of each target, (...), for `user` as in `predict_ratings`; 0 without users.

        Args:
            target_items: Item ids, (...).
            user: p_u at the same positions, (..., user_factors).
        """
        if user is None:
            return 0.0
        lengths = user.square().sum(-1) + self.item_factors(target_items).square().sum(-1)
        return self.config.user_penalty * lengths

    def rate(
        self,
        items: Tensor,
        delta: Tensor,
        ratings: Tensor | None,
        target_items: Tensor,
        hidden: Tensor | None = None,
        users: Tensor | None = None,
    ) -> Tensor:
        """Expected rating of `target_items[k]` after interactions 0..k, within the levels' range.

        Args:
            items: See `forward`, also for `delta` and `ratings`.
            delta: See there.
            ratings: See there.
            target_items: Item ids, (B, L); what stands at a position without a target (0)
                is meaningless.
            hidden: What `forward` gave for the same arguments, where that is known already.
            users: Whose histories they are, see `user_vectors`; None for strangers.

        Returns:
            (B, L). Position k depends on items, delta and ratings 0..k, on target_items[k] and,
            with `user_factors`, on the user.
        """
        if hidden is None:
            hidden = self(items, delta, ratings)  # (B, L, d_model)
        expected = self.predict_ratings(
            hidden, target_items, self.history_bias(items, ratings), self.user_vectors(users)
        )
        return expected.clamp(self.config.levels[0], self.config.levels[-1])
