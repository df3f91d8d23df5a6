"""Every knob of SS4Rec, under its published name, with the two configurations that circulate."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ss4rec_lib.ssm.intervals import INTERVALS

LOSS_TYPES = ("CE", "BPR")


@dataclass(frozen=True)
class SS4RecConfig:
    """Shape and options of an SS4Rec model. The defaults are those published for MovieLens-1M.

    Attributes:
        hidden_size: Width of item embeddings and hidden states (also readable as `d_model`).
        n_layers: Number of blocks, each an S5 layer followed by a Mamba layer.
        dropout_prob: Dropout on the output of each layer, before the residual sum.
        loss_type: `CE`, softmax cross entropy over the catalogue, or `BPR`, pairwise with one
            uniformly drawn negative.
        d_P: States of S5.
        d_H: Width of S5; must equal `hidden_size`.
        dt_min: S5's learned steps start log-uniform in [dt_min, dt_max]; also the ends of
            `interval="clip"`.
        dt_max: See `dt_min`.
        interval: What S5 sees of the seconds between interactions: `raw`, `clip` or `log1p`.
        interval_floor: Smallest interval S5 sees; above 0, tied interactions enter its state.
        unconstrained: Leave S5's eigenvalues free, as published, instead of keeping Re(Lambda)
            negative (see `ss4rec_lib.ssm.S5`). The function is the same at initialisation.
        d_state: States of Mamba.
        d_conv: Length of Mamba's convolution.
        expand: Mamba's inner width is expand * hidden_size.
        initializer_range: Standard deviation of initial embeddings and Linear weights.
        backend: Scan backend, see `ss4rec_lib.ssm.scan`.
    """

    hidden_size: int = 64
    n_layers: int = 2
    dropout_prob: float = 0.2
    loss_type: str = "CE"
    d_P: int = 32
    d_H: int = 64
    dt_min: float = 0.001
    dt_max: float = 0.1
    interval: str = "raw"
    interval_floor: float = 0.0
    unconstrained: bool = False
    d_state: int = 32
    d_conv: int = 4
    expand: int = 2
    initializer_range: float = 0.02
    backend: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what no model can be built from.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        for name in ("hidden_size", "n_layers", "d_P", "d_H", "d_state", "d_conv", "expand"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: expected an integer of at least 1")
        if self.d_H != self.hidden_size:
            raise ValueError(
                f"d_H={self.d_H} but hidden_size={self.hidden_size}: the residual sums need them "
                "equal; set both"
            )
        if not 0 <= self.dropout_prob < 1:
            raise ValueError(f"dropout_prob={self.dropout_prob}: expected 0 <= dropout_prob < 1")
        if self.loss_type not in LOSS_TYPES:
            raise ValueError(f"loss_type={self.loss_type!r}: choose one of {', '.join(LOSS_TYPES)}")
        if self.interval not in INTERVALS:
            raise ValueError(f"interval={self.interval!r}: choose one of {', '.join(INTERVALS)}")
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(
                f"dt_min={self.dt_min}, dt_max={self.dt_max}: expected 0 < dt_min <= dt_max"
            )
        if self.interval_floor < 0:
            raise ValueError(f"interval_floor={self.interval_floor}: expected at least 0 seconds")
        if self.initializer_range <= 0:
            raise ValueError(f"initializer_range={self.initializer_range}: expected more than 0")

    @property
    def d_model(self) -> int:
        """The same number as `hidden_size`."""
        return self.hidden_size

    @classmethod
    def official(cls, **changes: object) -> SS4RecConfig:
        """As published for MovieLens-1M: cross entropy, dropout 0.2, d_state 32, raw seconds."""
        return dataclasses.replace(cls(), **changes)

    @classmethod
    def seed_bpr(cls, **changes: object) -> SS4RecConfig:
        """The second configuration that circulates: BPR, dropout 0.5, d_state 16, clipped time."""
        base = cls(loss_type="BPR", dropout_prob=0.5, d_state=16, interval="clip")
        return dataclasses.replace(base, **changes)
