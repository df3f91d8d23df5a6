"""Evaluation: rankings of the whole catalogue, ratings, and how sure a figure is."""

from ss4rec_lib.evaluation.ranking import KS as KS
from ss4rec_lib.evaluation.ranking import NotFiniteError as NotFiniteError
from ss4rec_lib.evaluation.ranking import RankingResult as RankingResult
from ss4rec_lib.evaluation.ranking import evaluate_ranking as evaluate_ranking
from ss4rec_lib.evaluation.ranking import evaluating as evaluating
from ss4rec_lib.evaluation.ranking import expected_gain as expected_gain
from ss4rec_lib.evaluation.ranking import rank_targets as rank_targets
from ss4rec_lib.evaluation.ranking import ranks_of_targets as ranks_of_targets
from ss4rec_lib.evaluation.rating import RankedByRating as RankedByRating
from ss4rec_lib.evaluation.rating import RatingResult as RatingResult
from ss4rec_lib.evaluation.rating import evaluate_both as evaluate_both
from ss4rec_lib.evaluation.rating import evaluate_rating as evaluate_rating
from ss4rec_lib.evaluation.rating import rating_metrics as rating_metrics
from ss4rec_lib.evaluation.rating import user_numbers as user_numbers
from ss4rec_lib.evaluation.sampled import expected_sampled as expected_sampled
from ss4rec_lib.evaluation.sampled import sampled_gain as sampled_gain
from ss4rec_lib.evaluation.statistics import bootstrap_interval as bootstrap_interval
from ss4rec_lib.evaluation.statistics import difference_over_seeds as difference_over_seeds
from ss4rec_lib.evaluation.statistics import paired_difference as paired_difference
from ss4rec_lib.evaluation.statistics import standard_error as standard_error
