"""Evaluation: ranking over the whole catalogue, with standard errors, and what lies beyond it."""

from ss4rec_lib.evaluation.beyond_accuracy import mean_rank, top_k
from ss4rec_lib.evaluation.ranking import (
    KS,
    RankingResult,
    evaluate_ranking,
    last_hidden,
    rank_targets,
    ranks_of_targets,
)
from ss4rec_lib.evaluation.rating import (
    RatingResult,
    evaluate_both,
    evaluate_rating,
    rating_metrics,
)
from ss4rec_lib.evaluation.rating_ranking import RANKED_BY, ByRating, RankingOfRatingModel
from ss4rec_lib.evaluation.sampled import expected_sampled, simulate_sampled
from ss4rec_lib.evaluation.statistics import (
    PairedDifference,
    SeedsDifference,
    bootstrap_interval,
    difference_over_seeds,
    over_seeds,
    paired_difference,
    standard_error,
)

__all__ = [
    "ByRating",
    "KS",
    "PairedDifference",
    "RANKED_BY",
    "RankingOfRatingModel",
    "SeedsDifference",
    "last_hidden",
    "ranks_of_targets",
    "RankingResult",
    "RatingResult",
    "bootstrap_interval",
    "difference_over_seeds",
    "evaluate_both",
    "evaluate_ranking",
    "evaluate_rating",
    "expected_sampled",
    "mean_rank",
    "over_seeds",
    "paired_difference",
    "rank_targets",
    "rating_metrics",
    "simulate_sampled",
    "standard_error",
    "top_k",
]
