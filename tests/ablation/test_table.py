"""Tables of sweeps: who is compared with whom, what is missing, what is written."""

import csv
import math

import numpy as np
import pytest

from p2p_sac_jax.ablation import table
from p2p_sac_jax.ablation.results import PointResult, RunResult, Sweep
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.experiment import statistics
from tests.helpers.curves import curves_of
from tests.reference import statistics as reference

PEERS, TOPOLOGY = "population.peers", "exchange.topology"
ARMS = {"memory": {TOPOLOGY: "empty"}, "network": {}}
SEEDS = 5
FINAL = {  # by arm and peers
    ("memory", 2): [0.951, 0.972, 0.964, 0.958, 0.983],
    ("memory", 4): [0.962, 0.961, 0.977, 0.959, 0.980],
    ("network", 2): [0.963, 0.971, 0.975, 0.962, 0.991],
    ("network", 4): [0.981, 0.982, 0.979, 0.978, 0.986],
}


def result(level, **meta):
    config = {"evaluation_weeks": 10}
    return RunResult({"config": config, **meta}, curves_of([0.5, *level], trained=0.94))


def levels(arm, values, seed):
    """The last two evaluations."""
    final = FINAL[arm, values[PEERS]][seed]
    return [final, final]


def sweep_of(levels=levels, arms=ARMS, topologies=("ring", "complete"), **meta):
    """Peers x topologies; an arm that sets the topology has one point for all."""
    points = []
    for arm, overrides in arms.items():
        for peers in (2, 4):
            own = [] if TOPOLOGY in overrides else topologies
            for values in [{TOPOLOGY: t} for t in own] or [{}]:
                values = {PEERS: peers, **values}
                found = [levels(arm, values, seed) for seed in range(SEEDS)]
                runs = [
                    None if level is None else result(level, **meta) for level in found
                ]
                points.append(PointResult(arm, values, runs))
    factors = {PEERS: [2, 4], TOPOLOGY: list(topologies)}
    return Sweep({"name": "x"}, factors, arms, list(range(SEEDS)), points, [])


def find(rows, arm, measure, **values):
    """The only such row; fields by the last part of their name."""
    same = [
        row
        for row in rows
        if (row["arm"], row["measure"]) == (arm, measure)
        and all(
            row[field] == value
            for name, value in values.items()
            for field in row
            if field.split(".")[-1] == name
        )
    ]
    assert len(same) == 1
    return same[0]


def test_figures_and_differences():
    rows = table.make_table(sweep_of(), "memory")
    for peers in (2, 4):
        ours, theirs = FINAL["network", peers], FINAL["memory", peers]
        apart = [x - y for x, y in zip(ours, theirs, strict=True)]
        for topology in ("ring", "complete"):
            row = find(rows, "network", "final", peers=peers, topology=topology)
            assert (row["seeds"], row["missing"], row["pairs"]) == (5, 0, 5)
            assert row["mean"] == pytest.approx(reference.mean(ours), abs=1e-5)
            assert row["iqm"] == pytest.approx(reference.iqm(ours), abs=1e-5)
            assert row["difference"] == pytest.approx(reference.iqm(apart), abs=1e-5)
            duels = reference.wins(ours, theirs)
            assert row["improvement"] == pytest.approx(duels, abs=1e-5)
            ends = statistics.estimate(ours)[1:]
            assert [row["low"], row["high"]] == pytest.approx(ends, abs=1e-5)
            ends = statistics.difference(ours, theirs)[1:]
            found = [row["difference_low"], row["difference_high"]]
            assert found == pytest.approx(ends, abs=1e-5)
            assert row["median"] is row["censored"] is row["ratio"] is None


def test_numbers_have_five_digits():
    rows = table.make_table(sweep_of(), "memory")
    numbers = [x for row in rows for x in row.values() if isinstance(x, float)]
    assert all(x == float(f"{x:.5g}") for x in numbers)
    assert not any(isinstance(x, np.generic) for row in rows for x in row.values())


def test_series_are_compared_with_their_counterparts():
    sweep = sweep_of()
    rows = table.make_table(sweep, "memory", measures=["final"])
    compared = {(row["arm"], row[PEERS], row[TOPOLOGY], row["pairs"]) for row in rows}
    assert compared == {
        ("historical price", 2, None, 5), ("historical price", 4, None, 5),
        ("memory", 2, None, None), ("memory", 4, None, None),
        ("network", 2, "ring", 5), ("network", 2, "complete", 5),
        ("network", 4, "ring", 5), ("network", 4, "complete", 5),
    }  # fmt: skip
    # An isolated population has two networks to be compared with: none is chosen.
    rows = table.make_table(sweep, "network", measures=["final"])
    assert not any(row["pairs"] for row in rows)
    rows = table.make_table(sweep, "historical price", measures=["earned"])
    network = find(rows, "network", "earned", peers=4, topology="ring")
    assert network["difference"] == pytest.approx(0.04)
    assert network["improvement"] == 1.0
    assert not any(row["pairs"] for row in table.make_table(sweep))


def test_an_arm_on_another_market_meets_the_prices_of_that_market():
    """Arm "network" has no stores of its own choice, so there is one more line."""
    arms = {"memory": {TOPOLOGY: "empty"}, "network": {"population.held_out": True}}
    sweep = sweep_of(arms=arms)
    for point in sweep.points:
        if point.arm == "network":
            for found in point.runs:
                found.curves.baseline_fraction[:] = 0.7
    rows = table.make_table(sweep, "historical price", measures=["final"])
    usual = find(rows, "historical price", "final", peers=2, held_out=None)
    other = find(rows, "historical price", "final", peers=2, held_out=True)
    assert (usual["iqm"], other["iqm"]) == (0.9, 0.7)
    network = find(rows, "network", "final", peers=2, topology="ring")
    assert network["difference"] == pytest.approx(network["iqm"] - 0.7, abs=1e-4)
    memory = find(rows, "memory", "final", peers=2)
    assert memory["difference"] == pytest.approx(memory["iqm"] - 0.9, abs=1e-4)


def test_best_uniform_price():
    rows = table.make_table(sweep_of(uniform_fraction=[0.95, 0.97]), measures=["final"])
    assert find(rows, "best uniform price", "final", peers=2)["iqm"] == 0.96


def test_what_is_missing_is_counted():
    def with_gaps(arm, values, seed):
        nothing = arm == "network" and values == {PEERS: 2, TOPOLOGY: "ring"}
        lost = {"memory": seed == 0, "network": seed == 3}[arm]
        if nothing or lost:
            return None
        return [0.9, math.nan] if seed == 4 else levels(arm, values, seed)

    rows = table.make_table(sweep_of(with_gaps), "memory")
    memory = find(rows, "memory", "final", peers=4)
    assert (memory["seeds"], memory["missing"]) == (3, 2)
    assert memory["mean"] == pytest.approx(0.9657, abs=1e-4)
    network = find(rows, "network", "final", peers=4, topology="complete")
    assert (network["seeds"], network["missing"], network["pairs"]) == (3, 2, 2)
    ours, theirs = FINAL["network", 4][1:3], FINAL["memory", 4][1:3]
    assert network["difference"] == pytest.approx(
        reference.mean(ours) - reference.mean(theirs), abs=1e-5
    )
    empty = find(rows, "network", "", peers=2, topology="ring")
    assert (empty["seeds"], empty["missing"], empty["iqm"]) == (0, 5, None)
    # A seed that one arm lacks is still known of the price that needs no arm.
    assert find(rows, "historical price", "final", peers=4)["seeds"] == 5
    shown = table.format_table(rows, ["final"])["rows"]
    assert ["network", "2", "ring", "0 of 5", ""] in shown
    assert ["memory", "4", "", "3 of 5", "0.966"] in shown


def test_steps_to_a_threshold():
    def slow_isolated(arm, values, seed):
        if arm == "memory":
            return [0.9, 0.9] if seed else [0.9, 0.96]
        return [0.96, 0.97] if seed < 3 else [0.9, 0.96]

    rows = table.make_table(sweep_of(slow_isolated), "memory")
    isolated = find(rows, "memory", "steps_to_0.95", peers=2)
    assert (isolated["median"], isolated["censored"]) == (math.inf, 4)
    assert table.format_estimate(isolated) == "never [15, never]"
    usual = find(rows, "historical price", "steps_to_0.95", peers=2)
    assert table.format_estimate(usual) == "never"
    row = find(rows, "network", "steps_to_0.95", peers=2, topology="ring")
    assert (row["median"], row["censored"]) == (10, 0)
    assert row["iqm"] is row["mean"] is row["difference"] is None
    # Of a median beyond the end no more is known than the end, step 15.
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == (
        math.inf,
        1.0,
        math.inf,
    )
    steps = [10, 10, 10, 15, 15], [15, *[math.inf] * 4]
    assert row["improvement"] == pytest.approx(1 - reference.wins(*steps))


def test_a_file_holds_the_same_table(tmp_path):
    rows = table.make_table(sweep_of(lambda *_: [0.9, 0.9]), "memory")
    table.write_csv(tmp_path / "table.csv", rows)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [list(row) for row in read] == [list(row) for row in rows]
    for row, text in zip(rows, read, strict=True):
        for name, value in row.items():
            assert text[name] == ("" if value is None else str(value))


def test_text_for_a_console():
    rows = table.make_table(sweep_of(), "memory")
    shown = table.format_table(rows, ["final", "steps_to_0.95", "bytes_per_peer"])
    head = ["", PEERS, TOPOLOGY, "seeds", "final", "steps to 0.95", "bytes per peer"]
    assert shown["columns"] == head
    assert all(len(row) == len(head) for row in shown["rows"])
    row = next(r for r in shown["rows"] if r[:3] == ["network", "4", "ring"])
    assert row[3:] == ["5", "0.981 [0.978, 0.985]", "10 [10, 10]", "0 [0, 0]"]
    assert table.format_table([], ["final"])["rows"] == []


def test_an_unknown_reference_is_refused():
    with pytest.raises(ConfigError) as error:
        table.make_table(sweep_of(), reference="alone")
    message = "reference='alone' must be one of: '', 'memory', 'network', "
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
