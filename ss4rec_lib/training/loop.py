"""The training loop: epochs over all positions, early stopping on validation, best weights back."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ss4rec_lib.data import Batch, Batches, Split, carried_batches, train_batches
from ss4rec_lib.models import RatingSS4Rec, Recommender, TrainingDiverged
from ss4rec_lib.progress import progress_bar
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training.checkpoint import CheckpointError, Progress, each, load, save
from ss4rec_lib.training.config import TrainingConfig
from ss4rec_lib.training.distributed import gather, make_accelerator, resolve_device
from ss4rec_lib.training.objectives import (
    Objective,
    Step,
    Validation,
    ranking_objective,
    ranking_validation,
    rating_objective,
    rating_validation,
)

logger = logging.getLogger(__name__)
OnEpoch = Callable[[pd.DataFrame], None]

# Fractions of an epoch move the bar; two decimals keep them readable.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"


@dataclass(frozen=True)
class FitResult:
    """The outcome of training, beside the model itself."""

    # A row per epoch: epoch, train_loss (nats per target), validation metrics, train_seconds,
    # valid_seconds, targets_per_second, learning_rate.
    history: pd.DataFrame
    best_epoch: int  # whose weights the model now has, from 1
    stopped: str  # why training ended: `epochs`, `patience` or `interrupted`

    @property
    def train_seconds(self) -> float:
        """Seconds of training, without validation."""
        return float(self.history["train_seconds"].to_numpy().sum())


def fit(
    model: Recommender, split: Split, config: TrainingConfig | None = None, *,
    objective: Objective | None = None, validation: Validation | None = None,
    checkpoint: str | Path | None = None, resume: bool = False, on_epoch: OnEpoch | None = None,
    progress: bool = True,
) -> FitResult:  # fmt: skip
    """Train `model` in place on the training part; choose the epoch on the validation part.

    The test part is never touched. Interrupting (Ctrl-C, or the stop button of a notebook) ends
    training cleanly: the best weights so far are put back and the history is returned.

    With `checkpoint`, everything needed to continue is written to that file every
    `config.checkpoint_seconds` and after each epoch. Called again with `resume=True` (same model
    configuration, data and `config`), training continues, on the same machine, to bit for bit the
    history and weights of an uninterrupted run; without that file it starts anew. Several processes
    (see `training.distributed`) share the rows of every batch and add up their gradients: the model
    is that of one process, up to rounding and random numbers.

    `objective` is what is minimised, None for the ranking loss `model.config.loss_type`;
    `validation` chooses the epoch, None for validation NDCG@10; `on_epoch` is called after every
    epoch with the history so far.

    Raise a ValueError for arguments that do not fit together, a CheckpointError for a file that
    exists without `resume` or cannot be used or written, and TrainingDiverged, with the best
    weights so far back in place, for a loss, gradient or score that is not finite.
    """
    config = config or TrainingConfig()
    n_items = split.sequences.n_items
    if len(split.held_out["valid"][0]) == 0:
        raise ValueError("the split has no validation targets: the best epoch cannot be chosen")
    if model.n_items != n_items:
        raise ValueError(f"the model knows {model.n_items} items, the split has {n_items}")
    if config.history == "full" and not model.carries_state:
        raise ValueError(f"history='full': {type(model).__name__} carries no state")
    if resume and checkpoint is None:
        raise ValueError("resume=True needs the checkpoint to continue; got checkpoint=None")
    run = Run(model, split, config, objective, validation)
    run.plan(1)  # no training targets: an error now, before any file is written
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        if not resume:
            remedy = "resume=True continues it; to train anew remove it or name another file"
            raise CheckpointError(f"{path} exists already, and nothing was changed: {remedy}")
        load(run, path)
    elif path is not None:
        save(run, path)  # a full disk shows here
    _train(run, path, on_epoch, progress)
    model.load_state_dict(run.best)
    model.eval()
    return FitResult(pd.DataFrame(run.progress.rows), run.progress.best_epoch, run.progress.stopped)


def fit_ratings(
    model: RatingSS4Rec, split: Split, config: TrainingConfig | None = None, **options: Any
) -> FitResult:
    """Train a rating model in place: `fit` with a loss over ratings, chosen by validation RMSE.

    A model that is trained for ranking alone is chosen by NDCG@10.
    """
    config = config or TrainingConfig()
    device = resolve_device(config.device)
    objective = rating_objective(ranking_objective(model, split, config.n_negatives, device))
    validation = rating_validation(split, config, model.config.train_for)
    return fit(model, split, config, objective=objective, validation=validation, **options)


def learning_rate(config: TrainingConfig, done: float) -> float:
    """Return the learning rate after `done` epochs."""
    factor = min(1.0, done / config.warmup_epochs) if config.warmup_epochs > 0 else 1.0
    if config.schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * min(done / config.epochs, 1.0)))
    return config.learning_rate * factor


class Run:
    """Model, optimizer and progress of one call of `fit`."""

    def __init__(
        self, model: Recommender, split: Split, config: TrainingConfig,
        objective: Objective | None = None, validation: Validation | None = None,
    ) -> None:  # fmt: skip
        self.model, self.split, self.config = model, split, config
        self.accelerator = make_accelerator(resolve_device(config.device))
        self.device = self.accelerator.device
        seed_everything(config.seed, self.accelerator.process_index)
        model.to(self.device)
        self.names = [name for name, _ in model.named_parameters()]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        # fused: one pass over all parameters, which are many and small
        self.optimizer = kind(
            model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        if objective is None:
            objective = ranking_objective(model, split, config.n_negatives, self.device)
        self.step = self.accelerator.prepare(Step(model, objective, config.precision))
        self.validation = validation or ranking_validation(split, config)
        self.progress = Progress()
        self.best = self.weights()
        self.carried: list[Any] = [None] * config.accumulate

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights."""
        return {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    def plan(self, epoch: int) -> Batches:
        """Return the batches of an epoch; they depend on seed and epoch alone."""
        c = self.config
        make: Callable[..., Batches] = carried_batches if c.history == "full" else train_batches
        return make(self.split, c.max_tokens, c.max_len, c.seed, epoch, target_time=c.target_time)

    def train_step(self, batch: Batch) -> tuple[float, float]:
        """Compute the gradient; return the loss summed over this process' targets and its norm.

        The rows are shared between processes and, in each, between the accumulated parts. Each
        part's loss is divided by the targets of the whole batch, so the gradients add up. Loss and
        norm are the only numbers that are copied to Python, together and once per step.
        """
        accelerator, parts = self.accelerator, self.config.accumulate
        processes, carry = accelerator.num_processes, self.config.history == "full"
        self.optimizer.zero_grad()
        total: Any = 0.0
        for part in range(parts):
            share = batch.shard(accelerator.process_index * parts + part, processes * parts)
            share, rows = share.to(self.device), len(share.items)
            state = each(self.carried[part], lambda t, n=rows: t[:n]) if batch.carried else None
            last = part == parts - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self.step):
                loss, self.carried[part] = self.step(share, batch.n_targets, state, carry)
                (loss * processes).backward()  # processes average gradients
            total = total + loss.detach()
        limit = self.config.gradient_clip or math.inf  # None: no limit
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        return tuple(torch.stack((total * batch.n_targets, norm)).tolist())

    @functools.cached_property  # the fingerprint reads all data; it goes into every checkpoint
    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be continued."""
        return {
            "model": type(self.model).__name__,
            "model_config": self.model.config.model_dump(),
            "training": self.config.model_dump(),
            "data": {**self.split.describe(), "fingerprint": self.split.fingerprint()},
            "parameters": {name: list(p.shape) for name, p in self.model.named_parameters()},
            "processes": self.accelerator.num_processes,
        }


def _train(run: Run, path: Path | None, on_epoch: OnEpoch | None, show: bool) -> None:
    at, epochs, criterion = run.progress, run.config.epochs, run.validation.criterion
    bar = progress_bar(total=epochs, show=show, bar_format=_BAR)
    try:
        while not at.stopped:
            bar.set_description_str(f"epoch {at.epoch}/{epochs}")
            for done in _one_epoch(run, path):
                # To a place and not by a step: rounded steps sum past the end, and tqdm warns.
                bar.update(done - bar.n)
            _end_epoch(run)
            if path is not None:
                save(run, path)
            last, best = (at.rows[i][criterion] for i in (-1, at.best_epoch - 1))
            bar.set_postfix_str(
                f"loss {at.rows[-1]['train_loss']:.3f}, valid {criterion.upper()} {last:.4f}, "
                f"best {best:.4f} in epoch {at.best_epoch}"
            )
            if on_epoch is not None:
                on_epoch(pd.DataFrame(at.rows))
    except KeyboardInterrupt:
        if not at.rows:  # nothing to keep: let the interrupt through
            raise
        at.stopped = "interrupted"
    finally:
        bar.close()


def _one_epoch(run: Run, path: Path | None) -> Iterator[float]:
    """Train from the run's position to the epoch's end; yield the epochs done."""
    config, at, alone = run.config, run.progress, run.accelerator.num_processes == 1
    batches, saved = run.plan(at.epoch), time.perf_counter()
    begin = saved - at.seconds
    run.model.train()
    for batch in batches.skip(at.position):
        # From the middle of each step, so that neither end of the schedule is exactly 0.
        done = at.epoch - 1 + (at.position + 0.5) / len(batches)
        rate = learning_rate(config, done)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        loss_sum, norm = run.train_step(batch)
        # Adding them catches both; a norm is the same in all processes, so all stop together.
        if not math.isfinite(norm + (loss_sum if alone else 0.0)):
            where = f"epoch {at.epoch}, batch {at.position} of shape {tuple(batch.items.shape)}"
            found = f"loss {loss_sum / batch.n_targets:g}, gradient norm {norm:g}"
            raise _diverged(run, f"{found} in {where}, longest interval {batch.delta.max():g} s")
        run.optimizer.step()
        now = time.perf_counter()
        at.position, at.seconds = at.position + 1, now - begin
        at.loss_sum, at.n_targets = at.loss_sum + loss_sum, at.n_targets + batch.n_targets
        # Several processes write between epochs only: they would have to agree on the moment.
        if path is not None and alone and now - saved > config.checkpoint_seconds:
            save(run, path)
            saved = time.perf_counter()
        yield at.epoch - 1 + at.position / len(batches)


def _diverged(run: Run, what: str) -> TrainingDiverged:
    """Put the best weights back and return the error to raise."""
    at, config = run.progress, run.config
    run.model.load_state_dict(run.best)
    run.model.eval()
    clip = "none" if config.gradient_clip is None else f"{config.gradient_clip:g}"
    kept = f"weights of epoch {at.best_epoch}" if at.best_epoch else "initial weights"
    return TrainingDiverged(
        f"{what}; the {kept} are back in place. Try a learning_rate below "
        f"{run.optimizer.param_groups[0]['lr']:g}, a longer warmup_epochs than "
        f"{config.warmup_epochs:g}, or a smaller gradient_clip than {clip}.",
        run.model if at.rows else None,
        at.rows,
    )


def _end_epoch(run: Run) -> None:
    """Validate, add the row, keep the weights if they are the best, decide whether to stop."""
    at, config, begin = run.progress, run.config, time.perf_counter()
    valid, problem = {}, ""
    # The first process computes the metrics, all receive them, or what went wrong.
    if run.accelerator.is_main_process:
        try:
            valid = run.validation.measure(run.model)
        except FloatingPointError as error:
            problem = f"validation after epoch {at.epoch}: {error}"
    valid, problem = gather((valid, problem))[0]
    if problem:
        raise _diverged(run, problem)
    row = {
        "epoch": at.epoch,
        "train_loss": sum(gather(at.loss_sum)) / at.n_targets,
        **valid,
        "train_seconds": at.seconds,
        "valid_seconds": time.perf_counter() - begin,
        "targets_per_second": at.n_targets / at.seconds,
        "learning_rate": run.optimizer.param_groups[0]["lr"],
    }
    at.rows.append(row)
    name, lower = run.validation.criterion, run.validation.lower_is_better
    best = at.rows[at.best_epoch - 1][name]  # in the first epoch its own
    if at.epoch == 1 or (row[name] < best if lower else row[name] > best):
        run.best, at.best_epoch = run.weights(), at.epoch
    if at.epoch - at.best_epoch >= config.patience:
        at.stopped = "patience"
    elif at.epoch == config.epochs:
        at.stopped = "epochs"
    metrics = ", ".join(f"{name.upper()} {value:.4f}" for name, value in valid.items())
    logger.info(
        f"epoch {at.epoch}/{config.epochs}: loss {row['train_loss']:.4f}, valid {metrics}, "
        f"{row['train_seconds']:.1f} s + {row['valid_seconds']:.1f} s, "
        f"{row['targets_per_second']:.0f} targets/s, learning rate {row['learning_rate']:.2e}"
    )
    at.epoch, at.position = at.epoch + 1, 0
    at.loss_sum, at.n_targets, at.seconds = 0.0, 0, 0.0
    run.carried = [None] * config.accumulate
