"""How to train: every option of `fit`, checked when it is made."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ss4rec_lib.configuration import Config


class TrainingConfig(Config):
    """How to train. Times are in epochs unless a name says seconds, lengths in interactions.

    With `history="windows"` every window starts from an empty state. `full` goes through and
    validates on whole histories, in training in pieces of at most `max_len`, and carries the state
    from piece to piece (the gradient ends where a piece begins).
    """

    epochs: int = Field(default=30, ge=1)  # at most
    learning_rate: float = Field(default=3e-3, gt=0)  # after the warm-up
    optimizer: Literal["adam", "adamw"] = "adam"  # adam is published
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"  # cosine: decay to zero over `epochs`
    warmup_epochs: float = Field(default=0.5, ge=0)  # of linear warm-up from zero
    patience: int = Field(default=10, ge=1)  # epochs without a better validation metric
    max_tokens: int = Field(default=3_200, ge=1)  # padded positions per step
    # Longest window; longer histories are cut at new random places in each epoch.
    max_len: int | None = Field(default=200, ge=1)
    history: Literal["windows", "full"] = "windows"
    target_time: Literal["known", "hidden", "previous", "none"] = "known"  # see `ss4rec_lib.data`
    gradient_clip: float | None = Field(default=1.0, gt=0)  # largest norm; None leaves it alone
    # Parts in which the rows of a step are computed: more need less memory, the gradient stays.
    accumulate: int = Field(default=1, ge=1)
    n_negatives: int = Field(default=1, ge=1)  # of `BPR` per target, of `SAMPLED_CE` per step
    precision: Literal["float32", "bf16"] = "float32"  # bf16: matrix products under autocast
    seed: int = Field(default=0, ge=0, lt=2**32)  # of batches, dropout and sampled items
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU if there is one
    checkpoint_seconds: float = Field(default=60.0, ge=0)  # longest time between two checkpoints

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
