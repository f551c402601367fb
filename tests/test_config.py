"""Configuration: tables, rules, plain-data round trips, presets, reference page."""

import dataclasses
import importlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax import config_io, hyper, validation
from p2p_sac_jax.config import ConfigError, TrainConfig
from tools import config_reference

ROOT = Path(__file__).parents[1]
PRESETS = sorted(
    path.stem for path in ROOT.glob("configs/*.py") if path.stem != "__init__"
)
DEFAULTS = dict(config_io.flatten(config_io.to_dict(TrainConfig())))


def changed(**fields):
    """Default configuration with dotted fields replaced (``__`` for the dot)."""
    tree = config_io.to_dict(TrainConfig())
    for name, value in fields.items():
        section, _, leaf = name.rpartition("__")
        (tree[section] if section else tree)[leaf] = value
    return config_io.from_dict(tree)


def preset(name):
    module = importlib.import_module(f"p2p_sac_jax.configs.{name}")
    return config_io.from_dict(module.get_config().to_dict())


CONTROL = {
    "environment__name": "lqr",
    "memory__kind": "none",
    "model_rollouts__fraction": 0.0,
    "exploration__source": "policy",
}


def test_every_field_has_a_rule():
    ruled = validation.CHOICES.keys() | validation.RANGES.keys()
    free = {name for name in DEFAULTS if name not in ruled}
    assert free == {
        "arms",
        "population.held_out",
        "exchange.matrix",
        "weights.recency",
        "weights.confidence",
        "weights.performance_filter",
    }
    assert ruled <= DEFAULTS.keys()
    for name in validation.CHOICES:
        assert isinstance(DEFAULTS[name], str)


def test_traced_marks_agree_with_hyper():
    marked = {
        (kind.__name__.removesuffix("Config").lower(), name)
        for kind, comments in config_reference.field_comments().items()
        for name, comment in comments.items()
        if comment.startswith(config_reference.TRACED)
    }
    leaves = hyper.make_hyper(TrainConfig())
    traced = {
        (section, name)
        for section in leaves._fields
        for name in getattr(leaves, section)._fields
    }
    assert marked == traced


def test_choices_agree_with_hyper():
    assert validation.CHOICES["exploration.source"] == hyper.EXPLORATION_SOURCES


@pytest.mark.parametrize("name", sorted(validation.RANGES))
def test_range_ends_are_refused_or_accepted_as_written(name):
    interval = validation.RANGES[name]
    low, high = (float(end) for end in interval[1:-1].split(","))
    kind = type(DEFAULTS[name])
    outside = []
    if math.isfinite(low):
        outside.append(low if interval[0] == "(" else low - 1)
    if math.isfinite(high):
        outside.append(high if interval[-1] == ")" else high + 1)
    if kind is float:
        outside += [math.nan, math.inf]
    for value in outside:
        with pytest.raises(ConfigError) as error:
            validation.validate(changed(**{name.replace(".", "__"): kind(value)}))
        message = str(error.value)
        assert message == f"{name}={kind(value)!r} must be in {interval}"


@pytest.mark.parametrize("name", sorted(validation.CHOICES))
def test_unknown_choice_names_field_value_and_choices(name):
    with pytest.raises(ConfigError) as error:
        validation.validate(changed(**{name.replace(".", "__"): "wrong"}))
    assert str(error.value).startswith(f"{name}='wrong' must be one of ")
    assert all(choice in str(error.value) for choice in validation.CHOICES[name])


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"steps": 210}, "steps=210 must be a multiple of evaluate_every=4"),
        ({"checkpoint_every": 50}, "checkpoint_every=50 must be a multiple"),
        ({"exchange__interval": 3}, "evaluate_every=4 must be a multiple of exchange"),
        ({"seed": 2**31 - 1, "seeds": 2}, "seed=2147483647 must be at most"),
        ({"population__pad_to": 8}, "population.pad_to=8 must be 0 or at least"),
        ({"population__newcomers": 16}, "population.newcomers=16 must be below"),
        ({"population__newcomers": 2}, "population.join_step=0 must be above 0"),
        (
            {"population__newcomers": 2, "population__join_step": 208},
            "population.join_step=208 must be above 0 and below steps=208",
        ),
        (
            {"population__newcomers": 2, "population__join_step": 5},
            "population.join_step=5 must be a multiple of evaluate_every=4",
        ),
        ({"population__join_step": 4}, "population.join_step=4 must be 0 without"),
        ({"environment__inventory": 9}, "environment.inventory=9 must be 0"),
        (
            {"environment__reference_effect": 0.2, "environment__regime_hazard": 0.1},
            "environment.regime_hazard=0.1 must be 0 where",
        ),
        (CONTROL | {"memory__kind": "bins"}, "memory.kind='bins' must be 'none' for"),
        (
            CONTROL | {"model_rollouts__fraction": 0.5},
            "model_rollouts.fraction=0.5 must be",
        ),
        (CONTROL | {"population__held_out": True}, "population.held_out=True must be"),
        (CONTROL | {"exploration__source": "memory"}, "exploration.source='memory'"),
        ({"memory__kind": "bins"}, "model_rollouts.fraction=0.9 must be 0 with memory"),
        ({"exploration__std_min": 0.2}, "exploration.std_min=0.2 must be at most"),
        (
            {"exchange__local_weight": 0.0, "exchange__network_weight": 0.0},
            "exchange.local_weight=0.0 must be above 0 where",
        ),
        (
            {"exchange__mode": "public", "population__peers": 3},
            "privacy.min_peers=3 must be below population.peers=3",
        ),
        (
            {"exchange__mode": "consortium", "weights__performance_filter": True},
            "weights.performance_filter=True must be False with exchange.mode=",
        ),
        (CONTROL | {"weights__similarity_width": 1.0}, "weights.similarity_width=1.0"),
        (
            {"synchronisation__threshold": 0.1},
            "synchronisation.threshold=0.1 must be 0 with synchronisation.max_interval",
        ),
        (
            {"synchronisation__tokens": 0.5},
            "synchronisation.tokens=0.5 must be 0 or at least 1 with",
        ),
        (
            {"privacy__value_noise": 9.0},
            "privacy.value_noise=9.0 must be 1.0 with exchange.mode='private'",
        ),
        (
            {"exchange__mode": "consortium", "memory__decay": 0.8},
            "privacy.min_weeks=8 must be at most the 5 weeks that memory.decay",
        ),
        (
            {"exchange__mode": "public", "privacy__min_weeks": 208},
            "privacy.min_weeks=208 must be below steps=208",
        ),
        (
            {"exchange__topology": "random_matching", "weights__trust_rate": 0.3},
            "weights.trust_rate=0.3 must be 0 with exchange.topology=",
        ),
        (
            {
                "exchange__topology": "one_peer_exponential",
                "exchange__aggregator": "median",
            },
            "exchange.aggregator='median' must be 'mean' with exchange.topology=",
        ),
        ({"faults__delay": 52}, "faults.delay=52 must be below the 52 rounds"),
        (
            {"faults__partition_step": 1, "faults__heal_step": 3},
            "faults.heal_step=3 must leave a round (every 4 steps) between 1",
        ),
        ({"synchronisation__refill": 1.0}, "synchronisation.refill=1.0 must be 0 with"),
        ({"faults__churn": 0.5}, "faults.leave_step=0 must be above 0 and below steps"),
        (
            {"faults__churn": 0.5, "faults__leave_step": 9, "faults__rejoin_step": 9},
            "faults.rejoin_step=9 must be 0 (never), or above faults.leave_step=9",
        ),
        ({"faults__leave_step": 9}, "faults.leave_step=9 must be 0 where faults.churn"),
        ({"faults__partition_step": 9}, "faults.partition_step=9 must be 0 where"),
        (
            {"faults__partition_step": 9, "faults__heal_step": 8},
            "faults.heal_step=8 must be 0 (no partition), or above faults.partition_",
        ),
        ({"faults__stragglers": 0.5}, "faults.stragglers=0.5 must be 1.0 where"),
        (
            {"attack__kind": "ipm"},
            "attack.byzantine=0 must be above 0 with attack.kind=",
        ),
        (
            {"attack__hostile": 2},
            "attack.byzantine=2 must be 0 with attack.kind='none'",
        ),
        (
            {"attack__kind": "ipm", "attack__hostile": 16},
            "attack.byzantine=16 must be below the 16 peers that are there from",
        ),
        ({"exchange__topology": "matrix"}, "exchange.matrix='' must name a .npy or"),
        ({"exchange__matrix": "a.npy"}, "exchange.matrix='a.npy' must be empty unless"),
        ({"arms": "plain,wrong"}, "arms='plain,wrong' must name each of"),
        ({"arms": ""}, "arms='' must name each of"),
    ],
)
def test_what_does_not_fit_together_is_one_line(fields, start):
    with pytest.raises(ConfigError) as error:
        validation.validate(changed(**fields))
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        CONTROL,
        {"population__pad_to": 16},
        {"memory__kind": "bins", "model_rollouts__fraction": 0.0},
        {"exchange__topology": "matrix", "exchange__matrix": "adjacency.csv"},
        {"exchange__network_weight": 0.0, "arms": "network"},
    ],
)
def test_valid_configurations_pass(fields):
    validation.validate(changed(**fields))


def test_wrong_types_are_found_in_a_configuration_made_by_hand():
    with pytest.raises(ConfigError, match="steps='208' must be of type int"):
        validation.validate(dataclasses.replace(TrainConfig(), steps="208"))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name):
    validation.validate(preset(name))


def test_presets_differ_only_where_they_say():
    def differences(name):
        pair = (config_io.to_dict(preset(other)) for other in ("pricing", name))
        return config_io.differing_fields(*pair)

    assert differences("brands") == ["population.name"]
    assert differences("reference_price") == [
        "environment.reference_effect",
        "memory.model_blend_half_life",
        "sac.discount",
    ]
    assert differences("newcomers") == [
        "population.join_step",
        "population.newcomers",
        "steps",
    ]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31 - 1),
    tau=st.floats(1e-6, 1.0),
    held_out=st.booleans(),
    topology=st.sampled_from(validation.CHOICES["exchange.topology"]),
)
def test_plain_data_round_trip(seed, tau, held_out, topology):
    config = changed(
        seed=seed,
        sac__tau=tau,
        population__held_out=held_out,
        exchange__topology=topology,
    )
    stored = json.loads(json.dumps(config_io.to_dict(config)))
    again = config_io.from_dict(stored)
    assert again == config
    assert config_io.config_hash(again) == config_io.config_hash(config)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"sac": {"tua": 0.1}}, "unknown field sac.tua; did you mean sac.tau?"),
        ({"tau": 0.1}, "unknown field tau; did you mean sac.tau?"),
        ({"qwerty": 1}, "unknown field qwerty"),
        ({"steps": 1.0}, "steps=1.0 must be of type int"),
        ({"steps": True}, "steps=True must be of type int"),
        ({"steps": None}, "steps=None must be of type int"),
        ({"sac": {"tau": True}}, "sac.tau=True must be of type float"),
        ({"population": {"held_out": 1}}, "population.held_out=1 must be of type bool"),
        ({"sac": 3}, "sac=3 must be a section of fields"),
    ],
)
def test_from_dict_refuses(tree, message):
    with pytest.raises(ConfigError) as error:
        config_io.from_dict(tree)
    assert str(error.value) == message


def test_from_dict_takes_whole_numbers_for_floats_and_fills_defaults():
    config = config_io.from_dict({"sac": {"tau": 1}})
    assert config == changed(sac__tau=1.0)
    assert type(config.sac.tau) is float


def test_load_json(tmp_path):
    good, bad, other = tmp_path / "good", tmp_path / "bad", tmp_path / "other"
    good.write_text(json.dumps(config_io.to_dict(TrainConfig())))
    bad.write_text("{")
    other.write_text("[]")
    assert config_io.from_dict(config_io.load_json(good)) == TrainConfig()
    for path in (bad, other, tmp_path / "missing"):
        with pytest.raises(ConfigError, match=str(path)):
            config_io.load_json(path)


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_hash_and_differences_see_every_field(name):
    value = DEFAULTS[name]
    other = not value if isinstance(value, bool) else value + type(value)(1)
    config = changed(**{name.replace(".", "__"): other})
    assert config_io.config_hash(config) != config_io.config_hash(TrainConfig())
    trees = config_io.to_dict(config), config_io.to_dict(TrainConfig())
    assert config_io.differing_fields(*trees) == [name]


def test_differences_see_missing_fields():
    assert config_io.differing_fields({"a": {"b": 1}}, {"a": {}}) == ["a.b"]


def test_reference_page_is_up_to_date():
    page = config_reference.TARGET.read_text(encoding="utf-8")
    hint = "run: python -m tools.config_reference"
    assert page == config_reference.render(), hint
