"""The training loop: epochs over all positions, early stopping on validation, best weights back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from ss4rec_lib.data import Split, train_batches
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.progress import progress_bar
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training.objectives import OBJECTIVES

SCHEDULES = ("constant", "cosine")
# Fractions of an epoch move the bar; two decimals keep them readable.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"


class TrainingDiverged(FloatingPointError):
    """The loss became NaN or infinite; the best weights so far have been put back."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. Times are in epochs, lengths in interactions.

    Attributes:
        epochs: Most epochs to run.
        learning_rate: Adam's, after the warm-up.
        schedule: `cosine` decay to zero over `epochs`, or `constant`.
        warmup_epochs: Linear warm-up from zero, in epochs (may be a fraction).
        patience: Stop after this many epochs without a better validation NDCG@10.
        max_tokens: Padded positions a batch.
        max_len: Longest window; longer histories are cut at fresh random places each epoch.
        gradient_clip: Largest norm of the gradient; None to leave it alone.
        seed: Of batch order, dropout and negatives.
        device: `auto` takes a GPU where there is one.
    """

    epochs: int = 30
    learning_rate: float = 3e-3
    schedule: str = "cosine"
    warmup_epochs: float = 0.5
    patience: int = 10
    max_tokens: int = 3_200
    max_len: int | None = 200
    gradient_clip: float | None = 1.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        for name in ("epochs", "patience", "max_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: expected an integer of at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate={self.learning_rate}: expected a number above 0")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r}: choose one of {', '.join(SCHEDULES)}")
        if self.warmup_epochs < 0:
            raise ValueError(f"warmup_epochs={self.warmup_epochs}: expected at least 0")
        if self.gradient_clip is not None and self.gradient_clip <= 0:
            raise ValueError(f"gradient_clip={self.gradient_clip}: expected above 0, or None")


@dataclass(frozen=True)
class FitResult:
    """What training left behind, beside the model itself.

    Attributes:
        history: One row an epoch: `epoch`, `train_loss` (nats a target), validation metrics,
            `train_seconds`, `valid_seconds`, `targets_per_second`, `learning_rate`.
        best_epoch: The epoch whose weights the model now has, counted from 1.
        stopped: Why it ended: `epochs`, `patience` or `interrupted`.
    """

    history: pd.DataFrame
    best_epoch: int
    stopped: str

    @property
    def train_seconds(self) -> float:
        """Seconds of training, validation left out."""
        return float(self.history["train_seconds"].sum())


def learning_rate_factor(done: float, epochs: int, warmup_epochs: float, schedule: str) -> float:
    """Factor on the learning rate after `done` epochs (a fraction counts), in [0, 1]."""
    factor = min(1.0, done / warmup_epochs) if warmup_epochs > 0 else 1.0
    if schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * min(done / epochs, 1.0)))
    return factor


def resolve_device(device: str) -> torch.device:
    """`auto` to a GPU where there is one, else the CPU; anything else as PyTorch reads it."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def fit(
    model: nn.Module,
    split: Split,
    config: TrainingConfig | None = None,
    *,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
    progress: bool = True,
) -> FitResult:
    """Train `model` in place on the training part; choose the epoch by validation NDCG@10.

    The objective is `model.config.loss_type` at every position. The test part is never touched.
    Interrupting (Ctrl-C, or the stop button of a notebook) ends training cleanly: the best weights
    so far are put back and the history is returned.

    Args:
        model: `forward(items, delta)`, `logits(hidden)`, `config.loss_type`.
        split: Its `train` part is learned, its `valid` part chooses the epoch.
        config: See `TrainingConfig`.
        on_epoch: Called after every epoch with the history so far.
        progress: Show a progress bar.

    Returns:
        The history, the epoch chosen and why training stopped.

    Raises:
        ValueError: Nothing to train on or to validate with.
        TrainingDiverged: A loss that is not finite.
    """
    config = config or TrainingConfig()
    objective = OBJECTIVES[model.config.loss_type]
    device = resolve_device(config.device)
    seed_everything(config.seed)
    model.to(device)
    batches_of = {
        "max_tokens": config.max_tokens, "max_len": config.max_len, "seed": config.seed
    }  # fmt: skip
    if len(split.held_out["valid"][0]) == 0:
        raise ValueError("the split has no validation targets: the best epoch cannot be chosen")
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    rows: list[dict[str, float]] = []
    best, best_epoch, stopped = _snapshot(model), 0, "epochs"
    bar = progress_bar(total=config.epochs, show=progress, bar_format=_BAR)
    try:
        for epoch in range(1, config.epochs + 1):
            started = time.perf_counter()
            loss_sum = torch.zeros((), device=device, dtype=torch.float64)
            n_targets = 0
            model.train()
            bar.set_description(f"epoch {epoch}/{config.epochs}")
            batches = train_batches(split, epoch=epoch, **batches_of)
            for number, batch in enumerate(batches):
                # From the middle of each step, so that neither end of the schedule is exactly 0.
                done = epoch - 1 + (number + 0.5) / len(batches)
                learning_rate = config.learning_rate * learning_rate_factor(
                    done, config.epochs, config.warmup_epochs, config.schedule
                )
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate
                batch = batch.to(device)
                kept = batch.targets > 0  # (B, L): no loss at padding
                hidden = model(batch.items, batch.delta)[kept]  # (M, d_model)
                loss = objective(model, hidden, batch.targets[kept])
                if not torch.isfinite(loss):
                    model.load_state_dict(best)
                    raise TrainingDiverged(
                        f"loss is {loss.item()} in epoch {epoch}, batch {number} of shape "
                        f"{tuple(batch.items.shape)}, longest interval {batch.delta.max():g} s, "
                        f"learning rate {learning_rate:g}; the weights of epoch "
                        f"{best_epoch} were put back. Try a smaller learning_rate."
                    )
                optimiser.zero_grad()
                loss.backward()
                if config.gradient_clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
                optimiser.step()
                loss_sum += loss.detach().double() * len(hidden)
                n_targets += len(hidden)
                bar.update(1 / len(batches))
            trained = time.perf_counter()
            valid = evaluate_ranking(model, split, "valid", max_len=config.max_len)
            rows.append(
                {
                    "epoch": epoch,
                    "train_loss": loss_sum.item() / n_targets,
                    **{name: valid[name] for name in ("hr@10", "ndcg@10", "mrr@10")},
                    "train_seconds": trained - started,
                    "valid_seconds": time.perf_counter() - trained,
                    "targets_per_second": n_targets / (trained - started),
                    "learning_rate": learning_rate,
                }
            )
            if best_epoch == 0 or valid["ndcg@10"] > rows[best_epoch - 1]["ndcg@10"]:
                best, best_epoch = _snapshot(model), epoch
            bar.set_postfix_str(
                f"loss {rows[-1]['train_loss']:.3f}, valid NDCG@10 {valid['ndcg@10']:.4f}, "
                f"best {rows[best_epoch - 1]['ndcg@10']:.4f} in epoch {best_epoch}"
            )
            if on_epoch is not None:
                on_epoch(pd.DataFrame(rows))
            if epoch - best_epoch >= config.patience:
                stopped = "patience"
                break
    except KeyboardInterrupt:
        if not rows:  # nothing to keep: let the interrupt through
            raise
        stopped = "interrupted"
    finally:
        bar.close()
    model.load_state_dict(best)
    model.eval()
    return FitResult(pd.DataFrame(rows), best_epoch, stopped)
