"""Evaluation: ranking over the whole catalogue, with standard errors."""

from ss4rec_lib.evaluation.ranking import RankingResult, evaluate_ranking

__all__ = ["RankingResult", "evaluate_ranking"]
