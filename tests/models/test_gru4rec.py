"""GRU4Rec: the published recurrence, causality, padding, and that it learns."""

import pytest
import torch

from ss4rec_lib.configuration import ConfigError, as_text
from ss4rec_lib.data import leave_one_out, planted_ratings
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.models import Popularity
from ss4rec_lib.models.gru4rec import GRU4Rec, GRU4RecConfig
from ss4rec_lib.training import TrainingConfig, fit

SMALL = GRU4RecConfig(embedding_size=8, hidden_size=12)


def model_and_batch(config=SMALL, n_items=30, batch=3, length=9):
    torch.manual_seed(0)
    model = GRU4Rec(n_items, config).eval()
    return model, torch.randint(1, n_items + 1, (batch, length)), torch.rand(batch, length) * 1e5


def test_forward_is_the_gated_recurrence_of_the_paper():
    """Cho et al. 2014 as PyTorch writes it: h = (1 - z) n + z h, without biases."""
    model, items, delta = model_and_batch()
    w_r, w_z, w_n = model.gru.weight_ih_l0.chunk(3)
    u_r, u_z, u_n = model.gru.weight_hh_l0.chunk(3)
    for row in range(3):
        h = torch.zeros(12)
        for k in range(9):
            x = model.item_embedding.weight[items[row, k]]
            r = torch.sigmoid(w_r @ x + u_r @ h)
            z = torch.sigmoid(w_z @ x + u_z @ h)
            n = torch.tanh(w_n @ x + r * (u_n @ h))
            h = (1 - z) * n + z * h
            expected = model.dense.weight @ h + model.dense.bias
            assert torch.allclose(model(items, delta)[row, k], expected, atol=1e-5)


def test_size_with_the_published_options():
    """Embedding and GRU without biases, and a dense layer with one."""
    expected = 3_417 * 64 + 3 * 128 * (64 + 128) + (128 * 64 + 64)
    assert sum(p.numel() for p in GRU4Rec(3_416).parameters()) == expected


def test_causal_and_blind_to_time():
    model, items, delta = model_and_batch(
        GRU4RecConfig(embedding_size=8, hidden_size=12, num_layers=2)
    )
    hidden = model(items, delta)
    for k in (0, 4):
        later = items.clone()
        later[:, k + 1 :] = later[:, k + 1 :] % 30 + 1
        changed = model(later, delta)
        assert torch.allclose(changed[:, : k + 1], hidden[:, : k + 1], atol=1e-6)
        assert not torch.allclose(changed[:, k + 1 :], hidden[:, k + 1 :], atol=1e-4)
    assert torch.equal(model(items, delta * 7), hidden)


def test_right_padding_never_changes_a_valid_position():
    model, items, delta = model_and_batch()
    padded = torch.nn.functional.pad(items, (0, 5)), torch.nn.functional.pad(delta, (0, 5))
    assert torch.allclose(model(*padded)[:, :9], model(items, delta), atol=1e-6)


def test_scores_are_inner_products_with_score_weight_and_every_parameter_learns():
    model, items, delta = model_and_batch()
    hidden = model.train()(items, delta)
    scores = model.logits(hidden)
    assert scores.shape == (3, 9, 31)
    expected = torch.einsum("bld,vd->blv", hidden, model.score_weight)
    assert torch.allclose(scores, expected, atol=1e-5)
    scores.logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", 0),
        ("num_layers", True),
        ("dropout_prob", 1.0),
        ("dropout_prob", "much"),
        ("loss_type", "MSE"),
    ],
)
def test_options_nothing_can_be_built_from_are_refused(name, value):
    with pytest.raises(ConfigError, match=name) as problem:
        GRU4RecConfig(**{name: value})
    assert as_text(value) in str(problem.value)


def test_bad_batches_are_refused():
    model, items, delta = model_and_batch()
    with pytest.raises(IndexError):
        model(items * 0 + 31, delta)
    with pytest.raises(ValueError, match="delta"):
        model(items, delta[:, 1:])
    with pytest.raises(ValueError, match=r"items is .*float32"):
        model(items.float(), delta)
    with pytest.raises(ValueError, match="n_items=0"):
        GRU4Rec(0)


def test_a_short_training_beats_popularity():
    ratings = planted_ratings(n_users=150, n_items=20, mean_length=30, seed=3)
    split = leave_one_out(ratings)
    torch.manual_seed(0)
    model = GRU4Rec(
        split.sequences.n_items, GRU4RecConfig(embedding_size=16, hidden_size=32, dropout_prob=0.0)
    )
    config = TrainingConfig(epochs=4, learning_rate=1e-2, max_tokens=600, device="cpu")
    result = fit(model, split, config, progress=False)
    assert result.history["train_loss"].is_monotonic_decreasing
    ours = evaluate_ranking(model, split, ks=(2,))
    popular = evaluate_ranking(Popularity(split.train_counts()), split, ks=(2,))
    assert ours["hr@2"] > popular["hr@2"] + 5 * ours["hr@2_se"]
