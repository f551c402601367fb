"""Grids, cells and plans: pure bookkeeping, no JAX program is built."""

import dataclasses

import pytest

from p2p_sac_jax.ablation import plan
from p2p_sac_jax.ablation import results as files
from p2p_sac_jax.ablation import runs as cells
from p2p_sac_jax.ablation.grid import (
    make_grid,
    parse_sweep,
    points,
    standard_arms,
)
from p2p_sac_jax.ablation.plan import Batch, Throughput
from p2p_sac_jax.ablation.runs import Cell, batch_key, family_key, make_cell
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.config_io import from_dict, to_dict
from tests.helpers.populations import small_config

BASE = small_config()
ALONE = {"exchange.topology": "empty"}
ARMS = {"memory": ALONE, "network": {}}
PACE = Throughput(update_s=1e-4, compile_s=10.0)


def cell(seed=0, **fields):
    """A cell with ``section__field`` set."""
    settings = {name.replace("__", "."): value for name, value in fields.items()}
    return make_cell(BASE, settings, seed)


def test_every_combination_is_a_point_and_arms_win():
    factors = {"population.peers": [2, 4], "exchange.topology": ["ring", "complete"]}
    found = list(points(make_grid(BASE, factors, ARMS, 3)))
    assert [p.values for p in found if p.arm == "memory"] == [
        {"population.peers": 2},
        {"population.peers": 4},
    ]
    networked = [p for p in found if p.arm == "network"]
    assert len(networked) == 4
    for point in networked:
        config = point.cells[0].config
        assert config.population.peers == point.values["population.peers"]
        assert config.exchange.topology == point.values["exchange.topology"]
        assert [c.config.seed for c in point.cells] == [0, 1, 2]
    assert all(p.cells[0].isolated for p in found if p.arm == "memory")


def test_standard_arms_are_those_of_a_run():
    arms = standard_arms(BASE)
    assert list(arms) == ["plain", "memory", "network"]
    assert arms["network"] == {}
    plain = make_cell(BASE, arms["plain"], 0)
    assert plain.isolated
    assert plain.config.model_rollouts.fraction == 0
    assert plain.config.sac.warmup == 16


def test_equal_results_have_one_name():
    assert cell().key == cell().key
    assert cell(layout="vmap", devices=1, seeds=4, arms="memory").key == cell().key
    quiet = cell(exchange__topology="empty").key
    assert cell(exchange__network_weight=0.0).key == quiet
    assert cell(exchange__topology="empty", exchange__aggregator="median").key == quiet
    assert cell(exchange__topology="empty", weights__trust_rate=0.3).key == quiet
    one = cell(population__peers=1).key
    assert cell(population__peers=1, exchange__topology="ring").key == one


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
    assert cell(seed, **fields).key != cell().key


def test_what_nobody_hears_still_depends_on_what_it_is_judged_by():
    quiet = cell(exchange__topology="empty")
    assert cell(exchange__topology="empty", exchange__interval=4).key != quiet.key
    byzantine_peers = {"attack__kind": "sign_flip", "attack__hostile": 1}
    unheard = cell(exchange__topology="empty", **byzantine_peers).key
    assert unheard != quiet.key
    byzantine_peers["attack__kind"] = "gaussian"
    assert cell(exchange__topology="empty", **byzantine_peers).key == unheard


def test_a_batch_shares_all_that_is_static():
    same = [
        cell(3),
        cell(sac__learning_rate=1e-2),
        cell(exchange__topology="ring", exchange__degree=2),
        cell(weights__trust_rate=0.3),
        cell(exchange__topology="empty"),
    ]
    assert {batch_key(c) for c in same} == {batch_key(cell())}
    others = [
        cell(sac__hidden=16),
        cell(exchange__mode="consortium"),
        cell(exchange__topology="random_matching"),
        cell(1, exchange__topology="random_matching"),
        cell(population__peers=2),
    ]
    keys = [batch_key(c) for c in others]
    assert len({*keys, batch_key(cell())}) == len(keys) + 1
    assert family_key(cell(population__peers=2)) == family_key(cell())
    assert family_key(cell(sac__hidden=16)) != family_key(cell())


def test_traced_fields_are_fields():
    names = cells.traced_fields()
    assert "sac.learning_rate" in names
    assert "sac.hidden" not in names
    flat = to_dict(BASE)
    for name in names:
        section, field = name.split(".")
        assert field in flat[section]


def test_every_cell_is_in_one_batch_and_largest_come_first():
    todo = [cell(s, population__peers=p) for p in (1, 4, 2) for s in range(5)]
    todo += [cell(s, sac__hidden=16) for s in range(2)]
    families = plan.make_batches(todo, PACE)
    batches = [batch for family in families for batch in family]
    found = [c.key for batch in batches for c in batch.cells]
    assert sorted(found) == sorted(c.key for c in todo)
    assert [batch.peers for batch in families[0]] == [4, 2, 1]
    for batch in batches:
        assert len({batch_key(c) for c in batch.cells}) == 1
        assert 0 <= batch.size - len(batch.cells) < len(batches)


def test_long_runs_are_cut_into_batches_of_one_size():
    slow = Throughput(update_s=1e6, compile_s=10.0)
    (family,) = plan.make_batches([cell(s) for s in range(5)], slow)
    sizes = {batch.size for batch in family}
    assert sizes == {1}
    assert len(family) == 5


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_cut_the_grid_without_overlap(count):
    todo = [cell(s, population__peers=p) for p in (1, 2, 4) for s in range(4)]
    whole = plan.make_batches(todo, PACE)
    found = [
        c.key
        for index in range(count)
        for family in plan.share(whole, index, count)
        for batch in family
        for c in batch.cells
    ]
    assert sorted(found) == sorted(c.key for c in todo)


def test_masked_batches_hold_the_same_cells_in_the_larger_program():
    large = Batch([cell(s) for s in range(2)], 2)
    small = Batch([cell(s, population__peers=2) for s in range(5)], 5)
    parts = plan.masked(small, large)
    assert [c.key for part in parts for c in part.cells] == [c.key for c in small.cells]
    assert {plan.shape_of(part) for part in parts} == {plan.shape_of(large)}
    assert sum(part.updates for part in parts) == 3 * large.updates


def test_the_estimate_counts_each_program_once():
    todo = [cell(s) for s in range(4)]
    batches = plan.make_batches(todo, PACE)
    seconds, programs = plan.estimate(batches, PACE)
    work = sum(PACE.of(batch) for family in batches for batch in family)
    assert programs == 1
    assert seconds == pytest.approx(work + PACE.compile_s)
    shape = plan.shape_of(batches[0][0])
    assert plan.estimate(batches, PACE, [shape]) == (pytest.approx(work), 0)


def test_a_pace_is_what_a_batch_took():
    batch = Batch([cell()], 1)
    pace = plan.measured_pace(batch, run_s=7.0, compile_s=3.0)
    assert pace.of(batch) == pytest.approx(7.0)


def test_the_pace_outlives_the_process_and_nonsense_is_no_pace(monkeypatch, tmp_path):
    monkeypatch.setattr(plan, "cache_folder", lambda: tmp_path)
    guess = plan.known_pace()
    assert guess.compile_s == plan.DEFAULT_THROUGHPUT.compile_s
    plan.note_pace(PACE)
    assert plan.known_pace() == PACE
    (tmp_path / "ablation_pace.json").write_text('{"update_s": "fast"}')
    assert plan.known_pace() == guess


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
def test_sweeps_that_make_no_sense_are_told_in_one_line(text, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse_sweep(text, BASE)
    assert "\n" not in str(error.value)


def test_grids_that_make_no_sense_are_told_in_one_line():
    for factors, arms, seeds, message in (
        ({}, ARMS, 0, "seeds=0 must be at least 1"),
        ({}, {}, 1, "must name at least one arm"),
        ({"sac.hiden": [1]}, ARMS, 1, r"unknown field; did you mean sac\.hidden"),
        ({"sac.hidden": [8, 8]}, ARMS, 1, "each once"),
        ({"sac.hidden": []}, ARMS, 1, "at least one"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_grid(BASE, factors, arms, seeds)


def test_a_point_that_cannot_run_says_why():
    grid = make_grid(BASE, {"exchange.topology": ["torus", "ring"]}, {"network": {}}, 1)
    config = dataclasses.replace(
        BASE, population=dataclasses.replace(BASE.population, peers=3)
    )
    torus, ring = points(grid._replace(config=config))
    assert torus.cells in ([None], [torus.cells[0]])
    assert ring.reason == ""
    broken = make_grid(BASE, {"sac.tau": [2.0]}, {"network": {}}, 2)
    (point,) = points(broken)
    assert point.cells == [None, None]
    assert point.reason.startswith("sac.tau=2.0 must")


def test_an_unknown_field_of_an_arm_is_told():
    (point,) = points(make_grid(BASE, {}, {"odd": {"sac.hiden": 8}}, 1))
    assert "did you mean sac.hidden" in point.reason


def test_cells_keep_their_configuration(tmp_path):
    config = from_dict(to_dict(cell().config))
    assert Cell(config, "").config == cell().config
    assert not files.is_sweep(tmp_path)
    with pytest.raises(ConfigError, match=r"holds no sweep: there is no sweep\.json"):
        files.load_sweep(tmp_path)
