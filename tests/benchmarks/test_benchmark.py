"""The benchmark counts what it says it counts; how fast anything is, is not tested."""

import dataclasses
import functools
import json
import math
import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.interpreters.partial_eval import dce_jaxpr

from benchmarks import bench_results as results
from benchmarks import machine_limits as limits
from benchmarks import measure, work
from benchmarks import training_loop as loops
from benchmarks.exchange_cost import exchange_cost
from benchmarks.figure import draw_benchmark
from benchmarks.op_profile import _events, profile, table
from benchmarks.sizes import repeated_world, sized_config
from benchmarks.training_loop import TrainingLoop
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.experiment import device_memory
from p2p_sac_jax.experiment.device_memory import InsufficientMemoryError
from p2p_sac_jax.experiment.devices import Placement, choose_placement
from tests.helpers.commands import run_each

SVG = "{http://www.w3.org/2000/svg}"


def tiny(peers, **options):
    config = sized_config("standard", peers, exchange_every=4, replay=32, **options)
    sac = dataclasses.replace(config.sac, hidden=8, batch_size=8)
    return dataclasses.replace(config, sac=sac, evaluate_every=8, checkpoint_every=8)


def products(jaxpr, times=1):
    """FLOP of every dot_general in a jaxpr, those of inner jaxprs included."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            depth = math.prod(left[axis] for axis in contracted)
            total += 2 * times * depth * math.prod(equation.outvars[0].aval.shape)
        repeats = equation.params.get("length", 1)
        for value in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda leaf: hasattr(leaf, "jaxpr") or hasattr(leaf, "eqns"),
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += products(inner, times * repeats)
    return total


@pytest.mark.parametrize("size", ["standard", "market"])
def test_counted_flop_are_the_products_of_the_update(size):
    config = sized_config(size, 1)
    update, arguments = work.single_update(config)
    traced = jax.make_jaxpr(update)(*arguments).jaxpr
    # As traced there are gradients that nobody needs; no compiler keeps them.
    needed, _ = dce_jaxpr(traced, [True] * len(traced.outvars))
    traced = products(needed)
    assert traced == pytest.approx(work.update_work(config).flop, rel=0.03)
    assert work.compiler_flop(config) == pytest.approx(traced, rel=0.06)


def test_the_usual_size_is_the_one_others_are_compared_at():
    counted = work.update_work(sized_config("standard", 1))
    assert counted.flop == pytest.approx(545e6, rel=0.01)
    assert counted.bytes == pytest.approx(5.9e6, rel=0.01)


def test_a_hidden_layer_alone_is_multiplied_sixteen_times():
    alone = work.Layers(actor=((5, 7), (7, 7)), critic=((5, 7), (7, 7)))
    wider = work.Layers(actor=((5, 7), (7, 7), (7, 7)), critic=((5, 7), (7, 7), (7, 7)))
    added = work.count(3, wider).flop - work.count(3, alone).flop
    assert added == 16 * 2 * 3 * 7 * 7


def test_bytes_are_those_of_the_learner_s_state():
    config = sized_config("market", 1)
    _, (state, *_) = work.single_update(config)
    kept = state.params, state.opt_state, state.target_params
    floats = [leaf.size for leaf in jax.tree.leaves(kept) if leaf.dtype == np.float32]
    assert work.update_work(config).bytes == 2 * 4 * sum(floats)


# --- sizes ---


def test_sizes_are_as_told():
    config = sized_config("standard", 4, layout="map", replay=500, updates_per_step=2)
    sac = config.sac
    assert (sac.batch_size, sac.hidden, sac.discount) == (256, 256, 0.99)
    assert (sac.replay_capacity, sac.updates_per_step, sac.learning_starts) == (
        *(500, 2),
        1,
    )
    assert (config.arms, config.layout, config.exchange.interval) == (
        *("network", "map"),
        16,
    )
    market, default = sized_config("market", 64), TrainConfig()
    assert market.memory == default.memory
    assert market.model_rollouts == default.model_rollouts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "huge"}, "size='huge' must be one of standard, market"),
        ({"peers": 0}, "peers=0 must be at least 1"),
        ({"replay": 0}, "replay=0 must be at least 1"),
        ({"layout": "heap"}, "layout='heap'"),
    ],
)
def test_what_cannot_be_timed_is_refused(arguments, message):
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
@pytest.mark.parametrize("layout", ["vmap", "map"])
def test_a_loop_counts_the_updates_of_real_peers(layout):
    loop = made_loop(layout)
    assert loop.updates_per_chunk == 3 * 8
    assert [loop.run(), loop.run(2), loop.run()] == [24, 48, 24]
    assert loop.compile_s > 0
    assert loop.memory["total"] >= loop.memory["arguments"] > 0
    assert loop.cost["flops"] > 0


def test_a_profile_names_products_and_leaves_out_waiting():
    operations = profile(made_loop("map"), most=100_000)
    assert sum(one.share for one in operations) == pytest.approx(1.0)
    names = [one.name for one in operations]
    assert any(re.match("dot|ynn_fusion|fusion.*dot", name) for name in names)
    assert not any("Thunk" in name or name.startswith("while") for name in names)
    seconds = [one.seconds for one in operations]
    assert seconds == sorted(seconds, reverse=True)
    assert table(operations).count("\n") == len(operations)


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


def test_a_loop_that_does_not_fit_says_so_before_it_compiles(monkeypatch):
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 1e3)
    monkeypatch.setattr(loops, "compile_program", None)
    too_large = r"peers=2 .* does not fit .* are free"
    with pytest.raises(InsufficientMemoryError, match=too_large):
        TrainingLoop(tiny(2))


def test_an_absent_device_is_a_user_error():
    with pytest.raises(ConfigError, match="device='gpu'"):
        choose_placement(dataclasses.replace(tiny(1), device="gpu"))


def test_layouts_that_run_alike_are_timed_once():
    def cases(peers):
        layouts = ("auto", "vmap", "map")
        configs = [sized_config("standard", peers, layout=name) for name in layouts]
        made = measure.make_cases("standard", configs)
        return [(case.config.layout, case.auto) for case in made]

    assert cases(1) == [("vmap", True), ("map", False)]
    assert cases(4) == [("map", True), ("vmap", False)]


class Loop:
    """Stands in for a loop: does no work, notes its turns."""

    log = []  # noqa: RUF012  (cleared by the fixture)
    room = 10  # loops that fit at once
    alive = 0

    def __init__(self, config):
        if Loop.alive >= Loop.room:
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
    monkeypatch.setattr(Loop, "room", 10)
    rates = {"numpy 8": 2e9, "xla 8": 1e9, "xla tf32 8": 9e9}
    limit = limits.Limit(2e9, 1e9, rates, ("numpy 8", "xla 8"))
    return SimpleNamespace(measure=lambda: Loop.log.append("limits") or limit)


def fake_cases(*peers):
    return [
        measure.Case("standard", sized_config("standard", count, layout="map"), True)
        for count in peers
    ]


def test_loops_and_limits_take_turns(fakes):
    (sitting,) = measure.measure(fake_cases(1, 4), fakes, 3, print, turn_s=1e-9)
    assert Loop.log[-9:] == 3 * ["limits", 1, 4]
    for timed, peers in zip(sitting.timed, (1, 4), strict=True):
        assert timed.updates % (10 * peers) == 0
        assert len(timed.rates) == len(sitting.limits) == 3


def test_loops_that_do_not_fit_together_meet_later_and_alone_are_left_out(fakes):
    said = []
    Loop.room = 2
    sittings = list(measure.measure(fake_cases(1, 2, 3), fakes, 1, said.append, 1e-9))
    peers = [
        [timed.case.config.population.peers for timed in sitting.timed]
        for sitting in sittings
    ]
    assert peers == [[1, 2], [3]]
    assert Loop.alive == 0
    Loop.room = 0
    said.clear()
    assert list(measure.measure(fake_cases(5), fakes, 1, said.append)) == []
    assert said == ["standard, left out: P=5 does not fit"]


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
    (sitting,) = measure.measure(fake_cases(1, 4), fakes, 2, print, turn_s=1e-9)
    for timed, seconds in zip(sitting.timed, (1.0, 2.0), strict=True):
        timed.seconds[:] = [seconds, seconds / 2]
    rows = results.sitting_rows(sitting)
    results.add_growth(rows)
    assert "(fastest: numpy 8)" in results.limits_line(results.limits_row(sitting))
    return rows


def test_rows_are_rates_over_limits(rows):
    first, second = rows
    work_of_one = work.update_work(sized_config("standard", 1))
    rates = [first["updates_per_turn"] / spent for spent in (1.0, 0.5)]
    assert first["updates_per_s"]["turns"] == pytest.approx(rates)
    assert first["updates_per_s"]["median"] == pytest.approx(np.median(rates))
    shares = [rate * work_of_one.flop / 2e9 for rate in rates]
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


def test_figure_is_whole_and_says_what_it_shows(rows):
    svg = draw_benchmark(rows)
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert "at P=4" in root.find(f"{SVG}title").text
    assert svg == draw_benchmark(rows)


# --- programs ---

WRONG = {
    "--peers=none": "--peers='none' must be whole numbers, at least 1, by comma",
    "--layout=shard": "--layout='shard': unknown 'shard'",
    "--repeats=0": "--repeats=0 must be at least 1",
    "--peers=1 --devices=2": "--devices='2' must be at most the largest of --pe",
    "--profile --out=x.json": "--out must be left out with --profile",
    "--exchange_every=0": "exchange_every=0 must be at least 1",
    "--out=/nowhere/at/all.json": "--out='/nowhere/at/all.json': No such file",
    "--device=gpu": "device='gpu' is not available here",
    "--config=configs/pricing.py": "--config must be left out without",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """What becomes of each wrong command."""
    commands = [
        wrong
        for wrong in WRONG
        if wrong != "--device=gpu" or jax.default_backend() != "gpu"
    ]
    return run_each("benchmarks.bench", commands, tmp_path_factory.mktemp("refused"))


@pytest.mark.parametrize("wrong", WRONG)
def test_user_errors_are_one_line(refused, wrong):
    if wrong not in refused:
        pytest.skip("there is one")
    done = refused[wrong]
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {WRONG[wrong]}")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_program_writes_table_figures_and_picture(tmp_path):
    command = (
        "--sizes=market --peers=2 --layout=map --repeats=1 --replay=300"
        f" --out={tmp_path}/b.json --figure={tmp_path}/b.svg"
    )
    (done,) = run_each("benchmarks.bench", [command], tmp_path).values()
    assert done.returncode == 0, done.stderr
    assert "market       2 map*" in done.stdout
    figures = json.loads((tmp_path / "b.json").read_text("utf-8"))
    assert {"date", "python", "versions", "device", "processor"} <= set(figures)
    (row,), (limit,) = figures["rows"], figures["limits"]
    assert row["updates_per_s"]["median"] > 0
    assert limit["gemm_flop_per_s"]["median"] > 0
    assert ET.parse(tmp_path / "b.svg").getroot().tag == f"{SVG}svg"


@pytest.mark.slow
def test_exchange_cost_times_talk_beside_steps():
    row = exchange_cost(2, 1, 2, tiny(2))
    assert row["talk_s"] > 0
    assert row["peers"] == 2
    assert set(row) >= {"round_s", "talk_range_s", "added", "compile_s"}
