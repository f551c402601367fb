"""What a network gives to stores that open, measured over real sockets.

    python -m benchmarks.cold_start [--config=newcomers] [--seeds=5] [--weeks=104]

Agents exchange over mutual TLS on loopback. The first --established stores run --weeks
weeks together; then the newcomers of --config open, once in that network and once
alone, in the same market with the same random numbers. Prints the profit of their
first --watched weeks as a share of the oracle's. One process holds all agents of a
seed: they share compiled programs, and otherwise only sockets.
"""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from benchmarks.flag_parsers import at_least, write, write_json
from examples.loopback import connect_all, free_addresses, make_network
from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError, TrainConfig

if TYPE_CHECKING:
    from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork

PROGRAM = Program(__doc__, config=True)
_SEEDS = PROGRAM.integer("seeds", 5, "populations; seeds from config.seed on")
_ESTABLISHED = PROGRAM.integer("established", 6, "stores that run from the start")
_WEEKS = PROGRAM.integer("weeks", 104, "weeks before the newcomers open")
_WATCHED = PROGRAM.integer("watched", 25, "first weeks of the newcomers")
_OUT = PROGRAM.string("out", "", "JSON file to write the figures to")


@dataclasses.dataclass
class Store:
    """An agent in its market."""

    agent: Any
    market: Any
    obs: Any = None  # the last observation, None before the first week
    # By week: own profit, the oracle's, that of the historical price.
    profits: list[tuple[float, ...]] = dataclasses.field(default_factory=list)


@PROGRAM.main
def main() -> None:
    """Measures seed after seed, and prints a table."""
    logging.set_verbosity(logging.WARNING)
    config = PROGRAM.get_config()
    newcomers = config.population.newcomers
    most = config.population.peers - newcomers
    if newcomers < 1:
        raise ConfigError(f"population.newcomers={newcomers} must be at least 1")
    if not 1 <= _ESTABLISHED.value <= most:
        raise ConfigError(f"--established={_ESTABLISHED.value} must be in [1, {most}]")
    at_least(1, _SEEDS, _WEEKS, _WATCHED)
    write(_OUT)
    from p2p_sac_jax.experiment.compilation_cache import use_compilation_cache

    use_compilation_cache()
    rows = []
    print("| seed | network | alone | historical price | with a prior |")
    print("|---:|---:|---:|---:|---:|", flush=True)
    for seed in range(config.seed, config.seed + _SEEDS.value):
        row = asyncio.run(_measure(dataclasses.replace(config, seed=seed)))
        rows.append(row)
        print(
            f"| {seed} | {row['network']:.3f} | {row['alone']:.3f} |"
            f" {row['historical']:.3f} | {row['informed']} of {newcomers} |",
            flush=True,
        )
    gain = np.array([row["network"] - row["alone"] for row in rows])
    print(
        f"network less alone: {100 * gain.mean():.1f} points,"
        f" {100 * gain.min():.1f} to {100 * gain.max():.1f}"
    )
    write_json(_OUT, rows)


async def _measure(config: TrainConfig) -> dict[str, Any]:
    """One seed: figures of its newcomers."""
    peers = config.population.peers
    newcomers = range(peers - config.population.newcomers, peers)
    count = _ESTABLISHED.value
    with tempfile.TemporaryDirectory() as folder:
        mode = config.exchange.mode
        networks = _networks(Path(folder), mode, count + len(newcomers))
        established = [
            _open(config, index, network)
            for index, network in enumerate(networks[:count])
        ]
        try:
            await connect_all(networks[:count], count - 1)
            await _run_weeks(established, _WEEKS.value)
            joined = [
                _open(config, index, network, _WEEKS.value)
                for index, network in zip(newcomers, networks[count:], strict=True)
            ]
            alone = [_open(config, index, None, _WEEKS.value) for index in newcomers]
            await connect_all(networks, len(networks) - 1)
            await _run_weeks([*established, *joined], _WATCHED.value)
            await _run_weeks(alone, _WATCHED.value)
        finally:
            for network in networks:
                await network.disconnect()
    return {
        "seed": config.seed,
        "network": _share(joined),
        "alone": _share(alone),
        "historical": _share(alone, part=2),
        "informed": sum(store.agent.informed for store in joined),
    }


def _networks(folder: Path, mode: str, count: int) -> list[PeerNetwork]:
    """A network of ``count`` peers on loopback, not yet connected."""
    from p2p_sac_jax.agent.ops.authority import write_network

    names = [f"store{number}" for number in range(count)]
    write_network(folder, "loopback", mode, names, days=1)
    addresses = free_addresses(names)
    # One connection for each pair: the later peer connects to the earlier.
    return [
        make_network(folder / name, addresses, names[:index])
        for index, name in enumerate(names)
    ]


def _open(config: TrainConfig, index: int, network: Any, clock: int = 0) -> Store:
    from p2p_sac_jax.agent.agent import P2PSACAgent
    from p2p_sac_jax.agent.market import SimulatedMarket

    market = SimulatedMarket(config, index)
    agent = P2PSACAgent(
        market.observation_dim,
        market.action_dim,
        config,
        network=network,
        sync_interval=0.0,
        params=market.params,
        environment=market.environment,
        seed=config.seed,
        peer_id=index,
        start_clock=clock,
    )
    return Store(agent, market)


_PROFITS = "achieved", "oracle", "baseline"


async def _run_weeks(stores: Sequence[Store], weeks: int) -> None:
    """Runs all stores in step."""
    from p2p_sac_jax.agent.service import run_week

    for store in stores:
        if store.obs is None:
            store.obs = store.market.reset(store.agent.clock)
    for _ in range(weeks):
        for store in stores:
            outcome, _ = await run_week(store.agent, store.market, store.obs)
            store.obs = outcome.observation
            store.profits.append(tuple(outcome.metrics[name] for name in _PROFITS))
        await asyncio.sleep(0)  # lets messages arrive


def _share(stores: Sequence[Store], part: int = 0) -> float:
    """Profit of the stores over the oracle's."""
    weeks = np.array([store.profits for store in stores])  # [stores, weeks, 3]
    return float(weeks[..., part].sum() / weeks[..., 1].sum())


if __name__ == "__main__":
    main()
