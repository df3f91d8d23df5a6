"""What all recommenders have in common: a configuration, one interface, and a cheap dropout.

A sequence model maps histories to hidden states, `forward(items, delta)`, and hidden states to
scores of the catalogue, `logits(hidden)`. A fitted baseline overrides `scores(batch)` instead. No
code elsewhere asks for the class of a model. Nothing here reads the values of a tensor: a batch is
checked once, when it is made. Glossary: B sequences, L positions.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ss4rec_lib.configuration import Config
from ss4rec_lib.data import check_integer
from ss4rec_lib.ssm import is_plain, transformed

if TYPE_CHECKING:
    from ss4rec_lib.data import Batch, Split
    from ss4rec_lib.training import TrainingConfig

# Softmax cross entropy over the catalogue, or BPR, pairwise against uniformly drawn negatives (both
# published for SS4Rec), or cross entropy with its softmax estimated from sampled items.
LossType = Literal["CE", "BPR", "SAMPLED_CE"]

# Chooses the epoch and the options of fitted baselines. They score what a user has chosen already
# above everything else: with seen items in the ranking, who has learned least would win.
CRITERION = "masked_ndcg@10"

Validate = Callable[["Recommender"], Mapping[str, float]]


class ModelConfig(Config):
    """The options of one kind of model."""

    label: ClassVar[str | None] = None

    @property
    def display_name(self) -> str:
        """The name of the model in a table."""
        return self.label or type(self).__name__.removesuffix("Config")

    @property
    def uses_time(self) -> bool:
        """True if the scores depend on the intervals of a history."""
        return False


class TrainingDiverged(FloatingPointError):
    """Not finite: a loss, gradient, learned number or score; `model` is None or the best so far."""

    def __init__(self, message: str, model: Any = None, rows: Sequence[dict] = ()) -> None:
        super().__init__(message)
        self.model, self.rows = model, list(rows)  # rows of the history


@dataclass(frozen=True, eq=False)
class Fitted:
    """The result of fitting a baseline."""

    model: Recommender  # in evaluation mode
    seconds: float  # without validation
    # Per epoch, if any: epoch, train_loss, validation metrics, train_seconds, valid_seconds.
    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0  # whose weights the model has, from 1; 0 where there are no epochs


class Recommender(nn.Module):
    """A model that scores items, whose ids run from 1 to `n_items`; 0 is padding."""

    needs_known_users: ClassVar[bool] = False  # scores users of the training part, and no others
    reads_histories: ClassVar[bool] = True  # the scores depend on the items of the history
    carries_state: ClassVar[bool] = False  # `forward(..., state, return_state=True)` continues
    fitted: ClassVar[bool] = False  # made by `fit`, in one go, and not by `training.fit`
    learns: ClassVar[bool] = True  # has weights or factors to be saved; False if it only counts
    chooses_epoch: ClassVar[bool] = True  # by a validation part
    # Fields of `TrainingConfig` that matter beside the seed; None for all.
    trained_with: ClassVar[tuple[str, ...] | None] = None
    requires: ClassVar[str | None] = None  # a package of the extra `peers` that fitting needs
    # The tensor of the state dict with one row per item and one for padding.
    item_table: ClassVar[str] = "item_embedding.weight"
    config_type: ClassVar[type[ModelConfig]] = ModelConfig
    config: Any  # of config_type

    def __init__(self, n_items: int, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.n_items = check_integer("n_items", n_items, 1)
        self.config = config or self.config_type()

    @property
    def score_weight(self) -> Tensor | None:
        """The matrix (n_items + 1, d) whose products with hidden states are the scores, if any."""
        return None

    def forward(self, items: Tensor, delta: Tensor) -> Any:
        """Return hidden states, (B, L, d_model); state k depends on items[:k+1] and delta[:k+1].

        `items` are integer ids, (B, L), right-padded with 0. `delta` are the seconds from each
        interaction to the next one, (B, L), floating, >= 0; the last reaches to the target.
        """
        raise NotImplementedError(f"{type(self).__name__} has no hidden states: call scores(batch)")

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the scores of all items, (..., d_model) -> (..., n_items + 1); 0 is padding."""
        if self.score_weight is None:
            raise NotImplementedError(f"{type(self).__name__} has no logits: call scores(batch)")
        return hidden @ self.score_weight.T

    def encode(self, batch: Batch, state: Any = None, return_state: bool = False) -> Any:
        """Return the hidden states of a batch, (B, L, d_model), and the state after it if asked."""
        if state is None and not return_state:
            return self(batch.items, batch.delta)
        return self(batch.items, batch.delta, state, return_state=return_state)

    def scores(self, batch: Batch) -> Tensor:
        """Return the scores after each row's last interaction, (B, n_items + 1); 0 is padding."""
        return self.logits(last_of(self.encode(batch), batch))

    def initial_state(self, batch_size: int) -> Any:
        """Return the state before the first interaction, of a model that carries one."""
        raise NotImplementedError(f"{type(self).__name__} carries no state")

    @classmethod
    def fit(
        cls, split: Split, config: Any, training: TrainingConfig, validate: Validate | None = None
    ) -> Fitted:
        """Fit a baseline to the training part of a split; the same arguments give the same model.

        Of `training` the seed and the fields in `trained_with` are used. `validate` returns metrics
        of a model, with `masked_ndcg@10` among them, by which a baseline with epochs chooses one;
        None keeps the last. Raise TrainingDiverged if a loss or learned number is not finite.
        """
        raise NotImplementedError(f"{cls.__name__} is trained by ss4rec_lib.training.fit")

    @classmethod
    def for_tensors(cls, n_items: int, config: Any, tensors: Mapping[str, Tensor]) -> Self:
        """Return a model whose state dict has the shapes of saved tensors."""
        return cls(n_items, config)


class SequenceConfig(ModelConfig):
    """The options that all sequence models have."""

    loss_type: LossType = "CE"
    # One learned number is added to the scores of the items of the history: a mask that is learned.
    # Training then holds the scores of a step, (targets, n_items + 1).
    seen_offset: bool = False

    @property
    def display_name(self) -> str:
        """The name of the model in a table."""
        pairwise, masked = self.loss_type == "BPR", self.seen_offset
        return self._name() + ", BPR" * pairwise + ", learned mask" * masked

    def _name(self) -> str:
        return ModelConfig.display_name.fget(self)  # type: ignore

    @model_validator(mode="after")
    def _offset_is_learned(self) -> Self:
        if self.seen_offset and self.loss_type != "CE":
            loss = self.loss_type
            raise ValueError(
                f"seen_offset=True needs loss_type='CE', which trains it; got {loss!r}"
            )
        return self


class SequenceModel(Recommender):
    """A model of hidden states whose products with the items' embeddings are the scores."""

    item_embedding: nn.Embedding
    seen_offset: nn.Parameter | None

    def __init__(self, n_items: int, config: Any = None) -> None:
        super().__init__(n_items, config)
        self.seen_offset = nn.Parameter(torch.zeros(())) if self.config.seen_offset else None

    def scores(self, batch: Batch) -> Tensor:
        """Return the scores after each row's last interaction, (B, n_items + 1); 0 is padding."""
        scores = super().scores(batch)
        if self.seen_offset is None:
            return scores
        seen = torch.zeros_like(scores).scatter_(1, batch.items, 1.0)
        return scores + self.seen_offset * seen

    @property
    def score_weight(self) -> Tensor:
        """The item embeddings, (n_items + 1, d_model), as `forward` gets them."""
        return self._item_weight()

    # A method, because torch.compile cannot trace super() of a property.
    def _item_weight(self) -> Tensor:
        if is_plain(self.item_embedding):
            return self.item_embedding.weight
        device = next(self.parameters()).device
        return self.item_embedding(torch.arange(self.n_items + 1, device=device))

    def initialise(self, module: nn.Module) -> None:
        """Draw normal weights of embeddings, padding included, and Linear layers; biases are 0."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


class Ensemble(Recommender):
    """Several models of the same catalogue, which rank by the mean of their log-probabilities."""

    def __init__(self, models: Sequence[Recommender]) -> None:
        super().__init__(models[0].n_items, models[0].config)
        self.models = nn.ModuleList(models)

    def scores(self, batch: Batch) -> Tensor:
        """Return the scores after each row's last interaction, (B, n_items + 1); 0 is padding."""
        return torch.stack([m.scores(batch).log_softmax(-1) for m in self.models]).mean(0)  # type: ignore


class Baseline(Recommender):
    """A model that is fitted in one go, without epochs."""

    fitted = True
    learns = False
    chooses_epoch = False
    trained_with = ()

    @classmethod
    def fit(
        cls, split: Split, config: Any, training: TrainingConfig, validate: Validate | None = None
    ) -> Fitted:
        """Fit to the training part of a split, see `Recommender.fit`."""
        begin = time.perf_counter()
        model = cls._fitted(split, config, training).eval()
        return Fitted(model, time.perf_counter() - begin)

    @classmethod
    def _fitted(cls, split: Split, config: Any, training: TrainingConfig) -> Self:
        raise NotImplementedError


def training_interactions(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return users, from 0, items and times (s) of the training part, user by user, (n,) each."""
    sequences = split.sequences
    users = np.repeat(np.arange(sequences.n_users), sequences.lengths)
    kept = split.in_train()
    return users[kept], sequences.items[kept], sequences.times[kept]


def import_peer(name: str) -> ModuleType:
    """Return a package of the extra `peers`, or raise ImportError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = f"this baseline needs the package {name.partition('.')[0]!r}, not importable here"
        raise ImportError(f'{what} ({error}): pip install -e ".[peers]"') from error


def seen_items(items: Tensor, n_items: int) -> Tensor:
    """Mark the items that a row holds up to each position, (B, L) -> (B, L, n_items + 1) bool."""
    here = torch.zeros(*items.shape, n_items + 1, dtype=torch.bool, device=items.device)
    return here.scatter_(2, items[..., None], True).cumsum(1, dtype=torch.int32) > 0


def last_of(values: Tensor, batch: Batch) -> Tensor:
    """Return the values of each row's last valid position, (B, L, ...) -> (B, ...)."""
    rows = torch.arange(len(batch.lengths), device=batch.lengths.device)
    return values[rows, batch.lengths - 1]


def check_history(items: Tensor, delta: Tensor) -> None:
    """Raise ValueError unless items are (B, L) integers and delta (B, L) floating, L >= 1."""
    integers = items.dtype in (torch.int64, torch.int32)  # what an embedding looks up
    fits = items.ndim == 2 and items.shape[1] > 0 and delta.shape == items.shape
    if not (integers and fits and delta.is_floating_point()):
        raise ValueError(
            f"items is {items.dtype} of shape {tuple(items.shape)}, delta {delta.dtype} of shape "
            f"{tuple(delta.shape)}: expected int64 and floating, both (B, L) with L >= 1"
        )


class Dropout(nn.Dropout):
    """`nn.Dropout` with cheaper random numbers on the CPU, seeded by `torch.manual_seed`.

    One draw of 64 bits serves four elements, in a third of the time. The probability is rounded to
    a multiple of 2^-16, and kept elements are scaled by it, so the expectation is exact.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero each element with probability p in training mode, scale the others."""
        if not self.training:
            return x
        steps = 1 << 16
        kept = round((1 - self.p) * steps)
        # Rounding must not make a small probability none, nor a large one everything.
        if x.device.type != "cpu" or not 0 < kept < steps or transformed():
            return F.dropout(x, self.p)
        n = x.numel()
        draws = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = draws.view(torch.int16)[:n].view(x.shape)  # uniform on -2^15 .. 2^15 - 1
        # NumPy compares 16-bit integers many times faster than PyTorch does.
        mask = torch.from_numpy(bits.numpy() < kept - steps // 2).to(x.dtype)
        return x * mask.mul_(steps / kept)
