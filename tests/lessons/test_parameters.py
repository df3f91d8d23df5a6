from __future__ import annotations

import ast
import linecache
import subprocess
import sys
import types

import nbformat
import pytest

from ss4rec_lib.lessons import (
    Parameter,
    ParameterError,
    check_choice,
    check_parameters,
    read_parameters,
)
from ss4rec_lib.lessons.parameters import (
    check_values,
    checked_parameters,
    value_from_text,
)

CELL = """\
dataset = "ml-100k"  # MovieLens data set
epochs = 8  # passes over the training data
lr = 1e-3  # learning rate of Adam
masked = False  # leave out films already seen
limit = None  # longest history, interactions; None: no limit
widths = [16, 32]  # sizes to try"""


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook with one tagged cell; returns its path."""

    def write(cell: str = CELL, tags: tuple[str, ...] = ("parameters",)):
        code = nbformat.v4.new_code_cell(cell, metadata={"tags": list(tags)})
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = tmp_path / "{01}_a.ipynb"  # papermill fills parameters into braces of a path
        cells = [nbformat.v4.new_markdown_cell("# A"), code]
        made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(made, path)
        return path

    return write


def kernel(*cells: str) -> dict:
    """A notebook's variables after running these cells; `In` begins with an empty entry."""
    names: dict = {}
    for cell in cells:
        if "check_parameters" not in cell:
            exec(cell, names)
    return {**names, "In": ["", *cells]}


def validate(path, values: dict) -> None:
    defaults = {name: declared.default for name, declared in read_parameters(path).items()}
    check_values(values, defaults, path.name)


class TestReadParameters:
    def test_defaults_and_help(self, notebook):
        declared = read_parameters(notebook())
        assert list(declared) == ["dataset", "epochs", "lr", "masked", "limit", "widths"]
        assert declared["epochs"] == Parameter(8, "passes over the training data")
        assert declared["limit"].default is None
        assert declared["widths"].default == [16, 32]

    def test_annotation_negative_number_and_several_lines(self, notebook):
        declared = read_parameters(notebook("seed: int = -1  # seed\nsizes = [\n    1,\n    2,\n]"))
        assert declared["seed"] == Parameter(-1, "seed", "int")
        assert declared["sizes"].default == [1, 2]

    @pytest.mark.parametrize("value", ["epochs * 2", "f'{dataset}.csv'", "a # b"])
    def test_a_default_that_is_no_literal_is_refused(self, notebook, value):
        with pytest.raises(ParameterError, match=r"01\}_a\.ipynb.* steps") as caught:
            read_parameters(notebook(f"{CELL}\nsteps = {value}"))
        assert value.partition(" #")[0] in str(caught.value)

    def test_no_parameters_are_refused(self, notebook):
        for path in (notebook(tags=()), notebook("# nothing")):
            with pytest.raises(ParameterError, match=r"01\}_a\.ipynb"):
                read_parameters(path)

    def test_a_notebook_that_names_no_kernel_is_refused(self, notebook):
        path = notebook()
        text = path.read_text()
        path.write_text(text.replace('"kernelspec"', '"other"'))
        with pytest.raises(ParameterError, match=r"01\}_a\.ipynb"):
            read_parameters(path)


class TestValidate:
    def test_good_values_pass(self, notebook):
        values = {"dataset": "planted", "epochs": 1, "lr": 1, "masked": True, "widths": (8,)}
        validate(notebook(), values)

    @pytest.mark.parametrize("value", [None, "200", 200, 0.5])
    def test_a_default_of_none_takes_none_text_and_numbers(self, notebook, value):
        validate(notebook(), {"limit": value})

    def test_unknown_name_suggests_the_nearest_and_lists_all(self, notebook):
        with pytest.raises(ParameterError) as caught:
            validate(notebook(), {"epoch": 3})
        message = str(caught.value)
        assert "epoch=3" in message
        assert "'epochs'" in message
        assert "dataset, epochs, lr, masked, limit, widths" in message

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("epochs", 2.0, "integer"),
            ("epochs", True, "integer"),
            ("epochs", None, "integer"),
            ("lr", "fast", "number"),
            ("lr", False, "number"),
            ("lr", float("nan"), "finite"),
            ("masked", 1, "boolean"),
            ("dataset", 100, "string"),
            ("limit", True, ""),
            ("limit", [1], ""),
            ("widths", 16, "tuple"),
            ("widths", ["16"], "integer"),
        ],
    )
    def test_wrong_type_names_value_and_expectation(self, notebook, name, value, expected):
        with pytest.raises(ParameterError) as caught:
            validate(notebook(), {name: value})
        given = value[0] if isinstance(value, list) else value
        shown = repr(given) if isinstance(given, str) else str(given).lower()
        for part in (name, shown, expected):
            assert part in str(caught.value)

    @pytest.mark.parametrize(
        ("line", "good", "bad"),
        [
            ("seed = 0", [0, 2**32 - 1], [-1, 2**32]),
            ("user_id = 0", [0, 2**40], [-1]),
            ("epochs = 8", [1], [0, -3]),
            ("gap_minutes = 30.0", [0.5, 1], [0, -1e3, float("inf"), float("nan")]),
            ("widths = [16, 32]", [[8]], [[0], [8, -1]]),
            ("rates = [0.1]", [[2]], [[float("nan")], [float("inf")]]),
            ("limit = None", [-1.5], [float("nan"), float("-inf")]),
            ("offset = -1.0", [-2.0, 0.0], [float("-inf")]),
        ],
    )
    def test_the_sign_of_the_default_is_the_range(self, line, good, bad):
        """A default above 0 takes numbers above 0, and 0 takes numbers from 0 on."""
        name, _, default = line.partition(" = ")
        declared = {name: ast.literal_eval(default)}
        for value in good:
            check_values({name: value}, declared, "a lesson")
        for value in bad:
            shown = repr(value[-1] if isinstance(value, list) else value).removesuffix(".0")
            with pytest.raises(ParameterError) as caught:
                check_values({name: value}, declared, "a lesson")
            assert f"{name}" in str(caught.value)
            assert shown in str(caught.value)

    def test_text_for_another_type_says_how_to_give_it(self, notebook):
        with pytest.raises(ParameterError, match=r'masked.*-y "masked: true"'):
            validate(notebook(), {"masked": "true"})
        with pytest.raises(ParameterError, match=r'epochs.*-y "epochs: 8"'):
            validate(notebook(), {"epochs": "many"})


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
            ("limit", "-0.5", -0.5),
            ("limit", "007", "007"),
            ("limit", "1e3", "1e3"),
            ("limit", "1,2", "1,2"),
            ("limit", "true", "true"),
            ("limit", "inf", "inf"),
            ("widths", "[8, 16]", [8, 16]),
            ("widths", "8,16", (8, 16)),
        ],
    )
    def test_reads_by_the_type_of_the_default(self, notebook, name, text, value):
        read = value_from_text(text, read_parameters(notebook())[name].default)
        assert read == value
        assert type(read) is type(value)


CHECK = "from ss4rec_lib.lessons import check_parameters; check_parameters(a=1)"


DEFAULTS = {
    "dataset": "ml-100k",
    "epochs": 8,
    "lr": 1e-3,
    "masked": False,
    "limit": None,
    "widths": [16, 32],
}


def edited(old: str, new: str) -> dict:
    """Run the published cell, then the cell as a reader edited it."""
    cell = CELL.replace(old, new)
    assert cell != CELL
    return kernel(CELL, CHECK, "x = 1\nimport math", cell, CHECK)


def in_force(names: dict) -> types.SimpleNamespace:
    return types.SimpleNamespace(**checked_parameters(names, DEFAULTS))


class TestWithPublishedDefaults:
    """`check_parameters(dataset="ml-100k", ...)` as the lessons call it."""

    def test_defaults_injected_and_edited_values_in_force(self):
        assert vars(in_force(kernel(CELL, CHECK))) == DEFAULTS
        injected = "# Parameters\nepochs = 2\nlr = 1 / 4\n"
        values = in_force(kernel(CELL, injected, CHECK))
        assert (values.epochs, values.lr, values.dataset) == (2, 0.25, "ml-100k")
        values = in_force(edited("epochs = 8", "epochs = 20"))
        assert values.epochs == 20

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("epochs = 8", "epoch = 3", "epoch=3: there is no option 'epoch'.*'epochs'"),
            ("epochs = 8", "epochs = '3'", "epochs='3': expected integer"),
            ("epochs = 8", "epochs = 2 * 4", r"'epochs = 2 \* 4' is not .* such as epochs = 8"),
            ("epochs = 8", "epochs = True", "epochs=true: expected integer"),
            ("epochs = 8", "epochs = 0", "epochs=0: expected .*greater than 0"),
            ("epochs = 8", "epoch = 2 * 4", r"'epoch = 2 \* 4' is not .*'epochs'"),
            ("epochs = 8", "epochs: int = 8.5", "epochs=8.5"),
            ("epochs = 8", "epochs += 1", r"'epochs \+= 1' is not"),
            ("lr = 1e-3", "lr = masked = 0.1", "'lr = masked = 0.1' is not"),
            ("lr = 1e-3", "import math", "'import math' is not"),
            ("lr = 1e-3  # learning rate of Adam\n", "", r"lr is missing.* lr = 0\.001"),
            ("ml-100k", "ml-2m", "unknown dataset 'ml-2m'.*'ml-20m' or 'ml-1m'"),
            ("ml-100k", "ML-1M", "unknown dataset 'ML-1M'.*'ml-1m'"),
            ("ml-100k", "no/such.csv", "such.csv"),
            ("widths = [16, 32]", "widths = 16", "widths=16"),
        ],
    )
    def test_an_edit_by_hand_is_named(self, old, new, said):
        names = edited(old, new) if "+=" not in new else kernel(CELL, CHECK)
        if "+=" in new:
            names["In"] += [CELL.replace(old, new), CHECK]
        with pytest.raises(ParameterError, match=f"(?s){said}"):
            in_force(names)

    def test_a_file_of_ones_own_is_found(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "orders.csv").write_text("user_id,item_id,timestamp\n")
        assert in_force(edited("ml-100k", "orders.csv")).dataset == "orders.csv"

    def test_a_cell_of_ones_own_below_the_parameters(self):
        values = in_force(kernel(CELL, "epochs = 3  # my own", CHECK))
        assert values.epochs == 3
        with pytest.raises(ParameterError, match=r"epoch=3.*'epochs'"):
            in_force(kernel(CELL, "epoch = 3", CHECK))
        with pytest.raises(ParameterError, match="2 \\* 4"):
            in_force(kernel(CELL, "epochs = 2 * 4", CHECK))

    def test_cells_further_down_are_no_parameters(self):
        cells = [CELL, CHECK, "bins = 30", "limit = 3 * 8", "dataset = epochs = 4", CHECK]
        assert in_force(kernel(*cells)).limit is None

    def test_injected_values_count_until_the_parameters_run_again(self):
        injected = "# Parameters\nepochs = 2\n"
        assert in_force(kernel(CELL, injected, CHECK, CHECK)).epochs == 2
        assert in_force(kernel(CELL, injected, CHECK, CELL, CHECK)).epochs == 8

    def test_a_declaration_that_begins_with_papermills_mark(self):
        cell = f"# Parameters\n{CELL}"
        assert in_force(kernel(cell, CHECK)).epochs == 8
        assert in_force(kernel(cell, "# Parameters\nlr = 1", CHECK)).lr == 1

    def test_one_parameter_misspelt(self):
        with pytest.raises(ParameterError, match=r"seeed=1.*'seed'"):
            checked_parameters(kernel("seed = 0", CHECK, "seeed = 1", CHECK), {"seed": 0})

    def test_without_a_history_the_values_themselves_are_checked(self):
        names = dict(DEFAULTS)
        assert in_force(names).epochs == 8
        with pytest.raises(ParameterError, match="epochs='3'"):
            in_force(names | {"epochs": "3"})
        del names["lr"]
        with pytest.raises(ParameterError, match=r"lr is missing.* lr = 0\.001"):
            in_force(names)

    def test_a_cell_that_is_not_python_is_passed_over(self):
        names = kernel(CELL, CHECK)
        names["In"] += ["epochs = = 3", "%matplotlib inline", CHECK]
        assert in_force(names).epochs == 8

    def test_cells_that_the_history_does_not_store(self, monkeypatch):
        for number, cell in enumerate([CELL.replace("epochs = 8", "epoch = 8"), CHECK]):
            lines = cell.splitlines(keepends=True)
            name = f"x/ipykernel_1/{number}.py"
            monkeypatch.setitem(linecache.cache, name, (len(cell), None, lines, name))
        with pytest.raises(ParameterError, match=r"epoch=8.*'epochs'"):
            in_force({"In": [""]})

    def test_a_value_without_a_literal_comes_from_the_kernel_and_is_checked(self):
        assert in_force(kernel(CELL, "# Parameters\nlr = 1 / 4\n", CHECK)).lr == 0.25
        with pytest.raises(ParameterError, match="lr=inf"):
            in_force(kernel(CELL, "# Parameters\nlr = float('inf')\n", CHECK))
        with pytest.raises(ParameterError, match=r"""masked='true'.*-y "masked: true\""""):
            in_force(kernel(CELL, '# Parameters\nmasked = "true"\n', CHECK))

    def test_all_parameters_injected(self):
        """Then papermill's cell has the same names as the declaration."""
        names = kernel("a = 1", '# Parameters\na = "x"\n', CHECK)
        with pytest.raises(ParameterError, match="a='x'"):
            checked_parameters(names, {"a": 1})

    def test_a_plain_script_has_nothing_to_check(self):
        code = f"{CHECK}; assert check_parameters(a=1) is None"
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_a_reader_sees_the_message_without_the_library(self, monkeypatch):
        class Shell:
            user_ns = kernel(CELL.replace("epochs", "epoch"), CHECK)

        monkeypatch.setattr("IPython.get_ipython", Shell)
        with pytest.raises(ParameterError, match="'epochs'") as caught:
            check_parameters(**DEFAULTS)
        assert len(caught.traceback) == 2, "the cell, and the call"


class TestCheckChoice:
    def test_a_value_of_the_data_and_none_pass(self):
        check_choice("user_id", 3, range(1, 5))
        check_choice("user_id", "u3", ["u1", "u3"])
        check_choice("user_id", None, [1])

    @pytest.mark.parametrize(
        ("value", "allowed", "said"),
        [
            (
                944,
                range(1, 944),
                r"user_id=944 .* nearest are 941, 942, 943\. .* 943 values from 1 to 943",
            ),
            (
                "u7",
                ["u1", "u2", "u3", "u70", "v"],
                r"user_id='u7' .*'u70'.* 5: u1, u2, u3, u70, \.\.\.",
            ),
            ("3", [1, 2, 3], r"user_id='3' .*'3'"),
            (3, ["zoë", "max"], r"user_id=3 is not in the data\. The data hold 2: zoë, max\."),
            (3, [], "user_id=3 is not in the data.*none"),
        ],
    )
    def test_another_value_is_named_with_the_nearest(self, value, allowed, said):
        with pytest.raises(ParameterError, match=said):
            check_choice("user_id", value, allowed)
