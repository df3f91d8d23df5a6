"""Presets: every one makes its model, and its training options are options of training."""

import numpy as np
import pytest
import torch

from ss4rec_lib.models import (
    ALS,
    PRESETS,
    RATING_PRESETS,
    ALSConfig,
    ModelConfig,
    Popularity,
    PopularityConfig,
    make_model,
    n_learned,
)
from ss4rec_lib.training import TrainingConfig

EVERY = [(task, name) for task, presets in PRESETS.items() for name in presets]


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_a_preset_has_the_options_and_facts_of_its_model(task, name):
    preset = PRESETS[task][name]
    assert isinstance(preset.config, ModelConfig) and preset.config.display_name
    TrainingConfig(**preset.training)  # raises for what is no option of training
    if preset.model.trained_with is not None:
        assert set(preset.training) <= set(preset.model.trained_with)
        assert not set(preset.model.trained_with) & set(type(preset.config).model_fields)
    if not preset.model.fitted and name != "ss4rec-user":
        model = make_model(7, preset.config)
        assert type(model) is preset.model
        assert (model.n_items, model.config) == (7, preset.config)
        assert n_learned(model) > 0


def test_names_in_a_table_tell_the_presets_of_a_task_apart():
    for presets in PRESETS.values():
        names = [preset.config.display_name for preset in presets.values()]
        assert len(set(names)) == len(names)


def test_rating_baselines_are_made_from_their_configuration_and_a_seed():
    for preset in RATING_PRESETS.values():
        if not preset.model.reads_histories:
            model = preset.model(preset.config, seed=3)
            assert (model.config, model.seed) == (preset.config, 3)
            assert n_learned(model) is None


def test_a_configuration_of_no_trained_model_is_refused():
    for config in (PopularityConfig(), ALSConfig()):
        with pytest.raises(TypeError, match=type(config).__name__):
            make_model(7, config)


def test_counts_are_not_learned_and_factors_are():
    assert n_learned(Popularity(np.array([0, 1]))) == 0
    assert n_learned(ALS(torch.zeros(4, 3), ALSConfig(factors=3))) == 12
