"""Evaluation: rankings of the whole catalogue, ratings, and how sure a figure is."""

from ss4rec_lib.evaluation.ranking import (
    KS,
    RankingResult,
    evaluate_ranking,
    expected_gain,
    rank_targets,
    ranks_of_targets,
)
from ss4rec_lib.evaluation.rating import (
    RankedByRating,
    RatingResult,
    evaluate_both,
    evaluate_rating,
    rating_metrics,
)
from ss4rec_lib.evaluation.sampled import expected_sampled, sampled_gain
from ss4rec_lib.evaluation.statistics import (
    bootstrap_interval,
    difference_over_seeds,
    paired_difference,
    standard_error,
)

__all__ = [
    "KS",
    "RankedByRating",
    "RankingResult",
    "RatingResult",
    "bootstrap_interval",
    "difference_over_seeds",
    "evaluate_both",
    "evaluate_ranking",
    "evaluate_rating",
    "expected_gain",
    "expected_sampled",
    "paired_difference",
    "rank_targets",
    "ranks_of_targets",
    "rating_metrics",
    "sampled_gain",
    "standard_error",
]
