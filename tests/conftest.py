"""Shared by all tests: their order, the examples they draw, a closed network, a tiny lesson."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

WORKER = "PYTEST_XDIST_WORKER"
# tqdm reads it when it is imported. Tests of bars want them; those without bars set it again.
os.environ.pop("TQDM_DISABLE", None)

_ORDER = pytest.StashKey[tuple]()

if WORKER in os.environ:
    # Two workers on two cores: without this each starts as many threads as there are cores, and so
    # do the kernels of the notebooks, which inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, so that the same code gives the same answer. For new examples, as
# often as wanted: pytest --hypothesis-profile search
_ANY_SPEED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **_ANY_SPEED)
settings.register_profile("search", **_ANY_SPEED)
settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "xdist_group(name): tests that share a worker")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module, and the runs of a lesson, on one worker; longest first."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    for item in items:
        in_notebooks = "notebooks" in item.path.parts[-3:-1]
        params = item.callspec.params if hasattr(item, "callspec") else {}
        lesson = params.get("lesson") or params.get("core") or params.get("solutions")
        group = f"lesson {lesson.stem}" if lesson else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
        order = (not in_notebooks, not lesson, -_number(lesson), item.path not in long)
        item.stash[_ORDER] = order
    # Later lessons take longer, because they train. The longest group must not start last.
    items.sort(key=lambda item: item.stash[_ORDER])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many runs of lessons were read, because .ci/run had just made them."""
    passed = terminalreporter.stats.get("passed", [])
    if found := sum(("replayed", True) in report.user_properties for report in passed):
        where = os.environ.get("SS4REC_EXECUTED")
        terminalreporter.write_line(f"{found} runs of lessons were read from {where}, not repeated")


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


PNG = "iVBORw0KGgo="
HEADINGS = (
    "Aim",
    "What you need to know",
    "Run time and hardware\n\n<!-- time -->about 1 s<!-- /time -->",
    "Contents",
    "Discussion",
    "Exercises",
    "Quiz\n\n<details>Six.</details>",
    "References",
)
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@pytest.fixture
def tiny_lesson():
    """Return a function that builds a lesson which keeps every rule and runs in a second."""
    import nbformat

    from ss4rec_lib.lessons import RECORD_TYPE

    def build(name: str = "00_tiny"):
        def code(source, *tags, outputs=()):
            return nbformat.v4.new_code_cell(
                source, metadata={"tags": list(tags)} if tags else {}, outputs=list(outputs)
            )

        def printed(text):
            return nbformat.v4.new_output("stream", name="stdout", text=text)

        skeleton = "\n\n".join(f"## {heading}" for heading in HEADINGS)
        if not Path(name).name.startswith("00"):
            folders = ("exercises", "solutions")
            skeleton += "".join(f"\n\n[{f}]({f}/{name}.ipynb)" for f in folders)
        recorded = {
            "total": 6,
            "dataset": "planted",
            "train_seconds": 0.25,
            "lesson_seconds": 1.0,
            "highlights": ["total"],
        }
        alt = {"image/png": {"alt": "Nothing."}}
        pictures = code(
            "for _ in range(5):\n"
            f'    picture = {{"image/png": "{PNG}", "text/plain": "a picture"}}\n'
            f'    display(picture, raw=True, metadata={{"image/png": {{"alt": "Nothing."}}}})',
            "hide-input",
            outputs=[
                nbformat.v4.new_output(
                    "display_data",
                    data={"image/png": PNG, "text/plain": "a picture"},
                    metadata=alt,
                )
                for _ in range(5)
            ],
        )
        pictures.metadata["jupyter"] = {"source_hidden": True}
        cells = [
            nbformat.v4.new_markdown_cell(f"# A tiny lesson\n\n{skeleton}"),
            code(
                'dataset: str = "planted"  # data set\nepochs: int = 2  # passes\n'
                "flag: bool = False  # a switch",
                "parameters",
            ),
            code(
                "from ss4rec_lib.lessons import check_parameters, record\n\n"
                'check_parameters(dataset="planted", epochs=2, flag=False)',
            ),
            code("numbers = [1, 2, 3]"),
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
            pictures,
            nbformat.v4.new_markdown_cell("What to see: five pictures that show nothing at all."),
            code(
                "record(\n    total=3 * epochs,\n    dataset=dataset,\n    train_seconds=0.25,\n"
                '    lesson_seconds=1.0,\n    highlights=["total"],\n)',
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
        return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})

    return build


@pytest.fixture
def tiny_solutions():
    """Return a function that builds solutions of five exercises, which keep every rule."""
    import nbformat

    from tools.make_exercises import LEVELS

    def build():
        def code(source, *tags):
            return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})

        cells = [
            nbformat.v4.new_markdown_cell(
                "# Exercises\n\n[readme](../../README.md) [next](02_x.ipynb)"
            ),
            code("numbers = [1, 2, 3]", "exercise-setup"),
        ]
        for number, level in enumerate(LEVELS, start=1):
            task = f"### Exercise {number} · {level} · 5 min: add\n\n<details>A loop.</details>"
            cells += [
                nbformat.v4.new_markdown_cell(task),
                code(
                    f'def total_{number}(values):\n    """Adds them up."""\n'
                    "    # BEGIN SOLUTION: add the values up\n    result = 0\n"
                    "    for value in values:\n        result += value\n    # END SOLUTION\n"
                    "    return result",
                    "solution",
                ),
                code(f'assert total_{number}(numbers) == 6, "1 + 2 + 3 is 6"', "check"),
            ]
        cells.append(
            nbformat.v4.new_markdown_cell(
                "The answer is six.", metadata={"tags": ["solution-text"]}
            )
        )
        return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})

    return build


@pytest.fixture
def lessons_folder(tiny_lesson, tiny_solutions, tmp_path):
    """Return a folder with two tiny lessons, their solutions and a notebook that is no lesson."""
    import nbformat

    folder = tmp_path / "note{books}"  # papermill fills parameters into braces of a path
    (folder / "solutions").mkdir(parents=True)
    second = tiny_lesson("04_second")
    second.cells[1].source += "\nseed: int = 0  # of the second lesson only"
    second.cells[2].source = second.cells[2].source.replace("False)", "False, seed=0)")
    second.cells[4].source += "\nseed_used = seed"
    for name, lesson in (("01_first", tiny_lesson("01_first")), ("04_second", second)):
        nbformat.write(lesson, folder / f"{name}.ipynb")
        nbformat.write(tiny_solutions(), folder / "solutions" / f"{name}.ipynb")
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
