"""Configurations for tests, and the message of one that is refused."""

import dataclasses
import importlib

import pytest

from p2p_sac_jax import config_io
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.fields import fields_of

FIELDS = {field.name: field for field in fields_of(TrainConfig)}


def changed(fields):
    """The default configuration with dotted fields replaced."""
    return config_io.replace_fields(TrainConfig(), fields)


def in_sections(config, *layers):
    """``config`` with fields of its sections replaced, "root" for its own; in turn."""
    for layer in layers:
        for section, values in layer.items():
            if section != "root":
                part = dataclasses.replace(getattr(config, section), **values)
                values = {section: part}
            config = dataclasses.replace(config, **values)
    return config


def preset(name):
    module = importlib.import_module(f"configs.{name}")
    return config_io.from_dict(module.get_config().to_dict())


def refusal(function, *arguments):
    with pytest.raises(ConfigError) as error:
        function(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message
