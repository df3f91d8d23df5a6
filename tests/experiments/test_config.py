"""Configurations of runs: what can be set, and the same refusals from Python, YAML and `--set`."""

import json

import pytest

from ss4rec_lib import cli
from ss4rec_lib.configuration import ConfigError, as_text, parse_assignments
from ss4rec_lib.experiments import DataConfig, RunConfig, run_config
from ss4rec_lib.models import PRESETS, SS4RecConfig, make_model
from ss4rec_lib.training import TrainingConfig

PLANTED = {"dataset": "planted"}
EVERY_PRESET = [(task, name) for task, presets in PRESETS.items() for name in presets]


def by_python(tree):
    return RunConfig(**tree)


def by_yaml(tree, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(tree))  # JSON is YAML
    return run_config(file=path)


def by_set(tree):
    flat = {f"{part}.{key}": value for part in ("data", "model", "training")
            for key, value in tree.get(part, {}).items()}  # fmt: skip
    flat |= {name: tree[name] for name in ("task", "seed") if name in tree}
    name = flat.pop("model.name", None)
    return run_config({"model": name}, [f"{key}={as_text(value)}" for key, value in flat.items()])


WRONG = [
    ({"data": {"dataset": "ml-1"}}, ("dataset", "ml-1", "ml-1m")),
    ({"data": PLANTED | {"ordering": "recbole"}}, ("ordering", "recbole", "recbole-float32")),
    ({"data": PLANTED | {"split": "global"}}, ("split", "global", "global-time")),
    ({"data": PLANTED | {"min_interactions": -1}}, ("min_interactions", "-1")),
    ({"data": PLANTED, "model": {"name": "oficial"}}, ("model", "oficial", "official")),
    ({"data": PLANTED, "model": {"name": "svdpp"}}, ("model", "svdpp", "rating")),
    ({"data": PLANTED, "seed": -1}, ("seed", "-1")),
    ({"data": PLANTED, "seed": 2**32}, ("seed", str(2**32))),
    ({"data": PLANTED, "seed": 1.5}, ("seed", "1.5")),
    ({"data": PLANTED, "task": "rank"}, ("task", "rank", "ranking")),
    ({"data": PLANTED, "model": {"hidden_size": 16}}, ("d_H=64", "hidden_size=16")),
    ({"data": PLANTED, "model": {"dropout_prob": 2.0}}, ("dropout_prob", "2.0")),
    ({"data": PLANTED, "model": {"n_heads": 4}}, ("n_heads",)),
    ({"data": PLANTED, "training": {"epochs": 0}}, ("epochs", "0")),
    ({"data": PLANTED, "training": {"epochs": 8.5}}, ("epochs", "8.5")),
    ({"data": PLANTED, "training": {"epochs": None}}, ("epochs", "none")),
    ({"data": PLANTED, "training": {"learning_rate": "fast"}}, ("learning_rate", "fast")),
    ({"data": PLANTED, "training": {"epoch": 3}}, ("epoch", "epochs")),
    ({"data": PLANTED, "training": {"learning_rate": True}}, ("learning_rate", "true")),
    ({"data": PLANTED | {"folds": 2}}, ("folds", "2")),
]


@pytest.mark.parametrize(("tree", "words"), WRONG)
def test_a_wrong_value_is_named_wherever_it_comes_from(tree, words, tmp_path):
    messages = []
    for build in (by_python, lambda t: by_yaml(t, tmp_path), by_set):
        with pytest.raises(ConfigError) as refusal:
            build(tree)
        messages.append(str(refusal.value).removeprefix("--set "))
        for word in words:
            assert word in messages[-1]
    assert messages[0] == messages[1]
    known = "there is no option" not in messages[0]
    assert messages[2] == messages[0] or not known


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_numbers_that_are_not_finite_are_refused(text, tmp_path):
    for build in (
        lambda: RunConfig(data=PLANTED, training={"weight_decay": float(text)}),
        lambda: run_config(PLANTED, [f"weight_decay={text}"]),
    ):
        with pytest.raises(ConfigError, match="weight_decay"):
            build()
    in_yaml = text.replace("nan", ".nan").replace("inf", ".inf")
    (tmp_path / "run.yaml").write_text(
        f"data: {{dataset: planted}}\ntraining: {{weight_decay: {in_yaml}}}\n"
    )
    with pytest.raises(ConfigError, match="weight_decay"):
        run_config(file=tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("epochs=8", 8), ("max_len=none", None), ("max_len=50", 50), ("gradient_clip=None", None),
        ("gradient_clip=0.5", 0.5), ("learning_rate=1e-3", 0.001), ("learning_rate=1", 1.0),
        (" epochs = 8 ", 8), ("schedule=constant", "constant"),
    ],
)  # fmt: skip
def test_text_is_read_by_the_type_of_its_option(text, value):
    found = getattr(run_config(PLANTED, [text]).training_options, text.partition("=")[0].strip())
    assert found == value
    assert type(found) is type(value)


def test_none_is_a_word_where_the_option_has_that_word():
    options = run_config(PLANTED, ["target_time=none", "gradient_clip=none"]).training_options
    assert (options.target_time, options.gradient_clip) == ("none", None)


def test_a_yaml_file_may_be_overruled(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("data: {dataset: planted}\ntraining: {epochs: '3'}\n")
    with pytest.raises(ConfigError, match="epochs='3'"):
        run_config(file=path)
    path.write_text(
        "task: ranking\ndata: {dataset: planted}\nmodel: {name: bpr, n_layers: 1}\n"
        "training: {learning_rate: 1e-2, epochs: 9}\nseed: 3\n"
    )
    config = run_config({"seed": 4}, ["epochs=2"], path)
    assert (config.seed, config.name, config.model_options.n_layers) == (4, "bpr", 1)
    assert config.training_options.learning_rate == 0.01
    assert config.training_options.epochs == 2
    path.write_text("data: {dataset: planted}\nmodel: sasrec\n")
    assert run_config(file=path).name == "sasrec"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("data: {dataset: planted", "YAML"), ("- a\n- b\n", "task"), ("", "task"),
        ("data: {dataset: planted}\nmodle: {}\n", "model"), ("data: 3\n", "3"),
        ("data: {dataset: planted}\nseeds: [0, 1]\n", "seed"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_named(text, word, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml") as refusal:
        run_config(file=path)
    assert word in str(refusal.value)
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        run_config(file=tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["epochs", "=3", "epochs=1 epochs=2"])
def test_texts_of_another_form_are_refused(text):
    with pytest.raises(ConfigError):
        parse_assignments(text.split())


def test_what_is_given_twice_is_refused():
    with pytest.raises(ConfigError, match="seed"):
        run_config(PLANTED | {"seed": 0}, ["seed=0"])
    with pytest.raises(ConfigError, match="--dataset"):
        run_config({"dataset": None})


def test_presets_and_changes_make_the_configurations():
    config = RunConfig(data=PLANTED, model={"name": "bpr", "n_layers": 1}, seed=3)
    assert config.model_options == SS4RecConfig.bpr(n_layers=1)
    assert config.training_options == TrainingConfig(seed=3)
    config = RunConfig(data={"dataset": "ml-1m"}, training={"patience": 4})
    assert config.training_options == TrainingConfig.ml_1m(patience=4)
    assert config.overrides() == {"patience": 4}
    assert RunConfig(data=PLANTED).data == DataConfig(dataset="planted")


@pytest.mark.parametrize(("task", "name"), EVERY_PRESET)
def test_every_preset_is_a_configuration_that_comes_back(task, name, tmp_path):
    config = RunConfig(data=PLANTED, task=task, model=name, seed=7)
    assert config.overrides() == {}
    config.write(tmp_path / "config.json")
    again = RunConfig.read(tmp_path / "config.json")
    assert again == config
    assert again.in_force() == config.in_force()
    if config.preset.model.trained_with is None and task == "ranking":
        assert make_model(7, config.model_options).config == config.model_options


@pytest.mark.parametrize(("task", "name"), EVERY_PRESET)
def test_the_command_makes_the_same_configuration_again(task, name):
    config = RunConfig(
        data={"dataset": "planted", "min_interactions": 3, "split": "global-time"},
        task=task, model=name, seed=2,
    )  # fmt: skip
    options = cli._parser().parse_args(config.command("runs/x").split()[1:])
    given = {key: getattr(options, key) for key in cli._RUN_OPTIONS}
    assert run_config(given, options.assignments) == config
    assert options.out == "runs/x"


def test_changed_options_are_in_the_command():
    config = RunConfig(
        data=PLANTED, model={"name": "neural_cf", "mlp_hidden_size": (16, 8)},
        training={"epochs": 3},
    )  # fmt: skip
    words = config.command("out").split()
    assert {"mlp_hidden_size=16,8", "epochs=3"} <= set(words)
    assert config.overrides() == {"mlp_hidden_size": [16, 8], "epochs": 3}


def test_a_model_without_time_receives_none():
    for time in ("known", "hidden", "previous", "none"):
        for name in PRESETS["ranking"]:
            if name in ("official", "plus", "bpr", "sasrec_time"):
                continue
            config = RunConfig(data=PLANTED, model=name, training={"target_time": time})
            assert config.training_options.target_time == "none"
            assert config.overrides() == {}
    timed = RunConfig(data=PLANTED, training={"target_time": "none"})
    assert timed.overrides() == {"target_time": "none"}


def test_options_of_a_saved_run_may_be_repeated_and_not_changed(tmp_path):
    path = tmp_path / "config.json"
    saved = RunConfig(data=PLANTED, seed=4, training={"epochs": 8})
    saved.write(path)
    assert run_config(saved=path) == saved
    given = {"dataset": "planted", "seed": 4, "ordering": "exact-time"}
    # A value that comes from a preset agrees too, although it was never set.
    assert run_config(given, ["epochs=8", "d_state=32"], saved=path) == saved
    with pytest.raises(ConfigError) as refusal:
        run_config({"dataset": "ml-1m", "seed": 4}, ["epochs=9", "max_len=none"], saved=path)
    for part in ("dataset is planted", "ml-1m", "epochs is 8", "9", "max_len is 200", "none"):
        assert part in str(refusal.value)
    assert "seed is" not in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"format": 1, "dataset": "planted"}', '{"format": 2, "data": {}}',
     '{"format": 2, "data": {"dataset": "planted"}, "colour": 1}',
     '{"format": 2, "data": {"dataset": "planted"}, "model": {"name": "official", "old": 1}}'],
)  # fmt: skip
def test_a_damaged_or_old_file_is_named(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.json"):
        RunConfig.read(path)
    with pytest.raises(ConfigError, match="holds no run"):
        RunConfig.read(tmp_path / "none" / "config.json")


def test_the_command_line_names_every_model():
    (verbs,) = (a for a in cli._parser()._actions if hasattr(a, "choices") and a.choices)
    text = " ".join(verbs.choices["train"].format_help().split())
    for _, name in EVERY_PRESET:
        assert name in text.replace("- ", "-")


def test_rating_filters_and_splits():
    for split, usual in (("random", 0), ("5-fold", 0), ("global-time", 5), ("leave-one-out", 5)):
        config = RunConfig(data=PLANTED | {"split": split}, task="rating", model="bias")
        assert config.data.min_interactions == usual
    for model in ("neural_cf", "ss4rec-rating"):
        with pytest.raises(ConfigError, match="5-fold"):
            RunConfig(data=PLANTED | {"split": "5-fold"}, task="rating", model=model)
    with pytest.raises(ConfigError, match="random"):
        RunConfig(data=PLANTED | {"split": "random"})
    with pytest.raises(ConfigError, match="user_factors"):
        run_config(PLANTED | {"task": "rating", "model": "bias"}, ["user_factors=8"])
