"""Grids, runs and plans: bookkeeping without any JAX program."""

import pytest

from p2p_sac_jax.ablation import plan, results
from p2p_sac_jax.ablation.grid import (
    grid_points,
    make_grid,
    parse_sweep,
    standard_arms,
)
from p2p_sac_jax.ablation.plan import Batch, Throughput, batches_of
from p2p_sac_jax.ablation.runs import (
    batch_key,
    family_key,
    make_run,
)
from p2p_sac_jax.config import ConfigError
from tests.helpers.populations import small_config

BASE = small_config()
ISOLATED = {"exchange.topology": "empty"}
ARMS = {"memory": ISOLATED, "network": {}}
MEASURED = Throughput(update_s=1e-4, compile_s=10.0)


def run(seed=0, **fields):
    """A run with ``section__field`` set."""
    settings = {name.replace("__", "."): value for name, value in fields.items()}
    return make_run(BASE, settings, seed)


def test_every_combination_is_a_point_and_arms_win():
    factors = {"population.peers": [2, 4], "exchange.topology": ["ring", "complete"]}
    found = list(grid_points(make_grid(BASE, factors, ARMS, 3)))
    assert [p.values for p in found if p.arm == "memory"] == [
        {"population.peers": 2},
        {"population.peers": 4},
    ]
    networked = [p for p in found if p.arm == "network"]
    assert len(networked) == 4
    for point in networked:
        config = point.runs[0].config
        assert config.population.peers == point.values["population.peers"]
        assert config.exchange.topology == point.values["exchange.topology"]
        assert [c.config.seed for c in point.runs] == [0, 1, 2]
    assert all(p.runs[0].isolated for p in found if p.arm == "memory")


def test_standard_arms_are_those_of_a_run():
    arms = standard_arms(BASE)
    assert list(arms) == ["plain", "memory", "network"]
    assert arms["network"] == {}
    plain = make_run(BASE, arms["plain"], 0)
    assert plain.isolated
    assert plain.config.model_rollouts.fraction == 0
    assert plain.config.sac.warmup == 16


def test_equal_results_have_one_name():
    assert run().key == run().key
    assert run(layout="vmap", devices=1, seeds=4, arms="memory").key == run().key
    isolated = run(exchange__topology="empty").key
    assert run(exchange__network_weight=0.0).key == isolated
    assert (
        run(exchange__topology="empty", exchange__aggregator="median").key == isolated
    )
    assert run(exchange__topology="empty", weights__trust_rate=0.3).key == isolated
    one = run(population__peers=1).key
    assert run(population__peers=1, exchange__topology="ring").key == one


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1},
        {"steps": 24},
        {"sac__tau": 0.5},
        {"exchange__topology": "ring"},
        {"population__peers": 2},
        {"environment__reference_effect": 0.2},
    ],
)
def test_other_results_have_other_names(fields):
    seed = fields.pop("seed", 0)
    assert run(seed, **fields).key != run().key


def test_an_isolated_run_keeps_the_settings_that_its_measures_depend_on():
    isolated = run(exchange__topology="empty")
    assert run(exchange__topology="empty", exchange__interval=4).key != isolated.key
    attack = {"attack__kind": "sign_flip", "attack__byzantine": 1}
    attacked = run(exchange__topology="empty", **attack).key
    assert attacked != isolated.key
    attack["attack__kind"] = "gaussian"
    assert run(exchange__topology="empty", **attack).key == attacked


def test_a_batch_shares_all_that_is_static():
    same = [
        run(3),
        run(sac__learning_rate=1e-2),
        run(exchange__topology="ring", exchange__degree=2),
        run(weights__trust_rate=0.3),
        run(exchange__topology="empty"),
    ]
    assert {batch_key(r.config) for r in same} == {batch_key(run().config)}
    others = [
        run(sac__hidden=16),
        run(exchange__mode="consortium"),
        run(exchange__topology="random_matching"),
        run(1, exchange__topology="random_matching"),
        run(population__peers=2),
    ]
    keys = [batch_key(r.config) for r in others]
    assert len({*keys, batch_key(run().config)}) == len(keys) + 1
    assert family_key(run(population__peers=2).config) == family_key(run().config)
    assert family_key(run(sac__hidden=16).config) != family_key(run().config)


def test_every_run_is_in_one_batch_and_most_peers_come_first():
    todo = [run(s, population__peers=p) for p in (1, 4, 2) for s in range(5)]
    todo += [run(s, sac__hidden=16) for s in range(2)]
    families = plan.make_plan(todo, MEASURED)
    batches = batches_of(families)
    found = [r.key for batch in batches for r in batch.runs]
    assert sorted(found) == sorted(r.key for r in todo)
    assert [batch.peers for batch in families[0]] == [4, 2, 1]
    for batch in batches:
        assert len({batch_key(r.config) for r in batch.runs}) == 1
        assert 0 <= batch.size - len(batch.runs) < len(batches)


def test_long_runs_are_cut_into_batches_of_one_size():
    slow = Throughput(update_s=1e6, compile_s=10.0)
    (family,) = plan.make_plan([run(s) for s in range(5)], slow)
    assert [batch.size for batch in family] == [1] * 5


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_cut_the_grid_without_overlap(count):
    todo = [run(s, population__peers=p) for p in (1, 2, 4) for s in range(4)]
    whole = plan.make_plan(todo, MEASURED)
    shards = [plan.shard_runs(whole, index, count) for index in range(count)]
    found = [r.key for runs in shards for r in runs]
    assert sorted(found) == sorted(r.key for r in todo)


def test_masked_batches_hold_the_same_runs_in_the_larger_program():
    large = Batch([run(s) for s in range(2)], 2)
    small = Batch([run(s, population__peers=2) for s in range(5)], 5)
    parts = plan.masked(small, large)
    assert [r.key for part in parts for r in part.runs] == [r.key for r in small.runs]
    assert {part.shape for part in parts} == {large.shape}
    assert sum(part.updates for part in parts) == 3 * large.updates


def test_the_estimate_counts_each_program_once():
    batches = batches_of(plan.make_plan([run(s) for s in range(4)], MEASURED))
    seconds, programs = plan.estimate_seconds(batches, MEASURED)
    work = sum(plan.run_seconds(batch, MEASURED) for batch in batches)
    assert programs == 1
    assert seconds == pytest.approx(work + MEASURED.compile_s)
    compiled = plan.estimate_seconds(batches, MEASURED, [batches[0].shape])
    assert compiled == (pytest.approx(work), 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("population.peers=1, 2", [1, 2]),
        ("exchange.topology=ring", ["ring"]),
        ("weights.recency=true,False", [True, False]),
        ("sac.tau=1e-2", [0.01]),
        ("learner=sac", ["sac"]),
    ],
)
def test_sweeps_have_the_type_of_their_field(text, value):
    assert parse_sweep(text, BASE) == (text.partition("=")[0], value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("population.peers", r"^--sweep=population\.peers must be FIELD=VALUE"),
        ("peers=1,2", r"^--sweep=peers: unknown field; did you mean population\.peers"),
        ("sac.hidden=wide", r"^--sweep=sac\.hidden=wide must be of type int$"),
        ("weights.recency=1", r"^--sweep=weights\.recency=1 must be true or false$"),
    ],
)
def test_invalid_sweeps_are_one_line(text, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse_sweep(text, BASE)
    assert "\n" not in str(error.value)


def test_invalid_grids_are_one_line():
    for factors, arms, seeds, message in (
        ({}, ARMS, 0, "seeds=0 must be at least 1"),
        ({}, {}, 1, "must name at least one arm"),
        ({"sac.hiden": [1]}, ARMS, 1, r"unknown field; did you mean sac\.hidden"),
        ({"sac.hidden": [8, 8]}, ARMS, 1, "each once"),
        ({"sac.hidden": []}, ARMS, 1, "at least one"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_grid(BASE, factors, arms, seeds)


def test_a_point_that_cannot_run_has_the_reason():
    broken = make_grid(BASE, {"sac.tau": [2.0, 0.1]}, {"network": {}}, 2)
    impossible, possible = grid_points(broken)
    assert impossible.runs == [None, None]
    assert impossible.reason.startswith("sac.tau=2.0 must")
    assert possible.reason == ""
    (point,) = grid_points(make_grid(BASE, {}, {"odd": {"sac.hiden": 8}}, 1))
    assert "did you mean sac.hidden" in point.reason


def test_a_folder_without_a_sweep_is_one_line(tmp_path):
    assert not results.is_sweep(tmp_path)
    with pytest.raises(ConfigError, match=r"holds no sweep: there is no sweep\.json"):
        results.load_sweep(tmp_path)
