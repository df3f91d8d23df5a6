"""SS4Rec for ratings: what it may see, and that it starts as the bias baseline."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.configuration import ConfigError
from ss4rec_lib.data import (
    held_out_ratings,
    leave_one_out,
    make_batch,
    planted_ratings,
    train_ratings,
)
from ss4rec_lib.evaluation import evaluate_rating
from ss4rec_lib.models import (
    BiasBaseline,
    RatingConfig,
    RatingSS4Rec,
    SS4Rec,
    SS4RecConfig,
    rating,
)

N_ITEMS = 12
OWNERS = np.array([0, 1, 2, 1])  # the last history is another one of user 1
TRUNK = SS4RecConfig.official(
    hidden_size=8, d_H=8, d_P=4, d_state=4, n_layers=2, dropout_prob=0.0, interval="log1p"
)
WIDE = (-1e9, 1.0, 2.0, 3.0, 4.0, 5.0, 1e9)  # clipping to 1 .. 5 would hide differences


def rating_config(**options):
    return RatingConfig(**TRUNK.model_dump() | options)


def make(seed=0, **options):
    """A model whose every parameter matters: an untrained head would let leaks pass unseen."""
    torch.manual_seed(seed)
    config = rating_config(**{"levels": WIDE, **options})
    model = RatingSS4Rec(N_ITEMS, config, mean=3.4, owners=OWNERS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("head", "bias", "embedding", "factors")):
                parameter.copy_(0.7 * torch.randn_like(parameter))
        if model.config.user_factors:
            model.user_embedding.weight[0] = 0  # a stranger's
    return model.eval()


def inputs(seed, B=2, L=9):
    g = torch.Generator().manual_seed(seed)
    items = torch.randint(1, N_ITEMS + 1, (B, L), generator=g)
    delta = torch.rand(B, L, generator=g) * 1e4
    ratings = torch.randint(1, 6, (B, L), generator=g).float()
    targets = torch.cat((items[:, 1:], torch.randint(1, N_ITEMS + 1, (B, 1), generator=g)), 1)
    return items, delta, ratings, targets


@settings(max_examples=25)
@given(st.integers(0, 100), st.integers(0, 7), st.booleans(), st.sampled_from([0, 4]))
def test_nothing_after_a_position_changes_its_prediction(seed, k, use_ratings, user_factors):
    """Position k: the target's rating is ratings[k + 1], the future items[k + 1:] and so on."""
    model = make(use_ratings=use_ratings, user_factors=user_factors)
    users = torch.tensor([2, 0])
    items, delta, ratings, targets = inputs(seed)
    others = inputs(seed + 1000)
    before = model.rate(items, delta, ratings, targets, users=users)
    changed = [torch.cat((old[:, : k + 1], new[:, k + 1 :]), 1) for old, new in
               zip((items, delta, ratings), others[:3], strict=True)]  # fmt: skip
    # The target's item stays known; it stands in `targets`, not in the history.
    targets = torch.cat((targets[:, : k + 1], others[3][:, k + 1 :]), 1)
    after = model.rate(*changed, targets, users=users)
    assert torch.allclose(before[:, : k + 1], after[:, : k + 1], atol=1e-5)


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_everything_that_is_known_matters(which):
    """The counterpart: were inputs ignored, the leak tests would pass for nothing."""
    model = make()
    given = inputs(3)
    before = model.rate(*given)
    changed = [t.clone() for t in given]
    k = 4
    changed[which][:, k] = {0: 1, 1: 1e6, 2: 1.0, 3: 1}[which]
    given[which][:, k] = {0: 2, 1: 0.0, 2: 5.0, 3: 2}[which]
    before, after = model.rate(*given), model.rate(*changed)
    assert (before[:, k] - after[:, k]).abs().min() > 1e-3
    if which == 3:  # a target matters to its own prediction only
        others = [j for j in range(9) if j != k]
        assert torch.equal(before[:, others], after[:, others])


def test_without_use_ratings_no_rating_of_the_history_matters():
    model = make(use_ratings=False)
    items, delta, ratings, targets = inputs(4)
    assert torch.equal(
        model.rate(items, delta, ratings, targets), model.rate(items, delta, None, targets)
    )


@pytest.mark.parametrize("use_ratings", [True, False])
def test_padding_never_changes_a_valid_position(use_ratings):
    model = make(use_ratings=use_ratings)
    items, delta, ratings, targets = inputs(5)
    pad = [torch.nn.functional.pad(t, (0, 4)) for t in (items, delta, ratings, targets)]
    assert torch.allclose(
        model.rate(*pad)[:, :9], model.rate(items, delta, ratings, targets), atol=1e-5
    )


def test_the_history_bias_is_the_shrunken_mean_of_the_residuals():
    model = make()
    items, _, ratings, _ = inputs(6)
    items[1, 6:], ratings[1, 6:] = 0, 0.0
    found = model.history_bias(items, ratings).detach()
    shrinkage = model.log_shrinkage.exp().item()
    for row, length in ((0, 9), (1, 6)):
        residuals = []
        for k in range(length):
            bias = model.item_bias.weight[items[row, k], 0].item()
            residuals.append(float(ratings[row, k]) - 3.4 - bias)
            expected = sum(residuals) / (k + 1 + shrinkage)
            assert float(found[row, k]) == pytest.approx(expected, abs=1e-5)


def test_ratings_enter_as_the_nearest_level():
    torch.manual_seed(0)
    config = rating_config(levels=(0.5, 3.0, 4.5))
    model = RatingSS4Rec(N_ITEMS, config).eval()
    items, delta, _, _ = inputs(7, B=1, L=3)
    same = model(items, delta, torch.tensor([[0.5, 3.0, 4.5]]))
    assert torch.equal(same, model(items, delta, torch.tensor([[1.0, 2.5, 9.0]])))
    assert not torch.allclose(same, model(items, delta, torch.tensor([[3.0, 0.5, 4.5]])))


@pytest.mark.parametrize("user_factors", [0, 4])
def test_an_untrained_model_is_the_bias_baseline_of_the_history(user_factors):
    """As b_u of the baseline with the items' biases held: recomputed from its definition."""
    from ss4rec_lib.training import rating_model

    split = leave_one_out(planted_ratings(n_users=40, n_items=30, mean_length=20, seed=4))
    model = rating_model(split, rating_config(user_factors=user_factors))
    known = train_ratings(split)
    baseline = BiasBaseline().fit(*known)
    item_bias = dict(zip(baseline.item_ids, baseline.item_bias, strict=True))
    result = evaluate_rating(model, split, "valid", max_len=None)
    for row, (user, item, _) in enumerate(zip(*held_out_ratings(split, "valid"), strict=True)):
        mine = known.users == user
        residuals = [
            r - baseline.mean - item_bias[i]
            for i, r in zip(known.items[mine], known.ratings[mine], strict=True)
        ]
        bias = sum(residuals) / (len(residuals) + 15)
        expected = np.clip(baseline.mean + item_bias.get(item, 0) + bias, 1, 5)
        assert result.predicted[row] == pytest.approx(expected, abs=1e-5)


def test_a_user_adds_the_product_of_two_vectors():
    """Written out, user by user; somebody outside of the training part adds nothing."""
    model = make(user_factors=4)
    given = inputs(10, B=5)
    users = torch.tensor([2, 3, -1, len(OWNERS), 1])
    found = model.rate(*given, users=users) - model.rate(*given)
    for row, user in enumerate(users.tolist()):
        known = 0 <= user < len(OWNERS)
        p = model.user_embedding.weight[OWNERS[user] + 1] if known else torch.zeros(4)
        expected = model.item_factors.weight[given[3][row]] @ p  # (L,)
        torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=1e-4)


def test_the_penalty_is_of_the_lengths_of_both_vectors():
    model = make(user_factors=4, user_penalty=0.3)
    users, targets = torch.tensor([1, 2]), torch.tensor([7, 3])
    user = model.user_vectors(users)[:, 0]
    found = model.penalty(targets, user).detach()
    for row in range(2):
        p = model.user_embedding.weight.detach()[users[row] + 1]
        q = model.item_factors.weight.detach()[targets[row]]
        assert float(found[row]) == pytest.approx(0.3 * float(p @ p + q @ q), rel=1e-5)
    assert make().penalty(targets, None) == 0 and make().user_vectors(users) is None


def test_predictions_of_rate_stay_within_the_levels():
    model = make(levels=(2.0, 3.0))
    items, delta, ratings, targets = inputs(8)
    bias = model.history_bias(items, ratings)
    free = model.predict_ratings(model(items, delta, ratings), targets, bias)
    assert free.max() > 3
    found = model.rate(items, delta, ratings, targets)
    assert torch.equal(found, free.clamp(2, 3))
    hidden = model(items, delta, ratings)
    assert torch.equal(model.rate(items, delta, ratings, targets, hidden=hidden), found)


def test_the_interface_is_that_of_a_sequence_model():
    model = make(train_for="both")
    items, delta, ratings, targets = inputs(9)
    hidden = model(items, delta, ratings)
    assert hidden.shape == (2, 9, 8)
    assert torch.equal(model.logits(hidden), hidden @ model.score_weight.T)
    assert model.n_items == N_ITEMS
    assert model.config.loss_type == "CE"
    assert model.predict_ratings(hidden[:, -1], targets[:, -1]).shape == (2,)
    for parameter in model.parameters():
        parameter.grad = None
    loss = (
        model.rate(items, delta, ratings, targets).sum() + model.logits(hidden).logsumexp(-1).sum()
    )
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("ratings", "value"),
    [
        (None, "None"),
        (torch.zeros(2, 8), "(2, 8)"),
        (torch.zeros(2, 9, dtype=torch.int64), "int64"),
    ],
)
def test_ratings_that_do_not_fit_are_refused(ratings, value):
    items, delta, _, _ = inputs(0)
    with pytest.raises(ValueError, match="ratings") as problem:
        make()(items, delta, ratings)
    assert value in str(problem.value)


def test_items_and_intervals_are_checked_as_the_trunk_checks_them():
    items, delta, ratings, _ = inputs(0)
    with pytest.raises(IndexError):
        make()(items + N_ITEMS + 1 - items.max(), delta, ratings)
    with pytest.raises(ValueError, match="delta"):
        make()(items, delta.long(), ratings)


@pytest.mark.parametrize("at_once", [1, 3, 10**6])
@pytest.mark.parametrize("user_factors", [0, 4])
@torch.no_grad()
def test_ratings_of_everything_are_those_of_each_item(user_factors, at_once, monkeypatch):
    model = make(user_factors=user_factors)
    monkeypatch.setattr(rating, "_NUMBERS", at_once * (N_ITEMS + 1) * TRUNK.hidden_size)
    items, delta, ratings, _ = inputs(11, B=7)
    batch = make_batch(items, delta, N_ITEMS, ratings=ratings, users=np.arange(7) % 5)
    hidden, bias = model.encode(batch)[:, -1], model.history_bias(items, ratings)[:, -1]
    users = model.user_vectors(batch.users)
    everything = torch.arange(N_ITEMS + 1)
    wanted = [
        model.predict_ratings(
            hidden[row].expand(len(everything), -1),
            everything,
            bias[row],
            None if users is None else users[row, 0],
        )
        for row in range(7)
    ]
    torch.testing.assert_close(
        model.expected_ratings(batch), torch.stack(wanted), atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def test_expected_ratings_are_those_of_the_last_position_without_clipping():
    model = make(user_factors=4)
    items, delta, ratings, _ = inputs(12)
    items[1, 6:], ratings[1, 6:], delta[1, 6:] = 0, 0.0, 0.0
    batch = make_batch(items, delta, N_ITEMS, ratings=ratings, users=[2, 0])
    found = model.expected_ratings(batch)
    assert found.shape == (2, N_ITEMS + 1)
    for item in (1, 7):
        every = model.rate(items, delta, ratings, torch.full_like(items, item), users=batch.users)
        torch.testing.assert_close(found[:, item], every[[0, 1], [8, 5]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        model.scores(batch), model.logits(model.encode(batch)[[0, 1], [8, 5]])
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train_for", "rmse"),
        ("rating_weight", 0),
        ("user_factors", -1),
        ("user_factors", 2.5),
        ("user_penalty", float("nan")),
        ("levels", (3.0,)),
        ("levels", (3.0, 2.0)),
        ("n_layers", 0),
        ("d_H", 4),
    ],
)
def test_impossible_configurations_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        rating_config(**{name: value})


def test_the_configuration_is_that_of_the_trunk_and_more():
    config = rating_config(train_for="both", user_factors=2)
    assert config.trunk == TRUNK
    assert (config.display_name, config.uses_time) == ("SS4Rec for both, with user factors", True)
    assert rating_config(train_for="rating").display_name == "SS4Rec for ratings"


def test_parts_that_do_not_belong_together_are_refused():
    config = rating_config()
    with pytest.raises(ValueError, match=r"trunk.*d_state=2"):
        RatingSS4Rec(N_ITEMS, config, trunk=SS4Rec(N_ITEMS, TRUNK.replace(d_state=2)))
    with pytest.raises(ValueError, match="trunk has n_items=5"):
        RatingSS4Rec(N_ITEMS, config, trunk=SS4Rec(5, TRUNK))
    with pytest.raises(ValueError, match=r"item_bias has shape \(3,\)"):
        RatingSS4Rec(N_ITEMS, config, item_bias=np.zeros(3))
    with pytest.raises(ValueError, match="mean=nan"):
        RatingSS4Rec(N_ITEMS, config, mean=float("nan"))
    with pytest.raises(ValueError, match=r"owners has shape \(0,\) with user_factors=2"):
        RatingSS4Rec(N_ITEMS, rating_config(user_factors=2))
    with pytest.raises(ValueError, match="shrinkage=0"):
        RatingSS4Rec(N_ITEMS, config, shrinkage=0)
