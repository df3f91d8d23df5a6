"""Neural collaborative filtering: users and items, no sequence and no time.

He et al., "Neural Collaborative Filtering", WWW 2017 (arXiv 1708.05031), its fusion NeuMF of matrix
factorisation and a multi-layer perceptron, each with embeddings of its own:

    gmf   = p_u * q_i                                   # elementwise
    mlp   = relu(... relu(W_1 [p'_u; q'_i] + b_1) ...)
    score = h . [gmf; mlp] + b

All items of a user are scored together: W_1 [p'; q'] = W_1u p' + W_1i q' is two small products
instead of one per pair (so dropout before it is drawn by embedding; in RecBole, pair by pair).
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.configuration import Count, Positive, Probability
from ss4rec_lib.models.base import (
    CRITERION,
    Fitted,
    ModelConfig,
    Recommender,
    TrainingDiverged,
    Validate,
    training_interactions,
)
from ss4rec_lib.ssm import is_plain

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch, Split
    from ss4rec_lib.training import TrainingConfig

PAIRS_AT_ONCE = 1 << 16  # pairs of user and item whose hidden layers are held at a time
_STEP = {"CE": 16, "BPR": 2_048, "BCE": 2_048}  # users of a step of training (CE), or pairs


def fit_epochs(
    network: nn.Module, optimizer: torch.optim.Optimizer,
    steps: Callable[[], Iterable[tuple[Tensor, int]]],
    validate: Callable[[Any], Mapping[str, float]] | None, options: Any,
    criterion: str = CRITERION, sign: int = 1,
) -> tuple[list[dict[str, float]], int]:  # fmt: skip
    """Train epoch by epoch in place, keep the weights of the best one, end in evaluation mode.

    `steps` yields the mean loss and the number of examples of each step of an epoch. Of the metrics
    of `validate`, `criterion` times `sign` chooses the epoch, the first of equal ones; without it
    the last one is kept. Of `options`, `epochs` and `patience` are used. Return one row per epoch
    (as `Fitted.rows`) and the epoch that was kept. TrainingDiverged ends a loss or criterion that
    is not finite, with the best weights back in place.
    """
    rows: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    best_epoch, best_value = 0, -math.inf
    for epoch in range(1, options.epochs + 1):
        begin = time.perf_counter()
        network.train()
        total, examples = 0.0, 0
        for step_loss, n in steps():
            optimizer.zero_grad()
            step_loss.backward()
            optimizer.step()
            total, examples = total + step_loss.item() * n, examples + n
        loss = total / examples
        network.eval()
        trained = time.perf_counter()
        metrics, value = {}, math.nan
        with contextlib.suppress(FloatingPointError):  # scores that are not finite
            metrics = validate(network) if validate and math.isfinite(loss) else {}
            value = sign * metrics.get(criterion, 0.0)
        if not math.isfinite(loss + value):
            network.load_state_dict(best or network.state_dict())
            found = f"the loss {loss:g} or {criterion} is not finite in epoch {epoch}"
            remedy = f"try a smaller learning_rate than {optimizer.defaults['lr']:g}"
            raise TrainingDiverged(f"{found}: {remedy}", network if best else None, rows)
        times = {"train_seconds": trained - begin, "valid_seconds": time.perf_counter() - trained}
        rows.append({"epoch": epoch, "train_loss": loss, **metrics, **times})
        if validate is None or value > best_value:
            best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            best_epoch, best_value = epoch, value
        elif epoch - best_epoch >= options.patience:
            break
    network.load_state_dict(best)
    return rows, best_epoch


class NeuralCFConfig(ModelConfig):
    """Shape and options under RecBole's names, with its defaults but for the loss.

    `CE` is softmax cross entropy over the catalogue (the multinomial likelihood of Liang et al.
    2018, arXiv 1802.05814); `BPR` is pairwise against uniformly drawn negatives, `BCE` binary cross
    entropy against them (published, with 4 negatives).
    """

    mf_embedding_size: Count = 64
    mlp_embedding_size: Count = 64
    mlp_hidden_size: Annotated[tuple[Count, ...], Field(min_length=1)] = (128, 64)
    dropout_prob: Probability = 0.1
    loss_type: Literal["CE", "BPR", "BCE"] = "CE"
    initializer_range: Positive = 0.01


class NeuralCF(Recommender):
    """NeuMF over the users and items of a training part; users' indices run from 0."""

    needs_known_users = True
    reads_histories = False
    fitted = True
    trained_with = ("epochs", "learning_rate", "patience", "n_negatives", "device")
    item_table = "item_mf.weight"
    config_type = NeuralCFConfig
    config: NeuralCFConfig

    def __init__(self, n_users: int, n_items: int, config: NeuralCFConfig | None = None) -> None:
        super().__init__(n_items, config)
        config = self.config
        mf, mlp = config.mf_embedding_size, config.mlp_embedding_size
        self.user_mf, self.item_mf = nn.Embedding(n_users, mf), nn.Embedding(n_items + 1, mf)
        self.user_mlp, self.item_mlp = nn.Embedding(n_users, mlp), nn.Embedding(n_items + 1, mlp)
        for table in (self.user_mf, self.item_mf, self.user_mlp, self.item_mlp):
            nn.init.normal_(table.weight, std=config.initializer_range)
        widths = config.mlp_hidden_size
        self.first = nn.Linear(2 * mlp, widths[0])
        self.later = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.predict = nn.Linear(mf + widths[-1], 1)
        self.dropout = nn.Dropout(config.dropout_prob)

    @classmethod
    def fit(
        cls, split: Split, config: Any, training: TrainingConfig, validate: Validate | None = None
    ) -> Fitted:
        """Train on the pairs of the training part; see `Recommender.fit`."""
        torch.manual_seed(training.seed)
        model = cls(split.sequences.n_users, split.sequences.n_items, config)
        if training.device == "cuda" or (training.device == "auto" and torch.cuda.is_available()):
            model.to("cuda")
        rows, best_epoch = model.learn(*training_interactions(split)[:2], training, validate)
        return Fitted(model, sum(row["train_seconds"] for row in rows), rows, best_epoch)

    def learn(
        self, users: np.ndarray, items: np.ndarray, training: TrainingConfig, validate: Any = None
    ) -> tuple[list[dict[str, float]], int]:
        """Train with Adam on pairs of user (n,), ascending, and item; return as `fit_epochs`."""
        items, device = items.astype(np.int64), self.predict.weight.device
        torch.manual_seed(training.seed)
        rng = np.random.default_rng(training.seed)
        optimizer = torch.optim.Adam(self.parameters(), lr=training.learning_rate)
        # What is drawn together: a user with all items (CE), or a pair.
        by_user = self.config.loss_type == "CE"
        ends = np.flatnonzero(np.diff(users)) + 1
        units = np.split(np.arange(len(users)), ends) if by_user else range(len(users))
        size = _STEP[self.config.loss_type]

        def steps() -> Iterable[tuple[Tensor, int]]:
            shuffled = rng.permutation(len(units))
            for begin in range(0, len(units), size):
                picked = shuffled[begin : begin + size]
                pairs = np.concatenate([units[i] for i in picked]) if by_user else picked
                of_user, chosen = (torch.from_numpy(a[pairs]).to(device) for a in (users, items))
                yield neural_cf_loss(self, of_user, chosen, training.n_negatives), len(pairs)

        return fit_epochs(self, optimizer, steps, validate, training)

    @classmethod
    def for_tensors(cls, n_items: int, config: Any, tensors: Mapping[str, Tensor]) -> Self:
        """Return a model for as many users as the saved one."""
        return cls(len(tensors["user_mf.weight"]), n_items, config)

    def _first(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        of_user, of_item = self.first.weight.split(self.config.mlp_embedding_size, dim=1)
        p, q = self.dropout(self.user_mlp(user)), self.dropout(self.item_mlp(item))
        return F.linear(p, of_user, self.first.bias), F.linear(q, of_item)

    def _perceptron(self, first: Tensor) -> Tensor:
        """Map what the first layer gives, (..., width), to the perceptron's part of scores."""
        x = first.relu()
        for layer in self.later:
            x = layer(self.dropout(x)).relu()
        return x @ self.predict.weight[0, self.config.mf_embedding_size :]

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Return scores of pairs, of user indices and item ids whose shapes broadcast."""
        if not is_plain(self.first, self.predict):  # replaced or hooked: call them
            users, items = torch.broadcast_tensors(users, items)
            x = torch.cat((self.user_mlp(users), self.item_mlp(items)), dim=-1)
            for layer in (self.first, *self.later):
                x = layer(self.dropout(x)).relu()
            gmf = self.user_mf(users) * self.item_mf(items)
            return self.predict(torch.cat((gmf, x), dim=-1))[..., 0]
        user, item = self._first(users, items)
        weight = self.predict.weight[0, : self.config.mf_embedding_size]
        gmf = (self.user_mf(users) * self.item_mf(items)) @ weight
        return gmf + self._perceptron(user + item) + self.predict.bias

    def user_scores(self, users: Tensor) -> Tensor:
        """Return scores of all items, user indices (U,) -> (U, V = n_items + 1); 0 is padding."""
        everything = torch.arange(self.n_items + 1, device=users.device)
        rows = max(1, PAIRS_AT_ONCE // (self.n_items + 1))
        if not is_plain(self.first, self.predict):
            return torch.cat([self.pairs(part[:, None], everything) for part in users.split(rows)])
        user, item = self._first(users, everything)  # (U, width), (V, width)
        weight = self.predict.weight[0, : self.config.mf_embedding_size]
        gmf = (self.user_mf(users) * weight) @ self.item_mf(everything).T  # (U, V)
        mlp = [self._perceptron(part[:, None] + item) for part in user.split(rows)]
        return gmf + torch.cat(mlp) + self.predict.bias

    def scores(self, batch: Batch) -> Tensor:
        """Return the scores of each row's user, (B, n_items + 1)."""
        return self.user_scores(batch.users)


def neural_cf_loss(model: NeuralCF, users: Tensor, items: Tensor, n_negatives: int = 4) -> Tensor:
    """Return the mean loss of pairs of the training part, (M,) each, in nats per pair.

    `BPR` and `BCE` draw K = `n_negatives` per pair; for `CE` a user's pairs should come together.
    """
    if model.config.loss_type == "CE":
        distinct, row = users.unique(return_inverse=True)
        # Column 0 is no item: it takes no part in the softmax.
        log_softmax = model.user_scores(distinct)[:, 1:].log_softmax(1)  # (U, n_items)
        return -log_softmax[row, items - 1].mean()
    # Draw from the n_items - 1 other ids: those from the chosen one on are moved up by one.
    shape = (len(items), n_negatives)
    negatives = torch.randint(1, max(model.n_items, 2), shape, device=items.device)
    negatives = negatives + (negatives >= items[:, None])  # (M, K)
    positive = model.pairs(users[:, None], items[:, None])  # (M, 1)
    negative = model.pairs(users[:, None], negatives)  # (M, K)
    if model.config.loss_type == "BPR":
        return -F.logsigmoid(positive - negative).mean()
    total = F.softplus(-positive).sum() + F.softplus(negative).sum()
    return total / (positive.numel() + negative.numel())
