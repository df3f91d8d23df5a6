"""Settings: what can be changed, how its text is read, and what is refused before any work."""

import dataclasses
import json

import pytest

from ss4rec_lib.experiments.changes import (
    KEYS,
    MODEL_KEYS,
    TRAINING_KEYS,
    alternatives,
    as_text,
    parse_changes,
)
from ss4rec_lib.experiments.errors import SettingsError
from ss4rec_lib.experiments.settings import Settings, settings_from_options
from ss4rec_lib.models import (
    MODELS,
    RANKING_PRESETS,
    NeuralCFConfig,
    SS4RecConfig,
    config_fields,
    make_model,
)
from ss4rec_lib.training import TrainingConfig


def test_no_name_is_in_both_configurations():
    assert set(MODEL_KEYS) & set(TRAINING_KEYS) == set()
    assert {"hidden_size", "model_type", "epochs", "seed"} <= set(KEYS)


def test_every_key_has_a_type_that_can_be_read_and_its_default_comes_back():
    """A field of a new type would otherwise be refused whatever is typed."""
    for key, declared in KEYS.items():
        readable = {int, float, bool, str, type(None), tuple[int, ...]}
        assert set(alternatives(declared)) <= readable, key
    for config in (SS4RecConfig(), TrainingConfig(), NeuralCFConfig()):
        dump = getattr(config, "model_dump", None)
        values = dump() if dump else dataclasses.asdict(config)
        assert parse_changes(f"{k}={as_text(v)}" for k, v in values.items()) == values


@pytest.mark.parametrize(("text", "value"), [
    ("epochs=8", 8), ("max_len=none", None), ("max_len=50", 50), ("gradient_clip=None", None),
    ("gradient_clip=0.5", 0.5), ("learning_rate=1e-3", 0.001), ("learning_rate=1", 1.0),
    ("unconstrained=true", True), ("unconstrained=False", False), ("interval=log1p", "log1p"),
    (" epochs = 8 ", 8),
])  # fmt: skip
def test_text_is_read_by_the_declared_type(text, value):
    (found,) = parse_changes([text]).values()
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "message"), [
    ("epochs=8.0", "--set epochs=8.0: epochs must be an integer, and '8.0' is not"),
    ("epochs=none", "epochs must be an integer"),
    ("max_len=x", "max_len must be an integer or none, and 'x' is not"),
    ("learning_rate=fast", "learning_rate must be a finite number"),
    ("learning_rate=nan", "learning_rate must be a finite number"),
    ("weight_decay=inf", "weight_decay must be a finite number"),
    ("unconstrained=1", "unconstrained must be true or false"),
    ("interval=", "interval must be text"),
    ("epochs", "--set epochs: expected key=value"), ("=3", "--set =3: expected key=value"),
    ("epoch=3", "there is no 'epoch'. Did you mean 'epochs'"),
    ("d_model=3", "--set d_model=3: there is no 'd_model'"),
    ("qqq=3", "there is no 'qqq'. Keys of models are hidden_size"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(text, message):
    with pytest.raises(SettingsError) as refusal:
        parse_changes([text])
    assert message in str(refusal.value)


def test_a_key_given_twice_is_refused_even_with_the_same_value():
    with pytest.raises(SettingsError, match="epochs is set twice"):
        parse_changes(["epochs=8", "dt_min=0.1", "epochs=8"])


def test_presets_and_changes_make_the_configurations():
    settings = Settings("planted", preset="bpr", seed=3, model={"n_layers": 1})
    assert settings.model_config() == SS4RecConfig.bpr(n_layers=1)
    assert settings.training_config() == TrainingConfig(seed=3)
    settings = Settings("ml-1m", training={"patience": 4})
    assert settings.training_config() == TrainingConfig.ml_1m(patience=4)
    assert settings.model_config() == SS4RecConfig.official()
    assert settings.training_config() != Settings("ml-100k").training_config()


@pytest.mark.parametrize(("given", "message"), [
    ({"dataset": "ml-1"}, "dataset is 'ml-1': choose one of .* Did you mean 'ml-1m'"),
    ({"ordering": "recbole"}, "protocol .* is 'recbole'.*Did you mean 'recbole-float32'"),
    ({"preset": "big"}, "preset is 'big': choose one of official, bpr"),
    ({"seed": -1}, "seed=-1"), ({"seed": 2**32}, "seed=4294967296"), ({"seed": 1.0}, "seed=1.0"),
    ({"min_interactions": -1}, "min_interactions=-1"),
    ({"model": {"hidden_size": 16}}, "d_H=64 but hidden_size=16: .* set both"),
    ({"model": {"epochs": 3}}, "epochs=3 is no option of the model part"),
    ({"training": {"epoch": 3}}, "there is no 'epoch'. Did you mean 'epochs'"),
    ({"training": {"epochs": 0}}, "epochs=0"),
    ({"training": {"learning_rate": "fast"}}, "real number"),
    ({"training": {"seed": 1}}, "seed is a setting of its own"),
])  # fmt: skip
def test_settings_that_nothing_can_be_run_with_are_refused(given, message):
    with pytest.raises(SettingsError, match=message):
        Settings(**{"dataset": "planted", **given})


def test_they_come_back_from_their_file(tmp_path):
    settings = Settings(
        "planted", None, "recbole-float32", 0, "bpr", 7,
        {"interval_floor": 0.5}, {"max_len": None, "learning_rate": 0.1},
    )  # fmt: skip
    settings.write(tmp_path / "settings.json")
    assert Settings.read(tmp_path / "settings.json") == settings


@pytest.mark.parametrize("content", [
    "{", "[]", "{}", '{"format": 2, "dataset": "planted"}', '{"format": 1, "dataset": "x"}',
    '{"format": 1, "dataset": "planted", "colour": 1}', '{"format": 1}',
    '{"format": 1, "dataset": "planted", "model": {"old_knob": 1}}',
])  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match="settings.json cannot be used"):
        Settings.read(path)


def test_a_folder_without_one_holds_no_run(tmp_path):
    with pytest.raises(SettingsError, match="holds no run"):
        Settings.read(tmp_path / "settings.json")


def test_options_left_out_have_their_defaults():
    settings = settings_from_options(
        {"dataset": "planted", "seed": None, "preset": None}, ["epochs=8", "d_P=8", "seed=4"]
    )
    assert settings == Settings("planted", seed=4, model={"d_P": 8}, training={"epochs": 8})
    with pytest.raises(SettingsError, match="no dataset is named"):
        settings_from_options({"dataset": None})
    with pytest.raises(SettingsError, match="the seed is given twice"):
        settings_from_options({"dataset": "planted", "seed": 4}, ["seed=4"])


def test_options_of_a_saved_run_may_repeat_what_it_is_and_nothing_else(tmp_path):
    path = tmp_path / "settings.json"
    saved = Settings("planted", seed=4, training={"epochs": 8})
    saved.write(path)
    assert settings_from_options({}, saved=path) == saved
    # A value that comes from a preset agrees too, although it was never set.
    given = {"dataset": "planted", "seed": 4, "ordering": "exact-time"}
    assert settings_from_options(given, ["epochs=8", "d_state=32"], saved=path) == saved
    with pytest.raises(SettingsError) as refusal:
        settings_from_options({"dataset": "ml-1m", "seed": 4}, ["epochs=9", "max_len=none"], path)
    for part in ("dataset is planted there and ml-1m here", "epochs is 8 there and 9 here",
                 "max_len is 200 there and none here", "Nothing was changed"):  # fmt: skip
        assert part in str(refusal.value)
    assert "seed is" not in str(refusal.value)


def test_the_file_is_plain_json(tmp_path):
    Settings("planted").write(tmp_path / "settings.json")
    content = json.loads((tmp_path / "settings.json").read_text())
    assert content["dataset"] == "planted" and content["format"] == 1


# ------------------------------------------------------------------------------- other models


def test_every_preset_builds_its_model_and_its_options_are_its_own():
    for name, preset in RANKING_PRESETS.items():
        settings = Settings("planted", preset=name)
        assert settings.model_config() == preset.config
        model = make_model(7, settings.model_config())
        assert model.n_items == 7 and model.config == preset.config
    assert Settings("planted", preset="sasrec", model={"n_heads": 4}).model_config().n_heads == 4
    with pytest.raises(SettingsError, match="n_heads=4 is no option of the model part .* official"):
        Settings("planted", preset="official", model={"n_heads": 4})


def test_names_that_models_share_have_one_type():
    for name, declared in MODEL_KEYS.items():
        types = {config_fields(kind).get(name, declared) for kind in MODELS}
        assert types == {declared}, name


def test_the_command_line_names_every_preset():
    assert all(name in cli_help() for name in RANKING_PRESETS)


def cli_help():
    from ss4rec_lib.cli import _parser

    (verbs,) = (a for a in _parser()._actions if hasattr(a, "choices") and a.choices)
    return verbs.choices["train"].format_help()
