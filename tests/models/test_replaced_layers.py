"""Adapters, pruning and hooks in models: scores, loss and step use what `forward` uses."""

import copy
import warnings

import pytest
import torch
from torch import nn

from ss4rec_lib.data import make_batch
from ss4rec_lib.files import FileError
from ss4rec_lib.models import (
    GRU4Rec,
    GRU4RecConfig,
    NeuralCF,
    NeuralCFConfig,
    RatingConfig,
    RatingSS4Rec,
    SASRec,
    SASRecConfig,
    SS4Rec,
    SS4RecConfig,
)  # fmt: skip
from ss4rec_lib.models.io import load_model, save_model
from ss4rec_lib.training.objectives import bpr, cross_entropy
from tests.replaced_layers import by_hook, by_parametrisation, by_pruning, by_wrapper

N = 20
SIZES = {"hidden_size": 8, "n_layers": 1, "initializer_range": 0.3}
SS4REC = SS4RecConfig(d_H=8, d_P=4, d_state=4, **SIZES)
MODELS = {
    "ss4rec": lambda: SS4Rec(N, SS4REC),
    "sasrec": lambda: SASRec(N, SASRecConfig(inner_size=8, **SIZES)),
    "gru4rec": lambda: GRU4Rec(N, GRU4RecConfig(embedding_size=8, hidden_size=8)),
}


class LoRA(nn.Embedding):
    def __init__(self, layer):
        super().__init__(*layer.weight.shape, padding_idx=0)
        self.weight = layer.weight
        self.down = nn.Parameter(torch.randn(len(layer.weight), 2) * 0.3)
        self.up = nn.Parameter(torch.randn(2, layer.embedding_dim) * 0.3)

    def forward(self, ids):
        return super().forward(ids) + self.down[ids] @ self.up


class LinearLoRA(nn.Linear):
    def __init__(self, layer):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None)
        self.load_state_dict(layer.state_dict())
        self.down = nn.Parameter(torch.randn(2, layer.in_features) * 0.3)
        self.up = nn.Parameter(torch.randn(layer.out_features, 2) * 0.3)

    def forward(self, x):
        return super().forward(x) + x @ self.down.T @ self.up.T


def by_lora(model, name):
    setattr(model, name, LoRA(getattr(model, name)))


CHANGES = pytest.mark.parametrize(
    "change", [by_lora, by_wrapper, by_hook, by_parametrisation, by_pruning]
)


def batch():
    g = torch.Generator().manual_seed(0)
    items = torch.randint(1, N + 1, (2, 6), generator=g)
    ratings = torch.randint(1, 6, (2, 6), generator=g).float()
    delta = torch.rand(2, 6, generator=g)
    extra = {"ratings": ratings, "target_ratings": ratings}
    return make_batch(items, delta, N, items.roll(1, 1), users=[0, 1], **extra)


@CHANGES
@pytest.mark.parametrize("kind", MODELS)
def test_scores_and_losses_use_the_embedding_as_it_is_called(kind, change):
    torch.manual_seed(0)
    model, data = MODELS[kind]().eval(), batch()
    change(model, "item_embedding")
    hidden = model.encode(data)
    table = model.item_embedding(torch.arange(N + 1))
    assert torch.allclose(model.logits(hidden), hidden @ table.T, atol=1e-5)
    flat, n = hidden.flatten(0, 1), hidden.shape[0] * hidden.shape[1]
    expected = nn.functional.cross_entropy(flat @ table.T, data.targets.flatten())
    found = cross_entropy(model, flat, data, n)
    assert torch.allclose(found, expected, atol=1e-5)
    parameters = list(model.parameters())
    gradients = [torch.autograd.grad(t, parameters, retain_graph=True) for t in (found, expected)]
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert bpr(model, flat, data, n).isfinite()
    if kind == "ss4rec":
        state = model.initial_state(2)
        for k in range(6):
            state = model.step(state, data.items[:, k], data.delta[:, k])
            assert torch.allclose(state.hidden, hidden[:, k], atol=1e-4)


@CHANGES
def test_positions_of_sasrec(change):
    torch.manual_seed(0)
    model, data = MODELS["sasrec"]().eval(), batch()
    with torch.no_grad():
        before = model.encode(data)
        table = model.position_embedding.weight.clone()
        change(model, "position_embedding")
        called = model.position_embedding(torch.arange(6))
        found = model.encode(data)
        model.position_embedding = nn.Embedding.from_pretrained(table)
        model.position_embedding.weight[:6] = called
        assert torch.allclose(found, model.encode(data), atol=1e-5)
    assert (found - before).abs().max() > 1e-2


@pytest.mark.parametrize("where", ["head", "first", "item_bias", "item_factors", "lora"])
def test_expected_ratings_are_the_predictions_of_each_item(where):
    torch.manual_seed(0)
    config = RatingConfig(**SS4REC.replace(n_layers=1).model_dump(), user_factors=3)
    model, data = RatingSS4Rec(N, config, owners=[0, 1]).eval(), batch()
    for p in (*model.head.parameters(), model.user_embedding.weight, model.item_bias.weight):
        nn.init.normal_(p)
    before = model.expected_ratings(data)
    if where == "lora":
        model.head[0] = LinearLoRA(model.head[0])
    else:
        layer = model.head[0] if where == "first" else getattr(model, where)
        layer.register_forward_hook(lambda layer, inputs, output: output * 1.5)
    found = model.expected_ratings(data)
    hidden, bias = model.encode(data), model.history_bias(data.items, data.ratings)
    user = model.user_vectors(data.users)[:, 0]
    for item in range(N + 1):
        ids = torch.full((2,), item)
        expected = model.predict_ratings(hidden[:, -1], ids, bias[:, -1], user)
        assert torch.allclose(found[:, item], expected, atol=1e-4)
    assert (found - before).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["first", "predict", "item_mf", "user_mlp"])
def test_neural_cf(name):
    torch.manual_seed(0)
    sizes = {"mf_embedding_size": 4, "mlp_embedding_size": 4, "mlp_hidden_size": (8, 4)}
    model = NeuralCF(3, N, NeuralCFConfig(initializer_range=1.0, **sizes)).eval()
    users, items = torch.arange(3), torch.arange(N + 1)
    before = model.user_scores(users)
    layer = getattr(model, name)
    setattr(model, name, (LinearLoRA if name in ("first", "predict") else LoRA)(layer))
    found = model.user_scores(users)
    p, q = users[:, None].expand(-1, N + 1), items.expand(3, -1)
    x = model.first(torch.cat((model.user_mlp(p), model.item_mlp(q)), -1)).relu()
    for layer in model.later:
        x = layer(x).relu()
    gmf = model.user_mf(p) * model.item_mf(q)
    expected = model.predict(torch.cat((gmf, x), -1))[..., 0]
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(model.pairs(users[:, None], items), expected, atol=1e-5)
    assert (found - before).abs().max() > 1e-3


@pytest.mark.parametrize("kind", MODELS)
def test_int8(kind):
    torch.manual_seed(0)
    model, data = MODELS[kind]().eval(), batch()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        small = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear})
        expected, found = model.encode(data), small.encode(data)
        assert 0 < (found - expected).abs().max() / expected.abs().max() < 0.2
        if kind == "ss4rec":
            state = small.initial_state(2)
            for k in range(6):
                state = small.step(state, data.items[:, k], data.delta[:, k])
            assert (state.hidden - found[:, -1]).abs().max() < 0.2


@pytest.mark.parametrize("change", [by_lora, by_wrapper, by_parametrisation, by_pruning])
def test_a_file_with_adapters_is_refused_by_their_names_and_a_merged_one_is_read(change, tmp_path):
    model, name = MODELS["sasrec"](), "position_embedding"
    change(model, name)
    save_model(model, tmp_path / "model.safetensors")
    with pytest.raises(FileError, match=rf"Unexpected key.*{name}\."):
        load_model(tmp_path / "model.safetensors")
    table = getattr(model, name)(torch.arange(model.config.max_positions)).detach()
    setattr(model, name, nn.Embedding.from_pretrained(table))
    save_model(model.eval(), tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert torch.equal(again.encode(batch()), model.encode(batch()))
