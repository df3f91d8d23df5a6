"""Training a rating model: `fit` with ratings beside the items, chosen by validation RMSE.

Everything that `fit` does stays as it is (batches, schedule, clipping, best weights put back,
checkpoints that continue bit for bit); what differs is the step, the validation and the criterion.
One process, one part a step, and windows: `TrainingConfig`'s `accumulate` and `history="full"` are
refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ss4rec_lib.data import Batch, Batches, Split, train_batches, train_ratings
from ss4rec_lib.evaluation import evaluate_both, evaluate_rating
from ss4rec_lib.models import BiasBaseline, RatingConfig, RatingSS4Rec, SS4Rec, SS4RecConfig
from ss4rec_lib.training.config import TrainingConfig
from ss4rec_lib.training.loop import FitResult, Run, check_fit, train
from ss4rec_lib.training.objectives import Objective, objective_of


def rating_model(
    split: Split, config: RatingConfig | None = None, trunk: SS4Rec | None = None
) -> RatingSS4Rec:
    """A model that starts as the bias baseline of the training part.

    Args:
        split: Its training part gives the mean, the items' biases and the range of ratings.
        config: Options. `levels` are replaced by the ratings that occur in training.
        trunk: A trained SS4Rec to start from; None for a new one of `config.trunk`.

    Returns:
        The model, on the CPU.

    Raises:
        ValueError: All training ratings are equal, or the trunk has another catalogue.
    """
    known = train_ratings(split)
    levels = tuple(float(level) for level in np.unique(known.ratings))
    if len(levels) < 2:
        raise ValueError(f"all training ratings are {levels}: there is nothing to learn from them")
    config = config or RatingConfig(trunk=trunk.config if trunk is not None else SS4RecConfig())
    config = dataclasses.replace(config, levels=levels)
    trunk = trunk if trunk is not None else SS4Rec(split.sequences.n_items, config.trunk)
    biases = BiasBaseline().fit(*known)
    item_bias = np.zeros(split.sequences.n_items + 1)
    item_bias[biases.item_ids] = biases.item_bias
    owners = np.unique(split.sequences.user_ids, return_inverse=True)[1]
    return RatingSS4Rec(trunk, config, biases.mean, item_bias, biases.reg_u, owners)


class RatingStep(nn.Module):
    """From a batch with ratings to the loss `RatingConfig.train_for` asks for.

    Args:
        model: A `RatingSS4Rec`.
        objective: The ranking loss, see `ss4rec_lib.training.objectives`.
        precision: `float32`, or `bf16` for matrix products under autocast.
    """

    def __init__(self, model: RatingSS4Rec, objective: Objective, precision: str) -> None:
        super().__init__()
        self.model = model
        self._objective = objective
        self._autocast = precision == "bf16"

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss over the batch's targets: squared rating units, nats, or their sum."""
        model, config = self.model, self.model.config
        items, ratings = batch.items, batch.ratings
        kept = batch.positions  # (M,): no loss at padding
        targets = batch.targets.flatten()[kept]  # (M,)
        loss = torch.zeros((), device=items.device)
        with torch.autocast(items.device.type, torch.bfloat16, enabled=self._autocast):
            hidden = model(items, batch.delta, ratings).flatten(0, 1)[kept]  # (M, d_model)
            if config.train_for != "rating":
                loss = loss + self._objective(model, hidden, targets, batch.n_targets)
            if config.train_for != "ranking":
                bias = model.history_bias(items, ratings).flatten()[kept]  # (M,)
                user = model.user_vectors(batch.users)  # (B, 1, f), or None
                if user is not None:
                    user = user.expand(-1, items.shape[1], -1).flatten(0, 1)[kept]  # (M, f)
                expected = model.predict_ratings(hidden, targets, bias, user)  # (M,)
                actual = batch.target_ratings.flatten()[kept]
                squared = (expected.float() - actual).square() + model.penalty(targets, user)
                squared = squared.sum() / batch.n_targets
                weight = config.rating_weight if config.train_for == "both" else 1.0
                loss = loss + weight * squared
        return loss


class RatingRun(Run):
    """`Run` with ratings in its batches and in its validation."""

    def __init__(self, model: RatingSS4Rec, split: Split, config: TrainingConfig) -> None:
        super().__init__(model, split, config)
        if self.accelerator.num_processes > 1:
            raise ValueError("rating models are trained by one process; start a single one")
        objective = objective_of(model.config.loss_type, split, config.n_negatives, self.device)
        self.step = RatingStep(model, objective, config.precision)
        self.criterion = model.config.criterion
        self.lower_is_better = self.criterion == "rmse"
        self.train_mean = float(train_ratings(split).ratings.mean(dtype=np.float64))

    def plan(self, epoch: int) -> Batches:
        """The batches of an epoch, ratings beside the items."""
        config = self.config
        return train_batches(
            self.split, config.max_tokens, config.max_len, config.seed, epoch,
            target_time=config.target_time,
        )  # fmt: skip

    def train_step(self, batch: Batch) -> tuple[float, float]:
        """One step; the loss summed over the targets and the gradient's norm."""
        self.optimizer.zero_grad()
        loss = self.step(batch.to(self.device))
        loss.backward()
        loss_sum, norm = torch.stack((loss.detach() * batch.n_targets, self.clip())).tolist()
        return loss_sum, norm

    def validate(self) -> dict[str, float]:
        """RMSE and MAE of the validation part; ranking metrics too where ranking is trained."""
        options = {
            "max_len": self.config.eval_max_len, "target_time": self.config.target_time,
            "train_mean": self.train_mean,
        }  # fmt: skip
        if self.model.config.train_for == "rating":
            rating, ranking = evaluate_rating(self.model, self.split, "valid", **options), {}
        else:
            ks = (min(10, self.split.sequences.n_items),)
            rating, ranking = evaluate_both(self.model, self.split, "valid", ks=ks, **options)
            ranking = {f"{m}@10": ranking[f"{m}@{ks[0]}"] for m in ("hr", "ndcg", "mrr")}
        return {"rmse": rating["rmse"], "mae": rating["mae"], **ranking}


def fit_ratings(
    model: RatingSS4Rec,
    split: Split,
    config: TrainingConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
    progress: bool = True,
) -> FitResult:
    """Train a rating model in place; choose the epoch by validation RMSE.

    A model that is trained for ranking alone is chosen by validation NDCG@10
    (`RatingConfig.criterion`). The test part is never touched. Interrupting and checkpoints are as
    in `ss4rec_lib.training.fit`.

    Args:
        model: See `rating_model`.
        split: Its `train` part is learned, its `valid` part chooses the epoch.
        config: See `TrainingConfig`; patience counts epochs without a better criterion.
        checkpoint: File to write, and to continue from.
        resume: Continue from `checkpoint`; without that file, start from the beginning.
        on_epoch: Called after every epoch with the history so far.
        progress: Show a progress bar.

    Returns:
        The history (`rmse` and `mae` of validation; with ranking also `hr@10`, `ndcg@10`,
        `mrr@10`), the epoch chosen and why training stopped.

    Raises:
        ValueError: Nothing to train on or to validate with, a model of another catalogue, several
            processes, `accumulate` above 1 or `history="full"`.
        CheckpointError: The file cannot be used or written; see `fit`.
        TrainingDiverged: A loss or gradient that is not finite.
    """
    config = config or TrainingConfig()
    path = None if checkpoint is None else Path(checkpoint)
    if config.accumulate != 1:
        raise ValueError(f"accumulate={config.accumulate}: rating models take 1, whole steps")
    if config.history != "windows":
        raise ValueError(f"history={config.history!r}: rating models take 'windows'")
    check_fit(model, split, config)
    return train(RatingRun(model, split, config), path, resume, on_epoch, progress)
