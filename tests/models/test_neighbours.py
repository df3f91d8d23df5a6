"""Item-based neighbours against a brute-force dense computation, and behind the interface."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.data import eval_batches, leave_one_out
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


@settings(max_examples=40, deadline=None)
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
    model = ItemKNN(neighbours.sparse.csr_array(chosen), ItemKNNConfig(n_neighbours, shrinkage))
    scores = model.logits(torch.from_numpy(history)[None])[0].numpy()
    np.testing.assert_allclose(
        scores, brute_force(chosen, history.tolist(), n_neighbours, shrinkage), atol=1e-12
    )


def test_similarities_do_not_depend_on_the_size_of_a_block(monkeypatch):
    matrix = interaction_matrix(leave_one_out(taste_ratings()))
    whole = ItemKNN(matrix, ItemKNNConfig(5)).similarity.toarray()
    monkeypatch.setattr(neighbours, "_BLOCK", 7)
    np.testing.assert_array_equal(ItemKNN(matrix, ItemKNNConfig(5)).similarity.toarray(), whole)


def test_the_hidden_state_is_the_history_so_far():
    model = ItemKNN(interaction_matrix(leave_one_out(taste_ratings())))
    items = torch.tensor([[3, 1, 3, 2], [5, 4, 0, 0]])
    delta = torch.zeros(2, 4)
    hidden = model(items, delta)
    assert hidden[0].tolist() == [[3, 0, 0, 0], [3, 1, 0, 0], [3, 1, 3, 0], [3, 1, 3, 2]]
    scores = model.logits(hidden)
    assert scores.shape == (2, 4, 25)
    # Causal, blind to padding, to order and to repeats.
    assert torch.equal(scores[:, :2], model.logits(model(items[:, :2], delta[:, :2])))
    assert torch.equal(scores[1, 3], scores[1, 1])
    assert torch.allclose(scores[0, 2], model.logits(torch.tensor([1, 3])), atol=1e-12)
    with pytest.raises(ValueError, match="the id 25, expected 0"):
        model(items + 20, delta)


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
    # A short cut gives the scores of the last position.
    for batch in eval_batches(split, "test", max_tokens=100):
        rows = torch.arange(len(batch.items))
        last = model(batch.items, batch.delta)[rows, batch.lengths - 1]
        assert torch.equal(model.logits(model.last_hidden(batch)), model.logits(last))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_neighbours": 0}, "n_neighbours=0: expected an integer"),
        ({"shrinkage": -1.0}, "shrinkage=-1.0: expected at least 0"),
        ({"shrinkage": None}, "shrinkage=None: expected a finite"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ItemKNNConfig(**options)


def test_a_matrix_without_items_is_refused():
    with pytest.raises(ValueError, match="n_items=0"):
        ItemKNN(neighbours.sparse.csr_array((3, 1)))
