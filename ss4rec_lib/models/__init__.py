"""Models: SS4Rec and what it is compared with, all behind one interface, `Recommender`."""

from ss4rec_lib.models.base import (
    CRITERION,
    Dropout,
    ModelConfig,
    Recommender,
    last_of,
    training_interactions,
)
from ss4rec_lib.models.factorization import ALS, ALSConfig, MatrixBPR, MatrixBPRConfig
from ss4rec_lib.models.gru4rec import GRU4Rec, GRU4RecConfig
from ss4rec_lib.models.io import load_model, save_model
from ss4rec_lib.models.neighbours import ItemKNN, ItemKNNConfig, interaction_matrix
from ss4rec_lib.models.neural_cf import NeuralCF, NeuralCFConfig
from ss4rec_lib.models.popularity import (
    Popularity,
    PopularityConfig,
    RecentPopularity,
    RecentPopularityConfig,
)
from ss4rec_lib.models.published_weights import (
    load_official_checkpoint,
    load_official_state_dict,
    official_state_dict,
)
from ss4rec_lib.models.rating import RatingConfig, RatingSS4Rec
from ss4rec_lib.models.rating_baselines import BiasBaseline, BiasConfig, GlobalMean, RatingBaseline
from ss4rec_lib.models.rating_factors import (
    BayesianFM,
    BayesianFMConfig,
    BiasedMF,
    BiasedMFConfig,
    RatingNeuralCF,
    RatingNeuralCFConfig,
    SVDPlusPlus,
)
from ss4rec_lib.models.registry import (
    PRESETS,
    RANKING_PRESETS,
    RATING_PRESETS,
    Preset,
    make_model,
    n_learned,
)
from ss4rec_lib.models.sasrec import SASRec, SASRecConfig
from ss4rec_lib.models.ss4rec import SS4Rec, SS4RecConfig

__all__ = [
    "ALS", "CRITERION", "PRESETS", "RANKING_PRESETS", "RATING_PRESETS", "ALSConfig",
    "BayesianFM", "BayesianFMConfig", "BiasBaseline", "BiasConfig", "BiasedMF",
    "BiasedMFConfig", "Dropout", "GRU4Rec", "GRU4RecConfig", "GlobalMean", "ItemKNN",
    "ItemKNNConfig", "MatrixBPR", "MatrixBPRConfig", "ModelConfig", "NeuralCF",
    "NeuralCFConfig", "Popularity", "PopularityConfig", "Preset", "RatingBaseline",
    "RatingConfig", "RatingNeuralCF", "RatingNeuralCFConfig", "RatingSS4Rec",
    "RecentPopularity", "RecentPopularityConfig", "Recommender", "SASRec", "SASRecConfig",
    "SS4Rec", "SS4RecConfig", "SVDPlusPlus", "interaction_matrix", "last_of", "load_model",
    "load_official_checkpoint", "load_official_state_dict", "make_model", "n_learned",
    "official_state_dict", "save_model", "training_interactions",
]  # fmt: skip
