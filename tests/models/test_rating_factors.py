"""NeuMF for ratings: starts as the biases, learns what they cannot, chooses its epoch."""

import numpy as np
import pytest

from ss4rec_lib.configuration import ConfigError
from ss4rec_lib.models import BiasBaseline, RatingNeuralCF, RatingNeuralCFConfig


def network(seed=0, **options):
    return RatingNeuralCF(RatingNeuralCFConfig(**options), seed)


def triples(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    p, q = rng.normal(size=60), rng.normal(size=50)
    pairs = rng.permutation(60 * 50)[:n]
    users, items = pairs // 50, pairs % 50
    return users * 3, items + 10, 3 + p[users] * q[items] + rng.normal(0, 0.2, n)


def test_before_it_learns_it_is_the_bias_baseline():
    users, items, ratings = triples(400)
    model = network(epochs=1, learning_rate=1e-12).fit(users, items, ratings)
    biases = BiasBaseline().fit(users, items, ratings)
    everyone = np.append(users, 10**6), np.append(items, 10**6)  # and somebody unknown
    assert model.predict(*everyone) == pytest.approx(biases.predict(*everyone), abs=1e-5)


def test_it_finds_what_biases_cannot():
    users, items, ratings = triples()
    train, test = slice(0, 2400), slice(2400, None)
    errors = []
    for model in (BiasBaseline(), network(epochs=30, learning_rate=0.01, batch_size=64)):
        model.fit(users[train], items[train], ratings[train])
        error = model.predict(users[test], items[test]) - ratings[test]
        errors.append(np.sqrt(np.mean(error**2)))
    assert errors[1] < 0.7 * errors[0]


def test_the_epoch_is_chosen_on_validation_and_patience_ends_training():
    users, items, ratings = triples(600)
    train, rest = slice(0, 400), slice(400, None)
    valid = users[rest], items[rest], ratings[rest]
    model = network(epochs=60, learning_rate=0.03, patience=2)
    model.fit(users[train], items[train], ratings[train], valid=valid)
    rmse = [row["rmse"] for row in model.history]
    assert model.best_epoch == np.argmin(rmse) + 1
    assert len(rmse) == model.best_epoch + 2 < 60
    error = model.predict(*valid[:2]) - valid[2]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(min(rmse), abs=1e-9)


def test_the_same_seed_gives_the_same_model():
    data = triples(300)
    found = [network(seed, epochs=2).fit(*data).predict(*data[:2]) for seed in (0, 0, 1)]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("dropout_prob", 1.0), ("learning_rate", 0), ("mf_embedding_size", 0)],
)
def test_options_it_cannot_be_trained_with_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        RatingNeuralCFConfig(**{name: value})


def test_a_diverging_loss_ends_with_an_error():
    with pytest.raises(FloatingPointError, match="learning_rate"):
        network(epochs=20, learning_rate=1e30).fit(*triples(300))
