"""What all models share: the interface, and a dropout with fewer random bits."""

import numpy as np
import pytest
import torch

from ss4rec_lib.data import make_batch
from ss4rec_lib.models import (
    Dropout,
    Ensemble,
    GRU4RecConfig,
    Popularity,
    RatingConfig,
    SASRecConfig,
    SS4Rec,
    SS4RecConfig,
    make_model,
)


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_as_many_are_dropped_as_should_be(p):
    torch.manual_seed(0)
    n = 1_000_003  # not a multiple of four
    out = Dropout(p)(torch.ones(n))
    standard_error = (p * (1 - p) / n) ** 0.5
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=5 * standard_error)
    kept = out[out > 0]
    assert kept.unique().numel() == 1
    assert kept[0].item() == pytest.approx(1 / (1 - p), rel=1e-4)
    assert out.mean().item() == pytest.approx(1.0, abs=5 * standard_error / (1 - p))


def test_neighbours_are_independent():
    """The four elements that share a draw, too."""
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(400_000)) == 0).double().view(-1, 4)
    correlation = torch.corrcoef(dropped.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / 100_000**0.5


def test_the_seed_decides_and_evaluation_changes_nothing():
    dropout, x = Dropout(0.3), torch.randn(5, 7, 3)
    torch.manual_seed(4)
    first = dropout(x)
    second = dropout(x)
    torch.manual_seed(4)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)
    assert dropout.eval()(x) is x or torch.equal(dropout(x), x)


def test_the_gradient_is_the_mask():
    x = torch.randn(9, 5, requires_grad=True)
    out = Dropout(0.4)(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.allclose(gradient * x, out)


def test_extreme_probabilities_are_pytorchs():
    x = torch.randn(100)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(100))
    assert torch.isfinite(Dropout(1 - 1e-9)(x)).all()


SMALL = {"hidden_size": 8, "d_H": 8, "d_P": 4, "d_state": 4, "backend": "parallel"}
KINDS = {
    "ss4rec": SS4RecConfig(**SMALL),
    "s5_only": SS4RecConfig(**SMALL, model_type="s5_only"),
    "mamba_only": SS4RecConfig(**SMALL, model_type="mamba_only"),
    "gru4rec": GRU4RecConfig(),
    "sasrec": SASRecConfig(),
    "sasrec_time": SASRecConfig(time="intervals"),
    "rating": RatingConfig(**SMALL, train_for="both"),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def batch_on(device):
    return make_batch(
        [[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]], torch.ones(2, 5), n_items=9,
        ratings=torch.full((2, 5), 3.0),
    ).to(device)  # fmt: skip


@kinds
def test_forward_and_backward_read_no_value_of_a_tensor(kind):
    """A tensor on the device `meta` has no values: whatever reads one fails."""
    model = make_model(9, KINDS[kind]).to("meta")
    hidden = model.encode(batch_on("meta"))
    model.logits(hidden).logsumexp(-1).sum().backward()
    trained = [p for name, p in model.named_parameters() if kind != "rating" or "trunk" in name]
    assert trained and all(parameter.grad is not None for parameter in trained)


@kinds
@torch.no_grad()
def test_scores_are_the_logits_of_the_last_interaction(kind):
    model, batch = make_model(9, KINDS[kind]).eval(), batch_on("cpu")
    hidden = model.encode(batch)
    expected = torch.stack((model.logits(hidden[0, 4]), model.logits(hidden[1, 2])))
    assert torch.allclose(model.scores(batch), expected, atol=1e-6)
    assert model.scores(batch).shape == (2, 10)


def test_what_a_model_cannot_do_is_an_error_that_names_it():
    model, batch = Popularity(np.array([0, 1, 2])), batch_on("cpu")
    with pytest.raises(NotImplementedError, match="Popularity"):
        model(batch.items, batch.delta)
    with pytest.raises(NotImplementedError, match="Popularity"):
        model.initial_state(1)
    assert model.score_weight is None


def test_an_ensemble_ranks_by_the_mean_of_log_probabilities():
    models, batch = [], make_batch([[3, 1, 2], [4, 0, 0]], [[1.0, 20, 3], [5, 0, 0]], 6)
    for seed in (0, 1, 2):
        torch.manual_seed(seed)
        models.append(SS4Rec(6, SS4RecConfig(hidden_size=8, d_H=8, d_P=4, d_state=4)).eval())
    found = Ensemble(models).eval().scores(batch)
    each = [model.scores(batch).softmax(-1).log() for model in models]
    assert torch.allclose(found, sum(each) / 3, atol=1e-6)
