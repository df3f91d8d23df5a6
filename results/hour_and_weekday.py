"""Try what the ablations leave out: the hour and the weekday of the target.

`python results/hour_and_weekday.py --out FOLDER` trains SS4Rec+ as in
workflow/experiments/ablations.yaml (MovieLens-1M, exact time, eight epochs, one seed), with a
learned vector for the hour (UTC) and one for the weekday of the next interaction added to each item
embedding. It writes hour_and_weekday.json beside this file: NDCG@10 of the validation part with
them, and that of the recorded row without. The test part is not used. FOLDER keeps checkpoints, by
which an interrupted run continues. `SS4REC_ML_1M` names a local copy of MovieLens-1M.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ss4rec_lib.data import Batch, leave_one_out, load_dataset
from ss4rec_lib.evaluation import rank_targets
from ss4rec_lib.experiments import RunConfig
from ss4rec_lib.files import write_json
from ss4rec_lib.models import SS4Rec
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import fit

HERE = Path(__file__).parent
RECORDED = HERE / "batches" / "jobs"
PRESET = "plus"
EPOCHS, SEED = 8, 0  # as in ablations.yaml


def hour_and_weekday(times: np.ndarray) -> np.ndarray:
    """Map Unix seconds, (...), to the hour of the week in UTC, 0 .. 167 from Monday 0:00 on."""
    return (times // 3600 + 3 * 24) % 168  # 1 January 1970 was a Thursday


class WithClock(SS4Rec):
    """SS4Rec that also reads the hour and the weekday of each position's next interaction."""

    def __init__(self, n_items: int, config: Any, times: np.ndarray) -> None:
        """Make a model; `times` (s) are those of all interactions of the split it is used with."""
        super().__init__(n_items, config)
        self.hour, self.weekday = (nn.Embedding(n, config.hidden_size) for n in (24, 7))
        self.hour.apply(self.initialise)
        self.weekday.apply(self.initialise)
        self.clock = torch.from_numpy(hour_and_weekday(times))

    def encode(self, batch: Batch, state: Any = None, return_state: bool = False) -> Any:
        """Return the hidden states of a batch of that split, see `Recommender.encode`."""
        steps = torch.arange(1, batch.items.shape[1] + 1)
        steps = torch.minimum(steps, batch.lengths[:, None])  # stays with the target in the padding
        clock = self.clock[batch.starts[:, None] + steps]  # (B, L)
        extra: Tensor = self.hour(clock % 24) + self.weekday(clock // 24)  # (B, L, d_model)
        return self(batch.items, batch.delta, state, return_state=return_state, extra=extra)


def options() -> RunConfig:
    """Return the recorded run that the one with the clock is compared with."""
    return RunConfig(
        data={"dataset": "ml-1m", "ordering": "exact-time"},  # type: ignore
        model={"name": PRESET},  # type: ignore
        training={"epochs": EPOCHS},
        seed=SEED,
    )


def recorded() -> dict[str, float]:
    """Return NDCG@10 of the validation part, masked and not, of the row without the clock."""
    config = options()
    asked = {"model": config.model_options, "training": config.training_options}
    asked = {name: chosen.model_dump(mode="json") for name, chosen in asked.items()}
    for path in sorted(RECORDED.glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        data = record["dataset"], record["protocol"]["split"], record["protocol"]["ordering"]
        same = data == ("ml-1m", "leave-one-out", "exact-time") and record["seed"] == SEED
        if same and all(record["config"].get(name) == asked[name] for name in asked):
            return {
                "masked" if found["masked"] else "not masked": found["metrics"]["ndcg@10"]
                for found in record["evaluations"]
                if (found["part"], found["target_time"]) == ("valid", "known")
            }
    raise FileNotFoundError(f"{RECORDED}: no record of {PRESET} after {EPOCHS} epochs")


def trial(folder: Path) -> dict[str, Any]:
    """Train the model with the clock; return its figures."""
    config = options()
    split = leave_one_out(load_dataset("ml-1m"), "exact-time")
    seed_everything(SEED)
    model = WithClock(split.sequences.n_items, config.model_options, split.sequences.times)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"{PRESET}.safetensors"
    result = fit(model, split, config.training_options, checkpoint=checkpoint, resume=True)
    with_clock = {
        "masked" if masked else "not masked": dict(metrics)["ndcg@10"]
        for masked, metrics in rank_targets(model, split, "valid").items()
    }
    return {
        "model": config.model_options.display_name,
        "best_epoch": result.best_epoch,
        "with": with_clock,
        "without": recorded(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the trial and write the file."""
    parser = argparse.ArgumentParser(description="Train with hour and weekday.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoints")
    folder = parser.parse_args(arguments).out
    described = {"dataset": "ml-1m", "part": "valid", "epochs": EPOCHS, "seed": SEED}
    write_json(HERE / "hour_and_weekday.json", described | {"ndcg@10": trial(folder)})


if __name__ == "__main__":
    main()
