"""How to train: every option of `fit`, checked when it is made."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ss4rec_lib.configuration import Config


class TrainingConfig(Config):
    """How to train. Times are in epochs unless a name says seconds, lengths in interactions.

    Attributes:
        epochs: Largest number of epochs.
        learning_rate: The optimizer's, after the warm-up.
        optimizer: `adam` (published) or `adamw`.
        weight_decay: Of the optimizer.
        schedule: `cosine` decay to zero over `epochs`, or `constant`.
        warmup_epochs: Length of the linear warm-up from zero; may be a fraction.
        patience: Stop after this many epochs without a better validation metric.
        max_tokens: Padded positions per step.
        max_len: Longest window; longer histories are cut at new random places in each epoch.
        history: `windows` starts every window from an empty state; `full` goes through whole
            histories in pieces of at most `max_len` and carries the state from piece to piece
            (the gradient ends where a piece begins), and validates on whole histories.
        target_time: What the model receives of time, see `ss4rec_lib.data`.
        gradient_clip: Largest norm of the gradient; None leaves it alone.
        accumulate: Parts in which the rows of a step are computed, one after the other. More parts
            need less memory and give the same gradient.
        n_negatives: Sampled items of the losses `BPR` (per target) and `SAMPLED_CE` (per step).
        precision: `float32`, or `bf16` for matrix products under autocast.
        seed: Of the order of batches, of dropout and of sampled items.
        device: `auto` takes a GPU if there is one; `cpu`, `cuda`.
        checkpoint_seconds: Longest time between two checkpoints, if `fit` is given a file.
    """

    epochs: int = Field(default=30, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: float = Field(default=0.5, ge=0)
    patience: int = Field(default=10, ge=1)
    max_tokens: int = Field(default=3_200, ge=1)
    max_len: int | None = Field(default=200, ge=1)
    history: Literal["windows", "full"] = "windows"
    target_time: Literal["known", "hidden", "previous", "none"] = "known"
    gradient_clip: float | None = Field(default=1.0, gt=0)
    accumulate: int = Field(default=1, ge=1)
    n_negatives: int = Field(default=1, ge=1)
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_seconds: float = Field(default=60.0, ge=0)

    @model_validator(mode="after")
    def _pieces_have_a_length(self) -> Self:
        if self.history == "full" and self.max_len is None:
            raise ValueError("history='full' needs max_len, the longest piece; got None")
        return self

    @property
    def eval_max_len(self) -> int | None:
        """Longest history in evaluation: windows as in training, or everything."""
        return None if self.history == "full" else self.max_len

    @classmethod
    def ml_1m(cls, **changes: Any) -> TrainingConfig:
        """Return what the recorded MovieLens-1M runs use, chosen on validation."""
        return cls(**{"epochs": 36, "max_tokens": 1_600, "learning_rate": 6e-3} | changes)
