"""Training: objectives, the loop's promises, and that it learns what can be learned."""

import dataclasses

import numpy as np
import pytest
import torch

from ss4rec_lib.data import leave_one_out, planted_ratings, train_batches
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.models import Popularity, SS4Rec, SS4RecConfig
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import TrainingConfig, TrainingDiverged, fit
from ss4rec_lib.training.loop import learning_rate_factor
from ss4rec_lib.training.objectives import bpr, cross_entropy

SMALL = SS4RecConfig.official(hidden_size=16, d_H=16, d_P=8, d_state=4, n_layers=1)
FAST = TrainingConfig(epochs=3, max_tokens=512, learning_rate=1e-2)


@pytest.fixture(scope="module")
def split():
    return leave_one_out(planted_ratings(n_users=80, n_items=40, mean_length=25, seed=3))


def trained(split, config=FAST, model_config=SMALL):
    seed_everything(config.seed)
    model = SS4Rec(split.sequences.n_items, model_config)
    return model, fit(model, split, config, progress=False)


def test_all_positions_at_once_is_the_published_loss_and_gradient():
    """One causal pass gives the loss of every prefix as its own padded row, and its gradient."""
    torch.manual_seed(0)
    model = SS4Rec(20, dataclasses.replace(SMALL, dropout_prob=0.0))
    items, delta = torch.randint(1, 21, (1, 9)), torch.rand(1, 9) * 100
    inputs, targets = items[:, :8], items[:, 1:]
    at_once = cross_entropy(model, model(inputs, delta[:, :8])[0], targets[0])
    gradient = torch.autograd.grad(at_once, list(model.parameters()))

    rows, times = torch.zeros(8, 8, dtype=torch.int64), torch.zeros(8, 8)
    for k in range(8):  # prefix k has k + 1 items, right-padded
        rows[k, : k + 1], times[k, : k + 1] = items[0, : k + 1], delta[0, : k + 1]
    last = model(rows, times)[torch.arange(8), torch.arange(8)]
    published = torch.nn.functional.cross_entropy(last @ model.item_embedding.weight.T, targets[0])
    expected = torch.autograd.grad(published, list(model.parameters()))
    assert at_once.item() == pytest.approx(published.item(), rel=1e-6)
    for found, wanted in zip(gradient, expected, strict=True):
        # The padded rows also look up the padding id, whose embedding gets no gradient from it.
        assert torch.allclose(found, wanted, atol=1e-6)


def test_bpr_is_its_formula_and_never_draws_the_target():
    torch.manual_seed(0)
    model = SS4Rec(2, dataclasses.replace(SMALL, loss_type="BPR"))
    hidden, targets = torch.randn(50, 16), torch.randint(1, 3, (50,))
    scores = model.logits(hidden)
    positive = scores[torch.arange(50), targets]
    negative = scores[torch.arange(50), 3 - targets]  # of two items the negative is the other one
    expected = -torch.log(torch.sigmoid(positive - negative)).mean()
    assert bpr(model, hidden, targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_falls_and_the_history_says_so(split):
    _, result = trained(split)
    history = result.history
    assert list(history["epoch"]) == [1, 2, 3]
    assert history["train_loss"].is_monotonic_decreasing
    assert history["train_loss"].iloc[0] < np.log(split.sequences.n_items + 1) * 1.05
    assert result.stopped == "epochs"
    assert result.train_seconds > 0


def test_the_same_seed_gives_the_same_run_and_another_seed_another(split):
    first, second = trained(split), trained(split)
    timeless = ["train_loss", "hr@10", "ndcg@10", "mrr@10", "learning_rate"]
    assert first[1].history[timeless].equals(second[1].history[timeless])
    for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(a, b)
    other = trained(split, dataclasses.replace(FAST, seed=1))
    assert not first[1].history[timeless].equals(other[1].history[timeless])


def test_the_best_epoch_is_put_back_and_patience_ends_training(split):
    """A learning rate that wrecks the model: the first epoch stays the best one."""
    config = dataclasses.replace(FAST, epochs=30, patience=3, learning_rate=0.3, warmup_epochs=3)
    model, result = trained(split, config)
    ndcg = result.history["ndcg@10"]
    assert result.best_epoch == ndcg.idxmax() + 1
    assert evaluate_ranking(model, split, "valid")["ndcg@10"] == pytest.approx(ndcg.max())
    if result.stopped == "patience":
        assert len(ndcg) == result.best_epoch + 3


def test_an_interrupt_keeps_the_best_weights_and_the_history(split):
    def stop(history):
        if len(history) == 2:
            raise KeyboardInterrupt

    seed_everything(0)
    model = SS4Rec(split.sequences.n_items, SMALL)
    result = fit(model, split, FAST, on_epoch=stop, progress=False)
    assert result.stopped == "interrupted"
    assert len(result.history) == 2
    best = result.history["ndcg@10"].max()
    assert evaluate_ranking(model, split, "valid")["ndcg@10"] == pytest.approx(best)


def test_a_loss_that_is_not_finite_stops_and_puts_the_weights_back(split):
    seed_everything(0)
    model = SS4Rec(split.sequences.n_items, SMALL)
    before = {k: v.clone() for k, v in model.state_dict().items()}

    def poisoned(hidden):
        return hidden @ model.item_embedding.weight.T * torch.tensor(float("nan"))

    model.logits = poisoned
    with pytest.raises(TrainingDiverged, match=r"epoch 1, batch 0 of shape .* longest interval"):
        fit(model, split, FAST, progress=False)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_test_part_is_never_touched(split, monkeypatch):
    import ss4rec_lib.training.loop as loop

    seen = []
    real = loop.evaluate_ranking
    monkeypatch.setattr(
        loop, "evaluate_ranking", lambda m, s, part, **k: seen.append(part) or real(m, s, part, **k)
    )
    trained(split, dataclasses.replace(FAST, epochs=1))
    assert seen == ["valid"]
    held_out = {
        (int(user), int(position))
        for part in ("valid", "test")
        for user, position in zip(*split.held_out[part], strict=True)
    }
    learned = sum(int((b.targets > 0).sum()) for b in train_batches(split, max_tokens=512))
    assert learned == split.sequences.n_interactions - split.sequences.n_users - len(held_out)


@pytest.mark.slow
def test_it_learns_the_planted_rule_far_better_than_popularity():
    split = leave_one_out(planted_ratings(n_users=400, n_items=60, mean_length=60, seed=0))
    config = TrainingConfig(epochs=12, max_tokens=1_600, learning_rate=1e-2, patience=12)
    model, _ = trained(split, config, SS4RecConfig.official(hidden_size=32, d_H=32, d_P=16))
    found = evaluate_ranking(model, split, "test")
    floor = evaluate_ranking(Popularity(split.train_counts()), split, "test")
    assert found["hr@1"] > floor["hr@1"] + 10 * found["hr@1_se"]


def test_learning_rate_warms_up_and_decays():
    assert learning_rate_factor(0.25, 10, 0.5, "constant") == 0.5
    assert learning_rate_factor(3.0, 10, 0.5, "constant") == 1.0
    assert learning_rate_factor(5.0, 10, 0.5, "cosine") == pytest.approx(0.5)
    assert learning_rate_factor(10.0, 10, 0.0, "cosine") == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"patience": 1.5}, "patience=1.5"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"schedule": "linear"}, "schedule='linear'"),
        ({"warmup_epochs": -1}, "warmup_epochs=-1"),
        ({"gradient_clip": 0.0}, "gradient_clip=0.0"),
    ],
)
def test_values_that_cannot_be_trained_with_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**changes)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "0"])
def test_seeds_that_are_none_are_refused(seed):
    with pytest.raises(ValueError, match="expected an integer"):
        seed_everything(seed)
