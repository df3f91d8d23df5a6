"""Two processes train the model of one, with gloo on the CPU."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys, torch
from ss4rec_lib.data import leave_one_out, planted_ratings
from ss4rec_lib.models import SS4Rec, SS4RecConfig
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import TrainingConfig, fit
from accelerate import PartialState

torch.set_num_threads(1)
options, out = json.loads(sys.argv[1]), sys.argv[2]
split = leave_one_out(planted_ratings(n_users=60, n_items=40, mean_length=25, seed=3))
seed_everything(PartialState(cpu=True).process_index)  # other weights: the first process' count
config = SS4RecConfig.official(
    hidden_size=16, d_H=16, d_P=8, d_state=4, n_layers=1, dropout_prob=0.0
)
model = SS4Rec(split.sequences.n_items, config)
training = TrainingConfig(epochs=2, max_tokens=512, learning_rate=1e-2, device="cpu", **options)
result = fit(model, split, training, checkpoint=out + ".checkpoint", progress=False)
state = PartialState()
weights = {name: value.double().norm().item() for name, value in model.state_dict().items()}
history = result.history[["train_loss", "hr@10", "ndcg@10", "mrr@10"]].to_dict("list")
with open(f"{out}.{state.process_index}", "w") as file:
    json.dump({"processes": state.num_processes, "weights": weights, "history": history}, file)
"""


# --standalone takes a free port; a fixed one may still be closing after the launch before.
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node"]
ACCELERATE = [
    "accelerate.commands.launch", "--cpu", "--num_machines", "1", "--mixed_precision", "no",
    "--dynamo_backend", "no", "--num_processes",
]  # fmt: skip


def launch(tmp_path, processes, options, launcher=TORCHRUN):
    (tmp_path / "train.py").write_text(SCRIPT)
    out = tmp_path / f"out{processes}"
    command = [sys.executable, "-m", *launcher, str(processes), str(tmp_path / "train.py")]
    command += [json.dumps(options), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=280, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(file.read_text()) for file in sorted(tmp_path.glob(f"out{processes}.?"))]


CARRIED = {"history": "full", "max_len": 7, "accumulate": 2}


@pytest.mark.parametrize("options", [{}, pytest.param(CARRIED, marks=pytest.mark.long)])
def test_two_processes_give_the_model_of_one(tmp_path, options):
    (one,) = launch(tmp_path, 1, options)
    two = launch(tmp_path, 2, options)
    assert [run["processes"] for run in two] == [2, 2]
    assert two[0]["weights"] == two[1]["weights"]
    for name, norm in one["weights"].items():
        assert two[0]["weights"][name] == pytest.approx(norm, rel=1e-4), name
    assert two[0]["history"]["train_loss"] == pytest.approx(one["history"]["train_loss"], rel=1e-4)


@pytest.mark.long
def test_accelerates_own_launcher_gives_that_model_too(tmp_path):
    """On one machine it starts one process, however many are asked for; the log says so."""
    (one,) = launch(tmp_path, 1, {})
    found = launch(tmp_path, 2, {}, ACCELERATE)
    for name, norm in one["weights"].items():
        assert found[0]["weights"][name] == pytest.approx(norm, rel=1e-4), name
