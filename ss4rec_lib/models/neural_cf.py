"""Neural collaborative filtering: users and items, no sequence and no time.

He et al., "Neural Collaborative Filtering", WWW 2017 (arXiv 1708.05031), its fusion NeuMF of matrix
factorisation and a multi-layer perceptron, each with embeddings of its own:

    gmf  = p_u * q_i                                   # elementwise
    mlp  = relu(... relu(W_1 [p'_u; q'_i] + b_1) ...)
    score = h . [gmf; mlp] + b

It scores a user of the training part, whatever the history shows since. All items of a user are
scored together: W_1 [p'; q'] = W_1u p' + W_1i q' is two small products instead of one for each
pair, and the part of gmf is one matrix product. (Dropout before the first layer therefore drops
the same elements of an embedding in all its pairs of a step; RecBole draws them pair by pair.)

Glossary: U users of a step, V = n_items + 1 columns, K negatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.models.base import Count, ModelConfig, Positive, Probability, check_size

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch

_PAIRS = 1 << 16  # pairs of user and item whose hidden layers are held at a time


class NeuralCFConfig(ModelConfig):
    """Shape and options under RecBole's names, with its defaults but for the loss.

    Attributes:
        mf_embedding_size: Width of the embeddings that are multiplied.
        mlp_embedding_size: Width of the embeddings that go through the perceptron.
        mlp_hidden_size: Widths of its layers.
        dropout_prob: Dropout before each of its layers.
        loss_type: `CE`, softmax cross entropy over the catalogue, for each user the mean over all
            items of the training part (the multinomial likelihood of Liang et al. 2018, arXiv
            1802.05814); `BPR`, pairwise against uniformly drawn negatives; or `BCE`, binary cross
            entropy against them (published, with 4 negatives).
        n_negatives: Negatives a pair of `BPR` and `BCE`.
        initializer_range: Standard deviation of initial embeddings.
    """

    mf_embedding_size: Count = 64
    mlp_embedding_size: Count = 64
    mlp_hidden_size: Annotated[tuple[Count, ...], Field(min_length=1)] = (128, 64)
    dropout_prob: Probability = 0.1
    loss_type: Literal["CE", "BPR", "BCE"] = "CE"
    n_negatives: Count = 4
    initializer_range: Positive = 0.01


class NeuralCF(nn.Module):
    """NeuMF over the users and items of a training part.

    Args:
        n_users: Number of users; indices run from 0.
        n_items: Number of items; ids run from 1 to n_items, 0 is padding.
        config: Shape and options.

    Raises:
        ValueError: A size that is not an integer of at least 1.
    """

    def __init__(self, n_users: int, n_items: int, config: NeuralCFConfig | None = None) -> None:
        super().__init__()
        self.n_users, self.n_items = check_size("n_users", n_users), check_size("n_items", n_items)
        self.config = config = config or NeuralCFConfig()
        mf, mlp = config.mf_embedding_size, config.mlp_embedding_size
        self.user_mf = nn.Embedding(self.n_users, mf)
        self.item_mf = nn.Embedding(self.n_items + 1, mf)
        self.user_mlp = nn.Embedding(self.n_users, mlp)
        self.item_mlp = nn.Embedding(self.n_items + 1, mlp)
        for table in (self.user_mf, self.item_mf, self.user_mlp, self.item_mlp):
            nn.init.normal_(table.weight, std=config.initializer_range)
        first, *later = config.mlp_hidden_size
        self.first = nn.Linear(2 * mlp, first)
        self.later = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(config.mlp_hidden_size, later, strict=False)
        )
        self.predict = nn.Linear(mf + config.mlp_hidden_size[-1], 1)
        self.dropout = nn.Dropout(config.dropout_prob)

    def _first(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """The parts of the first layer that are the user's and the item's, (..., width) each."""
        of_user, of_item = self.first.weight.split(self.config.mlp_embedding_size, dim=1)
        return (
            F.linear(self.dropout(self.user_mlp(user)), of_user, self.first.bias),
            F.linear(self.dropout(self.item_mlp(item)), of_item),
        )

    def _perceptron(self, first: Tensor) -> Tensor:
        """What the perceptron adds to the score, from its first layer: (..., width) -> (...)."""
        x = first.relu()
        for layer in self.later:
            x = layer(self.dropout(x)).relu()
        return x @ self.predict.weight[0, self.config.mf_embedding_size :]

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores of pairs: user indices and item ids of shapes that broadcast, to that shape."""
        user, item = self._first(users, items)
        weight = self.predict.weight[0, : self.config.mf_embedding_size]
        gmf = (self.user_mf(users) * self.item_mf(items)) @ weight
        return gmf + self._perceptron(user + item) + self.predict.bias

    def logits(self, users: Tensor) -> Tensor:
        """Scores of all items, user indices (U,) -> (U, n_items + 1); column 0 is padding."""
        everything = torch.arange(self.n_items + 1, device=users.device)
        user, item = self._first(users, everything)  # (U, width), (V, width)
        weight = self.predict.weight[0, : self.config.mf_embedding_size]
        gmf = (self.user_mf(users) * weight) @ self.item_mf.weight.T  # (U, V)
        rows = max(1, _PAIRS // (self.n_items + 1))
        mlp = [self._perceptron(part[:, None] + item) for part in user.split(rows)]
        return gmf + torch.cat(mlp) + self.predict.bias

    def last_hidden(self, batch: Batch) -> Tensor:
        """Each row's user, (B,): all that the scores depend on."""
        return batch.users


def neural_cf_loss(model: NeuralCF, users: Tensor, items: Tensor) -> Tensor:
    """Mean loss of pairs of the training part, nats a pair.

    Args:
        model: Its `config.loss_type` says which loss.
        users: User indices, (M,).
        items: The items they chose, (M,). For `CE` all pairs of a user should come together: its
            scores are computed once.
    """
    if model.config.loss_type == "CE":
        distinct, row = users.unique(return_inverse=True)
        # Column 0 is no item: it takes no part in the softmax.
        log_softmax = model.logits(distinct)[:, 1:].log_softmax(1)  # (U, n_items)
        return -log_softmax[row, items - 1].mean()
    # Draw from the n_items - 1 other ids: those from the chosen one on are moved up by one.
    shape = (len(items), model.config.n_negatives)
    negatives = torch.randint(1, max(model.n_items, 2), shape, device=items.device)
    negatives = negatives + (negatives >= items[:, None])  # (M, K)
    positive = model(users[:, None], items[:, None])  # (M, 1)
    negative = model(users[:, None], negatives)  # (M, K)
    if model.config.loss_type == "BPR":
        return -F.logsigmoid(positive - negative).mean()
    total = F.softplus(-positive).sum() + F.softplus(negative).sum()
    return total / (positive.numel() + negative.numel())


def fit_neural_cf(
    model: NeuralCF,
    users: np.ndarray,
    items: np.ndarray,
    *,
    epochs: int = 20,
    learning_rate: float = 1e-3,
    batch_size: int | None = None,
    patience: int = 5,
    seed: int = 0,
    validate: Callable[[], float] | None = None,
) -> list[dict[str, float]]:
    """Train in place with Adam on pairs of user and item.

    Args:
        model: On the device to train on.
        users: User indices of the training interactions, (n,).
        items: Their item ids, (n,). `training_interactions(split)` gives both.
        epochs: Most epochs to run.
        learning_rate: Adam's.
        batch_size: A step's pairs (`BPR`, `BCE`; 2,048 by default) or users (`CE`; 16).
        patience: Stop after this many epochs without a better `validate()`.
        seed: Of order, dropout and negatives.
        validate: What to choose the epoch by, the larger the better, such as
            `lambda: evaluate_ranking(model, split, "valid")["ndcg@10"]`; None keeps the last epoch.

    Returns:
        One row an epoch: `epoch`, `train_loss` (nats a pair) and, with `validate`, `valid`. The
        model has the weights of the best epoch and is in evaluation mode.

    Raises:
        ValueError: No pairs, users or items the model does not know, or a size below 1.
        FloatingPointError: A loss that is not finite.
    """
    users, items = np.asarray(users, dtype=np.int64), np.asarray(items, dtype=np.int64)
    if users.ndim != 1 or users.shape != items.shape or len(users) == 0:
        raise ValueError(
            f"users has shape {users.shape} and items {items.shape}: expected two vectors of the "
            "same length, one entry a training interaction"
        )
    if users.min() < 0 or users.max() >= model.n_users:
        raise ValueError(f"users holds indices outside 0 to {model.n_users - 1}")
    if items.min() < 1 or items.max() > model.n_items:
        raise ValueError(f"items holds ids outside 1 to {model.n_items}")
    by_user = model.config.loss_type == "CE"
    batch_size = (16 if by_user else 2_048) if batch_size is None else batch_size
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        check_size(name, value)
    # A unit is what is drawn together: a user with all items (CE), or a pair.
    order = np.argsort(users, kind="stable")
    units = np.split(order, np.flatnonzero(np.diff(users[order])) + 1) if by_user else []

    device = model.predict.weight.device
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    rows: list[dict[str, float]] = []
    best, best_epoch = None, 0
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        shuffled = rng.permutation(len(units) if by_user else len(users))
        for begin in range(0, len(shuffled), batch_size):
            picked = shuffled[begin : begin + batch_size]
            pairs = np.concatenate([units[i] for i in picked]) if by_user else picked
            of_user, chosen = (torch.from_numpy(a[pairs]).to(device) for a in (users, items))
            loss = neural_cf_loss(model, of_user, chosen)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(pairs)
        if not math.isfinite(total):
            raise FloatingPointError(
                f"the loss is not finite in epoch {epoch}: try a smaller learning_rate than "
                f"{learning_rate:g}"
            )
        rows.append({"epoch": epoch, "train_loss": total / len(users)})
        model.eval()
        if validate is None:
            continue
        rows[-1]["valid"] = validate()
        if best is None or rows[-1]["valid"] > rows[best_epoch - 1]["valid"]:
            best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            best_epoch = epoch
        elif epoch - best_epoch >= patience:
            break
    if best is not None:
        model.load_state_dict(best)
    return rows
