"""Training: objectives, the loop's promises, and that it learns what can be learned."""

import numpy as np
import pytest
import torch

from ss4rec_lib.configuration import ConfigError
from ss4rec_lib.data import (
    carried_batches,
    leave_one_out,
    make_batch,
    planted_ratings,
    train_batches,
)
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.models import ModelConfig, Popularity, Recommender, SS4Rec, SS4RecConfig
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import (
    Step,
    TrainingConfig,
    TrainingDiverged,
    bpr,
    cross_entropy,
    each,
    fit,
)
from ss4rec_lib.training.loop import learning_rate

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
    model = SS4Rec(20, SMALL.replace(dropout_prob=0.0))
    items, delta = torch.randint(1, 21, (1, 9)), torch.rand(1, 9) * 100
    inputs, targets = items[:, :8], items[:, 1:]
    at_once = cross_entropy(
        model, model(inputs, delta[:, :8])[0], make_batch(inputs, delta[:, :8], 20, targets), 8
    )
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
    model = SS4Rec(2, SMALL.replace(loss_type="BPR"))
    hidden, targets = torch.randn(50, 16), torch.randint(1, 3, (50,))
    scores = model.logits(hidden)
    positive = scores[torch.arange(50), targets]
    negative = scores[torch.arange(50), 3 - targets]  # of two items the negative is the other one
    expected = -torch.log(torch.sigmoid(positive - negative)).mean()
    batch = make_batch(torch.ones_like(targets)[:, None], torch.zeros(50, 1), 2, targets[:, None])
    assert bpr(model, hidden, batch, 50).item() == pytest.approx(expected.item(), rel=1e-5)


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
    other = trained(split, FAST.replace(seed=1))
    assert not first[1].history[timeless].equals(other[1].history[timeless])


def test_the_best_epoch_is_put_back_and_patience_ends_training(split):
    """A learning rate that wrecks the model: the first epoch stays the best one."""
    config = FAST.replace(epochs=30, patience=3, learning_rate=0.3, warmup_epochs=3)
    model, result = trained(split, config)
    ndcg = result.history["ndcg@10"]
    assert result.best_epoch == ndcg.idxmax() + 1
    assert evaluate_ranking(model, split, "valid")["ndcg@10"] == pytest.approx(ndcg.max())
    if result.stopped == "patience":
        assert len(ndcg) == result.best_epoch + 3


@pytest.mark.filterwarnings("error")
def test_the_progress_bar_ends_at_its_end(split, capsys, monkeypatch):
    """With a number of steps whose rounded shares sum to more than 1, which tqdm warns of."""
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    tokens = next(
        tokens
        for tokens in range(100, 2_000, 10)
        if sum([1 / (n := len(train_batches(split, tokens, 200, 0, 1)))] * n) > 1
    )
    config = FAST.replace(epochs=1, max_tokens=tokens)
    fit(SS4Rec(split.sequences.n_items, SMALL), split, config, progress=True)
    assert "100%" in capsys.readouterr().err


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


def test_a_loss_that_is_not_finite_stops_and_puts_the_weights_back(split, monkeypatch):
    seed_everything(0)
    model = SS4Rec(split.sequences.n_items, SMALL)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    real = model.forward
    monkeypatch.setattr(model, "forward", lambda *given, **named: real(*given, **named) * torch.nan)
    with pytest.raises(TrainingDiverged, match=r"epoch 1, batch 0 of shape .* longest interval"):
        fit(model, split, FAST, progress=False)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_gradient_that_is_not_finite_stops_although_the_loss_is(split):
    """An item nobody chose has a broken embedding: only its column of the softmax sees it."""
    seed_everything(0)
    model = SS4Rec(split.sequences.n_items, SMALL)
    broken = int(split.train_counts()[1:].argmin()) + 1
    calls = []

    def break_it(module, given):
        calls.append(1)
        if len(calls) == 3:
            with torch.no_grad():
                module.item_embedding.weight[broken] = torch.nan

    model.register_forward_pre_hook(break_it)
    with pytest.raises(TrainingDiverged, match="batch 2"):
        fit(model, split, FAST, progress=False)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_scores_that_are_not_finite_after_an_epoch_are_divergence(split):
    """One step per epoch: the step that breaks the weights is the last before validation."""
    seed_everything(0)
    model = SS4Rec(split.sequences.n_items, SMALL)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    config = FAST.replace(max_tokens=10**6, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(TrainingDiverged, match="validation after epoch 1") as caught:
        fit(model, split, config, progress=False)
    assert caught.value.model is None, "there was no epoch to keep"
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_test_part_is_never_touched(split, monkeypatch):
    import ss4rec_lib.training.objectives as objectives

    seen = []
    real = objectives.evaluate_ranking
    monkeypatch.setattr(
        objectives,
        "evaluate_ranking",
        lambda m, s, part, **k: seen.append(part) or real(m, s, part, **k),
    )
    trained(split, FAST.replace(epochs=1))
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
    cosine = TrainingConfig(epochs=10, learning_rate=2.0, warmup_epochs=0.5)
    constant = cosine.replace(schedule="constant")
    assert learning_rate(constant, 0.25) == 1.0
    assert learning_rate(constant, 3.0) == 2.0
    assert learning_rate(cosine, 5.0) == pytest.approx(1.0)
    assert learning_rate(cosine.replace(warmup_epochs=0.0), 10.0) == pytest.approx(0.0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "0"])
def test_seeds_that_are_none_are_refused(seed):
    with pytest.raises(ValueError, match="expected an integer"):
        seed_everything(seed)


# ------------------------------------------------------------------------- options of the recipe


def weights_after(split, config):
    model, _ = trained(split, config, SMALL.replace(dropout_prob=0.0))
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_parts_of_a_step_add_up_to_the_step(split):
    one = FAST.replace(epochs=1, max_tokens=2_000)
    whole = weights_after(split, one)
    for parts in (2, 5):
        found = weights_after(split, one.replace(accumulate=parts))
        assert (found - whole).norm() / whole.norm() < 1e-5
    other = weights_after(split, one.replace(max_tokens=1_000))
    assert (other - whole).norm() / whole.norm() > 1e-3


def test_full_history_trains_the_same_targets_with_the_state_carried(split, monkeypatch):
    """Without a cut gradient (one piece a user) it is training on whole histories."""
    longest = int(split.train_end.max())
    config = FAST.replace(epochs=1, history="full", max_len=longest)
    _, result = trained(split, config)
    assert np.isfinite(result.history["train_loss"]).all()

    given = []
    real = SS4Rec.forward

    def spy(self, items, delta, state=None, return_state=False):
        given.append((self.training, items.shape, state is not None))
        return real(self, items, delta, state, return_state)

    monkeypatch.setattr(SS4Rec, "forward", spy)
    trained(split, config.replace(max_len=10))
    in_training = [(shape, carried) for training, shape, carried in given if training]
    assert max(shape[1] for shape, _ in in_training) <= 10
    assert sum(carried for _, carried in in_training) > len(in_training) / 2
    # Validation sees whole histories.
    assert max(shape[1] for training, shape, _ in given if not training) > 10


def test_a_carried_state_gives_the_loss_of_the_whole_history(split):

    torch.manual_seed(0)
    model = SS4Rec(split.sequences.n_items, SMALL.replace(dropout_prob=0.0))
    step = Step(model, cross_entropy, "float32")
    total, state = 0.0, None
    for batch in carried_batches(split, 300, 7):
        rows = len(batch.items)
        state = each(state, lambda t, rows=rows: t[:rows]) if batch.carried else None
        loss, state = step(batch, 1, state, True)
        assert not any(t.requires_grad for t in (state.hidden, state.layers[0][0]))
        total += loss.item()
    expected = sum(
        step(b, 1, None, False)[0].item()
        for b in train_batches(split, max_tokens=2_000, max_len=None)
    )
    assert total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("change", [
    {"target_time": "none"}, {"target_time": "previous"}, {"history": "full", "max_len": 9},
    {"optimizer": "adamw", "weight_decay": 0.1}, {"precision": "bf16"},
])  # fmt: skip
def test_every_option_changes_what_is_computed(split, change):
    one = FAST.replace(epochs=1)
    plain, changed = (
        weights_after(split, one),
        weights_after(split, one.replace(**change)),
    )
    assert torch.isfinite(changed).all()
    assert not torch.equal(plain, changed)


def test_hidden_trains_as_known_and_validates_without_the_targets_time(split):
    one = FAST.replace(epochs=1)
    (a, known), (b, hidden) = (
        trained(split, one.replace(target_time=arm)) for arm in ("known", "hidden")
    )
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert known.history["ndcg@10"][0] != hidden.history["ndcg@10"][0]


@pytest.mark.parametrize(("field", "value"), [
    ("epochs", 0), ("epochs", True), ("patience", 1.5), ("learning_rate", -1.0),
    ("learning_rate", float("nan")),
    ("weight_decay", -0.1), ("weight_decay", float("nan")), ("warmup_epochs", -1), ("max_len", 0),
    ("schedule", "step"), ("optimizer", "sgd"), ("history", "all"), ("target_time", "later"),
    ("precision", "fp16"), ("device", "tpu"), ("gradient_clip", 0.0), ("seed", -1),
    ("accumulate", 0), ("n_negatives", 0), ("checkpoint_seconds", -1.0),
])  # fmt: skip
def test_values_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=f"{field}=.*{value}".lower()):
        TrainingConfig(**{field: value})


def test_inconsistent_values_are_refused():
    with pytest.raises(ValueError, match="history='full' needs max_len"):
        TrainingConfig(history="full", max_len=None)


def test_a_model_of_another_catalogue_is_refused(split):
    with pytest.raises(ValueError, match="7 items"):
        fit(SS4Rec(7, SMALL), split, FAST, progress=False)


class PlainConfig(ModelConfig):
    loss_type: str = "CE"


class Plain(Recommender):
    """The least that can be trained: `forward`, `logits` and the name of the loss."""

    def __init__(self, n_items, loss_type="CE"):
        super().__init__(n_items, PlainConfig(loss_type=loss_type))
        self.embed = torch.nn.Embedding(n_items + 1, 8)
        self.out = torch.nn.Linear(8, n_items + 1)

    def forward(self, items, delta):
        return self.embed(items)

    def logits(self, hidden):
        return self.out(hidden)


def test_any_model_with_hidden_states_and_logits_can_be_trained(split):
    result = fit(Plain(split.sequences.n_items), split, FAST, progress=False)
    assert result.history["train_loss"].is_monotonic_decreasing
    with pytest.raises(ValueError, match=r"loss_type='BPR'.*score_weight"):
        fit(Plain(split.sequences.n_items, "BPR"), split, FAST, progress=False)


def test_each_epoch_leaves_a_log_line(split, caplog):
    caplog.set_level("INFO", logger="ss4rec_lib")
    trained(split, FAST.replace(epochs=2))
    lines = [r.message for r in caplog.records if r.message.startswith("epoch ")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "valid HR@10" in lines[0] and "targets/s" in lines[0]
