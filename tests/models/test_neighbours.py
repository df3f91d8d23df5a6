"""Item-based neighbours against a brute-force dense computation, and behind the interface."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.configuration import ConfigError, as_text
from ss4rec_lib.data import leave_one_out, make_batch
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.models import Popularity, neighbours
from ss4rec_lib.models.neighbours import ItemKNN, ItemKNNConfig, distinct, interaction_matrix


def taste_ratings(n_users=60, n_items=24, length=8, seed=0):
    """Half of the users choose from the lower half of the items, the others from the upper."""
    rng = np.random.default_rng(seed)
    half = n_items // 2
    items = [1 + half * (u % 2) + rng.permutation(half)[:length] for u in range(n_users)]
    return pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(n_users), length),
            "item_id": np.concatenate(items),
            "rating": np.float32(3),
            "timestamp": np.tile(np.arange(length) * 60, n_users) + 10**9,
        }
    )


def brute_force(chosen, history, n_neighbours, shrinkage):
    """Scores of one history by the definition, pair of items by pair of items."""
    n = chosen.shape[1]
    scores = np.zeros(n)
    for j in set(history) - {0}:
        similar = np.zeros(n)
        for i in range(n):
            scale = np.sqrt(chosen[:, i].sum()) * np.sqrt(chosen[:, j].sum()) + shrinkage
            if i != j and scale > 0:
                similar[i] = (chosen[:, i] * chosen[:, j]).sum() / scale
        for i in sorted(range(n), key=lambda i: (-similar[i], i))[:n_neighbours]:
            scores[i] += similar[i]
    return scores


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    n_users=st.integers(1, 12),
    n_items=st.integers(1, 9),
    n_neighbours=st.integers(1, 12),
    shrinkage=st.sampled_from([0.0, 2.5]),
)
def test_equals_brute_force(seed, n_users, n_items, n_neighbours, shrinkage):
    rng = np.random.default_rng(seed)
    chosen = (rng.random((n_users, n_items + 1)) < 0.4).astype(float)
    chosen[:, 0] = 0
    history = rng.integers(0, n_items + 1, 6)
    model = ItemKNN(
        neighbours.sparse.csr_array(chosen),
        ItemKNNConfig(n_neighbours=n_neighbours, shrinkage=shrinkage),
    )
    scores = model.history_scores(torch.from_numpy(history)[None])[0].numpy()
    np.testing.assert_allclose(
        scores, brute_force(chosen, history.tolist(), n_neighbours, shrinkage), atol=1e-12
    )


def test_similarities_do_not_depend_on_the_size_of_a_block(monkeypatch):
    matrix = interaction_matrix(leave_one_out(taste_ratings()))
    whole = ItemKNN(matrix, ItemKNNConfig(n_neighbours=5)).similarity.toarray()
    monkeypatch.setattr(neighbours, "_BLOCK", 7)
    np.testing.assert_array_equal(
        ItemKNN(matrix, ItemKNNConfig(n_neighbours=5)).similarity.toarray(), whole
    )


def test_scores_ignore_padding_order_and_repeats():
    model = ItemKNN(interaction_matrix(leave_one_out(taste_ratings())))
    rows = [[3, 1, 3, 2], [5, 4, 0, 0], [2, 3, 1, 0], [4, 5, 5, 4]]
    scores = model.scores(make_batch(rows, torch.zeros(4, 4), n_items=24))
    assert scores.shape == (4, 25)
    assert torch.allclose(scores[0], scores[2], atol=1e-12)
    assert torch.allclose(scores[1], scores[3], atol=1e-12)
    assert torch.equal(scores[1], model.history_scores(torch.tensor([5, 4])))
    assert not torch.allclose(scores[0], scores[1])


@given(st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=3))
def test_distinct_keeps_the_set_and_no_repeats(rows):
    for found, row in zip(distinct(torch.tensor(rows)).tolist(), rows, strict=True):
        kept = [i for i in found if i]
        assert sorted(kept) == sorted(set(row) - {0})


def test_the_matrix_holds_the_training_part_and_nothing_else():
    ratings = taste_ratings(n_users=20)
    split = leave_one_out(ratings, min_interactions=0)
    expected = {(u, i) for u, i in zip(ratings.user_id, ratings.item_id, strict=True)}
    for part in ("valid", "test"):
        targets = split.targets(part)
        expected -= {(u, i) for u, i in zip(targets.user_id, targets.item_id, strict=True)}
    matrix = interaction_matrix(split)
    rows, columns = matrix.nonzero()
    ids = split.sequences
    assert set(zip(ids.user_ids[rows], ids.item_ids[columns], strict=True)) == expected
    assert set(matrix.data) == {1} and matrix.shape == (20, ids.n_items + 1)


def test_evaluation_needs_nothing_special_and_beats_popularity():
    split = leave_one_out(taste_ratings())
    model = ItemKNN(interaction_matrix(split))
    ours = evaluate_ranking(model, split, ks=(10,), mask_seen=True)
    popular = evaluate_ranking(Popularity(split.train_counts()), split, ks=(10,), mask_seen=True)
    assert ours["hr@10"] > popular["hr@10"] + 3 * ours["hr@10_se"]


@pytest.mark.parametrize(
    ("name", "value"), [("n_neighbours", 0), ("shrinkage", -1.0), ("shrinkage", None)]
)
def test_options_that_cannot_be_are_refused(name, value):
    with pytest.raises(ConfigError, match=name) as problem:
        ItemKNNConfig(**{name: value})
    assert as_text(value) in str(problem.value)


def test_a_matrix_without_items_is_refused():
    with pytest.raises(ValueError, match="n_items=0"):
        ItemKNN(neighbours.sparse.csr_array((3, 1)))
