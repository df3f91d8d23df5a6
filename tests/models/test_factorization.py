"""ALS and BPR: folding in against the normal equations and against implicit; the interface."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from ss4rec_lib.configuration import ConfigError
from ss4rec_lib.data import make_batch
from ss4rec_lib.models.factorization import (
    ALS,
    ALSConfig,
    MatrixBPR,
    MatrixBPRConfig,
)


def taste_matrix(n_users=60, n_items=24, length=8, seed=0):
    """Users with even index choose from the lower half of the items, the others from the upper."""
    rng = np.random.default_rng(seed)
    half = n_items // 2
    dense = np.zeros((n_users, n_items + 1), np.float32)
    for u in range(n_users):
        dense[u, 1 + half * (u % 2) + rng.permutation(half)[:length]] = 1
    return sparse.csr_array(dense)


def in_own_half(scores):
    """Share of each user's best half of the catalogue that is of the user's own taste."""
    half = (scores.shape[1] - 1) // 2
    best = np.argsort(-scores[:, 1:], axis=1)[:, :half]
    own = (best >= half) == (np.arange(len(scores)) % 2 == 1)[:, None]
    return own.mean()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    alpha=st.sampled_from([0.5, 1.0, 41.0]),
    regularization=st.sampled_from([0.01, 3.0]),
)
def test_folding_in_minimises_the_weighted_squares(seed, alpha, regularization):
    """Written as one dense least-squares problem over all items, solved by another routine."""
    rng = np.random.default_rng(seed)
    config = ALSConfig(factors=4, regularization=regularization, alpha=alpha)
    Y = rng.normal(size=(9, 4))
    history = torch.from_numpy(rng.integers(0, 9, (3, 5)))
    model = ALS(Y, config)
    for row, found in zip(history.tolist(), model.user_factors(history).numpy(), strict=True):
        chosen = np.isin(np.arange(1, 9), row)
        root = np.sqrt(np.where(chosen, alpha, 1.0))  # of the confidences
        A = np.concatenate((root[:, None] * Y[1:], np.sqrt(regularization) * np.eye(4)))
        b = np.concatenate((root * chosen, np.zeros(4)))
        np.testing.assert_allclose(found, np.linalg.lstsq(A, b)[0], atol=1e-8)


def test_als_ignores_padding_order_and_repeats():
    model = ALS(np.random.default_rng(0).normal(size=(9, 4)), ALSConfig(factors=4))
    rows = [[3, 1, 3, 2], [5, 4, 0, 0], [2, 3, 1, 0]]
    scores = model.scores(make_batch(rows, torch.zeros(3, 4), n_items=8))
    assert scores.shape == (3, 9)
    assert not scores[..., 0].any()  # padding scores 0
    assert torch.allclose(scores[0], scores[2])
    assert torch.allclose(
        scores[1], model.user_factors(torch.tensor([5, 4])) @ model.item_factors.T
    )


def test_bpr_scores_users_by_inner_products():
    users, items = torch.randn(5, 3), torch.randn(9, 3)
    model = MatrixBPR(users, items)
    batch = make_batch([[1], [2]], torch.zeros(2, 1), n_items=8, users=[4, 0])
    expected = (users[[4, 0], None] * items).sum(-1)
    assert torch.allclose(model.scores(batch), expected, atol=1e-6)
    with pytest.raises(NotImplementedError, match="MatrixBPR"):
        model(batch.items, batch.delta)


def test_factors_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"item_factors has shape \(9, 4\).*factors=64"):
        ALS(np.zeros((9, 4)))
    with pytest.raises(ValueError, match=r"expected \(n_users, f\)"):
        MatrixBPR(torch.zeros(5, 3), torch.zeros(9, 4))


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (ALSConfig, "alpha", 0),
        (ALSConfig, "factors", -1),
        (MatrixBPRConfig, "regularization", float("nan")),
        (MatrixBPRConfig, "iterations", 2.5),
    ],
)
def test_options_that_cannot_be_are_refused(kind, name, value):
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        kind(**{name: value})


@pytest.mark.parametrize("fit", [ALS.learned, MatrixBPR.learned])
def test_without_implicit_the_error_says_how_to_get_it(fit, monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit", None)
    for name in ("implicit.cpu", "implicit.cpu.als", "implicit.cpu.bpr"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match=r"implicit.*pip install"):
        fit(taste_matrix())


def test_als_of_implicit_learns_tastes_and_folds_in_as_implicit_does():
    implicit = pytest.importorskip("implicit")
    matrix = taste_matrix()
    config = ALSConfig(factors=6, iterations=5)
    model = ALS.learned(matrix, config)
    history = torch.zeros(60, 25, dtype=torch.int64)
    for user, row in enumerate(matrix.toarray()):
        history[user, : int(row.sum())] = torch.from_numpy(row.nonzero()[0])
    scores = (model.user_factors(history) @ model.item_factors.T).numpy()
    assert in_own_half(scores) > 0.95
    theirs = implicit.cpu.als.AlternatingLeastSquares(
        factors=6, iterations=5, alpha=config.alpha, random_state=0
    )
    without_padding = sparse.csr_matrix(matrix[:, 1:])
    theirs.fit(without_padding, show_progress=False)
    folded = theirs.recalculate_user(np.arange(60), without_padding)
    np.testing.assert_allclose(scores[:, 1:], folded @ theirs.item_factors.T, atol=2e-3)


def test_bpr_of_implicit_learns_tastes_and_repeats_itself():
    pytest.importorskip("implicit")
    config = MatrixBPRConfig(factors=6)
    model = MatrixBPR.learned(taste_matrix(), config, learning_rate=0.1)
    scores = model.user_factors @ model.item_factors.T
    assert scores.shape == (60, 25)
    assert in_own_half(scores.numpy()) > 0.95
    again = MatrixBPR.learned(taste_matrix(), config, learning_rate=0.1)
    assert torch.equal(again.item_factors, model.item_factors)
