"""Presets: named configurations of models, each with the options of training that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ss4rec_lib.models.base import ModelConfig, Recommender
from ss4rec_lib.models.factorization import ALS, MatrixBPR
from ss4rec_lib.models.gru4rec import GRU4Rec
from ss4rec_lib.models.neighbours import ItemKNN
from ss4rec_lib.models.neural_cf import NeuralCF
from ss4rec_lib.models.popularity import Popularity, RecentPopularity
from ss4rec_lib.models.rating import RatingConfig, RatingSS4Rec
from ss4rec_lib.models.rating_baselines import BiasBaseline, GlobalMean, RatingBaseline
from ss4rec_lib.models.rating_factors import BayesianFM, BiasedMF, RatingNeuralCF, SVDPlusPlus
from ss4rec_lib.models.sasrec import SASRec
from ss4rec_lib.models.ss4rec import SS4Rec, SS4RecConfig


@dataclass(frozen=True)
class Preset:
    """A named configuration."""

    model: Any  # the class, of a `Recommender` or a `RatingBaseline`
    config: ModelConfig
    # The options of `TrainingConfig` that differ from the defaults of the data set.
    training: Mapping[str, Any] = field(default_factory=dict)


def _preset(model: Any, training: Mapping[str, Any] | None = None, **options: Any) -> Preset:
    return Preset(model, model.config_type(**options), training or {})


RANKING_PRESETS: Mapping[str, Preset] = {
    "official": Preset(SS4Rec, SS4RecConfig.official()),  # as published
    "plus": Preset(SS4Rec, SS4RecConfig.plus()),  # SS4Rec+, chosen on validation
    "bpr": Preset(SS4Rec, SS4RecConfig.bpr()),  # as it circulates with another loss
    "gru4rec": _preset(GRU4Rec),  # a recurrent network that ignores time
    "sasrec": _preset(SASRec),  # causal self-attention that ignores time
    "sasrec_time": _preset(SASRec, time="intervals"),  # and with time, to the target too
    "popularity": _preset(Popularity),  # training interactions of each item
    "recent_popularity": _preset(RecentPopularity),  # in the last days of the training part
    "recent_popularity_user": _preset(RecentPopularity, moments="user"),  # before the user's moment
    "item_knn": _preset(ItemKNN),  # nearest neighbours of the items of the history
    "als": _preset(ALS),  # matrix factorisation, by the library `implicit`
    "bpr_mf": _preset(MatrixBPR, {"learning_rate": 0.01}),  # the same with another loss
    "neural_cf": _preset(NeuralCF, {"n_negatives": 4}),  # NeuMF: factorisation and a perceptron
}

# Chosen on the validation part of MovieLens-100K, leave-one-out; ss4rec-user on that of ML-1M. The
# error in ratings is smallest after a few epochs of a large learning rate; a ranking takes longer.
# Nats per target are larger than squared rating units, hence the weight.
_RATING = RatingConfig(hidden_size=32, d_H=32, interval="log1p")
_BOTH = _RATING.replace(train_for="both", rating_weight=4.0)
_FEW_EPOCHS = {"epochs": 8, "learning_rate": 6e-3, "patience": 5}
_MORE_EPOCHS = {"epochs": 20, "learning_rate": 3e-3, "patience": 10}

RATING_PRESETS: Mapping[str, Preset] = {
    # Of users and items, see `rating_factors`.
    "mean": _preset(GlobalMean),
    "bias": _preset(BiasBaseline),
    "svd": _preset(BiasedMF),
    "svdpp": _preset(SVDPlusPlus),
    "fm": _preset(BayesianFM),
    "fm-implicit": _preset(BayesianFM, implicit=True),
    "neural_cf": _preset(RatingNeuralCF),
    # SS4Rec, by what it is trained for; ss4rec-user for both, with a vector for each user.
    "ss4rec-rating": Preset(RatingSS4Rec, _RATING, {**_FEW_EPOCHS, "epochs": 6}),
    "ss4rec-ranking": Preset(RatingSS4Rec, _RATING.replace(train_for="ranking"), _MORE_EPOCHS),
    "ss4rec-both": Preset(RatingSS4Rec, _BOTH, _FEW_EPOCHS),
    "ss4rec-user": Preset(RatingSS4Rec, _BOTH.replace(user_factors=32), _FEW_EPOCHS),
}

# By task and name.
PRESETS: Mapping[str, Mapping[str, Preset]] = {"ranking": RANKING_PRESETS, "rating": RATING_PRESETS}

# The models that have something to save, by class of configuration.
MODELS: Mapping[type[ModelConfig], Any] = {
    type(preset.config): preset.model
    for preset in (*RANKING_PRESETS.values(), *RATING_PRESETS.values())
    if preset.model.learns
}


def make_model(n_items: int, config: ModelConfig) -> Recommender:
    """Return the model of a configuration that is trained, with new weights."""
    kind = MODELS.get(type(config))
    if kind is None or kind.fitted:
        known = ", ".join(each.__name__ for each, kind in MODELS.items() if not kind.fitted)
        raise TypeError(f"config is of type {type(config).__name__}: expected one of {known}")
    return kind(n_items, config)


def n_learned(model: Recommender | RatingBaseline) -> int | None:
    """Return the number of learned weights and factors; None for rating baselines."""
    if isinstance(model, RatingBaseline):
        return None
    tensors = (list(model.parameters()) or list(model.buffers())) if model.learns else []
    return sum(tensor.numel() * (2 if tensor.is_complex() else 1) for tensor in tensors)
