"""Configuration: cross-field rules, arms, presets, plain data."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p_sac_jax import arms, config_io
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.fields import resolve
from p2p_sac_jax.validation import RULES, validate
from tests.helpers.configs import FIELDS, changed, preset, refusal

ROOT = Path(__file__).parents[1]
PRESETS = sorted(
    path.stem for path in ROOT.glob("configs/*.py") if path.stem != "__init__"
)
CONTROL = {
    "environment.name": "lqr",
    "memory.kind": "none",
    "exploration.source": "policy",
}
LEAVES = {"faults.churn": 0.5, "faults.leave_step": 9}


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"steps": 210}, "steps=210 must be a multiple of evaluate_every=4"),
        ({"checkpoint_every": 50}, "checkpoint_every=50 must be a multiple"),
        ({"exchange.interval": 3}, "evaluate_every=4 must be a multiple of exchange"),
        ({"seed": 2**31 - 1, "seeds": 2}, "seed=2147483647 must be at most"),
        ({"sac.replay_capacity": 3}, "sac.replay_capacity=3 must be 0, or at least"),
        (
            {"sac.replay": "pooled", "sac.replay_capacity": 2**30},
            "sac.replay='pooled' must be 'own' with more than 2147483647",
        ),
        ({"population.pad_to": 8}, "population.pad_to=8 must be 0 or at least"),
        ({"population.newcomers": 16}, "population.newcomers=16 must be below"),
        ({"population.newcomers": 2}, "population.join_step=0 must be above 0"),
        (
            {"population.newcomers": 2, "population.join_step": 208},
            "population.join_step=208 must be above 0 and below steps=208",
        ),
        (
            {"population.newcomers": 2, "population.join_step": 5},
            "population.join_step=5 must be a multiple of evaluate_every=4",
        ),
        (
            {"environment.reference_effect": 0.2, "environment.regime_hazard": 0.1},
            "environment.regime_hazard=0.1 must be 0 where",
        ),
        (CONTROL | {"memory.kind": "bins"}, "memory.kind='bins' must be 'none' for"),
        (CONTROL | {"exploration.source": "memory"}, "exploration.source='memory'"),
        ({"exploration.std_min": 0.2}, "exploration.std_min=0.2 must be at most"),
        (
            {"learner": "thompson", "memory.kind": "bins"},
            "learner='thompson' must be 'sac' with memory.kind='bins'",
        ),
        ({"learner": "thompson"}, "arms='plain,memory,network' must leave out plain"),
        (
            {"exchange.mode": "consortium", "sac.replay": "pooled"},
            "sac.replay='pooled' must be 'own' with exchange.mode='consortium'",
        ),
        (
            {"exchange.mode": "consortium", "weights.performance_filter": True},
            "weights.performance_filter=True must be False with exchange.mode=",
        ),
        (
            {"exchange.mode": "public", "exchange.value_sharing": "scalar"},
            "exchange.value_sharing='scalar' needs exchange.mode='private'",
        ),
        (
            {"exchange.topology": "random_matching", "weights.trust_rate": 0.3},
            "weights.trust_rate=0.3 must be 0 with exchange.topology=",
        ),
        (
            {
                "exchange.topology": "one_peer_exponential",
                "exchange.aggregator": "median",
            },
            "exchange.aggregator='median' must be 'mean' with exchange.topology=",
        ),
        (
            LEAVES | {"faults.rejoin_step": 9},
            "faults.rejoin_step=9 must be 0 (never), or above faults.leave_step=9",
        ),
        (
            {"faults.partition_step": 9, "faults.heal_step": 8},
            "faults.heal_step=8 must be 0 (no partition), or above faults.partition_",
        ),
        (
            {"attack.kind": "ipm", "attack.byzantine": 16},
            "attack.byzantine=16 must be below the 16 peers that are there from",
        ),
        (
            {"sac.target_entropy": 0.7},
            "sac.target_entropy=0.7 must be below 0.693 nats, which no policy on",
        ),
        ({"exchange.topology": "matrix"}, "exchange.matrix='' must name a .npy or"),
        ({"arms": "plain,wrong"}, "arms='plain,wrong' must name each of"),
        ({"arms": "memory,memory"}, "arms='memory,memory' must name each of"),
        ({"arms": ""}, "arms='' must name each of"),
    ],
)
def test_what_does_not_fit_together_is_one_line(fields, start):
    assert refusal(validate, changed(fields)).startswith(start)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        CONTROL,
        {"population.pad_to": 16},
        {"exchange.topology": "matrix", "exchange.matrix": "adjacency.csv"},
        {"exchange.network_weight": 0.0, "arms": "network"},
        LEAVES | {"faults.rejoin_step": 13},
        # Without effect, so that a sweep over the other field keeps its runs.
        {"population.join_step": 4},
        CONTROL | {"environment.reference_effect": 0.2, "population.held_out": True},
        CONTROL | {"weights.similarity_width": 1.0},
        {"memory.kind": "bins", "model_rollouts.fraction": 0.5},
        {"exchange.matrix": "a.npy"},
        {"exchange.local_weight": 0.0, "exchange.network_weight": 0.0},
        {"synchronisation.threshold": 0.1},
        {"synchronisation.tokens": 0.5},
        {"synchronisation.refill": 1.0},
        {"privacy.value_noise": 9.0},
        {"exchange.mode": "consortium", "memory.decay": 0.8},
        {"exchange.mode": "public", "privacy.min_weeks": 208},
        {"exchange.mode": "public", "privacy.trend_window": 60},
        {"exchange.mode": "public", "population.peers": 3},
        {"faults.delay": 52},
        {"faults.stragglers": 0.5},
        {"faults.delay": 1, "faults.stragglers": 0.01},
        {"faults.churn": 0.01, "faults.leave_step": 500},
        {"faults.leave_step": 9},
        {"faults.partition_step": 9},
        {"faults.partition_step": 1, "faults.heal_step": 3},
        {"attack.kind": "ipm"},
        {"attack.byzantine": 2},
        {"devices": 32},
    ],
    ids=repr,
)
def test_what_can_run_is_accepted(fields):
    validate(changed(fields))


def test_rules_are_functions():
    assert all(callable(resolve(rule)) for rule in RULES)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_disable_jit", True),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_default_prng_impl", "rbg"),
    ],
)
def test_a_setting_of_jax_that_breaks_programs_is_refused_in_one_line(setting, value):
    before = getattr(jax.config, setting)
    jax.config.update(setting, value)
    try:
        message = refusal(validate, TrainConfig())
    finally:
        jax.config.update(setting, getattr(before, "value", before))
    assert message.startswith(f"{setting.upper()}={value} must be ")
    validate(TrainConfig())


def test_wrong_types_are_found_in_a_configuration_made_by_hand():
    config = dataclasses.replace(TrainConfig(), steps="208")
    assert refusal(validate, config) == "steps='208' must be of type int"


def test_arms_override_traced_fields_alone():
    for environment in ("pricing", "lqr"):
        for arm in arms.arm_names(TrainConfig()):
            overrides = arms.arm_overrides(arm, environment)
            assert all(FIELDS[name].traced for name in overrides)
    runs = arms.planned_runs(changed({"seeds": 2, "seed": 5}))
    found = [(run.label, run.seed, run.isolated) for run in runs]
    assert found == [
        ("plain", 5, True),
        ("plain", 6, True),
        ("memory", 5, True),
        ("memory", 6, True),
        ("network", 5, False),
        ("network", 6, False),
    ]
    assert runs[0].config.model_rollouts.fraction == 0
    message = refusal(arms.arm_overrides, "dream")
    assert message == "arm='dream' must be one of plain, memory, network"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name):
    validate(preset(name))


def test_the_default_run_has_the_defaults_of_every_field():
    assert preset("pricing") == TrainConfig()


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
    topology=st.sampled_from(FIELDS["exchange.topology"].choices()),
)
def test_plain_data_round_trip(seed, tau, held_out, topology):
    config = changed(
        {
            "seed": seed,
            "sac.tau": tau,
            "population.held_out": held_out,
            "exchange.topology": topology,
        }
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
    assert refusal(config_io.from_dict, tree) == message


def test_from_dict_takes_whole_numbers_for_floats_and_fills_defaults():
    config = config_io.from_dict({"sac": {"tau": 1}})
    assert config == changed({"sac.tau": 1.0})
    assert type(config.sac.tau) is float


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_hash_and_differences_see_every_field(name):
    value = FIELDS[name].default
    other = not value if isinstance(value, bool) else value + type(value)(1)
    config = changed({name: other})
    assert config_io.config_hash(config) != config_io.config_hash(TrainConfig())
    trees = config_io.to_dict(config), config_io.to_dict(TrainConfig())
    assert config_io.differing_fields(*trees) == [name]


def test_differences_see_missing_fields():
    assert config_io.differing_fields({"a": {"b": 1}}, {"a": {}}) == ["a.b"]
