"""SASRec, blind and with time: the published computation, causality, padding, what time buys."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ss4rec_lib.configuration import ConfigError
from ss4rec_lib.data import leave_one_out, planted_ratings, planted_truth
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.models import Popularity
from ss4rec_lib.models.additions import time_buckets
from ss4rec_lib.models.sasrec import SASRec, SASRecConfig, elapsed_seconds
from ss4rec_lib.training import TrainingConfig, fit

# Larger weights than the initial ones, as after training: attention is then far from uniform.
SMALL = SASRecConfig(hidden_size=16, inner_size=24, max_positions=20, initializer_range=0.3)
TIMES = ("none", "bias", "intervals")
times = pytest.mark.parametrize("time", TIMES)


def model_and_batch(time="none", n_items=30, batch=3, length=9, seed=0):
    torch.manual_seed(seed)
    model = SASRec(n_items, SMALL.replace(time=time)).eval()
    if model.time_bias is not None:
        torch.nn.init.normal_(model.time_bias.table)
    delta = (10 ** (torch.rand(batch, length) * 7)).round()
    delta[torch.rand(batch, length) < 0.3] = 0
    return model, torch.randint(1, n_items + 1, (batch, length)), delta


def one_row(model, items, delta):
    """Position by position, head by head, in float64, from timestamps: (L, d)."""
    config, weights = model.config, {k: v.double() for k, v in model.state_dict().items()}
    d, H, width = config.hidden_size, config.n_heads, config.hidden_size // config.n_heads
    moments = [0]
    for seconds in delta.tolist():
        moments.append(moments[-1] + int(seconds))

    def bucket(seconds):
        return min(int(math.log1p(seconds) / 0.301), config.n_time_buckets - 1)

    def norm(x, name):
        return F.layer_norm(x, (d,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    x = []
    for k, item in enumerate(items.tolist()):
        row = weights["item_embedding.weight"][item] + weights["position_embedding.weight"][k]
        if config.time == "intervals":
            row = row + weights["interval_embedding.weight"][bucket(delta[k].item())]
        x.append(norm(row, "norm"))
    for number in range(config.n_layers):
        name = f"layers.{number}"
        W, b = (weights[f"{name}.query_key_value.{part}"] for part in ("weight", "bias"))
        queries, keys, values = zip(*((W @ row + b).split(d) for row in x), strict=True)
        after = []
        for k in range(len(x)):
            heads = []
            for h in range(H):
                at = slice(h * width, (h + 1) * width)
                logits = [queries[k][at] @ keys[j][at] / math.sqrt(width) for j in range(k + 1)]
                if config.time != "none":
                    table = weights["time_bias.table"][number * H + h]
                    ages = [moments[k + 1] - moments[j] for j in range(k + 1)]
                    logits = [z + table[bucket(age)] for z, age in zip(logits, ages, strict=True)]
                shares = torch.stack(logits).softmax(0)
                heads.append(sum(s * values[j][at] for j, s in enumerate(shares)))
            W, b = (weights[f"{name}.attention_out.{part}"] for part in ("weight", "bias"))
            y = norm(W @ torch.cat(heads) + b + x[k], f"{name}.attention_norm")
            W, b = (weights[f"{name}.inner.{part}"] for part in ("weight", "bias"))
            inner = F.gelu(W @ y + b)
            W, b = (weights[f"{name}.outer.{part}"] for part in ("weight", "bias"))
            after.append(norm(W @ inner + b + y, f"{name}.outer_norm"))
        x = after
    return torch.stack(x)


@times
def test_forward_is_the_published_computation_written_out(time):
    model, items, delta = model_and_batch(time)
    hidden = model(items, delta)
    for row in range(2):
        assert torch.allclose(
            hidden[row].double(), one_row(model, items[row], delta[row]), atol=1e-4
        )


def test_size_with_the_published_options():
    layer = 4 * (64 * 64 + 64) + (64 * 256 + 256) + (256 * 64 + 64) + 2 * 128
    expected = 3_417 * 64 + 200 * 64 + 128 + 2 * layer
    assert sum(p.numel() for p in SASRec(3_416).parameters()) == expected


@times
def test_causal_in_items_and_in_time(time):
    model, items, delta = model_and_batch(time)
    hidden = model(items, delta)
    for k in (0, 4):
        later_items, later_delta = items.clone(), delta.clone()
        later_items[:, k + 1 :] = later_items[:, k + 1 :] % 30 + 1
        later_delta[:, k + 1 :] += 1e6
        changed = model(later_items, later_delta)
        assert torch.allclose(changed[:, : k + 1], hidden[:, : k + 1], atol=1e-5)
        assert not torch.allclose(changed[:, k + 1 :], hidden[:, k + 1 :], atol=1e-3)


@times
def test_only_with_time_is_the_moment_of_the_target_seen(time):
    model, items, delta = model_and_batch(time)
    hidden = model(items, delta)
    other = delta.clone()
    # Intervals before stay: with a bias alone, position 4 sees them age, position 0 has one key.
    other[:, 4] = 3e7 - other[:, 4]
    changed = model(items, other)[:, 4]
    assert torch.equal(changed, hidden[:, 4]) == (time == "none")


@times
def test_right_padding_never_changes_a_valid_position(time):
    model, items, delta = model_and_batch(time)
    alone = model(items, delta)
    padded = model(F.pad(items, (0, 6)), F.pad(delta, (0, 6)))
    assert torch.isfinite(padded).all()
    assert torch.allclose(padded[:, :9], alone, atol=1e-5)
    # Rows of different lengths in one batch, as the batches are.
    shorter = items.clone(), delta.clone()
    for tensor in shorter:
        tensor[1, 5:] = 0
    assert torch.allclose(model(*shorter)[1, :5], alone[1, :5], atol=1e-5)


@times
def test_scores_are_inner_products_with_score_weight_and_every_parameter_learns(time):
    model, items, delta = model_and_batch(time, length=20)
    hidden = model.train()(items, delta)
    scores = model.logits(hidden)
    assert scores.shape == (3, 20, 31)
    expected = torch.einsum("bld,vd->blv", hidden, model.score_weight)
    assert torch.allclose(scores, expected, atol=1e-4)
    scores.logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@settings(max_examples=30)
@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=12), st.integers(1, 80))
def test_ages_are_exact_and_buckets_grow_with_them(seconds, n_buckets):
    delta = torch.tensor([seconds], dtype=torch.float32)
    exact = [int(s) for s in delta[0].tolist()]  # what float32 holds of them
    elapsed = elapsed_seconds(delta)[0]
    for k in range(len(seconds)):
        for j in range(k + 1):
            assert elapsed[k, j].item() == sum(exact[j : k + 1])
    ages, _ = torch.sort(elapsed.diagonal())
    buckets = time_buckets(ages, n_buckets)
    assert (buckets.diff() >= 0).all() and buckets.min() >= 0 and buckets.max() < n_buckets


def test_ties_seconds_and_decades_have_buckets_of_their_own():
    ages = torch.tensor([0.0, 1.0, 3_600.0, 86_400.0, 60 * 365.25 * 86_400])
    buckets = time_buckets(ages, SASRecConfig().n_time_buckets)
    assert len(buckets.unique()) == 5 and buckets[0] == 0
    assert buckets[-1] < SASRecConfig().n_time_buckets


def test_a_row_longer_than_the_positions_is_refused():
    model, _, _ = model_and_batch()
    with pytest.raises(ValueError, match=r"21 positions.*max_positions=20.*most recent 20"):
        model(torch.ones(1, 21, dtype=torch.int64), torch.zeros(1, 21))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_heads", 3),
        ("n_layers", 0),
        ("attn_dropout_prob", -0.1),
        ("time", "yes"),
        ("loss_type", "L2"),
        ("initializer_range", 0),
        ("max_positions", 1.5),
    ],
)
def test_options_nothing_can_be_built_from_are_refused(name, value):
    with pytest.raises(ConfigError, match=name) as problem:
        SASRecConfig(**{name: value})
    assert str(value) in str(problem.value)


def test_time_beats_the_blind_ceiling_that_the_blind_model_cannot_pass():
    """The planted rule depends on the interval; two seeds, the same budget for both models."""
    split = leave_one_out(planted_ratings(n_users=200, n_items=20, mean_length=40, seed=0))
    ceiling = planted_truth(20, 0).best_hit_rate(1, interval_known=False)
    popular = evaluate_ranking(Popularity(split.train_counts()), split, ks=(1,))
    for seed in (0, 1):
        found = {}
        for time in ("none", "intervals"):
            torch.manual_seed(seed)
            config = SASRecConfig(
                hidden_size=32,
                inner_size=64,
                n_layers=1,
                hidden_dropout_prob=0.0,
                attn_dropout_prob=0.0,
                max_positions=100,
                time=time,
            )
            model = SASRec(split.sequences.n_items, config)
            training = TrainingConfig(
                epochs=8, learning_rate=1e-2, max_tokens=600, max_len=100, seed=seed, device="cpu"
            )
            fit(model, split, training, progress=False)
            found[time] = evaluate_ranking(model, split, ks=(1,), max_len=100)
        blind, aware = found["none"], found["intervals"]
        assert blind["hr@1"] > popular["hr@1"] + 3 * blind["hr@1_se"]
        assert blind["hr@1"] < ceiling + 3 * blind["hr@1_se"]
        assert aware["hr@1"] > ceiling + 3 * aware["hr@1_se"]
