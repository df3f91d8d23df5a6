"""Ranking with rating models equals scoring every user and item one by one."""

import numpy as np
import pytest
import torch

from ss4rec_lib.data import leave_one_out, planted_ratings, train_ratings
from ss4rec_lib.evaluation import (
    RankedByRating,
    evaluate_both,
    rank_targets,
)
from ss4rec_lib.models import (
    BayesianFM,
    BayesianFMConfig,
    BiasBaseline,
    BiasedMF,
    BiasedMFConfig,
    GlobalMean,
    RatingConfig,
    RatingNeuralCF,
    RatingNeuralCFConfig,
    SS4RecConfig,
)
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import rating_model

TRUNK = SS4RecConfig.official(hidden_size=8, d_H=8, d_P=4, d_state=4, n_layers=1)
N_ITEMS = 30


@pytest.fixture(scope="module")
def split():
    ratings = planted_ratings(n_users=40, n_items=N_ITEMS, mean_length=12, seed=1)
    ratings["rating"] = np.float32(1 + (ratings["item_id"] * 7 + ratings["user_id"]) % 5)
    return leave_one_out(ratings, min_interactions=None)


def expected_counts(score, split, masked):
    """For each test target the items above it and tied with it, the slow way."""
    found = []
    for user, position in zip(*split.held_out["test"], strict=True):
        history = split.sequences.history(user).items
        target, seen = history[position], set(history[:position]) if masked else set()
        scores = {
            item: score(user, position, item)
            for item in range(1, split.sequences.n_items + 1)
            if item not in seen or item == target
        }
        above = sum(value > scores[target] for value in scores.values())
        found.append((above, sum(value == scores[target] for value in scores.values())))
    return np.array(found).T


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("package", "model"),
    [
        (None, GlobalMean()),
        (None, BiasBaseline()),
        ("surprise", BiasedMF(BiasedMFConfig(n_factors=3))),
        (
            None,
            RatingNeuralCF(
                RatingNeuralCFConfig(mf_embedding_size=4, mlp_embedding_size=4, epochs=2)
            ),
        ),
    ],
)
def test_models_of_users_and_items(package, model, masked, split):
    if package:
        pytest.importorskip(package)
    users, items, ratings = train_ratings(split)
    ids = split.sequences.user_ids
    model.fit(ids[users], items, ratings)
    model.low, model.high = -np.inf, np.inf  # `predict` without clipping is what is ranked by

    def score(user, position, item):
        # In one batch, and rounded: a network's sums differ in the last digit with the batch.
        return everything[user, item - 1]

    everyone = np.repeat(ids, N_ITEMS), np.tile(np.arange(1, N_ITEMS + 1), len(ids))
    everything = model.predict(*everyone).reshape(len(ids), N_ITEMS)
    scores = model.scores(ids, np.arange(1, N_ITEMS + 1))
    assert scores == pytest.approx(everything, abs=1e-5)
    everything = scores
    result = rank_targets(RankedByRating(model, split), split, "test", ks=(5,))[masked]
    above, tied = expected_counts(score, split, masked)
    assert np.array_equal(result.above, above) and np.array_equal(result.tied, tied)


@pytest.mark.parametrize("implicit", [False, True])
def test_the_scores_of_the_bayesian_machine_are_its_predictions(implicit, split):
    pytest.importorskip("myfm")
    users, items, ratings = train_ratings(split)
    config = BayesianFMConfig(rank=2, n_iter=10, implicit=implicit)
    model = BayesianFM(config).fit(users, items, ratings)
    model.low, model.high = -np.inf, np.inf
    users, items = np.append(np.arange(split.sequences.n_users), 10**6), np.arange(N_ITEMS + 2)
    everyone = np.repeat(users, len(items)), np.tile(items, len(users))
    found = model.predict(*everyone).reshape(len(users), len(items))
    assert model.scores(users, items) == pytest.approx(found, abs=1e-9)


@pytest.fixture(scope="module", params=[0, 4])
def sequence_model(split, request):
    seed_everything(0)
    options = {"train_for": "both", "user_factors": request.param}
    model = rating_model(split, RatingConfig(**TRUNK.model_dump(), **options))
    if request.param:
        torch.nn.init.normal_(model.user_embedding.weight)
    torch.nn.init.normal_(model.head[-1].weight)  # a head that says something
    return model.eval()


def test_a_sequence_model_ranks_by_its_scores_as_evaluate_both_does(split, sequence_model):
    found = rank_targets(sequence_model, split, "test", ks=(5,))[False]
    assert not sequence_model.training
    _, wanted = evaluate_both(sequence_model, split, ks=(5,))
    assert np.array_equal(found.above, wanted.above)


@pytest.mark.parametrize("masked", [False, True])
def test_a_sequence_model_ranks_by_the_ratings_it_expects(split, sequence_model, masked):
    @torch.no_grad()
    def score(user, position, item):
        if (user, "all") not in known:
            history = split.sequences.history(user)
            items = torch.from_numpy(history.items[:position].astype(np.int64))[None]
            delta = torch.from_numpy(np.diff(history.times[: position + 1]).astype(np.float32))
            ratings = torch.from_numpy(np.array(history.ratings[:position]))[None]
            hidden = sequence_model(items, delta[None], ratings)[:, -1]
            bias = sequence_model.history_bias(items, ratings)[:, -1]
            everything = torch.arange(N_ITEMS + 1)
            p = sequence_model.user_vectors(torch.tensor([user]))
            known[user, "all"] = sequence_model.predict_ratings(
                hidden.expand(N_ITEMS + 1, -1), everything, bias, None if p is None else p[0]
            )
        return float(known[user, "all"][item])

    known = {}
    wrapped = RankedByRating(sequence_model, split)
    result = rank_targets(wrapped, split, "test", ks=(5,))[masked]
    above, tied = expected_counts(score, split, masked)
    assert np.array_equal(result.above, above) and np.array_equal(result.tied, tied)
