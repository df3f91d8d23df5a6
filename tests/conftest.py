"""Shared by all tests: the order in which they run, a closed network, and a tiny lesson."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

WORKER = "PYTEST_XDIST_WORKER"
_ORDER = pytest.StashKey[tuple]()

if WORKER in os.environ:
    # Two workers on two cores: without this each starts as many threads as there are cores, and so
    # do the kernels of the notebooks, which inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "xdist_group(name): tests that share a worker")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module, and the runs of a lesson, on one worker; longest first."""
    for item in items:
        in_notebooks = "notebooks" in item.path.parts[-3:-1]
        params = item.callspec.params if hasattr(item, "callspec") else {}
        lesson = params.get("lesson") or params.get("core") or params.get("solutions")
        group = f"lesson {lesson.stem}" if lesson else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
        item.stash[_ORDER] = (not in_notebooks, not lesson, -_number(lesson))
    # Later lessons take longer, because they train. The longest run must not start last.
    items.sort(key=lambda item: item.stash[_ORDER])


def _number(lesson: Path | None) -> int:
    digits = re.match(r"\d+", lesson.stem) if lesson else None
    return int(digits[0]) if digits else 0


@pytest.fixture(autouse=True)
def _skip_without_gpu(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") is not None:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to other machines, unless the test has the marker `network`."""
    if request.node.get_closest_marker("network") is not None:
        return
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def is_local(host: object) -> bool:
        return host in (None, "", "localhost", "::1") or str(host).startswith("127.")

    def refuse(host: object) -> None:
        raise RuntimeError(f"a test tried to reach {host}; replace the call or mark it `network`")

    def local_look_up(host, *args, **kwargs):
        return look_up(host, *args, **kwargs) if is_local(host) else refuse(host)

    def local_connect(self, address):
        if isinstance(address, tuple) and not is_local(address[0]):
            refuse(address[0])
        return connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", local_look_up)
    monkeypatch.setattr(socket.socket, "connect", local_connect)


HEADINGS = (
    "Aim",
    "What you need to know",
    "Run time and hardware",
    "Contents",
    "Discussion",
    "Exercises",
    "Quiz",
    "References",
)


@pytest.fixture
def tiny_lesson():
    """Return a function that builds a lesson which keeps every rule and runs in a second."""
    import nbformat

    from ss4rec_lib.lessons import RECORD_TYPE

    def build():
        def code(source, *tags, outputs=()):
            return nbformat.v4.new_code_cell(
                source, metadata={"tags": list(tags)} if tags else {}, outputs=list(outputs)
            )

        def printed(text):
            return nbformat.v4.new_output("stream", name="stdout", text=text)

        skeleton = "\n\n".join(f"## {heading}" for heading in HEADINGS)
        recorded = {
            "total": 6,
            "dataset": "planted",
            "train_seconds": 0.25,
            "highlights": ["total"],
        }
        cells = [
            nbformat.v4.new_markdown_cell(f"# A tiny lesson\n\n{skeleton}"),
            code(
                'dataset = "planted"  # data set\nepochs = 2  # passes\nflag = False  # a switch',
                "parameters",
            ),
            code(
                "from ss4rec_lib.lessons import check_parameters, record\n\n"
                'check_parameters(dataset="planted", epochs=2, flag=False)',
            ),
            code("numbers = [1, 2, 3]", "exercise-setup"),
            code(
                'print(f"{dataset}: {epochs} epochs, flag {flag}")',
                outputs=[printed("planted: 2 epochs, flag False\n")],
            ),
            code(
                "sum(numbers)",
                outputs=[
                    nbformat.v4.new_output(
                        "execute_result", data={"text/plain": "6"}, execution_count=5
                    )
                ],
            ),
            code(
                'def total(values):\n    """Adds them up."""\n'
                "    # BEGIN SOLUTION: add the values up\n    result = 0\n"
                "    for value in values:\n        result += value\n    # END SOLUTION\n"
                "    return result",
                "solution",
            ),
            nbformat.v4.new_markdown_cell("The check below passes when the sum is right."),
            code('assert total(numbers) == 6, "1 + 2 + 3 is 6"', "check"),
            nbformat.v4.new_markdown_cell(
                "The answer is six.", metadata={"tags": ["solution-text"]}
            ),
            code(
                "record(total=total([epochs] * 3), dataset=dataset, train_seconds=0.25,\n"
                '       highlights=["total"])',
                "record",
                "nbval-ignore-output",
                outputs=[
                    nbformat.v4.new_output(
                        "display_data", data={RECORD_TYPE: recorded, "text/plain": "a table"}
                    )
                ],
            ),
        ]
        for count, cell in enumerate((c for c in cells if c.cell_type == "code"), start=1):
            cell.execution_count = count
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})

    return build


@pytest.fixture
def lessons_folder(tiny_lesson, tmp_path):
    """Return a folder with two tiny lessons and a notebook that is not a lesson."""
    import nbformat

    folder = tmp_path / "note{books}"  # papermill fills parameters into braces of a path
    folder.mkdir()
    nbformat.write(tiny_lesson(), folder / "01_first.ipynb")
    second = tiny_lesson()
    second.cells[1].source += "\nseed = 0  # of the second lesson only"
    second.cells[2].source = second.cells[2].source.replace("False)", "False, seed=0)")
    second.cells[4].source += "\nseed_used = seed"
    nbformat.write(second, folder / "04_second.ipynb")
    nbformat.write(tiny_lesson(), folder / "scratch.ipynb")
    return folder


# ------------------------------------------------------- runs that take a second to make

SMALL = {
    "epochs": 2,
    "hidden_size": 16,
    "d_H": 16,
    "d_P": 8,
    "d_state": 4,
    "n_layers": 1,
    "max_tokens": 6_400,
    "learning_rate": 0.01,
}


@pytest.fixture(scope="session")
def train_words():
    """Return a function that builds the words of a `train` command from SMALL and changes."""

    def build(out: Path, *more: str, **changes: object) -> list[str]:
        given = [f"--set={key}={value}" for key, value in (SMALL | changes).items()]
        return ["train", "--dataset", "planted", "--out", str(out), *given, *more]

    return build


@pytest.fixture(scope="session")
def train(train_words):
    """Return a function that runs it in this process and returns the exit code."""
    from ss4rec_lib import cli  # only now: most tests need no command line

    return lambda out, *more, **changes: cli.main(train_words(out, *more, **changes))


@pytest.fixture(scope="session")
def finished(train, tmp_path_factory) -> Path:
    """Return the folder of a finished run; tests read it and change nothing."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert train(folder) == 0
    return folder


@pytest.fixture(scope="session")
def record_of():
    """Return a function that reads the record of a run's folder."""
    return lambda folder: json.loads((folder / "record.json").read_text())


@pytest.fixture(scope="session")
def timeless():
    """Return a function that drops from a record what differs when a run is repeated."""

    def kept(record: dict[str, Any]) -> dict[str, Any]:
        dropped = ("seconds", "peak_memory_bytes", "resumed", "command")
        found = {name: value for name, value in record.items() if name not in dropped}
        found["curve"] = [
            {k: v for k, v in row.items() if not k.endswith("seconds") and "per_second" not in k}
            for row in record["curve"]
        ]
        return found

    return kept
