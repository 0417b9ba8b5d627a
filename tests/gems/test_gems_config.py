"""Choices of the pipeline: every one documented, misspelt ones named."""

import dataclasses

import pytest
import yaml

from heliodor.errors import InputError
from heliodor.gems import fit
from heliodor.gems.config import Config, explain, read_config


def test_what_is_explained_reads_back_as_the_defaults():
    assert read_config(yaml.safe_load(explain())) == Config()


def test_a_changed_configuration_survives_the_way_through_yaml():
    changed = read_config(
        {"bottom_up": {"max_heavy": 5, "mode_temperatures": 400}, "model": {"size": {"features": 32}}}
    )
    assert changed.bottom_up.mode_temperatures == (400.0,)
    assert read_config(yaml.safe_load(explain(changed))) == changed


def test_every_choice_has_a_sentence():
    def walk(cls):
        for f in dataclasses.fields(cls):
            assert f.metadata["help"].endswith("."), f.name
            kind = f.default_factory if f.default_factory is not dataclasses.MISSING else None
            if dataclasses.is_dataclass(kind):
                walk(kind)

    walk(Config)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"botom_up": {}}, "unknown entry botom_up; did you mean 'bottom_up'"),
        ({"bottom_up": {"max_hevy": 3}}, r"unknown entry bottom_up\.max_hevy; did you mean 'max_heavy'"),
        ({"workers": "two"}, "workers should be a whole number, not 'two'"),
        ({"workers": True}, "workers should be a whole number"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"train": 3}, "train should be names and values"),
        ({"top_down": [1]}, "top_down should hold names and values"),
        ({"top_down": {"radius": -1}}, "radius must be a length"),
        ({"bottom_up": {"max_heavy": 0}, "top_down": {"structures": 0}}, "nothing to train on"),
        ({"validate": {"lengths": ["x"]}}, r"validate\.lengths should be a whole number"),
    ],
)
def test_bad_choices_are_named(values, words):
    with pytest.raises(InputError, match=words):
        read_config(values)


def test_epochs_are_not_cut_short_by_the_default_time():
    def settings(values):
        config = read_config({"train": values})
        return fit.train_settings(config, fit.fits(config)[0])

    assert settings({"epochs": 7}).seconds == float("inf")
    assert settings({}).seconds == settings({"batch_size": 4}).seconds == 1800.0
    assert settings({"epochs": 7, "time": "1 h"}).seconds == 3600.0
    with pytest.raises(InputError, match="train: training has no setting 'epoch'; did you mean 'epochs'"):
        settings({"epoch": 7})
