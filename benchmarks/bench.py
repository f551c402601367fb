"""Times whole training steps against what the machine can do.

    python -m benchmarks.bench [--sizes=standard,market] [--peers=1,4,16,64,256]
    python -m benchmarks.bench --profile [--sizes=market] [--peers=16]
    python -m benchmarks.bench --exchange_cost [--peers=16,256] [--updates=1,16]

The first times environment, replay, update and exchange together; all loops and the
machine's limits take turns. The second profiles the same loops. The third times what
an exchange round adds to ten steps of the pricing market. docs/benchmark.md explains
the figures.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.flag_parsers import at_least, names, numbers, write, write_json
from p2p_sac_jax.commands.flags import Flag, Program
from p2p_sac_jax.config import ConfigError, TrainConfig

PROGRAM = Program(__doc__)
_SIZES = PROGRAM.string(
    "sizes",
    "standard,market",
    "standard: pendulum, 2x256, batch 256; market: pricing, 2x64, batch 64",
)
_PEERS = PROGRAM.string(
    "peers", None, "population sizes: 1,4,16,64,256, or 16,256 with --exchange_cost"
)
_LAYOUT = PROGRAM.string(
    "layout", None, "auto, vmap, map: all three on a CPU, auto elsewhere"
)
_DEVICES = PROGRAM.string(
    "devices",
    "0",
    "devices that share the peers; 0 is as many as are useful",
)
_EXCHANGE_EVERY = PROGRAM.integer(
    "exchange_every", 16, "steps between two exchange rounds"
)
_UPDATES = PROGRAM.string(
    "updates", None, "gradient updates a step: 1, or 1,16 with --exchange_cost"
)
_REPLAY = PROGRAM.integer("replay", 10_000, "transitions each peer keeps")
_REPEATS = PROGRAM.integer("repeats", 7, "turns; the median counts")
_DEVICE = PROGRAM.choice(
    "device", "auto", ["auto", "cpu", "gpu", "tpu"], "what to run on"
)
_OUT = PROGRAM.string("out", "", "JSON file to write the figures to")
_FIGURE = PROGRAM.string("figure", "", "SVG file to draw the figures in")
_EXCHANGE_COST = PROGRAM.boolean(
    "exchange_cost", False, "time what the exchange adds to training instead"
)
_PROFILE = PROGRAM.boolean(
    "profile", False, "show which operations a step spends its time on instead"
)

# Flags that have no meaning with --exchange_cost.
_LOOP_FLAGS = (_SIZES, _LAYOUT, _DEVICES, _EXCHANGE_EVERY, _REPLAY, _DEVICE, _FIGURE)
_DEFAULT_PEERS = "1,4,16,64,256"
_LAYOUTS = ("auto", "vmap", "map")


@PROGRAM.main
def main() -> None:
    """Prints a table, and writes the files that --out and --figure name."""
    at_least(1, _REPEATS, _EXCHANGE_EVERY, _REPLAY)
    if _PROFILE.value:
        _refuse((_OUT, _FIGURE), "must be left out with --profile")
    if _EXCHANGE_COST.value:
        _refuse((*_LOOP_FLAGS, _PROFILE), "must be left out with --exchange_cost")
        _time_exchange()
    else:
        _time_loops()


def _time_loops() -> None:
    sizes = names(_SIZES, ("standard", "market"))
    counts = numbers(_DEVICES, least=0)
    peers = numbers(_PEERS, _DEFAULT_PEERS)
    if min(counts) > max(peers):
        raise ConfigError(
            f"--devices={_DEVICES.value!r} must be at most the largest of"
            f" --peers={_PEERS.value or _DEFAULT_PEERS!r}: a device holds a peer"
        )
    configs = {size: list(_configs(size)) for size in sizes}
    for flag in (_OUT, _FIGURE):
        write(flag)  # fails now rather than after an hour

    import jax

    from benchmarks import bench_results as results
    from benchmarks import machine
    from benchmarks.machine_limits import Limits
    from benchmarks.measure import make_cases, measure
    from p2p_sac_jax.experiment.devices import find_devices, request_devices

    jax.config.update("jax_enable_compilation_cache", False)  # compile times are cold
    widest = TrainConfig(device=_DEVICE.value, devices=max(counts))
    request_devices(widest)
    find_devices(widest)
    if _LAYOUT.value is None and jax.default_backend() != "cpu":
        # One peer at a time takes hours on an accelerator.
        for size in sizes:
            configs[size] = [c for c in configs[size] if c.layout == "auto"]
    cases = {size: make_cases(size, configs[size]) for size in sizes}
    if _PROFILE.value:
        from benchmarks.op_profile import show_profile

        for case in itertools.chain(*cases.values()):
            print(f"\n{case.size}, {case.config.population.peers} peers", end=", ")
            show_profile(case.config)
            gc.collect()  # frees memory for the next loop
        return
    figures = machine.describe()
    figures |= {"repeats": _REPEATS.value, "rows": [], "limits": []}
    print(_machine(figures), flush=True)
    limits = Limits(max(case.devices for case in itertools.chain(*cases.values())))
    for size in sizes:
        for session in measure(cases[size], limits, _REPEATS.value, _progress):
            rows = results.session_rows(session)
            figures["rows"] += rows
            figures["limits"].append(results.limits_row(session))
            results.add_growth(figures["rows"])
            print(f"\n{results.table(rows)}")
            print(results.limits_line(figures["limits"][-1]), flush=True)
            figures["memory_high_water"] = machine.memory_used()
            write_json(_OUT, figures)
    if not figures["rows"]:
        raise ConfigError(f"--peers={_PEERS.value!r}: no loop fits this machine")
    print(f"\n{results.LEGEND}")
    if _FIGURE.value:
        from benchmarks.figure import draw_benchmark

        write(_FIGURE, draw_benchmark(figures["rows"]))


def _configs(size: str) -> Iterator[TrainConfig]:
    """Configurations of one size, every layout at every number of peers."""
    from dataclasses import replace

    from benchmarks.sizes import sized_config
    from p2p_sac_jax.validation import validate

    peers, asked = numbers(_PEERS, _DEFAULT_PEERS), numbers(_DEVICES, least=0)
    for count, devices in itertools.product(peers, asked):
        if devices > count:
            _progress(f"{size}, P={count}, left out: devices={devices} are more")
    layouts = names(_LAYOUT, _LAYOUTS) if _LAYOUT.value else _LAYOUTS
    for updates, count, layout in itertools.product(
        numbers(_UPDATES, "1"), peers, layouts
    ):
        config = sized_config(
            size,
            count,
            layout=layout,
            exchange_every=_EXCHANGE_EVERY.value,
            replay=_REPLAY.value,
            updates_per_step=updates,
        )
        for devices in asked:
            if devices <= count:
                config = replace(config, device=_DEVICE.value, devices=devices)
                validate(config)
                yield config


def _time_exchange() -> None:
    peers, updates = numbers(_PEERS, "16,256"), numbers(_UPDATES, "1,16")
    write(_OUT)

    from benchmarks import machine
    from benchmarks.exchange_cost import exchange_cost
    from p2p_sac_jax.commands.presets import load_preset
    from p2p_sac_jax.config_io import from_dict

    config = from_dict(load_preset("pricing").config.to_dict())
    rows: list[dict[str, Any]] = []
    for size, count in itertools.product(peers, updates):
        row = exchange_cost(size, count, _REPEATS.value, config)
        rows.append(row)
        print(
            f"{size} peers, {count} updates a step: ten steps and their exchange"
            f" {1e3 * row['round_s']['median']:.1f} ms, exchange"
            f" {1e3 * row['exchange_s']['median']:.2f} ms: it adds {row['added']:.1%}",
            flush=True,
        )
        write_json(_OUT, machine.describe() | {"rows": rows})


def _machine(figures: dict[str, Any]) -> str:
    facts = [
        figures["date"],
        f"Python {figures['python']}",
        f"jax {figures['versions']['jax']}",
        f"{figures['devices']} {figures['device']} device(s)",
        f"{figures['cores']} cores {figures['processor']}",
    ]
    if figures["driver"]:
        facts.append(f"driver {figures['driver']}")
    return ", ".join(facts)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _refuse(flags: tuple[Flag, ...], why: str) -> None:
    for flag in flags:
        if flag.present:
            raise ConfigError(f"--{flag.name} {why}")


if __name__ == "__main__":
    main()
