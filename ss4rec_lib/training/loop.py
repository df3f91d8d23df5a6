"""The training loop: epochs over all positions, early stopping on validation, best weights back."""

from __future__ import annotations

import contextlib
import dataclasses
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

from ss4rec_lib.configuration import Config
from ss4rec_lib.data import Batch, Batches, Split, carried_batches, train_batches
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.progress import progress_bar
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training.carry import first_rows, tensors_of, with_tensors
from ss4rec_lib.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    Progress,
    check_identity,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
)
from ss4rec_lib.training.config import TrainingConfig, learning_rate_factor
from ss4rec_lib.training.objectives import objective_of
from ss4rec_lib.training.processes import make_accelerator, same_everywhere, to_main
from ss4rec_lib.training.step import Step

logger = logging.getLogger(__name__)

METRICS = ("hr@10", "ndcg@10", "mrr@10")
# Fractions of an epoch move the bar; two decimals keep them readable.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"


class TrainingDiverged(FloatingPointError):
    """A loss or gradient became NaN or infinite; the best weights so far have been put back."""


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


def resolve_device(device: str) -> torch.device:
    """`auto` to a GPU where there is one, else the CPU; anything else as PyTorch reads it."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device='cuda', but PyTorch sees no CUDA device here; take 'auto' or 'cpu'"
        )
    return torch.device(device)


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


class Run:
    """Model, optimizer and progress of one call of `fit`, and how they get into a checkpoint.

    Attributes:
        criterion: The validation metric that chooses the epoch.
        lower_is_better: Of that metric.
    """

    criterion = "ndcg@10"
    lower_is_better = False

    def __init__(self, model: nn.Module, split: Split, config: TrainingConfig) -> None:
        self.model, self.split, self.config = model, split, config
        self.device = resolve_device(config.device)
        self.accelerator = make_accelerator(self.device)
        seed_everything(config.seed, self.accelerator.process_index)
        self.device = self.accelerator.device
        model.to(self.device)
        self.names = [name for name, _ in model.named_parameters()]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        self.optimizer = kind(
            model.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,  # one pass over all parameters: 35 small tensors, a step every 80 ms
        )
        objective = objective_of(model.config.loss_type, split, config.n_negatives, self.device)
        self.step = self.accelerator.prepare(Step(model, objective, config.precision))
        self.progress = Progress()
        self.best = _copies(model.state_dict())
        self.carried: list[Any] = [None] * config.accumulate

    # ---------------------------------------------------------------------------- checkpoints

    @functools.cached_property  # the fingerprint reads all data; it goes into every checkpoint
    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be continued."""
        options = self.model.config
        return {
            "model": type(self.model).__name__,
            "model_config": options.model_dump(mode="json")
            if isinstance(options, Config)
            else repr(options),
            "training": dataclasses.asdict(self.config),
            "data": {**self.split.describe(), "fingerprint": self.split.fingerprint()},
            "parameters": {name: list(p.shape) for name, p in self.model.named_parameters()},
            "processes": self.accelerator.num_processes,
        }

    def _local(self) -> dict[str, Tensor]:
        local = {"rng": torch.get_rng_state()}
        if self.device.type == "cuda":
            local["rng_cuda"] = torch.cuda.get_rng_state(self.device)
        for part, state in enumerate(self.carried):
            for i, tensor in enumerate(tensors_of(state)):
                local[f"carried/{part}/{i}"] = tensor.cpu()
        return local

    def save(self, path: Path) -> None:
        """Write a checkpoint; all processes take part, the first one writes."""
        everybodys = to_main(self.accelerator, self._local())
        if self.accelerator.is_main_process:
            moments = optimizer_tensors(self.optimizer, self.names)
            weights = self.model.state_dict()
            Checkpoint(self.identity, self.progress, weights, self.best, moments, everybodys).write(
                path
            )

    def load(self, path: Path) -> None:
        """Go back to where the checkpoint was written; nothing changes if it does not fit."""
        saved = read_checkpoint(path)
        check_identity(path, saved.identity, self.identity)
        self.model.load_state_dict(saved.model)
        self.best = {name: tensor.to(self.device) for name, tensor in saved.best.items()}
        load_optimizer(self.optimizer, self.names, saved.optimizer)
        self.progress = saved.progress
        local = saved.local[self.accelerator.process_index]
        torch.set_rng_state(local["rng"])
        if "rng_cuda" in local:
            torch.cuda.set_rng_state(local["rng_cuda"], self.device)
        for part in range(self.config.accumulate):
            prefix = f"carried/{part}/"
            tensors = [
                local[f"{prefix}{i}"] for i in range(sum(k.startswith(prefix) for k in local))
            ]
            if tensors:
                template = self.model.initial_state(1)
                self.carried[part] = with_tensors(template, iter(tensors))

    # ------------------------------------------------------------------------------- training

    def plan(self, epoch: int) -> Batches:
        """The batches of an epoch; they depend on seed and epoch alone."""
        config = self.config
        make = carried_batches if config.history == "full" else train_batches
        return make(
            self.split, config.max_tokens, config.max_len, config.seed, epoch,
            target_time=config.target_time,
        )  # fmt: skip

    def train_step(self, batch: Batch) -> tuple[float, float]:
        """One step; returns the loss summed over this process' targets and the gradient's norm.

        The rows are shared between processes and, in each, between the accumulated parts. Each
        part's loss is divided by the targets of the whole batch, so the gradients add up to that
        of one process in one part. (Processes average gradients: hence the factor.)
        """
        accelerator, parts = self.accelerator, self.config.accumulate
        processes = accelerator.num_processes
        carry = self.config.history == "full"
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for part in range(parts):
            share = batch.shard(accelerator.process_index * parts + part, processes * parts)
            share = share.to(self.device)
            state = first_rows(self.carried[part], len(share.items)) if batch.carried else None
            last = part == parts - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self.step):
                loss, self.carried[part] = self.step(
                    share, batch.n_targets, state, carry
                )
                (loss * processes).backward()
            total = total + loss.detach()
        loss_sum, norm = torch.stack((total * batch.n_targets, self.clip())).tolist()
        return loss_sum, norm

    def clip(self) -> Tensor:
        """The gradient's norm before clipping, a scalar; the gradient is clipped."""
        limit = self.config.gradient_clip
        return nn.utils.clip_grad_norm_(
            self.model.parameters(), float("inf") if limit is None else limit
        )

    def is_best(self, row: dict[str, Any]) -> bool:
        """Whether an epoch's row beats the best one so far; the first one does."""
        if self.progress.best_epoch == 0:
            return True
        best = self.progress.rows[self.progress.best_epoch - 1][self.criterion]
        return row[self.criterion] < best if self.lower_is_better else row[self.criterion] > best

    def validate(self) -> dict[str, float]:
        """Validation metrics; computed by the first process, known to all."""
        metrics: dict[str, float] = {}
        if self.accelerator.is_main_process:
            result = evaluate_ranking(
                self.model, self.split, "valid",
                max_len=self.config.eval_max_len, target_time=self.config.target_time,
            )  # fmt: skip
            metrics = {name: result[name] for name in METRICS}
        return same_everywhere(self.accelerator, metrics)


def check_fit(model: nn.Module, split: Split, config: TrainingConfig) -> None:
    """Refuse what `fit` cannot train (ValueError, see there)."""
    if len(split.held_out["valid"][0]) == 0:
        raise ValueError("the split has no validation targets: the best epoch cannot be chosen")
    known = getattr(model, "n_items", split.sequences.n_items)
    if known != split.sequences.n_items:
        raise ValueError(
            f"the model knows {known} items, the split has {split.sequences.n_items}: make the "
            "model with n_items=split.sequences.n_items"
        )
    if model.config.loss_type != "CE" and getattr(model, "score_weight", None) is None:
        raise ValueError(
            f"loss_type={model.config.loss_type!r} needs a model with `score_weight`, "
            f"(n_items + 1, d); {type(model).__name__} has none: take 'CE', or give it one"
        )
    if config.history == "full" and not getattr(model, "carries_state", False):
        raise ValueError(
            f"history='full' needs a model that carries a state; {type(model).__name__} has no "
            "initial_state: take history='windows'"
        )


def _prepare_checkpoint(run: Run, path: Path | None, resume: bool) -> None:
    """Load what there is to continue, or write the first checkpoint: a full disk shows here."""
    if path is None:
        if resume:
            raise ValueError("resume=True needs the checkpoint to continue; got checkpoint=None")
        return
    if path.exists() and not resume:
        raise CheckpointError(
            f"{path} is there already, and nothing was changed: resume=True continues it; to "
            "train anew remove it or name another file"
        )
    if path.exists():
        run.load(path)
    else:
        run.save(path)


def _one_epoch(run: Run, path: Path | None, batches: Batches) -> Iterator[int]:
    """Train from the run's position to the epoch's end; yields after each batch."""
    config, progress = run.config, run.progress
    alone = run.accelerator.num_processes == 1
    earlier, begin = progress.seconds, time.perf_counter()
    saved = begin
    run.model.train()
    for number, batch in enumerate(batches.skip(progress.position), start=progress.position):
        # From the middle of each step, so that neither end of the schedule is exactly 0.
        done = progress.epoch - 1 + (number + 0.5) / len(batches)
        rate = config.learning_rate * learning_rate_factor(
            done, config.epochs, config.warmup_epochs, config.schedule
        )
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        loss_sum, norm = run.train_step(batch)
        # Adding them catches both; a norm is the same in all processes, so all stop together.
        if not math.isfinite(norm + (loss_sum if alone else 0.0)):
            run.model.load_state_dict(run.best)
            raise TrainingDiverged(
                f"loss {loss_sum / batch.n_targets:g} and gradient norm {norm:g} in epoch "
                f"{progress.epoch}, batch {number} of shape {tuple(batch.items.shape)}, longest "
                f"interval {batch.delta.max():g} s, learning rate {rate:g}; the weights of epoch "
                f"{progress.best_epoch} were put back. Try a smaller learning_rate."
            )
        run.optimizer.step()
        progress.position = number + 1
        progress.loss_sum += loss_sum
        progress.n_targets += batch.n_targets
        progress.seconds = earlier + time.perf_counter() - begin
        # Several processes write between epochs only: they would have to agree on the moment.
        if path is not None and alone and time.perf_counter() - saved > config.checkpoint_seconds:
            run.save(path)
            saved = time.perf_counter()
        yield number


def _end_epoch(run: Run, learning_rate: float) -> None:
    """Validate, add the row, keep the weights if they are the best, decide whether to stop."""
    progress, begin = run.progress, time.perf_counter()
    valid = run.validate()
    loss_sum = sum(to_main(run.accelerator, progress.loss_sum))
    row = {
        "epoch": progress.epoch,
        "train_loss": loss_sum / progress.n_targets,
        **valid,
        "train_seconds": progress.seconds,
        "valid_seconds": time.perf_counter() - begin,
        "targets_per_second": progress.n_targets / progress.seconds,
        "learning_rate": learning_rate,
    }
    progress.rows.append(row)
    if run.is_best(row):
        run.best, progress.best_epoch = _copies(run.model.state_dict()), progress.epoch
    if progress.epoch - progress.best_epoch >= run.config.patience:
        progress.stopped = "patience"
    elif progress.epoch == run.config.epochs:
        progress.stopped = "epochs"
    logger.info(
        "epoch %d/%d: loss %.4f, valid %s, %.1f s + %.1f s, %.0f targets/s, learning rate %.2e",
        progress.epoch, run.config.epochs, row["train_loss"],
        ", ".join(f"{name.upper()} {value:.4f}" for name, value in valid.items()),
        row["train_seconds"], row["valid_seconds"], row["targets_per_second"], learning_rate,
    )  # fmt: skip
    progress.epoch += 1
    progress.position, progress.loss_sum, progress.n_targets, progress.seconds = 0, 0.0, 0, 0.0
    run.carried = [None] * run.config.accumulate


def fit(
    model: nn.Module,
    split: Split,
    config: TrainingConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
    progress: bool = True,
) -> FitResult:
    """Train `model` in place on the training part; choose the epoch by validation NDCG@10.

    The objective is `model.config.loss_type` at every position. The test part is never touched.
    Interrupting (Ctrl-C, or the stop button of a notebook) ends training cleanly: the best weights
    so far are put back and the history is returned.

    With `checkpoint`, everything needed to go on is written there every
    `config.checkpoint_seconds` and after each epoch; a process that is killed loses the work since
    then and nothing else. Called again with `resume=True` (same model configuration, data and
    `config`), training continues and ends, on the same machine, with bit for bit the history and
    weights of an uninterrupted run.

    Started as N processes (`accelerate launch --multi_gpu --num_processes N`; on the CPU
    `torchrun --nproc_per_node N`), they share the rows of every batch and add up their gradients:
    the same model as one process, but for rounding and for dropout's and negatives' random numbers.

    Args:
        model: `forward(items, delta)`, `logits(hidden)`, `config.loss_type`; for losses other
            than CE also `score_weight`, for `history="full"` also `initial_state` and a carried
            state, as `SS4Rec` has them.
        split: Its `train` part is learned, its `valid` part chooses the epoch.
        config: See `TrainingConfig`.
        checkpoint: File to write, and to continue from.
        resume: Continue from `checkpoint`; without that file, start from the beginning.
        on_epoch: Called after every epoch with the history so far.
        progress: Show a progress bar.

    Returns:
        The history, the epoch chosen and why training stopped.

    Raises:
        ValueError: Nothing to train on or to validate with; a model of another catalogue.
        CheckpointError: The file is there but `resume` is not set, is of another run, is
            truncated, or cannot be written.
        TrainingDiverged: A loss or gradient that is not finite.
    """
    config = config or TrainingConfig()
    path = None if checkpoint is None else Path(checkpoint)
    check_fit(model, split, config)
    return train(Run(model, split, config), path, resume, on_epoch, progress)


def train(
    run: Run,
    path: Path | None,
    resume: bool,
    on_epoch: Callable[[pd.DataFrame], None] | None,
    progress: bool,
) -> FitResult:
    """What `fit` does once its arguments are checked; the arguments are `fit`'s."""
    model, config = run.model, run.config
    run.plan(1)  # no training targets: an error now, before any file is written
    _prepare_checkpoint(run, path, resume)
    bar = progress_bar(total=config.epochs, show=progress, bar_format=_BAR)
    try:
        while not run.progress.stopped:
            at = run.progress
            batches = run.plan(at.epoch)
            bar.set_description(f"epoch {at.epoch}/{config.epochs}")
            start = at.position
            bar.update(at.epoch - 1 + start / len(batches) - bar.n)
            for done, _ in enumerate(_one_epoch(run, path, batches), start + 1):
                # To where it is, not by a step: rounded steps sum past the end, and tqdm warns.
                bar.update(at.epoch - 1 + done / len(batches) - bar.n)
            _end_epoch(run, run.optimizer.param_groups[0]["lr"])
            if path is not None:
                run.save(path)
            last, best = (at.rows[i][run.criterion] for i in (-1, at.best_epoch - 1))
            bar.set_postfix_str(
                f"loss {at.rows[-1]['train_loss']:.3f}, valid {run.criterion.upper()} {last:.4f}, "
                f"best {best:.4f} in epoch {at.best_epoch}"
            )
            if on_epoch is not None:
                on_epoch(pd.DataFrame(at.rows))
    except KeyboardInterrupt:
        if not run.progress.rows:  # nothing to keep: let the interrupt through
            raise
        run.progress.stopped = "interrupted"
    finally:
        bar.close()
    model.load_state_dict(run.best)
    model.eval()
    return FitResult(pd.DataFrame(run.progress.rows), run.progress.best_epoch, run.progress.stopped)
