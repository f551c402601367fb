"""Times whole training steps beside those of third-party SACs.

    python -m benchmarks.bench_peers [--peers=1,4,16,64] [--sizes=standard,market]
                                 [--rivals=rejax,sbx,sb3] [--replay=10000]
                                 [--repeats=7] [--out=FILE.json]

One environment step to one gradient update, on every side. Blocks of about a second
take turns in one process, and the ratio within each turn counts. Run it by
``make bench-peers``: the rivals live in an environment of their own.
Exits 0 if done, 2 with one line on stderr after a user error.
"""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.baselines import (
    Contestant,
    Turns,
    Work,
    exactly,
    rejax_sac,
    stable_baselines,
    take_turns,
)
from benchmarks.flag_parsers import names, numbers, write
from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError

PROGRAM = Program(__doc__)
_PEERS = PROGRAM.string("peers", "1,4,16,64", "population sizes to time")
_SIZES = PROGRAM.string(
    "sizes",
    "standard,market",
    "standard: pendulum, 2x256, batch 256; market: pricing, 2x64, batch 64, where"
    " rivals run the pendulum at that size",
)
_REPEATS = PROGRAM.integer("repeats", 7, "turns; the median ratio counts")
_REPLAY = PROGRAM.string("replay", "10000", "rows each agent keeps")
_CHOSEN = PROGRAM.string(
    "rivals",
    "rejax,sbx,sb3",
    "whom to time: rejax, sbx, sb3 (the last two: one peer only), or rejax_uniform,"
    " which is rejax with replay rows drawn independently",
)
_OUT = PROGRAM.string("out", "", "JSON file to write the figures to")


class _Rival(NamedTuple):
    make: Callable[[Work], Contestant]
    modules: tuple[str, ...]  # what it imports
    alone: bool  # one agent only


_JAX = ("rejax", "gymnax")
_RIVALS = {
    "rejax": _Rival(rejax_sac.make_rejax, _JAX, alone=False),
    "rejax_uniform": _Rival(rejax_sac.make_rejax_uniform, _JAX, alone=False),
    "sbx": _Rival(stable_baselines.make_sbx, ("sbx", "torch"), alone=True),
    "sb3": _Rival(
        stable_baselines.make_sb3, ("stable_baselines3", "torch"), alone=True
    ),
}
_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "numpy"),
    *("rejax", "gymnax", "distrax", "gymnasium"),
    *("sbx-rl", "stable-baselines3", "tfp-nightly", "torch"),
)
_NOTES = (
    "updates a second, over all agents; the ratio is ours over theirs, median of the"
    " turns and its range",
    "size market: ours runs the pricing market, rivals have none and run the pendulum"
    " with networks and batches of that size",
    "rejax: all agents in one program on one JAX device, which has every core; its"
    " batches are drawn without replacement, which ranks the whole replay",
    "sbx, sb3: one agent, environment in Python; sb3 with"
    f" {stable_baselines.TORCH_THREADS} PyTorch threads",
)


@PROGRAM.main
def main() -> None:
    """Prints one line for each rival and size, and writes the figures if asked to."""
    peers, replays = numbers("peers", _PEERS.value), numbers("replay", _REPLAY.value)
    sizes = names("sizes", _SIZES.value, ("standard", "market"))
    rivals = names("rivals", _CHOSEN.value, tuple(_RIVALS))
    if _REPEATS.value < 1:
        raise ConfigError(f"--repeats={_REPEATS.value} must be at least 1")
    if all(_RIVALS[name].alone for name in rivals) and 1 not in peers:
        raise ConfigError(f"--peers={_PEERS.value!r} must hold 1 for {rivals[0]}")

    # JAX is told its devices before a rival can start it.
    from benchmarks.bench_results import OTHERS_MAX
    from benchmarks.sizes import sized_config
    from p2p_sac_jax.experiment.devices import choose_placement

    chosen = {count: _opponents(rivals, count) for count in peers}
    groups = [
        (size, count, rows)
        for size in sizes
        for rows in replays
        for count in peers
        if chosen[count]
    ]
    configs = {group: sized_config(*group[:2], replay=group[2]) for group in groups}
    for (_, _, rows), config in configs.items():
        if rows < config.sac.batch_size:
            least = config.sac.batch_size
            raise ConfigError(f"--replay={rows} must be at least a batch, {least}")
    _check_installed(rivals)
    choose_placement(configs[groups[0]])

    figures = _describe(rivals)
    write(_OUT, "")  # better now than after an hour
    print("\n".join(_NOTES))
    print(
        f"\n{'size':<9}{'peers':>6}{'replay':>9}  {'rival':<14}{'ours/s':>9}"
        f"{'theirs/s':>10}{'ratio':>8}   {'range':<14} compile, s",
        flush=True,
    )
    for group in groups:
        rows = _attempt(group, configs[group], chosen[group[1]])
        for row in rows:
            figures["rows"].append(row)
            print(_line(row), flush=True)
        if rows and rows[0]["others"] > OTHERS_MAX:
            share = rows[0]["others"]
            print(f"  busy: {share:.0%} went to other programs; do not count")
        write(_OUT, json.dumps(figures, indent=1) + "\n")
        gc.collect()
    if not figures["rows"]:
        raise ConfigError(f"--peers={_PEERS.value!r}: nothing of it fits this machine")


def _opponents(rivals: Sequence[str], peers: int) -> list[str]:
    """The rivals that can run so many agents."""
    return [name for name in rivals if peers == 1 or not _RIVALS[name].alone]


def _attempt(
    group: tuple[str, int, int], config: Any, rivals: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of ``_compare``; none, and a line that says so, where memory is short."""
    import jax

    from p2p_sac_jax.experiment.device_memory import InsufficientMemoryError

    size, peers, replay = group
    try:
        return _compare(group, config, rivals)
    except InsufficientMemoryError as error:
        reason = f"ours: {error}"
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = f"{', '.join(rivals)}: {str(error).splitlines()[0]}"
    print(f"{size:<9}{peers:>6}{replay:>9}  left out, {reason}", flush=True)
    return []


def _compare(
    group: tuple[str, int, int], config: Any, rivals: Sequence[str]
) -> list[dict[str, Any]]:
    """Times ours and the rivals in turn; a row for each rival."""
    from benchmarks.training_loop import TrainingLoop

    size, peers, replay = group
    work = Work(peers, config.sac.hidden, config.sac.batch_size, replay)
    loop = TrainingLoop(config)
    loop.run()  # takes the memory that only a running program needs

    def run(chunks: int) -> int:
        return exactly("ours", loop.run(chunks), chunks * loop.updates_per_chunk)

    contestants = [Contestant("ours", run, loop.compile_s)]
    contestants += [_RIVALS[name].make(work) for name in rivals]
    turns, others = take_turns(contestants, _REPEATS.value)
    rows = []
    for index, name in enumerate(rivals, start=1):
        theirs = turns[index]
        ratios = [a / b for a, b in zip(turns[0].rates, theirs.rates, strict=True)]
        rows.append(
            {
                "size": size,
                **work._asdict(),
                "rival": name,
                "ratio": round(statistics.median(ratios), 3),
                "ratio_range": [round(f(ratios), 3) for f in (min, max)],
                "ratios": [round(ratio, 4) for ratio in ratios],
                "ours": _summary(contestants[0], turns[0]),
                "theirs": _summary(contestants[index], theirs),
                "others": round(others, 3),
            }
        )
    return rows


def _summary(contestant: Contestant, turns: Turns) -> dict[str, Any]:
    return {
        "updates_per_s": round(statistics.median(turns.rates), 1),
        "updates_per_s_range": [round(f(turns.rates), 1) for f in (min, max)],
        "updates_per_turn": turns.updates,
        "compile_s": round(contestant.compile_s, 2),
    }


def _line(row: dict[str, Any]) -> str:
    ours, theirs = row["ours"], row["theirs"]
    low, high = row["ratio_range"]
    return (
        f"{row['size']:<9}{row['peers']:>6}{row['replay']:>9}  {row['rival']:<14}"
        f"{ours['updates_per_s']:>9.0f}{theirs['updates_per_s']:>10.0f}"
        f"{row['ratio']:>8.2f}   {f'{low:.2f}-{high:.2f}':<14} "
        f"{ours['compile_s']:.1f} / {theirs['compile_s']:.1f}"
    )


def _describe(rivals: Sequence[str]) -> dict[str, Any]:
    """Where and with what the figures came to be; ``rows`` is still empty."""
    import jax

    from benchmarks import machine

    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return machine.describe() | {
        "versions": versions,
        "devices": [str(device) for device in jax.devices()],
        "rivals": list(rivals),
        "torch_threads": stable_baselines.TORCH_THREADS,
        "repeats": _REPEATS.value,
        "notes": list(_NOTES),
        "rows": [],
    }


def _check_installed(rivals: Sequence[str]) -> None:
    for name in rivals:
        for module in _RIVALS[name].modules:
            if importlib.util.find_spec(module) is None:
                raise ConfigError(
                    f"--rivals: {name} needs {module}, which is not installed here;"
                    " `make bench-peers` makes an environment that has it"
                )


if __name__ == "__main__":
    main()
