"""A run small enough to be trained in a second, through the command line as a user would."""

from __future__ import annotations

from pathlib import Path

import pytest

from ss4rec_lib import cli

SMALL = {
    "epochs": 2, "hidden_size": 16, "d_H": 16, "d_P": 8, "d_state": 4, "n_layers": 1,
    "max_tokens": 6_400, "learning_rate": 0.01,
}  # fmt: skip


@pytest.fixture(scope="session")
def train_words():
    """Builds the words of a `train` command; `changes` replace or extend those of SMALL."""

    def build(out: Path, *more: str, **changes: object) -> list[str]:
        given = [f"--set={key}={value}" for key, value in (SMALL | changes).items()]
        return ["train", "--dataset", "planted", "--out", str(out), *given, *more]

    return build


@pytest.fixture(scope="session")
def train(train_words):
    """Runs it in this process; returns the exit code."""
    return lambda out, *more, **changes: cli.main(train_words(out, *more, **changes))


@pytest.fixture(scope="session")
def finished(train, tmp_path_factory) -> Path:
    """The folder of a finished run; tests read it and change nothing."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert train(folder) == 0
    return folder
