"""Train the weights that exercises and single sections of the lessons start from.

Exercises load a trained model and do not train one. The files in `workshop/checkpoints/` hold
SS4Rec trained with the parameters of lesson 04. `checkpoints.json` beside them says of each file
what it was trained on and how well it ranks. `python -m tools.make_checkpoints` makes all of them
again, or those that are named. Weights differ in their last digits between machines.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ss4rec_lib.data import leave_one_out, load_dataset
from ss4rec_lib.evaluation import evaluate_ranking
from ss4rec_lib.models import SS4Rec, SS4RecConfig, save_model
from ss4rec_lib.randomness import seed_everything
from ss4rec_lib.training import TrainingConfig, fit

FOLDER = Path(__file__).parents[1] / "workshop" / "checkpoints"
INDEX = "checkpoints.json"
SEED = 0
SETTINGS: dict[str, Any] = {"epochs": 8, "learning_rate": 0.003, "max_tokens": 3200}
"""Parameters of lesson 04."""


class Checkpoint(NamedTuple):
    """What one file holds; `target_time` none is a model that receives no interval."""

    dataset: str
    target_time: Literal["known", "none"]


CHECKPOINTS = {
    "ss4rec_ml-100k": Checkpoint("ml-100k", "known"),
    "ss4rec_ml-100k_blind": Checkpoint("ml-100k", "none"),
    "ss4rec_planted": Checkpoint("planted", "known"),
}


def make(name: str, folder: Path = FOLDER, **changes: Any) -> dict[str, Any]:
    """Train one model, write its file, and return its entry of the index."""
    dataset, target_time = CHECKPOINTS[name]
    split = leave_one_out(load_dataset(dataset), ordering="exact-time", min_interactions=5)
    seed_everything(SEED)
    model = SS4Rec(split.sequences.n_items, SS4RecConfig.official())
    training = TrainingConfig(seed=SEED, target_time=target_time, **(SETTINGS | changes))
    result = fit(model, split, training)
    save_model(model, folder / f"{name}.safetensors")
    found = evaluate_ranking(model, split, "valid", target_time=target_time)
    return {
        "dataset": dataset,
        "split": "leave-one-out, exact-time, 5-core",
        "target_time": target_time,
        "n_items": split.sequences.n_items,
        "best_epoch": result.best_epoch,
        "training": training.model_dump(include={"seed", *SETTINGS}),
        "valid": {metric: round(found[metric], 5) for metric in ("hr@10", "ndcg@10")},
    }


def main(arguments: list[str] | None = None) -> None:
    """Make the named checkpoints, or all, and bring the index up to date."""
    parser = argparse.ArgumentParser(description="Train the checkpoints.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CHECKPOINTS)}; all when left out")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(CHECKPOINTS):
        parser.error(f"unknown {', '.join(sorted(unknown))}: choose of {', '.join(CHECKPOINTS)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    index = options.folder / INDEX
    entries = json.loads(index.read_text()) if index.exists() else {}
    for name in options.names or CHECKPOINTS:
        entries[name] = make(name, options.folder)
        print(f"{name}: validation {entries[name]['valid']}")
    ordered = {name: entries[name] for name in CHECKPOINTS if name in entries}
    index.write_text(json.dumps(ordered, indent=2) + "\n")


if __name__ == "__main__":
    main()
