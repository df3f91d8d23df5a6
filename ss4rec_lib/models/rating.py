"""SS4Rec for ratings: predict how a user rates an item, given the item and not its rating.

    x      = item_embedding(items) + rating_embedding(ratings)      # of PAST interactions
    hidden = the blocks of an SS4Rec trunk over x and delta         # (B, L, d_model), causal
    rating = mu + b_item[target] + b(history) + head([hidden, e_target, hidden * e_target])

The target's item enters only after the trunk, and its rating nowhere. The trunk's scores of the
catalogue stay, so the same hidden state ranks and rates. In place of a user's bias stands the
shrunken mean of the history's residuals, the b_u of the bias baseline from the past alone:

    b(history) = sum_{j <= k} (r_j - mu - b_item[i_j]) / (k + 1 + shrinkage)

The last layer of the head starts at 0, so an untrained model *is* that baseline. With
`user_factors` a user adds `p_u . q_item`, with the squared lengths of both as a penalty (Koren,
Bell, Volinsky 2009, equation 5); p_u starts and, without training interactions, stays at 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.configuration import NotNegative, Positive
from ss4rec_lib.models.base import Dropout, Recommender, last_of
from ss4rec_lib.models.ss4rec import SS4Rec, SS4RecConfig
from ss4rec_lib.ssm import is_plain

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch

_NUMBERS = 1 << 22  # of the largest tensor held while all items are rated: 16 MiB


class RatingConfig(SS4RecConfig):
    """The options of the SS4Rec trunk, and of the ratings on top of it."""

    # Squared error, the trunk's ranking loss (the head stays as it is), or their weighted sum.
    train_for: Literal["rating", "ranking", "both"] = "rating"
    rating_weight: Positive = 1.0  # of the squared error, for `both`
    use_ratings: bool = True  # those of the history, in the embedding and in b(history)
    user_factors: Annotated[int, Field(ge=0)] = 0  # length of p_u and q_item; 0: no users
    user_penalty: NotNegative = 0.05  # times |p_u|^2 + |q_item|^2, in the squared error
    # The ratings there are. One enters as the nearest level; predictions stay in their range.
    levels: Annotated[tuple[float, ...], Field(min_length=2)] = (1.0, 2.0, 3.0, 4.0, 5.0)

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels={self.levels}: expected ascending ratings")
        if self.seen_offset:
            raise ValueError(
                "seen_offset=True: a model with ratings ranks without it; leave it out"
            )
        return self

    @property
    def trunk(self) -> SS4RecConfig:
        """The configuration of the trunk alone."""
        return SS4RecConfig(**{name: getattr(self, name) for name in SS4RecConfig.model_fields})

    @property
    def display_name(self) -> str:
        """The name of the model in a table."""
        purpose = "ratings" if self.train_for == "rating" else self.train_for
        users = ", with user factors" if self.user_factors else ""
        return f"{self.trunk.display_name} for {purpose}{users}"


class RatingSS4Rec(Recommender):
    """An SS4Rec trunk with a head for ratings; `training.rating_model` makes it for a split.

    Args:
        mean: mu, the mean of the training ratings.
        item_bias: Where b_item starts, (n_items + 1,), entry 0 for padding.
        shrinkage: Where the shrinkage of b(history) starts, in ratings; it is learned.
        owners: The user of each history (one may have many), (n_histories,), for `user_factors`.
        trunk: A trained SS4Rec to start from; it becomes a part of this model. None for a new one.
    """

    item_table = "trunk.item_embedding.weight"
    config_type = RatingConfig
    config: RatingConfig
    trunk: SS4Rec
    head: Any
    mean: Tensor
    boundaries: Tensor
    owners: Tensor

    def __init__(
        self, n_items: int, config: RatingConfig | None = None, mean: float = 3.5,
        item_bias: ArrayLike = 0.0, shrinkage: float = 15.0, owners: ArrayLike = (),
        trunk: SS4Rec | None = None,
    ) -> None:  # fmt: skip
        super().__init__(n_items, config)
        config = self.config
        self.trunk = trunk or SS4Rec(self.n_items, config.trunk)
        found, wanted = (self.trunk.n_items, self.trunk.config), (self.n_items, config.trunk)
        if found != wanted:
            raise ValueError(f"trunk has n_items={found[0]} and {found[1]!r}, expected {wanted}")
        if not (math.isfinite(mean) and 0 < shrinkage < math.inf):
            raise ValueError(f"mean={mean}, shrinkage={shrinkage}: must be finite, shrinkage > 0")
        if (shape := np.shape(item_bias)) not in ((), (self.n_items + 1,)):
            raise ValueError(f"item_bias has shape {shape}: expected ({self.n_items + 1},)")
        d, levels = config.hidden_size, torch.tensor(config.levels)
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("boundaries", (levels[1:] + levels[:-1]) / 2)  # (n_levels - 1,)
        self.item_bias = nn.Embedding(self.n_items + 1, 1, padding_idx=0)
        with torch.no_grad():
            self.item_bias.weight[:, 0] = torch.as_tensor(item_bias)
            self.item_bias.weight[0] = 0
        if config.use_ratings:
            self.log_shrinkage = nn.Parameter(torch.tensor(math.log(shrinkage)))
            self.rating_embedding = _random_embedding(len(levels), d, config.initializer_range)
        if f := config.user_factors:
            users = np.asarray(owners, dtype=np.int64)
            if users.ndim != 1 or len(users) == 0 or users.min() < 0:
                wanted = "expected the user of each history, (n_histories,), from 0"
                raise ValueError(f"owners has shape {users.shape} with user_factors={f}: {wanted}")
            self.register_buffer("owners", torch.tensor(users))
            # Zero times something has a gradient, zero times zero none: one side starts at random.
            self.user_embedding = nn.Embedding(int(users.max()) + 2, f, padding_idx=0)
            nn.init.zeros_(self.user_embedding.weight)
            self.item_factors = _random_embedding(self.n_items, f, 0.1)
        first, last = nn.Linear(3 * d, d), nn.Linear(d, 1)
        self.head = nn.Sequential(first, nn.SiLU(), Dropout(config.dropout_prob), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    @classmethod
    def for_tensors(cls, n_items: int, config: Any, tensors: Mapping[str, Tensor]) -> Self:
        """Return a model for the users of the saved one."""
        return cls(n_items, config, owners=tensors.get("owners", ()))

    @property
    def score_weight(self) -> Tensor:
        """The item embeddings of the trunk, (n_items + 1, d_model)."""
        return self.trunk.score_weight

    def forward(self, items: Tensor, delta: Tensor, ratings: Tensor | None = None) -> Tensor:
        """Return hidden states, (B, L, d_model), causal in all three arguments.

        `ratings` are those of `items`, (B, L), floating; ignored without `use_ratings`.
        """
        if not self.config.use_ratings:
            return self.trunk(items, delta)
        if ratings is None or ratings.shape != items.shape or not ratings.is_floating_point():
            found = None if ratings is None else (ratings.dtype, tuple(ratings.shape))
            raise ValueError(f"ratings={found}, expected floating ones of {tuple(items.shape)}")
        level = (torch.bucketize(ratings, self.boundaries) + 1).masked_fill(items == 0, 0)
        return self.trunk(items, delta, extra=self.rating_embedding(level))  # (B, L, d_model)

    def encode(self, batch: Batch, state: Any = None, return_state: bool = False) -> Tensor:
        """Return the hidden states of a batch, (B, L, d_model); no state can be carried."""
        return self(batch.items, batch.delta, batch.ratings)

    def history_bias(self, items: Tensor, ratings: Tensor | None) -> Tensor:
        """Return b(history) after each position, (B, L); 0 without `use_ratings`."""
        if not self.config.use_ratings or ratings is None:
            return self.mean.new_zeros(items.shape)
        # Padding comes last, so nothing of it reaches a valid position.
        residual = ratings - self.mean - self.item_bias(items)[..., 0]  # (B, L)
        count = torch.arange(1, items.shape[1] + 1, device=items.device)  # (L,)
        return residual.cumsum(1) / (count + self.log_shrinkage.exp())

    def user_vectors(self, users: Tensor | None) -> Tensor | None:
        """Return p_u of each row, (B, 1, user_factors); None without `user_factors` or users.

        `users` are indices of histories, (B,); one that does not exist is a stranger's, with p_u 0.
        """
        if not self.config.user_factors or users is None:
            return None
        known = (users >= 0) & (users < len(self.owners))
        rows = torch.where(known, self.owners[users.where(known, 0)] + 1, 0)  # row 0: strangers
        return self.user_embedding(rows)[:, None]  # (B, 1, user_factors)

    def predict_ratings(
        self, hidden: Tensor, items: Tensor, bias: Tensor | float = 0.0, user: Tensor | None = None
    ) -> Tensor:
        """Return expected ratings (...) of target items (...), not clipped, as they are trained.

        From hidden states before them (..., d_model), b(history) (...) and p_u (..., user_factors).
        """
        e = self.trunk.item_embedding(items)  # (..., d_model)
        rest = self.head(torch.cat((hidden, e, hidden * e), dim=-1))[..., 0]  # (...)
        if user is not None:
            rest = rest + (user * self.item_factors(items)).sum(-1)
        return self.mean + self.item_bias(items)[..., 0] + bias + rest

    def penalty(self, items: Tensor, user: Tensor | None) -> Tensor | float:
        """Return the penalty of targets (...) and p_u (..., user_factors); 0 without users."""
        if user is None:
            return 0.0
        lengths = user.square().sum(-1) + self.item_factors(items).square().sum(-1)
        return self.config.user_penalty * lengths

    def rate(
        self, items: Tensor, delta: Tensor, ratings: Tensor | None, target_items: Tensor,
        hidden: Tensor | None = None, users: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the expected rating of `target_items[k]` after interactions 0..k, clipped, (B, L).

        `hidden` is the result of `forward`, if it is known already; for `users` see `user_vectors`.
        """
        state = self(items, delta, ratings) if hidden is None else hidden  # (B, L, d_model)
        bias, user = self.history_bias(items, ratings), self.user_vectors(users)
        expected = self.predict_ratings(state, target_items, bias, user)
        return expected.clamp(self.config.levels[0], self.config.levels[-1])

    def expected_ratings(self, batch: Batch) -> Tensor:
        """Return the expected rating of every item after each row, (B, n_items + 1), to rank by.

        They are not clipped: clipped ones tie at the end of the scale, where a ranking begins. The
        head's first layer on [h, e, h * e] is W_h h + W_e e + (W_he * h) e: a vector of the row, a
        matrix of the catalogue, and one product of it with a small matrix of the row.
        """
        hidden = last_of(self.encode(batch), batch)  # (B, d_model)
        history_bias = last_of(self.history_bias(batch.items, batch.ratings), batch)  # (B,)
        user, e = self.user_vectors(batch.users), self.score_weight  # (B, 1, f), (V, d_model)
        everything = torch.arange(len(e), device=e.device)
        if not (is_plain(self.head) and is_plain(self.head[0])):  # replaced or hooked: call it
            rows = [h.expand(len(e), -1) for h in hidden]  # (V, d_model) each
            users = [None] * len(rows) if user is None else user
            each = zip(rows, history_bias, users, strict=True)
            return torch.stack([self.predict_ratings(h, everything, b, p) for h, b, p in each])
        first, rest = self.head[0], self.head[1:]
        rows, found = max(1, _NUMBERS // e.numel()), []
        of_hidden, of_item, of_both = first.weight.chunk(3, dim=1)  # (d_model, d_model) each
        catalogue = F.linear(e, of_item)
        biases = self.mean + self.item_bias(everything)[:, 0]  # (V,)
        for h, bias in zip(hidden.split(rows), history_bias.split(rows), strict=True):
            x = e @ (of_both * h[:, None]).mT  # (b, V, d_model)
            x = x.add_(catalogue).add_(F.linear(h, of_hidden, first.bias)[:, None])
            found.append(biases + bias[:, None] + rest(x)[..., 0])
        expected = torch.cat(found)
        return expected if user is None else expected + user[:, 0] @ self.item_factors(everything).T


def _random_embedding(n: int, width: int, std: float) -> nn.Embedding:
    """Return normal vectors of 1..n, and of zeros for padding, which draws nothing."""
    embedding = nn.Embedding(n + 1, width, padding_idx=0)
    nn.init.normal_(embedding.weight[1:], std=std)
    return embedding
