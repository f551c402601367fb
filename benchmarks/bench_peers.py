"""Times whole training steps beside the SAC of other libraries.

    python -m benchmarks.bench_peers [--peers=1,4,16,64] [--baselines=rejax,sbx,sb3]

Every side does one gradient update after each environment step. Blocks of about a
second take turns in one process, and the ratio within each turn counts. Run it by
`make bench-peers`: the baselines have an environment of their own.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.baselines import TrainingProgram, Workload, rejax_sac, stable_baselines
from benchmarks.flag_parsers import at_least, names, numbers, write, write_json
from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError

PROGRAM = Program(__doc__)
_PEERS = PROGRAM.string("peers", "1,4,16,64", "population sizes to time")
_SIZES = PROGRAM.string(
    "sizes",
    "standard,market",
    "standard: pendulum, 2x256, batch 256; market: pricing, 2x64, batch 64, where"
    " baselines run the pendulum at that size",
)
_REPEATS = PROGRAM.integer("repeats", 7, "turns; the median ratio counts")
_REPLAY = PROGRAM.string("replay", "10000", "rows each agent keeps")
_CHOSEN = PROGRAM.string(
    "baselines",
    "rejax,sbx,sb3",
    "rejax, sbx, sb3 (the last two: one peer only), or rejax_uniform, which is rejax"
    " with replay rows drawn independently",
)
_OUT = PROGRAM.string("out", "", "JSON file to write the figures to")


class _Baseline(NamedTuple):
    make: Callable[[Workload], TrainingProgram]
    modules: tuple[str, ...]  # what it imports
    single_agent: bool


_TURN_S = 1.0
_BASELINES = {
    "rejax": _Baseline(rejax_sac.make_rejax, ("rejax", "gymnax"), False),
    "rejax_uniform": _Baseline(
        rejax_sac.make_rejax_uniform, ("rejax", "gymnax"), False
    ),
    "sbx": _Baseline(stable_baselines.make_sbx, ("sbx", "torch"), True),
    "sb3": _Baseline(stable_baselines.make_sb3, ("stable_baselines3", "torch"), True),
}
_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "numpy"),
    *("rejax", "gymnax", "distrax", "gymnasium"),
    *("sbx-rl", "stable-baselines3", "tfp-nightly", "torch"),
)
_NOTES = (
    "updates a second, over all agents; the ratio is this project's over the"
    " baseline's, median of the turns and its range",
    "size market: this project runs the pricing market, baselines have none and run"
    " the pendulum with networks and batches of that size",
    "rejax: all agents in one program on one JAX device, which has every core; its"
    " batches are drawn without replacement, which ranks the whole replay",
    "sbx, sb3: one agent, environment in Python; sb3 with"
    f" {stable_baselines.TORCH_THREADS} PyTorch threads",
)
Group = tuple[str, int, int]  # size, peers, replay


@PROGRAM.main
def main() -> None:
    """Prints a line for each baseline and size, and writes the figures."""
    peers, replays = numbers(_PEERS), numbers(_REPLAY)
    sizes, chosen = names(_SIZES, ("standard", "market")), names(_CHOSEN, [*_BASELINES])
    at_least(1, _REPEATS)
    if all(_BASELINES[name].single_agent for name in chosen) and 1 not in peers:
        raise ConfigError(f"--peers={_PEERS.value!r} must hold 1 for {chosen[0]}")

    # JAX is given its devices before a baseline can start it.
    from benchmarks.bench_results import OTHERS_MAX
    from benchmarks.sizes import sized_config
    from p2p_sac_jax.experiment.devices import choose_placement

    groups: dict[Group, list[str]] = {}
    for group in ((s, p, rows) for s in sizes for rows in replays for p in peers):
        able = [n for n in chosen if group[1] == 1 or not _BASELINES[n].single_agent]
        if able:
            groups[group] = able
    configs = {group: sized_config(*group[:2], replay=group[2]) for group in groups}
    for (_, _, rows), config in configs.items():
        if rows < config.sac.batch_size:
            least = config.sac.batch_size
            raise ConfigError(f"--replay={rows} must be at least a batch, {least}")
    _check_installed(chosen)
    choose_placement(next(iter(configs.values())))

    figures = _describe(chosen)
    write(_OUT)  # fails now rather than after an hour
    print("\n".join(_NOTES))
    print(
        f"\n{'size':<9}{'peers':>6}{'replay':>9}  {'baseline':<14}{'this/s':>9}"
        f"{'other/s':>10}{'ratio':>8}   {'range':<14} compile, s",
        flush=True,
    )
    for group, able in groups.items():
        rows = _attempt(group, configs[group], able)
        for row in rows:
            figures["rows"].append(row)
            print(_line(row), flush=True)
        if rows and rows[0]["others"] > OTHERS_MAX:
            share = rows[0]["others"]
            print(f"  busy: {share:.0%} went to other programs; unreliable")
        write_json(_OUT, figures)
        gc.collect()
    if not figures["rows"]:
        raise ConfigError(f"--peers={_PEERS.value!r}: nothing of it fits this machine")


def _attempt(
    group: Group, config: Any, baselines: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of ``_compare``; where memory is short none, and a line with the reason."""
    import jax

    from p2p_sac_jax.experiment.device_memory import InsufficientMemoryError

    size, peers, replay = group
    try:
        return _compare(group, config, baselines)
    except InsufficientMemoryError as error:
        reason = f"this project: {error}"
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = f"{', '.join(baselines)}: {str(error).splitlines()[0]}"
    print(f"{size:<9}{peers:>6}{replay:>9}  left out, {reason}", flush=True)
    return []


def _compare(
    group: Group, config: Any, baselines: Sequence[str]
) -> list[dict[str, Any]]:
    """Times this project and the baselines in turn; a row for each baseline."""
    from benchmarks.bench_results import summary
    from benchmarks.timing import check_updates, take_turns
    from benchmarks.training_loop import TrainingLoop

    size, peers, replay = group
    workload = Workload(peers, config.sac.hidden, config.sac.batch_size, replay)
    loop = TrainingLoop(config)
    loop.run()  # takes the memory that only a running program needs

    def run(chunks: int) -> int:
        due = chunks * loop.updates_per_chunk
        return check_updates("this project", loop.run(chunks), due)

    programs = [TrainingProgram(run, loop.compile_s)]
    for name in baselines:
        programs.append(_BASELINES[name].make(workload))
        programs[-1].run(1)
    timings, others = take_turns(
        [program.run for program in programs], _REPEATS.value, _TURN_S
    )
    this, *sides = (
        {
            "updates_per_s": summary(timing.rates, 1),
            "updates_per_turn": timing.updates,
            "compile_s": round(program.compile_s, 2),
        }
        for program, timing in zip(programs, timings, strict=True)
    )
    rows = []
    for name, side, timing in zip(baselines, sides, timings[1:], strict=True):
        ratios = [a / b for a, b in zip(timings[0].rates, timing.rates, strict=True)]
        row = {"size": size, **workload._asdict(), "baseline": name}
        row |= {"ratio": summary(ratios, 4), "this": this, "other": side}
        rows.append(row | {"others": round(others, 3)})
    return rows


def _line(row: dict[str, Any]) -> str:
    this, other, ratio = row["this"], row["other"], row["ratio"]
    span = f"{ratio['min']:.2f}-{ratio['max']:.2f}"
    return (
        f"{row['size']:<9}{row['peers']:>6}{row['replay']:>9}  {row['baseline']:<14}"
        f"{this['updates_per_s']['median']:>9.0f}"
        f"{other['updates_per_s']['median']:>10.0f}{ratio['median']:>8.2f}"
        f"   {span:<14} "
        f"{this['compile_s']:.1f} / {other['compile_s']:.1f}"
    )


def _describe(baselines: Sequence[str]) -> dict[str, Any]:
    """Machine, versions and settings of the figures; ``rows`` is empty."""
    from benchmarks import machine

    return machine.describe(_PACKAGES) | {
        "baselines": list(baselines),
        "torch_threads": stable_baselines.TORCH_THREADS,
        "repeats": _REPEATS.value,
        "notes": list(_NOTES),
        "rows": [],
    }


def _check_installed(baselines: Sequence[str]) -> None:
    for name in baselines:
        for module in _BASELINES[name].modules:
            if importlib.util.find_spec(module) is None:
                raise ConfigError(
                    f"--baselines: {name} needs {module}, which is not installed here;"
                    " `make bench-peers` makes an environment that has it"
                )


if __name__ == "__main__":
    main()
