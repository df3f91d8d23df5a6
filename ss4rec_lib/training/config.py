"""How to train: every option of `fit`, and the learning rate it leads to."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ss4rec_lib.data import TARGET_TIMES

SCHEDULES = ("constant", "cosine")
OPTIMIZERS = ("adam", "adamw")
HISTORIES = ("windows", "full")
PRECISIONS = ("float32", "bf16")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. Times are in epochs unless a name says seconds, lengths in interactions.

    Attributes:
        epochs: Most epochs to run.
        learning_rate: The optimizer's, after the warm-up.
        optimizer: `adam` (published) or `adamw`.
        weight_decay: Of the optimizer.
        schedule: `cosine` decay to zero over `epochs`, or `constant`.
        warmup_epochs: Linear warm-up from zero, in epochs (may be a fraction).
        patience: Stop after this many epochs without a better validation NDCG@10.
        max_tokens: Padded positions a step.
        max_len: Longest window; longer histories are cut at fresh random places each epoch.
        history: `windows` starts every window from an empty state; `full` goes through whole
            histories in pieces of at most `max_len` and carries the state from piece to piece
            (the gradient ends at a piece's beginning), and validates on whole histories.
        target_time: What the model is told of time, see `ss4rec_lib.data.batching`.
        gradient_clip: Largest norm of the gradient; None to leave it alone.
        accumulate: Parts that a step's rows are computed in, one after the other: less memory,
            same gradient.
        n_negatives: Sampled items of the losses `BPR` (a target) and `SAMPLED_CE` (a step).
        precision: `float32`, or `bf16` for matrix products under autocast.
        seed: Of batch order, dropout and negatives.
        device: `auto` takes a GPU where there is one; `cpu`, `cuda`.
        checkpoint_seconds: Longest time between two checkpoints, where `fit` is given a file.
    """

    epochs: int = 30
    learning_rate: float = 3e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_epochs: float = 0.5
    patience: int = 10
    max_tokens: int = 3_200
    max_len: int | None = 200
    history: str = "windows"
    target_time: str = "known"
    gradient_clip: float | None = 1.0
    accumulate: int = 1
    n_negatives: int = 1
    precision: str = "float32"
    seed: int = 0
    device: str = "auto"
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        for name in ("epochs", "patience", "max_tokens", "accumulate", "n_negatives"):
            self._check_integer(name, 1)
        self._check_integer("seed", 0)
        if self.max_len is not None:
            self._check_integer("max_len", 1)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate={self.learning_rate}: expected a number above 0")
        for name in ("weight_decay", "warmup_epochs", "checkpoint_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least 0")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip={self.gradient_clip}: expected above 0, or None")
        choices = {
            "schedule": SCHEDULES, "optimizer": OPTIMIZERS, "history": HISTORIES,
            "target_time": TARGET_TIMES, "precision": PRECISIONS, "device": DEVICES,
        }  # fmt: skip
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name}={value!r}: choose one of {', '.join(allowed)}")
        if self.history == "full" and self.max_len is None:
            raise ValueError("history='full' needs max_len, the longest piece; got None")

    def _check_integer(self, name: str, low: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"{name}={value!r}: expected an integer of at least {low}")

    @property
    def eval_max_len(self) -> int | None:
        """Longest history in validation: windows as in training, or everything."""
        return None if self.history == "full" else self.max_len

    @classmethod
    def ml_1m(cls, **changes: object) -> TrainingConfig:
        """What the recorded MovieLens-1M runs use, chosen on validation (`results/README.md`)."""
        return dataclasses.replace(cls(epochs=36, max_tokens=1_600, learning_rate=6e-3), **changes)


def learning_rate_factor(done: float, epochs: int, warmup_epochs: float, schedule: str) -> float:
    """Factor on the learning rate after `done` epochs (a fraction counts), in [0, 1]."""
    factor = min(1.0, done / warmup_epochs) if warmup_epochs > 0 else 1.0
    if schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * min(done / epochs, 1.0)))
    return factor
