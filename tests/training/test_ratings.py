"""Training for ratings: learns what can be learned, stops by its criterion, does not leak."""

import numpy as np
import pandas as pd
import pytest
import torch

from ss4rec_lib.data import (
    held_out_ratings,
    leave_one_out,
    planted_ratings,
    random_holdout,
    train_ratings,
)
from ss4rec_lib.evaluation import evaluate_both, evaluate_rating, rating_metrics
from ss4rec_lib.models import BiasBaseline, RatingConfig, SS4Rec, SS4RecConfig
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import (
    CheckpointError,
    TrainingConfig,
    TrainingDiverged,
    fit,
    fit_ratings,
    rating_model,
)

TRUNK = SS4RecConfig.official(
    hidden_size=16, d_H=16, d_P=8, d_state=4, n_layers=1, dropout_prob=0.0, interval="log1p"
)
FAST = TrainingConfig(epochs=2, max_tokens=512, learning_rate=1e-2, device="cpu")


def rated(n_users=80, seed=3, noise=0.3):
    """Generated histories with ratings that follow the item, the user and the last rating.

    rating = 3 + item bias + user bias + 0.7 (-1)^item sign(last rating - 3) + noise: the last part
    is seen in the sequence only, so no model of users and items alone can know it.
    """
    ratings = planted_ratings(n_users=n_users, n_items=40, mean_length=25, seed=seed)
    rng = np.random.default_rng(seed)
    item_bias, user_bias = rng.normal(0, 0.5, 41), rng.normal(0, 0.5, n_users + 1)
    order = np.lexsort((np.arange(len(ratings)), ratings.timestamp, ratings.user_id))
    users, items = ratings.user_id.to_numpy()[order], ratings.item_id.to_numpy()[order]
    values = np.empty(len(order), dtype=np.float32)
    for n, (user, item) in enumerate(zip(users, items, strict=True)):
        value = 3 + item_bias[item] + user_bias[user] + rng.normal(0, noise)
        if n and users[n - 1] == user:
            value += 0.7 * (-1) ** item * np.sign(values[n - 1] - 3)
        values[n] = np.clip(np.round(2 * value) / 2, 0.5, 5)
    table = ratings.copy()
    table.loc[table.index[order], "rating"] = values
    return table


@pytest.fixture(scope="module")
def table():
    return rated()


@pytest.fixture(scope="module")
def split(table):
    return leave_one_out(table, min_interactions=None)


def trained(split, config=FAST, **options):
    seed_everything(config.seed)
    model = rating_model(split, RatingConfig(**TRUNK.model_dump(), **options))
    return model, fit_ratings(model, split, config, progress=False)


@pytest.mark.slow
def test_it_learns_what_the_sequence_says_and_biases_cannot_know():
    split = leave_one_out(rated(n_users=400, noise=0.2), min_interactions=None)
    model, result = trained(split, FAST.replace(epochs=8))
    found = evaluate_rating(model, split)
    users, items, actual = held_out_ratings(split, "test")
    known = train_ratings(split)
    biases = BiasBaseline().fit(*known)
    baseline = rating_metrics(
        biases.predict(users, items), actual, train_mean=found.train_mean, users=users
    )
    assert found["rmse"] < 0.8 * baseline["rmse"]
    assert result.history["rmse"].iloc[-1] < result.history["rmse"].iloc[0]


@pytest.mark.parametrize("train_for", ["rating", "ranking", "both"])
def test_each_objective_falls_and_only_what_it_trains_moves(split, train_for):
    seed_everything(0)
    start = rating_model(split, RatingConfig(**TRUNK.model_dump())).state_dict()
    model, result = trained(split, train_for=train_for)
    assert result.history["train_loss"].is_monotonic_decreasing
    moved = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, start[name])
    }
    head = {name for name in start if name.startswith("head")}
    assert (head <= moved) if train_for != "ranking" else not head & moved
    assert ("item_bias.weight" in moved) == (train_for != "ranking")
    assert "trunk.item_embedding.weight" in moved
    assert ("ndcg@10" in result.history) == (train_for != "rating")
    better = result.history["ndcg@10"] if train_for == "ranking" else -result.history["rmse"]
    assert result.best_epoch == better.idxmax() + 1


def test_the_loss_is_the_mean_squared_error_over_all_training_targets(split):
    """One batch, no learning to speak of: the loss of the first epoch is the model's at start."""
    config = TrainingConfig(epochs=1, max_tokens=10**6, max_len=None, learning_rate=1e-9)
    seed_everything(0)
    model = rating_model(split, RatingConfig(**TRUNK.model_dump())).eval()
    squared, n = 0.0, 0
    for user in range(split.sequences.n_users):
        end = split.train_end[user]
        history = split.sequences.history(user)
        items = torch.from_numpy(history.items[:end].astype(np.int64))[None]
        delta = torch.from_numpy(np.diff(history.times[:end]).astype(np.float32))[None]
        ratings = torch.from_numpy(np.array(history.ratings[:end]))[None]
        with torch.no_grad():
            bias = model.history_bias(items[:, :-1], ratings[:, :-1])
            hidden = model(items[:, :-1], delta, ratings[:, :-1])
            expected = model.predict_ratings(hidden, items[:, 1:], bias)
        squared, n = squared + float(((expected - ratings[:, 1:]) ** 2).sum()), n + int(end) - 1
    loss = fit_ratings(model, split, config, progress=False).history["train_loss"][0]
    assert loss == pytest.approx(squared / n, rel=1e-4)


def test_users_are_learned_and_their_lengths_are_held_down(split):
    config = FAST.replace(epochs=6)
    held, free = (
        trained(split, config, user_factors=4, user_penalty=penalty)[0] for penalty in (10.0, 0.0)
    )
    rows = free.user_embedding.weight.detach().norm(dim=1)
    assert rows[0] == 0 and (rows[1:] > 0).all()  # row 0 is the stranger's
    for name in ("user_embedding", "item_factors"):
        lengths = [getattr(m, name).weight.detach().norm() for m in (held, free)]
        assert lengths[0] < 0.5 * lengths[1], name


def test_under_a_random_split_a_user_is_the_same_person_in_every_history():
    """Each held-out rating has a history of its own there: its index is not that of a person."""
    random = random_holdout(rated(), seed=1)[0]
    model, _ = trained(random, user_factors=4)
    ids = random.sequences.user_ids
    people, histories = np.unique(ids, return_counts=True)
    assert len(people) == model.user_embedding.num_embeddings - 1
    vectors = model.user_vectors(torch.arange(len(ids)))[:, 0]
    assert (histories > 1).sum() > 10
    for user in people[histories > 1]:
        own = vectors[torch.from_numpy(ids == user)]
        assert torch.equal(own, own[:1].expand_as(own)) and own.any()


def test_both_losses_are_weighted(split):
    config = TrainingConfig(epochs=1, max_tokens=10**6, max_len=None, learning_rate=1e-9)
    loss = {
        (train_for, weight): trained(
            split, config, train_for=train_for, rating_weight=weight
        )[1].history["train_loss"][0]
        for train_for, weight in (("rating", 3.0), ("ranking", 3.0), ("both", 3.0))
    }  # fmt: skip
    rating, ranking, both = loss.values()
    assert both == pytest.approx(ranking + 3 * rating, rel=1e-5)


def test_the_same_seed_gives_the_same_run(split):
    first, second = trained(split), trained(split)
    for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert first[1].history["rmse"].equals(second[1].history["rmse"])


def test_patience_ends_training_and_the_best_epoch_is_put_back(split):
    config = FAST.replace(epochs=20, patience=2, learning_rate=0.3, warmup_epochs=2)
    model, result = trained(split, config)
    assert result.stopped == "patience"
    assert len(result.history) == result.best_epoch + 2
    assert result.best_epoch == result.history["rmse"].idxmin() + 1
    assert evaluate_rating(model, split, "valid")["rmse"] == pytest.approx(
        result.history["rmse"].min(), abs=1e-6
    )


@pytest.mark.parametrize("train_for", ["rating", "ranking"])  # the second never trains the head
def test_a_run_cut_short_continues_bit_for_bit(split, tmp_path, train_for):
    class Cut(Exception):
        pass

    def cut(history):
        if len(history) == 1:
            raise Cut

    config = FAST.replace(epochs=3)
    whole, expected = trained(split, config, train_for=train_for)
    seed_everything(0)
    model = rating_model(split, RatingConfig(**TRUNK.model_dump(), train_for=train_for))
    path = tmp_path / "run.safetensors"
    with pytest.raises(Cut):
        fit_ratings(model, split, config, checkpoint=path, on_epoch=cut, progress=False)
    model = rating_model(split, RatingConfig(**TRUNK.model_dump(), train_for=train_for))
    found = fit_ratings(model, split, config, checkpoint=path, resume=True, progress=False)
    assert found.history["rmse"].equals(expected.history["rmse"])
    for a, b in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)
    other = rating_model(split, RatingConfig(**TRUNK.model_dump(), train_for="both"))
    with pytest.raises(CheckpointError, match="train_for"):
        fit_ratings(other, split, config, checkpoint=path, resume=True, progress=False)


def altered(table, split, change):
    """The table with the test interactions changed by `change(rows of the table)`."""
    targets = split.targets("test")
    keys = pd.MultiIndex.from_frame(table[["user_id", "item_id", "timestamp"]])
    rows = np.flatnonzero(keys.isin(pd.MultiIndex.from_frame(targets[keys.names])))
    assert len(rows) == len(targets)
    table = table.copy()
    change(table, rows)
    return leave_one_out(table, min_interactions=None)


def other_ratings(table, rows):
    table.loc[rows, "rating"] = 5.5 - table.loc[rows, "rating"]


def later(table, rows):
    table.loc[rows, "timestamp"] += 10**6


def other_items(table, rows):
    table.loc[rows, "timestamp"] += 1  # a tie of user, item and second would be a duplicate
    table.loc[rows, "item_id"] = 41 - table.loc[rows, "item_id"]


def test_the_ratings_to_be_predicted_change_nothing_but_the_verdict(table, split):
    """Trained, chosen and evaluated anew on data in which only the test ratings differ."""
    changed = altered(table, split, other_ratings)
    first, second = trained(split)[0], trained(changed)[0]
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    for target_time in ("known", "none"):
        before = evaluate_rating(first, split, target_time=target_time)
        after = evaluate_rating(second, changed, target_time=target_time)
        assert np.array_equal(before.predicted, after.predicted)
        assert not np.array_equal(before.actual, after.actual)


@pytest.mark.parametrize("change", [other_ratings, later, other_items])
@pytest.mark.parametrize("target_time", ["known", "hidden", "previous", "none"])
def test_a_validation_prediction_sees_nothing_of_the_test_interaction(
    table, split, change, target_time
):
    changed = altered(table, split, change)
    model, _ = trained(split)
    before = evaluate_rating(model, split, "valid", target_time=target_time)
    after = evaluate_rating(model, changed, "valid", target_time=target_time)
    assert np.array_equal(before.predicted, after.predicted)
    again, _ = trained(changed)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("target_time", ["known", "hidden", "previous", "none"])
def test_the_targets_own_time_matters_only_where_it_is_known(table, split, target_time):
    changed = altered(table, split, later)
    model, _ = trained(split)
    before = evaluate_rating(model, split, target_time=target_time)
    after = evaluate_rating(model, changed, target_time=target_time)
    assert np.array_equal(before.predicted, after.predicted) == (target_time != "known")


def test_a_trained_ranking_trunk_can_be_given_a_rating_head(split):
    seed_everything(0)
    trunk = SS4Rec(split.sequences.n_items, TRUNK)
    fit(trunk, split, FAST, progress=False)
    model = rating_model(split, RatingConfig(**TRUNK.model_dump(), use_ratings=False), trunk)
    _, ranking = evaluate_both(model, split)
    fit_ratings(model, split, FAST, progress=False)
    assert evaluate_both(model, split)[1]["ndcg@10"] != ranking["ndcg@10"]


def test_a_random_holdout_trains_and_evaluates(table):
    split, rows = random_holdout(table, 0.2, 0.1, max_len=20)
    model, _ = trained(split)
    result = evaluate_rating(model, split)
    assert np.array_equal(result.actual, table["rating"].to_numpy()[rows["test"]])
    assert np.array_equal(result.users, table["user_id"].to_numpy()[rows["test"]])
    assert result["r2"] > 0


def test_parts_of_a_step_add_up_to_the_step(split):
    one = FAST.replace(epochs=1, max_tokens=2_000)
    whole, parts = (
        torch.cat(
            [p.detach().flatten() for p in trained(split, c, train_for="both")[0].parameters()]
        )
        for c in (one, one.replace(accumulate=3))
    )
    assert 0 < (parts - whole).norm() / whole.norm() < 1e-5


def test_full_histories_need_a_state_that_it_does_not_carry(split):
    with pytest.raises(ValueError, match=r"history='full'.*RatingSS4Rec"):
        trained(split, FAST.replace(history="full"))


def test_another_catalogue_and_equal_ratings_are_refused(split, table):
    model = rating_model(split, RatingConfig(**TRUNK.model_dump()))
    smaller = leave_one_out(table[table["item_id"] < 30], min_interactions=3)
    with pytest.raises(ValueError, match="the model knows 40 items"):
        fit_ratings(model, smaller, FAST, progress=False)
    with pytest.raises(ValueError, match="levels="):
        rating_model(leave_one_out(table.assign(rating=3.0), min_interactions=None))


def test_a_diverging_run_ends_with_an_error(split):
    model = rating_model(split, RatingConfig(**TRUNK.model_dump()))
    with torch.no_grad():
        model.head[-1].bias.fill_(torch.nan)
    with pytest.raises(TrainingDiverged):
        fit_ratings(model, split, FAST, progress=False)
