"""SS4Rec+ and the rivals with the same additions: formulas, causality, streaming, refusals."""

import math

import pytest
import torch
from torch.nn import functional as F

from ss4rec_lib.data import make_batch
from ss4rec_lib.models import (
    GRU4Rec,
    RatingConfig,
    SASRec,
    SASRecConfig,
    SS4Rec,
    SS4RecConfig,
    load_official_state_dict,
    official_state_dict,
)
from ss4rec_lib.models.additions import IntervalEmbedding, SwiGLU, time_buckets
from ss4rec_lib.training.objectives import cross_entropy

SMALL = {"hidden_size": 16, "d_H": 16, "d_P": 8, "d_state": 4, "initializer_range": 0.3}
VARIANTS = [
    {},
    {"norms": "own"},
    {"norms": "before"},
    {"interval_embedding": "gate"},
    {"feed_forward": "none", "interval_embedding": "add"},
    {"interval_embedding": "both", "scores": "cosine"},
    {"model_type": "mamba_only"},
    {"model_type": "s5_only", "norms": "own"},
]
variants = pytest.mark.parametrize("changes", VARIANTS, ids=str)


def model_and_batch(config, kind=SS4Rec, batch=3, length=12):
    torch.manual_seed(0)
    model = kind(30, config).eval()
    items = torch.randint(1, 31, (batch, length))
    delta = 10 ** (torch.rand(batch, length) * 6)
    delta[torch.rand(batch, length) < 0.4] = 0
    return model, items, delta


def test_the_head_is_its_formula():
    torch.manual_seed(0)
    layer = IntervalEmbedding(4, "both", 20)
    hidden, delta = torch.randn(2, 3, 4), torch.tensor([[0.0, 1.0, 60.0], [3_600.0, 1e6, 1e12]])
    found = layer(hidden, delta)
    for row in range(2):
        for place in range(3):
            seconds = delta[row, place].item()
            bucket = min(int(math.log1p(seconds) / 0.301), 19)
            expected = hidden[row, place] * (1 + layer.gate.weight[bucket])
            assert torch.allclose(found[row, place], expected + layer.add.weight[bucket])
    assert time_buckets(torch.tensor([0.0, 0.3, 0.4]), 20).tolist() == [0, 0, 1]


def test_the_feed_forward_is_its_formula():
    torch.manual_seed(0)
    layer, x = SwiGLU(64), torch.randn(5, 64)
    a, b = layer.inner.weight[:176] @ x[0], layer.inner.weight[176:] @ x[0]
    assert torch.allclose(layer(x)[0], layer.outer.weight @ (F.silu(a) * b), atol=1e-5)


def test_a_block_is_its_formula():
    model, items, delta = model_and_batch(SS4RecConfig.plus(**SMALL))
    x = model.intervals(model.item_embedding(items), delta)
    for block in model.blocks:
        x = block.norm(block.s5(x, delta) + x)
        x = block.norm(block.mamba(x) + x)
        x = block.norm(block.feed_forward(x) + x)
    assert torch.allclose(model(items, delta), x, atol=1e-6)
    changes = {"norms": "before", "interval_embedding": "both"}
    model, items, delta = model_and_batch(SS4RecConfig.plus(**SMALL | changes))
    x = model.item_embedding(items)
    for block in model.blocks:
        x = x + block.s5(block.norm(x), delta)
        x = x + block.mamba(block.more_norms[0](x))
        x = x + block.feed_forward(block.more_norms[1](x))
    expected = model.intervals(model.norm(x), delta)
    assert torch.allclose(model(items, delta), expected, atol=1e-5)


def test_cosine_scores_are_their_formula():
    model, items, delta = model_and_batch(SS4RecConfig.official(**SMALL, scores="cosine"))
    plain, _, _ = model_and_batch(SS4RecConfig.official(**SMALL))
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k != "log_scale"})
    hidden = plain(items, delta)[:, -1, None]  # (B, 1, d)
    cosine = F.cosine_similarity(hidden, plain.item_embedding.weight[None], dim=-1)
    found = model.logits(model(items, delta)[:, -1])
    assert torch.allclose(found, cosine * model.log_scale.exp(), atol=1e-5)


@variants
def test_steps_and_pieces_give_the_whole_pass(changes):
    model, items, delta = model_and_batch(SS4RecConfig.plus(**SMALL | changes))
    whole = model(items, delta)
    state = model.initial_state(len(items))
    for place in range(items.shape[1]):
        state = model.step(state, items[:, place], delta[:, place])
    assert torch.allclose(state.hidden, whole[:, -1], atol=1e-5)
    first, state = model(items[:, :5], delta[:, :5], return_state=True)
    rest = model(items[:, 5:], delta[:, 5:], state)
    assert torch.allclose(torch.cat([first, rest], 1), whole, atol=1e-5)


@variants
def test_no_position_sees_what_follows(changes):
    model, items, delta = model_and_batch(SS4RecConfig.plus(**SMALL | changes))
    before = model(items, delta)
    items[:, 7], delta[:, 7] = items[:, 7] % 30 + 1, delta[:, 7] + 86_400
    after = model(items, delta)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7], after[:, 7])


@pytest.mark.parametrize(("place", "reached"), [("both", [7]), ("input", [7, 8, 9, 10, 11])])
def test_an_interval_is_read_without_s5(place, reached):
    """At the input, Mamba carries an interval on; in the last hidden state it stays where it is."""
    changes = {"model_type": "mamba_only", "interval_embedding": place}
    config = SS4RecConfig.plus(**SMALL | changes)
    assert config.uses_time
    model, items, delta = model_and_batch(config)
    before = model(items, delta)
    delta[:, 7] += 86_400
    changed = (before != model(items, delta)).any(-1).any(0)
    assert changed.nonzero().flatten().tolist() == reached


def test_sasrec_with_the_same_feed_forward():
    config = SASRecConfig(hidden_size=16, time="intervals", feed_forward="swiglu")
    model, items, delta = model_and_batch(config, SASRec)
    before = model(items, delta)
    delta[:, 7] += 86_400
    changed = (before != model(items, delta)).any(-1).any(0)
    assert changed.nonzero().flatten().tolist() == [7, 8, 9, 10, 11]
    with torch.no_grad():  # without its feed-forward a layer ends in the norm of its attention
        model.layers[0].gated.outer.weight.zero_()
    x = torch.randn(2, 5, 16)
    plain = model.layers[0](x, None)
    model.layers[0].gated.outer.reset_parameters()
    assert not torch.allclose(plain, model.layers[0](x, None))


@pytest.mark.parametrize("kind", [SS4Rec, SASRec, GRU4Rec])
def test_the_offset_of_seen_items_is_its_formula(kind):
    model, items, delta = model_and_batch(kind.config_type(seen_offset=True), kind)
    targets = torch.randint(1, 31, items.shape)
    batch = make_batch(items, delta, 30, targets=targets)
    with torch.no_grad():
        model.seen_offset.fill_(-1.5)
    hidden = model(items, delta)
    total, last = 0.0, []
    for row in range(len(items)):
        for place in range(items.shape[1]):
            scores = model.logits(hidden[row, place]).clone()
            scores[list(set(items[row, : place + 1].tolist()))] -= 1.5
            total += scores.logsumexp(0) - scores[targets[row, place]]
        last.append(scores)
    found = cross_entropy(model, hidden.flatten(0, 1), batch, batch.n_targets)
    assert torch.allclose(found * batch.n_targets, total, rtol=1e-5)
    assert torch.allclose(model.scores(batch), torch.stack(last), atol=1e-5)
    found.backward()
    assert model.seen_offset.grad != 0


def test_models_with_additions_have_names_of_their_own():
    names = [
        SS4RecConfig.official().display_name,
        SS4RecConfig.plus().display_name,
        SS4RecConfig.plus(model_type="mamba_only", seen_offset=True).display_name,
        SASRecConfig(time="intervals", feed_forward="swiglu").display_name,
        SASRecConfig(seen_offset=True).display_name,
        GRU4Rec.config_type(seen_offset=True).display_name,
    ]
    assert names == [
        "SS4Rec",
        "SS4Rec+",
        "Mamba4Rec+, learned mask",
        "SASRec+ with time",
        "SASRec, learned mask",
        "GRU4Rec, learned mask",
    ]


def test_an_offset_that_nothing_trains_is_refused():
    with pytest.raises(ValueError, match=r"seen_offset=True.*BPR"):
        SASRecConfig(seen_offset=True, loss_type="BPR")
    with pytest.raises(ValueError, match="seen_offset=True"):
        RatingConfig(seen_offset=True)


def test_the_published_model_is_as_it_was():
    config = SS4RecConfig.official()
    added = config.interval_embedding, config.feed_forward, config.norms
    assert added == ("none", "none", "shared")
    names = {name for name, _ in SS4Rec(30, config).named_parameters()}
    assert not any("norms" in name or "interval" in name or "feed" in name for name in names)


@pytest.mark.parametrize(
    "changes",
    [
        {"norms": "own"},
        {"feed_forward": "swiglu"},
        {"interval_embedding": "gate"},
        {"scores": "cosine"},
        {"seen_offset": True},
    ],
    ids=str,
)
def test_published_weights_do_not_fit_a_model_with_additions(changes):
    weights = official_state_dict(SS4Rec(30, SS4RecConfig.official(**SMALL)))
    model = SS4Rec(30, SS4RecConfig.official(**SMALL | changes))
    (name,) = changes
    with pytest.raises(ValueError, match=name):
        load_official_state_dict(model, weights)
    with pytest.raises(ValueError, match=name):
        official_state_dict(model)
