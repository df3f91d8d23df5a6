"""Presets: named configurations of models, each with the options of training that go with it.

Ranking:
    official, bpr           SS4Rec; with `model_type=mamba_only` it is Mamba4Rec, with `s5_only`
                            the time-aware half alone
    gru4rec                 a recurrent network that ignores time
    sasrec                  causal self-attention that ignores time
    sasrec_time             the same with elapsed time, the time to the target included
    popularity              training interactions of each item
    recent_popularity       the same in the last days of the training part
    recent_popularity_user  the same in the days before each user's own moment
    item_knn                nearest neighbours of the items of the history
    als, bpr_mf             matrix factorisation, by the library `implicit`
    neural_cf               NeuMF: matrix factorisation and a perceptron

Rating:
    mean, bias, svd, svdpp, fm, fm-implicit, neural_cf      users and items, see `rating_factors`
    ss4rec-rating, ss4rec-ranking, ss4rec-both              SS4Rec, by what it is trained for
    ss4rec-user                                             for both, with a vector for each user
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ss4rec_lib.models.base import ModelConfig, Recommender
from ss4rec_lib.models.factorization import ALS, ALSConfig, MatrixBPR, MatrixBPRConfig
from ss4rec_lib.models.gru4rec import GRU4Rec, GRU4RecConfig
from ss4rec_lib.models.neighbours import ItemKNN, ItemKNNConfig
from ss4rec_lib.models.neural_cf import NeuralCF, NeuralCFConfig
from ss4rec_lib.models.popularity import (
    Popularity,
    PopularityConfig,
    RecentPopularity,
    RecentPopularityConfig,
)
from ss4rec_lib.models.rating import RatingConfig, RatingSS4Rec
from ss4rec_lib.models.rating_baselines import BiasBaseline, GlobalMean, RatingBaseline
from ss4rec_lib.models.rating_factors import (
    BayesianFM,
    BayesianFMConfig,
    BiasedMF,
    RatingNeuralCF,
    SVDPlusPlus,
)
from ss4rec_lib.models.sasrec import SASRec, SASRecConfig
from ss4rec_lib.models.ss4rec import SS4Rec, SS4RecConfig


@dataclass(frozen=True)
class Preset:
    """A named configuration.

    Attributes:
        model: The class of the model, a `Recommender` or a `RatingBaseline`.
        config: Its options.
        training: Options of `TrainingConfig` that differ from the defaults of the data set.
    """

    model: Any
    config: ModelConfig
    training: Mapping[str, Any] = field(default_factory=dict)


RANKING_PRESETS: Mapping[str, Preset] = {
    "official": Preset(SS4Rec, SS4RecConfig.official()),
    "bpr": Preset(SS4Rec, SS4RecConfig.bpr()),
    "gru4rec": Preset(GRU4Rec, GRU4RecConfig()),
    "sasrec": Preset(SASRec, SASRecConfig()),
    "sasrec_time": Preset(SASRec, SASRecConfig(time="intervals")),
    "popularity": Preset(Popularity, PopularityConfig()),
    "recent_popularity": Preset(RecentPopularity, RecentPopularityConfig()),
    "recent_popularity_user": Preset(RecentPopularity, RecentPopularityConfig(moments="user")),
    "item_knn": Preset(ItemKNN, ItemKNNConfig()),
    "als": Preset(ALS, ALSConfig()),
    "bpr_mf": Preset(MatrixBPR, MatrixBPRConfig(), {"learning_rate": 0.01}),
    "neural_cf": Preset(NeuralCF, NeuralCFConfig(), {"n_negatives": 4}),
}

# Chosen on the validation part of MovieLens-100K, leave-one-out; ss4rec-user on that of ML-1M. The
# error in ratings is smallest after a few epochs of a large learning rate; a ranking takes longer.
# Nats per target are larger than squared rating units, hence the weight.
_RATING = RatingConfig(hidden_size=32, d_H=32, interval="log1p")
_FEW_EPOCHS = {"epochs": 8, "learning_rate": 6e-3, "patience": 5}

RATING_PRESETS: Mapping[str, Preset] = {
    "mean": Preset(GlobalMean, GlobalMean.config_type()),
    "bias": Preset(BiasBaseline, BiasBaseline.config_type()),
    "svd": Preset(BiasedMF, BiasedMF.config_type()),
    "svdpp": Preset(SVDPlusPlus, SVDPlusPlus.config_type()),
    "fm": Preset(BayesianFM, BayesianFMConfig()),
    "fm-implicit": Preset(BayesianFM, BayesianFMConfig(implicit=True)),
    "neural_cf": Preset(RatingNeuralCF, RatingNeuralCF.config_type()),
    "ss4rec-rating": Preset(RatingSS4Rec, _RATING, {**_FEW_EPOCHS, "epochs": 6}),
    "ss4rec-ranking": Preset(
        RatingSS4Rec,
        _RATING.replace(train_for="ranking"),
        {"epochs": 20, "learning_rate": 3e-3, "patience": 10},
    ),
    "ss4rec-both": Preset(
        RatingSS4Rec, _RATING.replace(train_for="both", rating_weight=4.0), _FEW_EPOCHS
    ),
    "ss4rec-user": Preset(
        RatingSS4Rec,
        _RATING.replace(train_for="both", rating_weight=4.0, user_factors=32),
        _FEW_EPOCHS,
    ),
}

PRESETS: Mapping[str, Mapping[str, Preset]] = {
    "ranking": RANKING_PRESETS,
    "rating": RATING_PRESETS,
}
"""Presets by task and name."""

MODELS: Mapping[type[ModelConfig], Any] = {
    SS4RecConfig: SS4Rec,
    GRU4RecConfig: GRU4Rec,
    SASRecConfig: SASRec,
    RatingConfig: RatingSS4Rec,
    ALSConfig: ALS,
    MatrixBPRConfig: MatrixBPR,
    NeuralCFConfig: NeuralCF,
}
"""The models that have something to save, by class of configuration."""


def make_model(n_items: int, config: ModelConfig) -> Recommender:
    """Return the trained model of a configuration, with new weights.

    Raises:
        ValueError: `n_items` is not an integer of at least 1.
        TypeError: A configuration of no model that is trained.
    """
    kind = MODELS.get(type(config))
    if kind is None or kind.fitted:
        known = ", ".join(each.__name__ for each, kind in MODELS.items() if not kind.fitted)
        raise TypeError(f"config is of type {type(config).__name__}: expected one of {known}")
    return kind(n_items, config)


def n_learned(model: Recommender | RatingBaseline) -> int | None:
    """Return the number of learned numbers, weights and factors; None for rating baselines.

    Counts and similarities are not learned.
    """
    if isinstance(model, RatingBaseline):
        return None
    tensors = (list(model.parameters()) or list(model.buffers())) if model.learns else []
    return sum(tensor.numel() * (2 if tensor.is_complex() else 1) for tensor in tensors)
