"""Every knob of SS4Rec, under its published name, with the two configurations that circulate."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ss4rec_lib.ssm import BACKENDS, INTERVALS

LOSS_TYPES = ("CE", "BPR", "SAMPLED_CE")
MODEL_TYPES = ("ss4rec", "s5_only", "mamba_only")


@dataclass(frozen=True)
class SS4RecConfig:
    """Shape and options of an SS4Rec model. The defaults are those published for MovieLens-1M.

    Attributes:
        hidden_size: Width of item embeddings and hidden states (also readable as `d_model`).
        n_layers: Number of blocks, each an S5 layer followed by a Mamba layer.
        model_type: The ablation switch: `ss4rec` has both layers in a block, `s5_only` the
            time-aware one, `mamba_only` the relation-aware one, each still with dropout, residual
            and norm. A layer left out has no parameters and costs nothing; its options below are
            then not looked at. (The published code stores this switch and never reads it.) The
            third published ablation, intervals ignored, is a matter of data: with
            `target_time="none"` every interval is 1.
        dropout_prob: Dropout on the output of each layer, before the residual sum.
        loss_type: `CE`, softmax cross entropy over the catalogue; `BPR`, pairwise against
            uniformly drawn negatives; or `SAMPLED_CE`, cross entropy with its softmax estimated
            from sampled items. The first two are published.
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
    model_type: str = "ss4rec"
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
        for name in ("dropout_prob", "dt_min", "dt_max", "interval_floor", "initializer_range"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                raise ValueError(f"{name}={value!r}: expected a finite int or float")
        if not isinstance(self.unconstrained, bool):
            raise ValueError(f"unconstrained={self.unconstrained!r}: expected True or False")
        choices = {
            "model_type": MODEL_TYPES, "loss_type": LOSS_TYPES,
            "interval": INTERVALS, "backend": BACKENDS,
        }  # fmt: skip
        for name, allowed in choices.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in allowed:
                raise ValueError(f"{name}={value!r}: choose one of {', '.join(allowed)}")
        if self.d_H != self.hidden_size:
            raise ValueError(
                f"d_H={self.d_H} but hidden_size={self.hidden_size}: the residual sums need them "
                "equal; set both"
            )
        if not 0 <= self.dropout_prob < 1:
            raise ValueError(f"dropout_prob={self.dropout_prob}: expected 0 <= dropout_prob < 1")
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
    def bpr(cls, **changes: object) -> SS4RecConfig:
        """The second configuration that circulates: BPR, dropout 0.5, d_state 16, clipped time."""
        base = cls(loss_type="BPR", dropout_prob=0.5, d_state=16, interval="clip")
        return dataclasses.replace(base, **changes)
