"""Rating baselines against Surprise's own answers, brute force, and each other."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ss4rec_lib.models import (
    BayesianFM,
    BayesianFMConfig,
    BiasBaseline,
    BiasConfig,
    BiasedMF,
    GlobalMean,
    SVDPlusPlus,
)

FIXTURE = Path(__file__).parents[1] / "fixtures" / "surprise_ratings.npz"


@pytest.fixture(scope="module")
def surprise_says():
    return dict(np.load(FIXTURE))


def fitted(model, data):
    return model.fit(data["train_users"], data["train_items"], data["train_ratings"])


def test_the_bias_baseline_is_that_of_surprise(surprise_says):
    model = fitted(BiasBaseline(), surprise_says)
    found = model.predict(surprise_says["users"], surprise_says["items"])
    assert found == pytest.approx(surprise_says["baseline"], abs=1e-12)


@pytest.mark.parametrize(("kind", "name"), [(BiasedMF, "svd"), (SVDPlusPlus, "svdpp")])
def test_factorisations_give_the_answers_surprise_gives_one_by_one(kind, name, surprise_says):
    pytest.importorskip("surprise")
    model = fitted(kind(kind.config_type(n_factors=5), seed=0), surprise_says)
    found = model.predict(surprise_says["users"], surprise_says["items"])
    assert found == pytest.approx(surprise_says[name], abs=1e-10)
    other = fitted(kind(kind.config_type(n_factors=5), seed=1), surprise_says)
    assert (
        np.abs(other.predict(surprise_says["users"], surprise_says["items"]) - found).max() > 0.01
    )


def test_biases_minimise_the_regularised_squared_error():
    """Many rounds reach the minimum of a quadratic, which least squares finds directly."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 6, 60), rng.integers(0, 5, 60)
    ratings = rng.integers(1, 6, 60).astype(float)
    model = BiasBaseline(BiasConfig(n_epochs=500, reg_u=3, reg_i=2)).fit(users, items, ratings)
    design = np.zeros((60 + 11, 11))
    design[np.arange(60), users] = design[np.arange(60), 6 + items] = 1
    design[60:] = np.diag(np.sqrt([3] * 6 + [2] * 5))
    wanted = np.concatenate([ratings - ratings.mean(), np.zeros(11)])
    solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
    assert np.concatenate([model.user_bias, model.item_bias]) == pytest.approx(solution, abs=1e-8)


def test_unknown_users_and_items_have_no_bias():
    model = BiasBaseline().fit([5, 5, 9], [1, 2, 2], [1.0, 2.0, 5.0])
    unknown = model.predict([7, 7, 5], [8, 2, 8])
    assert unknown[0] == pytest.approx(8 / 3)
    assert unknown[1] == pytest.approx(8 / 3 + model.item_bias[1])
    assert unknown[2] == pytest.approx(8 / 3 + model.user_bias[0])


def test_predictions_stay_within_the_ratings_there_are():
    model = BiasBaseline(BiasConfig(reg_u=0, reg_i=0, n_epochs=1))
    model.fit([1, 1, 2, 2, 3], [1, 2, 1, 2, 3], [5.0, 5.0, 5.0, 1.0, 1.0])
    everyone = np.repeat([1, 2, 3], 3), np.tile([1, 2, 3], 3)
    found = model.predict(*everyone)
    raw = model._predict(everyone[0] - 1, everyone[1] - 1)
    assert raw.max() > 5 or raw.min() < 1
    assert found == pytest.approx(np.clip(raw, 1, 5))


@pytest.mark.parametrize("implicit", [False, True])
def test_the_bayesian_machine_finds_factors_that_biases_cannot(implicit):
    pytest.importorskip("myfm")
    rng = np.random.default_rng(1)
    p, q = rng.normal(size=60), rng.normal(size=50)
    pairs = rng.permutation(60 * 50)[:1600]
    users, items = pairs // 50, pairs % 50
    ratings = 3 + p[users] * q[items] + rng.normal(0, 0.3, 1600)
    train, test = slice(0, 1200), slice(1200, None)
    errors = {}
    for name, model in {
        "bias": BiasBaseline(),
        "fm": BayesianFM(BayesianFMConfig(rank=3, n_iter=60, implicit=implicit)),
    }.items():
        model.fit(users[train] * 3, items[train] + 10, ratings[train])
        found = model.predict(users[test] * 3, items[test] + 10)
        errors[name] = np.sqrt(np.mean((found - ratings[test]) ** 2))
    assert errors["fm"] < 0.6 * errors["bias"]
    assert np.isfinite(model.predict([1, 3, 1], [10, 5, 5])).all()  # ids it has never seen


@pytest.mark.parametrize(
    ("package", "model"),
    [("surprise", BiasedMF()), ("surprise", SVDPlusPlus()), ("myfm", BayesianFM())],
)
def test_a_library_that_is_not_installed_is_named_with_what_to_install(package, model, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"'{package}'.*pip install"):
        model.fit([1], [1], [3.0])


@pytest.mark.parametrize(
    ("triples", "message"),
    [
        (([], [], []), "users is float64"),
        (([1, 2], [1, 2], [3.0]), "as many"),
        (([1, 2], [1], [3.0, 4.0]), "items is int64"),
        (([1.5], [1], [3.0]), "users is float64"),
        (([1], [1], [np.nan]), "1 of 1 ratings are NaN"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(triples, message):
    with pytest.raises(ValueError, match=message):
        BiasBaseline().fit(*triples)


def test_predicting_before_fitting_is_refused():
    with pytest.raises(ValueError, match="BiasBaseline has not been fitted"):
        BiasBaseline().predict([1], [1])


def test_the_mean_is_the_mean_for_everybody():
    model = GlobalMean().fit([5, 5, 9], [1, 2, 2], [1.0, 2.0, 5.0])
    assert model.predict([5, 7], [1, 8]) == pytest.approx([8 / 3, 8 / 3])
    assert model.scores([5, 7, 9], [1, 8]) == pytest.approx(np.full((3, 2), 8 / 3))


@pytest.mark.parametrize(
    "model", [BiasBaseline(BiasConfig(reg_u=0, reg_i=0)), BiasedMF(), SVDPlusPlus()]
)
def test_scores_are_the_predictions_of_all_pairs_without_clipping(model):
    if model.__class__ is not BiasBaseline:
        pytest.importorskip("surprise")
    model.fit([1, 1, 2, 2, 3], [1, 2, 1, 2, 3], [5.0, 5.0, 5.0, 1.0, 1.0])
    users, items = np.array([1, 2, 3, 9]), np.array([3, 1, 9])
    found = model.scores(users, items)
    clipped = model.predict(np.repeat(users, 3), np.tile(items, 4)).reshape(4, 3)
    assert np.clip(found, 1, 5) == pytest.approx(clipped)
    with pytest.raises(ValueError, match="has not been fitted"):
        type(model)().scores(users, items)
