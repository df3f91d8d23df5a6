from __future__ import annotations

import linecache
import subprocess
import sys

import nbformat
import pytest

from ss4rec_lib.lessons import parameters as guard
from ss4rec_lib.lessons.errors import (
    ParametersCellError,
    ParameterTypeError,
    UnknownParameterError,
)

CELL = """\
dataset = "ml-100k"  # MovieLens data set
epochs = 8  # passes over the training data
lr = 1e-3  # learning rate of Adam
masked = False  # leave out films already seen
limit = None  # longest history, interactions; None: no limit
widths = [16, 32]  # sizes to try"""


def notebook(cell: str = CELL, tags: tuple[str, ...] = ("parameters",)):
    code = nbformat.v4.new_code_cell(cell, metadata={"tags": list(tags)})
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A"), code])


def kernel(*cells: str) -> dict:
    """A notebook's variables after running these cells; `In` begins with an empty entry."""
    names: dict = {}
    for cell in cells:
        if "check_parameters" not in cell:
            exec(cell, names)
    return {**names, "In": ["", *cells]}


class TestReadParameters:
    def test_defaults_types_and_help(self):
        declared = guard.read_parameters(notebook())
        assert list(declared) == ["dataset", "epochs", "lr", "masked", "limit", "widths"]
        assert declared["epochs"] == guard.Parameter(8, int, "passes over the training data")
        assert declared["limit"].type is type(None)
        assert declared["widths"].default == [16, 32]

    def test_from_a_file(self, tmp_path):
        path = tmp_path / "01_a.ipynb"
        nbformat.write(notebook(), path)
        assert guard.read_parameters(path) == guard.read_parameters(notebook())

    def test_annotation_negative_number_and_hash_inside_text(self):
        declared = guard.parse_parameters('seed: int = -1  # seed\nlabel = "a # b"  # a label')
        assert declared["seed"].default == -1
        assert declared["label"] == guard.Parameter("a # b", str, "a label")

    @pytest.mark.parametrize(
        ("line", "shown"),
        [
            ("steps = epochs * 2", "steps = epochs * 2"),
            ("path = f'{dataset}.csv'", "path = "),
            ("import os", "import os"),
            ("a = b = 3", "a = b = 3"),
            ("a, b = 1, 2", "a, b = "),
            ("print(epochs)", "print(epochs)"),
            ("seed: int", "seed: int"),
        ],
    )
    def test_anything_but_a_plain_literal_is_refused(self, line, shown):
        with pytest.raises(ParametersCellError, match="line 7") as caught:
            guard.parse_parameters(f"{CELL}\n{line}")
        assert shown in str(caught.value) and "name = literal" in str(caught.value)

    def test_a_name_twice_is_refused(self):
        with pytest.raises(ParametersCellError, match="'epochs' a second time"):
            guard.parse_parameters("epochs = 1\nepochs = 2")

    def test_an_empty_cell_and_broken_python_are_refused(self):
        with pytest.raises(ParametersCellError, match="declares no parameter"):
            guard.parse_parameters("# nothing")
        with pytest.raises(ParametersCellError, match="line 1 .* is not Python"):
            guard.parse_parameters("epochs = = 2")

    def test_no_or_two_tagged_cells_are_refused(self):
        with pytest.raises(ParametersCellError, match="0 code cells are tagged"):
            guard.read_parameters(notebook(tags=()))
        two = notebook()
        two.cells.append(two.cells[-1])
        with pytest.raises(ParametersCellError, match="2 code cells are tagged"):
            guard.read_parameters(two)


class TestValidate:
    def test_good_values_pass(self):
        values = {"dataset": "planted", "epochs": 1, "lr": 1, "masked": True, "widths": (8,)}
        guard.validate(notebook(), values)

    @pytest.mark.parametrize("value", [None, "200", 200, 0.5])
    def test_a_default_of_none_takes_none_text_and_numbers(self, value):
        guard.validate(notebook(), {"limit": value})

    def test_unknown_name_suggests_the_nearest_and_lists_all(self):
        with pytest.raises(UnknownParameterError) as caught:
            guard.validate(notebook(), {"epoch": 3})
        message = str(caught.value)
        assert "'epoch'" in message and "Did you mean 'epochs'?" in message
        assert "dataset, epochs, lr, masked, limit, widths" in message

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("epochs", 2.0, "int"),
            ("epochs", True, "int"),
            ("epochs", None, "int"),
            ("lr", "fast", "float"),
            ("lr", False, "float"),
            ("masked", 1, "bool"),
            ("dataset", 100, "str"),
            ("limit", True, "None, a string or a number"),
            ("limit", [1], "None, a string or a number"),
            ("widths", 16, "list"),
            ("widths", ["16"], "list of int"),
        ],
    )
    def test_wrong_type_names_value_and_expectation(self, name, value, expected):
        with pytest.raises(ParameterTypeError) as caught:
            guard.validate(notebook(), {name: value})
        for part in (repr(name), repr(value), expected):
            assert part in str(caught.value)

    def test_text_for_a_truth_value_says_how_to_give_it(self):
        with pytest.raises(ParameterTypeError, match='-y "masked: true"'):
            guard.validate(notebook(), {"masked": "true"})
        with pytest.raises(ParameterTypeError, match='-y "epochs: 8"'):
            guard.validate(notebook(), {"epochs": "many"})


class TestValueFromText:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("dataset", "1", "1"),
            ("dataset", "None", "None"),
            ("epochs", "3", 3),
            ("epochs", "3.5", 3.5),
            ("epochs", "three", "three"),
            ("lr", "1e-4", 1e-4),
            ("masked", "true", True),
            ("masked", "False", False),
            ("limit", "none", None),
            ("limit", "200", 200),
            ("widths", "[8, 16]", [8, 16]),
        ],
    )
    def test_reads_by_declared_type(self, name, text, value):
        declared = guard.read_parameters(notebook())
        read = guard.value_from_text(name, text, declared[name])
        assert read == value and type(read) is type(value)


CHECK = "from ss4rec_lib.lessons.parameters import check_parameters; check_parameters()"


class TestCheckParameters:
    def test_defaults_in_force(self):
        checked = guard.check_parameters(kernel(CELL, CHECK))
        assert checked.epochs == 8 and checked.dataset == "ml-100k"

    def test_injected_values_in_force(self):
        injected = "# Parameters\nepochs = 2\nlimit = 50\n"
        checked = guard.check_parameters(kernel(CELL, injected, CHECK))
        assert (checked.epochs, checked.limit, checked.lr) == (2, 50, 1e-3)

    def test_all_parameters_injected(self):
        """Then papermill's cell has the same names as the declaration."""
        names = kernel("a = 1", '# Parameters\na = "x"\n', CHECK)
        with pytest.raises(ParameterTypeError):
            guard.check_parameters(names)

    def test_unknown_injected_name(self):
        with pytest.raises(UnknownParameterError, match="Did you mean 'epochs'"):
            guard.check_parameters(kernel(CELL, "# Parameters\nepoch = 2\n", CHECK))

    def test_text_injected_for_a_truth_value(self):
        with pytest.raises(ParameterTypeError, match='-y "masked: true"'):
            guard.check_parameters(kernel(CELL, '# Parameters\nmasked = "true"\n', CHECK))

    def test_a_value_without_a_literal_comes_from_the_kernel(self):
        injected = "# Parameters\nlr = float('inf')\n"
        assert guard.check_parameters(kernel(CELL, injected, CHECK)).lr == float("inf")

    def test_run_again_in_jupyterlab_with_edited_defaults(self):
        edited = CELL.replace("epochs = 8", "epochs = 20")
        cells = [CELL, CHECK, "x = 1", edited, CHECK]
        assert guard.check_parameters(kernel(*cells)).epochs == 20

    def test_run_again_over_an_executed_notebook(self):
        """Injected values count until the parameters cell itself is run again."""
        injected = "# Parameters\nepochs = 2\n"
        assert guard.check_parameters(kernel(CELL, injected, CHECK, CHECK)).epochs == 2
        assert guard.check_parameters(kernel(CELL, injected, CHECK, CELL, CHECK)).epochs == 8

    def test_literal_cells_further_down_declare_nothing(self):
        assert not hasattr(guard.check_parameters(kernel(CELL, "bins = 30", CHECK)), "bins")

    def test_code_before_the_parameters(self):
        assert guard.check_parameters(kernel("import math", CELL, CHECK)).epochs == 8

    def test_a_declaration_that_begins_with_papermills_mark(self):
        cell = f"# Parameters\n{CELL}"
        assert guard.check_parameters(kernel(cell, CHECK)).epochs == 8
        with pytest.raises(UnknownParameterError):
            guard.check_parameters(kernel(cell, "# Parameters\nepoch = 2", CHECK))

    def test_forgotten_parameters_cell(self):
        with pytest.raises(ParametersCellError, match="run the cell tagged 'parameters' first"):
            guard.check_parameters(kernel("import math", CHECK))

    def test_a_plain_script_has_nothing_to_check(self):
        code = f"{CHECK}; assert check_parameters() is None"
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_cells_that_the_history_does_not_store(self, monkeypatch):
        """nbval runs them so; their sources are where tracebacks find them."""
        sources = [CELL, "# Parameters\nepoch = 2\n", CHECK]
        for number, cell in enumerate(sources):
            lines = cell.splitlines(keepends=True)
            name = f"x/ipykernel_1/{number}.py"
            monkeypatch.setitem(linecache.cache, name, (len(cell), None, lines, name))
        with pytest.raises(UnknownParameterError, match="Did you mean 'epochs'"):
            guard.check_parameters({"In": [""]})
