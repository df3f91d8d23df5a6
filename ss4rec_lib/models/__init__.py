"""Models: SS4Rec and what it is compared with, all behind `forward` and `logits`."""

from ss4rec_lib.models.base import Dropout, Fitted, ModelConfig, Recommender, last_of
from ss4rec_lib.models.baselines import Popularity
from ss4rec_lib.models.baselines_config import training_interactions
from ss4rec_lib.models.bayesian_fm import BayesianFM
from ss4rec_lib.models.factorization import (
    ALS,
    ALSConfig,
    MatrixBPR,
    MatrixBPRConfig,
    fit_als,
    fit_matrix_bpr,
)
from ss4rec_lib.models.files import load_model, save_model
from ss4rec_lib.models.fitted import (
    CRITERION,
    FITTED,
    TRAINED_WITH,
    check_fittable,
    fit_baseline,
    is_unknown,
    model_for,
    n_learned,
)
from ss4rec_lib.models.fitted_files import restore_fitted, save_fitted
from ss4rec_lib.models.gru4rec import GRU4Rec, GRU4RecConfig
from ss4rec_lib.models.neighbours import ItemKNN, ItemKNNConfig, interaction_matrix
from ss4rec_lib.models.neural_cf import NeuralCF, NeuralCFConfig, fit_neural_cf
from ss4rec_lib.models.neural_cf_rating import RatingNeuralCF
from ss4rec_lib.models.official_checkpoint import load_official_checkpoint
from ss4rec_lib.models.published_weights import load_official_state_dict, official_state_dict
from ss4rec_lib.models.rating import RatingConfig, RatingSS4Rec
from ss4rec_lib.models.rating_baselines import (
    BiasBaseline,
    BiasedMF,
    GlobalMean,
    RatingBaseline,
    SVDPlusPlus,
)
from ss4rec_lib.models.recent_popularity import RecentPopularity, moments_of
from ss4rec_lib.models.registry import (
    MODELS,
    PRESETS,
    RANKING_PRESETS,
    RATING_PRESETS,
    Preset,
    config_fields,
    make_model,
    model_name,
    uses_time,
)
from ss4rec_lib.models.sasrec import SASRec, SASRecConfig
from ss4rec_lib.models.ss4rec import SS4Rec, SS4RecConfig, SS4RecState

__all__ = [
    "CRITERION",
    "Dropout",
    "FITTED",
    "MODELS",
    "PRESETS",
    "RANKING_PRESETS",
    "RATING_PRESETS",
    "Fitted",
    "ModelConfig",
    "Preset",
    "Recommender",
    "RatingBaseline",
    "TRAINED_WITH",
    "check_fittable",
    "config_fields",
    "fit_baseline",
    "interaction_matrix",
    "last_of",
    "is_unknown",
    "model_for",
    "model_name",
    "moments_of",
    "n_learned",
    "restore_fitted",
    "save_fitted",
    "training_interactions",
    "uses_time",
    "ALS",
    "ALSConfig",
    "BayesianFM",
    "BiasBaseline",
    "BiasedMF",
    "GRU4Rec",
    "GRU4RecConfig",
    "GlobalMean",
    "ItemKNN",
    "ItemKNNConfig",
    "MatrixBPR",
    "MatrixBPRConfig",
    "NeuralCF",
    "NeuralCFConfig",
    "Popularity",
    "RatingConfig",
    "RatingNeuralCF",
    "RatingSS4Rec",
    "RecentPopularity",
    "SASRec",
    "SASRecConfig",
    "SS4Rec",
    "SS4RecConfig",
    "SS4RecState",
    "SVDPlusPlus",
    "fit_als",
    "fit_matrix_bpr",
    "fit_neural_cf",
    "load_model",
    "load_official_checkpoint",
    "load_official_state_dict",
    "make_model",
    "official_state_dict",
    "save_model",
]
