"""NeuMF: the published formula, its losses, and that it learns who likes what."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from ss4rec_lib.configuration import ConfigError
from ss4rec_lib.data import eval_batches, leave_one_out
from ss4rec_lib.evaluation import RankingResult, ranks_of_targets
from ss4rec_lib.models import CRITERION, neural_cf
from ss4rec_lib.models.base import training_interactions
from ss4rec_lib.models.neural_cf import NeuralCF, NeuralCFConfig, neural_cf_loss
from ss4rec_lib.training import TrainingConfig

SMALL = NeuralCFConfig(
    mf_embedding_size=6, mlp_embedding_size=5, mlp_hidden_size=(8, 4, 3), initializer_range=0.5
)


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


def small_model(loss_type="CE", dropout_prob=0.0):
    torch.manual_seed(0)
    config = NeuralCFConfig(
        mf_embedding_size=6,
        mlp_embedding_size=5,
        mlp_hidden_size=(8, 4, 3),
        dropout_prob=dropout_prob,
        loss_type=loss_type,
        initializer_range=0.5,
    )
    return NeuralCF(7, 11, config)


@torch.no_grad()
def ranked(model, split, part, ks=(10,)):
    """Full ranking of a part's targets by the scores of their users."""
    found = []
    for batch in eval_batches(split, part):
        targets = batch.targets[torch.arange(len(batch.users)), batch.lengths - 1]
        scores = model.scores(batch)
        found.append((batch.users.numpy(), *ranks_of_targets(scores, targets)))
    return RankingResult(*(np.concatenate(column) for column in zip(*found, strict=True)), ks=ks)


def test_scores_are_the_published_formula():
    model = small_model().eval()
    users, items = torch.tensor([0, 6, 3]), torch.tensor([11, 1, 5])
    x = torch.cat((model.user_mlp(users), model.item_mlp(items)), 1)
    for layer in (model.first, *model.later):
        x = layer(x).relu()
    gmf = model.user_mf(users) * model.item_mf(items)
    expected = model.predict(torch.cat((gmf, x), 1))[:, 0]
    assert torch.allclose(model.pairs(users, items), expected, atol=1e-6)
    everything = model.user_scores(users)
    assert everything.shape == (3, 12)
    assert torch.allclose(everything[torch.arange(3), items], expected, atol=1e-6)


def test_users_scored_in_parts_have_the_same_scores(monkeypatch):
    model = small_model().eval()
    whole = model.user_scores(torch.arange(7))
    monkeypatch.setattr(neural_cf, "PAIRS_AT_ONCE", 24)  # two users at a time
    assert torch.allclose(model.user_scores(torch.arange(7)), whole, atol=1e-6)


def test_cross_entropy_is_that_of_every_pair_over_the_items():
    model = small_model().eval()
    users, items = torch.tensor([2, 2, 5, 2]), torch.tensor([1, 7, 7, 11])
    each = model.user_scores(users)[:, 1:]  # the padding id is no class
    assert neural_cf_loss(model, users, items).item() == pytest.approx(
        F.cross_entropy(each, items - 1).item(), abs=1e-6
    )


@pytest.mark.parametrize("loss_type", ["BPR", "BCE"])
def test_negatives_are_other_items_and_the_losses_are_their_definitions(loss_type, monkeypatch):
    model = small_model(loss_type).eval()
    users, items = torch.arange(7).repeat(40), torch.randint(1, 12, (280,))
    asked = []
    pairs = NeuralCF.pairs

    def watched(self, users, items):
        asked.append((items, pairs(self, users, items)))
        return asked[-1][1]

    monkeypatch.setattr(NeuralCF, "pairs", watched)
    loss = neural_cf_loss(model, users, items, n_negatives=2)
    (positives, above), (negatives, below) = asked
    assert torch.equal(positives[:, 0], items) and negatives.shape == (280, 2)
    assert not (negatives == items[:, None]).any()
    assert set(negatives.unique().tolist()) == set(range(1, 12))
    if loss_type == "BPR":
        expected = -torch.log(torch.sigmoid(above - below)).mean()
    else:
        labels = torch.tensor([1.0, 0.0, 0.0]).expand(280, 3)
        expected = F.binary_cross_entropy_with_logits(torch.cat((above, below), 1), labels)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("loss_type", ["CE", "BPR", "BCE"])
def test_every_parameter_has_a_gradient(loss_type):
    model = small_model(loss_type, dropout_prob=0.1)
    neural_cf_loss(model, torch.arange(7), torch.arange(1, 8)).backward()
    for name, parameter in model.named_parameters():
        if loss_type != "BCE" and name == "predict.bias":
            continue  # equal for all items: it cancels in a softmax and in a difference
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("loss_type", ["CE", "BPR", "BCE"])
def test_training_learns_who_likes_what(loss_type, monkeypatch):
    split = leave_one_out(taste_ratings())
    users, items, _ = training_interactions(split)
    torch.manual_seed(0)
    config = NeuralCFConfig(
        mf_embedding_size=8,
        mlp_embedding_size=8,
        mlp_hidden_size=(16, 8),
        dropout_prob=0.0,
        loss_type=loss_type,
    )
    model = NeuralCF(split.sequences.n_users, split.sequences.n_items, config)
    training = TrainingConfig(epochs=25, learning_rate=1e-2, n_negatives=4)
    monkeypatch.setitem(neural_cf._STEP, loss_type, 20 if loss_type == "CE" else 90)
    rows, _ = model.learn(users, items, training)
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]
    # Half the catalogue is to a user's taste, and chance would put half the targets into 12 of 24.
    result = ranked(model, split, "test", ks=(12,))
    assert result["hr@12"] > 0.5 + 4 * result["hr@12_se"]


def test_the_best_epoch_by_validation_is_kept_and_patience_ends_training():
    model, states = small_model(), []
    quality = iter([0.1, 0.5, 0.4, 0.5, 0.3, 0.9])

    def validate(_):
        states.append(model.predict.weight.detach().clone())
        return {CRITERION: next(quality)}

    users, items = np.arange(7), np.arange(1, 8)
    training = TrainingConfig(epochs=6, learning_rate=0.1, patience=3)
    rows, best_epoch = model.learn(users, items, training, validate)
    assert [row[CRITERION] for row in rows] == [0.1, 0.5, 0.4, 0.5, 0.3]
    assert best_epoch == 2 and torch.equal(model.predict.weight, states[1]) and not model.training


def test_the_same_seed_gives_the_same_model(monkeypatch):
    monkeypatch.setitem(neural_cf._STEP, "CE", 3)
    trained = []
    for _ in range(2):
        model = small_model(dropout_prob=0.2)
        training = TrainingConfig(epochs=2, seed=5)
        model.learn(np.arange(7), np.arange(1, 8), training)
        trained.append(model.user_scores(torch.arange(7)))
    assert torch.equal(*trained)


def test_a_criterion_that_is_not_finite_ends_training():
    with pytest.raises(FloatingPointError, match="learning_rate"):
        small_model().learn(
            np.arange(7), np.arange(1, 8), TrainingConfig(), lambda _: {CRITERION: float("nan")}
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mlp_hidden_size", ()),
        ("mlp_hidden_size", (8, 0)),
        ("loss_type", "MSE"),
        ("dropout_prob", 1),
        ("initializer_range", "wide"),
    ],
)
def test_options_nothing_can_be_built_from_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        NeuralCFConfig(**{name: value})
