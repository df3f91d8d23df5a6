"""Neural collaborative filtering for ratings: biases, and what NeuMF adds to them.

    rating = mu + b_u + b_i + NeuMF(u, i)        trained by squared error

The network is that of `neural_cf`; the biases start as those of the bias baseline and the last
layer of the network at 0, so that an untrained model *is* that baseline, as the rating model of
SS4Rec is. It overfits within a few epochs: give it a validation part to choose the epoch by.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.models.baselines_config import check_counts, check_numbers
from ss4rec_lib.models.neural_cf import NeuralCF, NeuralCFConfig
from ss4rec_lib.models.rating_baselines import BiasBaseline, RatingBaseline

_PAIRS = 1 << 16  # pairs of user and item that are predicted at a time


class _BiasedNeuralCF(nn.Module):
    """mu + b_u + b_i + NeuMF(u, i) over places of users and items, unknown ones behind the last."""

    def __init__(self, biases: BiasBaseline, config: NeuralCFConfig) -> None:
        super().__init__()
        n_users, n_items = len(biases.user_bias), len(biases.item_bias)
        self.mean = biases.mean
        self.user_bias, self.item_bias = (
            nn.Embedding.from_pretrained(
                torch.from_numpy(np.append(start, 0.0)).float()[:, None], freeze=False
            )
            for start in (biases.user_bias, biases.item_bias)
        )
        self.net = NeuralCF(n_users + 1, n_items + 1, config)  # its items begin at 1
        with torch.no_grad():
            self.net.predict.weight.zero_()
            self.net.predict.bias.zero_()
            # Whoever is unknown is nobody in particular, and no training pair changes that.
            for table, row in ((self.net.user_mf, n_users), (self.net.user_mlp, n_users)):
                table.weight[row] = 0
            for table in (self.net.item_mf, self.net.item_mlp):
                table.weight[n_items + 1] = 0

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Ratings of pairs, (n,)."""
        biases = self.user_bias(user)[..., 0] + self.item_bias(item)[..., 0]
        return self.mean + biases + self.net(user, item + 1)

    def everything(self, user: Tensor) -> Tensor:
        """Ratings of all items, (U, n_items + 1)."""
        biases = self.user_bias(user) + self.item_bias.weight[:, 0]
        return self.mean + biases + self.net.logits(user)[:, 1:]


class RatingNeuralCF(RatingBaseline):
    """NeuMF with biases, by Adam on the squared error.

    Args:
        mf_embedding_size: Width of the embeddings that are multiplied.
        mlp_embedding_size: Width of those that go through the perceptron; its layers are twice and
            once as wide.
        dropout_prob: Dropout before each of these layers.
        epochs: Most epochs to run.
        learning_rate: Adam's.
        weight_decay: Of everything but biases, decoupled (AdamW).
        batch_size: Ratings a step.
        patience: Stop after this many epochs without a better validation RMSE.
        seed: Of initial weights, order and dropout.
        valid: Users, items and ratings to choose the epoch by; None keeps the last epoch.

    Attributes:
        history: One row an epoch: `epoch`, `train_loss` (mean squared error), with `valid` also
            `rmse` and `mae` of it.
        best_epoch: The epoch whose weights are kept.

    Raises:
        ValueError: An option that nothing can be trained with, naming it and its value.
    """

    def __init__(
        self,
        mf_embedding_size: int = 16,
        mlp_embedding_size: int = 16,
        dropout_prob: float = 0.2,
        epochs: int = 30,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.1,
        batch_size: int = 512,
        patience: int = 5,
        seed: int = 0,
        valid: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.config = NeuralCFConfig(
            mf_embedding_size=mf_embedding_size,
            mlp_embedding_size=mlp_embedding_size,
            mlp_hidden_size=(2 * mlp_embedding_size, mlp_embedding_size),
            dropout_prob=dropout_prob,
        )
        self.epochs, self.batch_size, self.patience = epochs, batch_size, patience
        self.learning_rate, self.weight_decay, self.seed = learning_rate, weight_decay, seed
        check_counts(self, "epochs", "batch_size", "patience")
        check_numbers(self, "learning_rate", above=0)
        check_numbers(self, "weight_decay")
        self.valid = valid

    def _fit(self, user: np.ndarray, item: np.ndarray, ratings: np.ndarray) -> None:
        torch.manual_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        self.network = network = _BiasedNeuralCF(
            BiasBaseline().fit(user, item, ratings), self.config
        )
        biases = [network.user_bias.weight, network.item_bias.weight]
        optimizer = torch.optim.AdamW(
            [
                {"params": network.net.parameters(), "weight_decay": self.weight_decay},
                {"params": biases, "weight_decay": 0.0},
            ],
            lr=self.learning_rate,
        )
        users, items = torch.from_numpy(user), torch.from_numpy(item)
        actual = torch.from_numpy(ratings).float()
        self.history: list[dict[str, Any]] = []
        best, self.best_epoch = None, 0
        for epoch in range(1, self.epochs + 1):
            network.train()
            total = 0.0
            for picked in torch.from_numpy(rng.permutation(len(user))).split(self.batch_size):
                loss = F.mse_loss(network(users[picked], items[picked]), actual[picked])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(picked)
            if not math.isfinite(total):
                raise FloatingPointError(
                    f"the loss is not finite in epoch {epoch}: try a smaller learning_rate than "
                    f"{self.learning_rate:g}"
                )
            network.eval()
            self.history.append({"epoch": epoch, "train_loss": total / len(user)})
            if self.valid is None:
                self.best_epoch = epoch
                continue
            error = self.predict(*self.valid[:2]) - self.valid[2]
            found = {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.abs(error).mean())}
            self.history[-1] |= found
            if best is None or found["rmse"] < self.history[self.best_epoch - 1]["rmse"]:
                best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
                self.best_epoch = epoch
            elif epoch - self.best_epoch >= self.patience:
                break
        if best is not None:
            network.load_state_dict(best)

    @torch.no_grad()
    def _predict(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        pairs = zip(*(torch.from_numpy(a).split(_PAIRS) for a in (user, item)), strict=True)
        found = [self.network(*part).double().numpy() for part in pairs]
        return np.concatenate(found) if found else np.zeros(0)

    @torch.no_grad()
    def _scores(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self.network.everything(torch.from_numpy(user))[:, item].double().numpy()
