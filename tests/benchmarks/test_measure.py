"""Loops are counted and take turns; how fast anything is, is not tested."""

import dataclasses
import functools
import json
import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks import bench_results as results
from benchmarks import machine_limits as limits
from benchmarks import measure
from benchmarks import training_loop as loops
from benchmarks.exchange_cost import exchange_cost
from benchmarks.figure import draw_benchmark
from benchmarks.op_profile import _events, profile
from benchmarks.sizes import repeated_world, sized_config
from benchmarks.timing import Timing
from benchmarks.training_loop import TrainingLoop
from benchmarks.update_cost import update_cost
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.experiment import device_memory
from p2p_sac_jax.experiment.device_memory import InsufficientMemoryError
from p2p_sac_jax.experiment.devices import Placement

SVG = "{http://www.w3.org/2000/svg}"


def tiny(peers, **options):
    config = sized_config("standard", peers, exchange_every=4, replay=32, **options)
    sac = dataclasses.replace(config.sac, hidden=8, batch_size=8)
    return dataclasses.replace(config, sac=sac, evaluate_every=8, checkpoint_every=8)


# --- sizes ---


def test_sizes_are_as_documented():
    config = sized_config("standard", 4, layout="map", replay=500, updates_per_step=2)
    sac = config.sac
    assert (sac.batch_size, sac.hidden, sac.discount) == (256, 256, 0.99)
    assert (sac.replay_capacity, sac.updates_per_step) == (500, 2)
    assert (config.layout, config.exchange.interval) == ("map", 16)
    market, default = sized_config("market", 64), TrainConfig()
    assert market.memory == default.memory
    assert market.model_rollouts == default.model_rollouts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "huge"}, "size='huge' must be one of standard, market"),
        ({"peers": 0}, r"population\.peers=0 must"),
        ({"layout": "heap"}, "layout='heap'"),
    ],
)
def test_sizes_that_cannot_be_timed_are_refused(arguments, message):
    arguments = {"size": "standard", "peers": 1} | arguments
    with pytest.raises(ConfigError, match=message):
        sized_config(arguments.pop("size"), arguments.pop("peers"), **arguments)


def test_stores_repeat_beyond_sixteen():
    world = repeated_world(sized_config("market", 40))
    assert world.names[:8] == world.names[32:] == world.names[16:24]
    for leaf in jax.tree.leaves(world.params):
        np.testing.assert_array_equal(leaf[:8], leaf[32:])
    assert world.context.shape[0] == 40


# --- loops ---


@functools.cache
def made_loop(layout):
    return TrainingLoop(tiny(3, layout=layout))  # peers on two devices: one pads


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout", ["vmap", pytest.param("map", marks=pytest.mark.thorough)]
)
def test_a_loop_counts_the_updates_of_real_peers(layout):
    loop = made_loop(layout)
    assert loop.updates_per_chunk == 3 * 8
    assert [loop.run(), loop.run(2), loop.run()] == [24, 48, 24]
    assert loop.compile_s > 0
    assert loop.memory["total"] >= loop.memory["arguments"] > 0


@pytest.mark.thorough
def test_a_profile_names_products_and_leaves_out_waiting():
    names, calls, seconds = zip(*profile(made_loop("map")), strict=True)
    assert any(re.match("dot|ynn_fusion|fusion.*dot", name) for name in names)
    assert not any("Thunk" in name or name.startswith("while") for name in names)
    assert list(seconds) == sorted(seconds, reverse=True)
    assert min(calls) > 0


def plane(name, **lines):
    return SimpleNamespace(
        name=name,
        lines=[
            SimpleNamespace(
                name=line.replace("_", " "),
                events=[SimpleNamespace(name=one, duration_ns=1e9) for one in events],
            )
            for line, events in lines.items()
        ],
    )


def test_kernels_of_a_gpu_keep_their_names_and_count_once():
    kernels = ["void cutlass::Kernel<sm80>", "loop_fusion"]
    host = plane("/host:CPU", python=["dot.1", "xla::Host"])
    gpu = plane("/device:GPU:0", Stream_1=kernels, XLA_Modules=["jit_run"])
    names = [name for name, _ in _events([host, gpu])]
    assert names == kernels
    both = plane("/device:GPU:0", Stream_1=kernels, XLA_Ops=["dot.1", "while.2"])
    assert _events([host, both]) == [("dot.1", 1.0)]
    assert _events([host]) == [("dot.1", 1.0)]


def test_a_loop_that_does_not_fit_is_refused_before_it_compiles(monkeypatch):
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 1e3)
    monkeypatch.setattr(loops, "compile_program", None)
    too_large = r"peers=2 .* does not fit .* are free"
    with pytest.raises(InsufficientMemoryError, match=too_large):
        TrainingLoop(tiny(2))


def test_layouts_that_run_alike_are_timed_once():
    def cases(peers):
        layouts = ("auto", "vmap", "map")
        configs = [sized_config("standard", peers, layout=name) for name in layouts]
        made = measure.make_cases("standard", configs)
        return [(case.config.layout, case.auto) for case in made]

    assert cases(1) == [("vmap", True), ("map", False)]
    assert cases(4) == [("map", True), ("vmap", False)]


class Loop:
    """A loop that does no work and records its turns."""

    log = []  # noqa: RUF012  (cleared by the fixture)
    capacity = 10  # loops that fit at once
    alive = 0

    def __init__(self, config):
        if Loop.alive >= Loop.capacity:
            raise InsufficientMemoryError(f"P={config.population.peers} does not fit")
        Loop.alive += 1
        self.config, self.compile_s, self.memory = config, 0.5, {"total": 10**6}
        self.placement = Placement(config.layout, None, config.population.peers, 0)

    def __del__(self):
        if hasattr(self, "config"):
            Loop.alive -= 1

    def run(self, chunks=1):
        Loop.log.append(self.config.population.peers)
        return 10 * chunks * self.config.population.peers


@pytest.fixture
def fakes(monkeypatch):
    monkeypatch.setattr(measure, "TrainingLoop", Loop)
    monkeypatch.setattr(Loop, "log", [])
    monkeypatch.setattr(Loop, "capacity", 10)
    rates = {"numpy 8": 2e9, "xla 8": 1e9, "xla tf32 8": 9e9}
    limit = limits.Limit(2e9, 1e9, rates, ("numpy 8", "xla 8"))
    return SimpleNamespace(measure=lambda: Loop.log.append("limits") or limit)


def fake_cases(*peers):
    return [
        measure.Case("standard", sized_config("standard", count, layout="map"), True)
        for count in peers
    ]


def test_loops_and_limits_take_turns(fakes):
    (session,) = measure.measure(fake_cases(1, 4), fakes, 3, print, turn_s=1e-9)
    assert Loop.log[-9:] == 3 * ["limits", 1, 4]
    for timed, peers in zip(session.timed, (1, 4), strict=True):
        assert timed.timing.updates % (10 * peers) == 0
        assert len(timed.timing.rates) == len(session.limits) == 3


def test_loops_that_do_not_fit_wait_for_a_session_or_are_left_out(fakes):
    lines = []
    Loop.capacity = 2
    sessions = list(measure.measure(fake_cases(1, 2, 3), fakes, 1, lines.append, 1e-9))
    peers = [
        [timed.case.config.population.peers for timed in session.timed]
        for session in sessions
    ]
    assert peers == [[1, 2], [3]]
    assert Loop.alive == 0
    Loop.capacity = 0
    lines.clear()
    assert list(measure.measure(fake_cases(5), fakes, 1, lines.append)) == []
    assert lines == ["standard, left out: P=5 does not fit"]


def test_limits_name_their_candidates(monkeypatch):
    monkeypatch.setattr(limits, "_CPU_SIZES", (8, 16))
    monkeypatch.setattr(limits, "_COPY_BYTES", {"cpu": 1 << 12})
    monkeypatch.setattr(limits, "_BLOCK_S", 1e-4)
    limit = limits.Limits().measure()
    count = jax.device_count()
    names = {
        f"{kind} {n}" for kind in ("numpy", "xla", f"xla {count} x") for n in (8, 16)
    }
    assert set(limit.by_candidate) == set(limit.counted) == names
    assert limit.gemm == max(limit.by_candidate.values()) > 0
    assert limit.copy > 0


# --- results ---


@pytest.fixture
def rows(fakes):
    (session,) = measure.measure(fake_cases(1, 4), fakes, 2, print, turn_s=1e-9)
    session = session._replace(
        timed=[
            timed._replace(timing=Timing(10 * peers, [seconds, seconds / 2]))
            for timed, peers, seconds in zip(
                session.timed, (1, 4), (1.0, 2.0), strict=True
            )
        ]
    )
    rows = results.session_rows(session)
    results.add_growth(rows)
    assert "(fastest: numpy 8)" in results.limits_line(results.limits_row(session))
    return rows


def test_rows_are_rates_over_limits(rows):
    first, second = rows
    cost = update_cost(sized_config("standard", 1))
    rates = [first["updates_per_turn"] / spent for spent in (1.0, 0.5)]
    assert first["updates_per_s"]["turns"] == pytest.approx(rates)
    assert first["updates_per_s"]["median"] == pytest.approx(np.median(rates))
    shares = [rate * cost.flop / 2e9 for rate in rates]
    assert first["share_of_gemm"]["turns"] == pytest.approx(shares, abs=1e-5)
    ratio = second["updates_per_s"]["median"] / first["updates_per_s"]["median"]
    assert (first["growth"], second["growth"]) == (1.0, pytest.approx(ratio, abs=1e-3))
    assert json.loads(json.dumps(rows)) == rows


def test_growth_falls_back_on_the_fastest_of_the_fewest_peers(rows):
    first, second = rows
    second["layout"] = "vmap"
    results.add_growth(rows)
    ratio = second["updates_per_s"]["median"] / first["updates_per_s"]["median"]
    assert second["growth"] == pytest.approx(ratio, abs=1e-3)


def test_table_lines_match_their_header(rows):
    header, *lines = results.table(rows).splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["standard", "1", "map*", "1"],
        ["standard", "4", "map*", "1"],
    ]
    assert {len(line) for line in lines} == {len(header)}


def test_figure_is_self_contained_and_describes_itself(rows):
    svg = draw_benchmark(rows)
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert "at P=4" in root.find(f"{SVG}title").text
    assert svg == draw_benchmark(rows)


@pytest.mark.thorough
def test_exchange_cost_times_a_round_beside_its_steps():
    row = exchange_cost(2, 1, 2, tiny(2))
    assert row["exchange_s"]["median"] > 0
    assert row["peers"] == 2
    assert set(row) >= {"round_s", "added", "compile_s"}
