"""What a network gives to stores that open: measured over real sockets.

    python -m benchmarks.cold_start [--config=configs/newcomers.py] [--seeds=5]
                                [--veterans=6] [--weeks=104] [--watched=25]
                                [--out=FILE.json]

Agents with identities of their own talk over mutual TLS on loopback. Veterans live
``--weeks`` weeks together; then the newcomers of ``--config`` open, once in their
network and once alone, in the same market with the same draws. Prints what they earned
in their first ``--watched`` weeks, as a share of the oracle's expected profit. A
process holds all agents of a seed: they share programs, and nothing else but sockets.
Exits 0 if done, 2 with one line on standard error after a user error.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from benchmarks.flag_parsers import write
from examples.ports import free_ports
from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.config import ConfigError, TrainConfig

PROGRAM = Program(__doc__, config=True)
_SEEDS = PROGRAM.integer("seeds", 5, "populations; seeds from config.seed on")
_VETERANS = PROGRAM.integer("veterans", 6, "stores that know the market")
_WEEKS = PROGRAM.integer("weeks", 104, "weeks that they live before")
_WATCHED = PROGRAM.integer("watched", 25, "first weeks of the newcomers")
_OUT = PROGRAM.string("out", "", "JSON file to write the figures to")


class Store(NamedTuple):
    """An agent, its market, and what it has seen last."""

    agent: Any
    market: Any
    obs: list[Any]  # one observation, replaced every week
    earned: list[tuple[float, ...]]  # by week: own, the oracle's, at the usual price


@PROGRAM.main
def main() -> None:
    """Measures seed after seed, and prints a table."""
    logging.set_verbosity(logging.WARNING)
    config = PROGRAM.get_config()
    newcomers = config.population.newcomers
    most = config.population.peers - newcomers
    if newcomers < 1:
        raise ConfigError(f"population.newcomers={newcomers} must be at least 1")
    if not 1 <= _VETERANS.value <= most:
        raise ConfigError(f"--veterans={_VETERANS.value} must be in [1, {most}]")
    for flag in (_SEEDS, _WEEKS, _WATCHED):
        if flag.value < 1:
            raise ConfigError(f"--{flag.name}={flag.value} must be at least 1")
    write(_OUT, "")
    from p2p_sac_jax.experiment.compilation_cache import use_compilation_cache

    use_compilation_cache()
    rows = []
    print("| seed | network | alone | historical price | heard a prior |")
    print("|---:|---:|---:|---:|---:|", flush=True)
    for seed in range(config.seed, config.seed + _SEEDS.value):
        rows.append(asyncio.run(_seed(dataclasses.replace(config, seed=seed))))
        row = rows[-1]
        print(
            f"| {seed} | {row['network']:.3f} | {row['alone']:.3f} |"
            f" {row['historical']:.3f} | {row['heard']} of {newcomers} |",
            flush=True,
        )
    gain = np.array([row["network"] - row["alone"] for row in rows])
    print(
        f"network less alone: {100 * gain.mean():.1f} points,"
        f" {100 * gain.min():.1f} to {100 * gain.max():.1f}"
    )
    write(_OUT, json.dumps(rows, indent=1) + "\n")


async def _seed(config: TrainConfig) -> dict[str, Any]:
    newcomers = range(
        config.population.peers - config.population.newcomers, config.population.peers
    )
    with tempfile.TemporaryDirectory() as folder:
        count = _VETERANS.value + len(newcomers)
        networks = _networks(Path(folder), config.exchange.mode, count)
        veterans = [
            _open(config, store, network)
            for store, network in enumerate(networks[: _VETERANS.value])
        ]
        joining = networks[_VETERANS.value :]
        try:
            await _connect(networks[: _VETERANS.value])
            await _live(veterans, _WEEKS.value)
            opened = [
                _open(config, store, network, _WEEKS.value)
                for store, network in zip(newcomers, joining, strict=True)
            ]
            alone = [_open(config, store, None, _WEEKS.value) for store in newcomers]
            await _connect(networks)
            await _live([*veterans, *opened], _WATCHED.value)
            await _live(alone, _WATCHED.value)
        finally:
            for network in networks:
                await network.disconnect()
    shares = {
        "network": _share(opened),
        "alone": _share(alone),
        "historical": _share(alone, part=2),
    }
    heard = sum(store.agent.informed for store in opened)
    return {"seed": config.seed, **shares, "heard": heard}


def _networks(folder: Path, mode: str, count: int) -> list[Any]:
    """A network of ``count`` peers on loopback, not yet connected."""
    from p2p_sac_jax.agent.ops.authority import write_network
    from p2p_sac_jax.agent.ops.identity import load_identity, load_roster
    from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
    from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport

    names = [f"store{number}" for number in range(count)]
    write_network(folder, "loopback", mode, names, days=1)
    places = [f"127.0.0.1:{port}" for port in free_ports(count)]
    networks = []
    for name, place in zip(names, places, strict=True):
        home = folder / name
        # Each pair has one way: the later connects to the earlier.
        before = places[: places.index(place)]
        transport = ZenohTransport(home, listen=[place], connect=before)
        networks.append(PeerNetwork(transport, load_identity(home), load_roster(home)))
    return networks


def _open(config: TrainConfig, number: int, network: Any, clock: int = 0) -> Store:
    from p2p_sac_jax.agent.agent import P2PSACAgent
    from p2p_sac_jax.agent.market import SimulatedMarket

    market = SimulatedMarket(config, number)
    agent = P2PSACAgent(
        market.observation_dim,
        market.action_dim,
        config,
        network=network,
        sync_interval=0.0,
        params=market.params,
        environment=market.environment,
        seed=config.seed,
        peer_id=number,
        start_clock=clock,
    )
    return Store(agent, market, [], [])


async def _connect(networks: Sequence[Any], patience_s: float = 20.0) -> None:
    """Connects, and waits until everybody has everybody else."""
    for network in networks:
        await network.connect()
    others, waited = len(networks) - 1, 0.0
    while any(len(network.status().peers) < others for network in networks):
        await asyncio.sleep(0.1)
        waited += 0.1
        if waited > patience_s:
            raise ConfigError("peers on loopback did not find each other")


async def _live(stores: Sequence[Store], weeks: int) -> None:
    """All stores live ``weeks`` weeks in step."""
    from p2p_sac_jax.agent.service import run_week

    for store in stores:
        if not store.obs:
            store.obs.append(store.market.reset(store.agent.clock))
    for _ in range(weeks):
        for store in stores:
            outcome, _ = await run_week(store.agent, store.market, store.obs[0])
            store.obs[0] = outcome.observation
            store.earned.append(tuple(outcome.metrics.values()))
        await asyncio.sleep(0)  # what was sent arrives


def _share(stores: Sequence[Store], part: int = 0) -> float:
    """What the stores earned over what they could have."""
    weeks = np.array([store.earned for store in stores])  # [stores, weeks, 3]
    return float(weeks[..., part].sum() / weeks[..., 1].sum())


if __name__ == "__main__":
    main()
