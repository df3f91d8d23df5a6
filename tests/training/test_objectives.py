"""Objectives against their formulas, and in the limits where they must agree with each other."""

import pytest
import torch

from ss4rec_lib.data import leave_one_out, make_batch, planted_ratings
from ss4rec_lib.models import ModelConfig, Recommender, SS4Rec, SS4RecConfig
from ss4rec_lib.training import (
    bpr,
    cross_entropy,
    ranking_objective,
    sampled_cross_entropy,
)

SMALL = SS4RecConfig.official(hidden_size=8, d_H=8, d_P=4, d_state=2, n_layers=1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = SS4Rec(30, SMALL)
    torch.nn.init.normal_(model.item_embedding.weight)
    return model


def some(n, n_items=30, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 8, generator=g), torch.randint(1, n_items + 1, (n,), generator=g)


def batch_of(targets, n_items=30):
    """One row of length 1 per target."""
    ones = torch.ones_like(targets)[:, None]
    return make_batch(ones, torch.zeros(ones.shape), n_items, targets[:, None])


def uniform(n_items=30):
    q = torch.full((n_items + 1,), 1 / n_items)
    q[0] = 0
    return q


@pytest.mark.parametrize("name", ["CE", "BPR", "SAMPLED_CE"])
def test_parts_divided_by_the_whole_add_up(name):
    split = leave_one_out(planted_ratings(n_users=20, n_items=30, mean_length=10, seed=0))
    hidden, targets = some(12, split.sequences.n_items)
    model = SS4Rec(split.sequences.n_items, SMALL.replace(loss_type=name))
    torch.nn.init.normal_(model.item_embedding.weight)
    objective = ranking_objective(model, split, 5, torch.device("cpu"))

    def summed(*parts):
        total = 0.0
        for part in parts:
            torch.manual_seed(0)  # the same negatives for every part of SAMPLED_CE
            total += objective(model, hidden[part], batch_of(targets[part]), 12).item()
        return total

    if name == "BPR":  # draws negatives for each target: only the expectation is the same
        assert summed(slice(0, 12)) == pytest.approx(
            objective(model, hidden, batch_of(targets), 12).item(), 0.5
        )
        return
    whole = summed(slice(0, 12))
    assert summed(slice(0, 5), slice(5, 12)) == pytest.approx(whole, rel=1e-5)


def test_sampled_softmax_tends_to_the_full_one(model):
    """Without the padding column, which the published softmax has and the sample has not."""
    hidden, targets = some(40)
    weight = model.item_embedding.weight
    full = torch.nn.functional.cross_entropy(hidden @ weight[1:].T, targets - 1)
    torch.manual_seed(1)
    q = torch.rand(31)
    q[0] = 0
    q = q / q.sum()

    def error(k):
        found = [
            sampled_cross_entropy(
                model, hidden, batch_of(targets), 40, proposal=q, n_negatives=k
            ).item()
            for _ in range(20)
        ]
        return abs(sum(found) / len(found) - full.item())

    # A draw of the target is dropped, so its own term enters once through the positive.
    assert error(20_000) < 0.01 < error(5)


def test_the_correction_is_what_makes_it_unbiased(model):
    """Items drawn a hundred times more often must not be pushed down for it."""
    hidden, targets = some(40)
    q = uniform()
    q[1:11] *= 100
    q = q / q.sum()
    full = torch.nn.functional.cross_entropy(
        hidden @ model.item_embedding.weight[1:].T, targets - 1
    ).item()
    torch.manual_seed(0)
    corrected = sampled_cross_entropy(
        model, hidden, batch_of(targets), 40, proposal=q, n_negatives=50_000
    )
    drawn = torch.multinomial(q, 50_000, replacement=True)
    scores = hidden @ model.item_embedding.weight[drawn].T
    positive = (hidden * model.item_embedding.weight[targets]).sum(-1, keepdim=True)
    naive = scores - torch.log(torch.tensor(50_000 / 30))
    naive = naive.masked_fill(drawn == targets[:, None], -torch.inf)
    naive = (torch.logsumexp(torch.cat((positive, naive), 1), 1) - positive[:, 0]).mean()
    assert abs(corrected.item() - full) < 0.02
    assert abs(naive.item() - full) > 0.1


def test_a_draw_of_the_target_is_left_out(model):
    hidden, targets = some(5)
    q = torch.zeros(31)
    q[int(targets[0])] = 1.0
    found = sampled_cross_entropy(
        model, hidden[:1], batch_of(targets[:1]), 1, proposal=q, n_negatives=4
    )
    assert found.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("k", [1, 7])
def test_bpr_takes_any_number_of_negatives_and_never_the_target(model, k):
    small = SS4Rec(2, SMALL)
    hidden, targets = some(50, 2)
    scores = small.logits(hidden)
    rows = torch.arange(50)
    expected = -torch.nn.functional.logsigmoid(
        scores[rows, targets] - scores[rows, 3 - targets]
    ).mean()
    assert bpr(small, hidden, batch_of(targets), 50, n_negatives=k).item() == pytest.approx(
        expected.item(), 1e-5
    )


def test_cross_entropy_keeps_the_padding_column_as_published(model):
    hidden, targets = some(9)
    expected = torch.nn.functional.cross_entropy(model.logits(hidden), targets)
    assert cross_entropy(model, hidden, batch_of(targets), 9).item() == pytest.approx(
        expected.item(), rel=1e-6
    )


def test_an_unknown_objective_is_refused():
    class OtherConfig(ModelConfig):
        loss_type: str = "MSE"

    class Other(Recommender):
        score_weight = torch.zeros(31, 8)

    with pytest.raises(ValueError, match="loss_type='MSE'"):
        ranking_objective(Other(30, OtherConfig()), None, 1, torch.device("cpu"))
