"""A training step never reads a tensor: it runs on the `meta` device, which has shapes only.

There, `.item()`, a copy to Python or a tensor of another device is an error. What passes never
makes a GPU wait between the batch and the gradient.
"""

import dataclasses

import pytest
import torch

from ss4rec_lib.data import carried_batches, leave_one_out, planted_ratings, train_batches
from ss4rec_lib.models import (
    GRU4RecConfig,
    RatingConfig,
    SASRecConfig,
    SS4RecConfig,
    make_model,
)
from ss4rec_lib.training import Step, ranking_objective, rating_model, rating_objective

SMALL = {"hidden_size": 16, "d_H": 16, "d_P": 8, "d_state": 4, "backend": "parallel"}
CONFIGS = {
    "SS4Rec": SS4RecConfig.official(**SMALL),
    "S5 only": SS4RecConfig.official(**SMALL, model_type="s5_only"),
    "Mamba only": SS4RecConfig.official(**SMALL, model_type="mamba_only"),
    "BPR": SS4RecConfig.official(**SMALL, loss_type="BPR"),
    "sampled": SS4RecConfig.official(**SMALL, loss_type="SAMPLED_CE"),
    "SASRec": SASRecConfig(),
    "SASRec with time": SASRecConfig(time="intervals"),
    "GRU4Rec": GRU4RecConfig(),
    "triton": SS4RecConfig.official(**(SMALL | {"backend": "triton"})),
}


@pytest.fixture(scope="module")
def split():
    return leave_one_out(planted_ratings(n_users=40, n_items=30, mean_length=15, seed=0))


def run_step(step, batches, carry=False):
    step.to("meta").train()
    state = None
    for batch in list(batches)[:2]:  # the padding of the two differs
        batch = batch.to("meta")
        loss, state = step(batch, batch.n_targets, state, carry)
        loss.backward()
        assert loss.device.type == "meta" and loss.shape == ()
    assert all(p.grad is not None for p in step.model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_loss_and_backward_read_no_tensor(split, name):
    if name == "triton":
        pytest.importorskip("triton", reason="make test-triton installs it")
    model = make_model(split.sequences.n_items, CONFIGS[name])
    objective = ranking_objective(model, split, 3, torch.device("meta"))
    run_step(Step(model, objective, "float32"), train_batches(split, 200))


def test_neither_does_a_step_with_a_carried_state(split):
    model = make_model(split.sequences.n_items, CONFIGS["SS4Rec"])
    objective = ranking_objective(model, split, 3, torch.device("meta"))
    first = next(iter(carried_batches(split, 200, 5)))
    run_step(Step(model, objective, "float32"), [first, first], carry=True)


@pytest.mark.parametrize("train_for", ["rating", "both"])
def test_neither_does_a_step_of_a_rating_model(split, train_for):
    ratings = split.sequences.ratings.copy()
    ratings[::2] = 2.0  # two levels at least
    split = dataclasses.replace(
        split, sequences=dataclasses.replace(split.sequences, ratings=ratings)
    )
    config = RatingConfig(**SMALL, train_for=train_for, user_factors=4)
    model = rating_model(split, config)
    objective = rating_objective(ranking_objective(model, split, 3, torch.device("meta")))
    run_step(Step(model, objective, "float32"), train_batches(split, 200))
