"""Runs one peer on a real network: one store, one process.

    python -m launch.run_peer --config=configs/peer.py --identity=DIR --workdir=DIR
                              --listen=HOST:PORT --connect=HOST:PORT,HOST:PORT
                              [--name=NAME] [--store=N] [--week_s=604800]
                              [--weeks=N] [--origin=SECONDS] [--sync_s=SECONDS]
                              [--metrics=PORT] [--market=MODULE:FACTORY]

The identity comes from ``launch.make_identity``. Logs are lines of JSON on standard
error, ``DIR/audit.jsonl`` says what left the peer. SIGTERM and SIGINT end it after the
week at hand, its state saved; the same command goes on from there. Exits 0 when
stopped or done, 2 with one line on standard error after a user error.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from launch import flags
from p2p_sac_jax.config import ConfigError, TrainConfig

_IDENTITY = absl_flags.DEFINE_string("identity", "", "folder of the peer's identity")
_NAME = absl_flags.DEFINE_string("name", "", "expected name; empty takes any")
_WORKDIR = absl_flags.DEFINE_string("workdir", "", "folder of state, audit and journal")
_LISTEN = absl_flags.DEFINE_list("listen", [], "HOST:PORT to accept peers at")
_CONNECT = absl_flags.DEFINE_list("connect", [], "HOST:PORT of other peers, by comma")
_STORE = absl_flags.DEFINE_integer(
    "store", -1, "store of the simulated market; -1 is the peer's place in the roster"
)
_WEEK_S = absl_flags.DEFINE_float("week_s", 604_800.0, "seconds that a week lasts")
_WEEKS = absl_flags.DEFINE_integer("weeks", 0, "weeks to work; 0 is no end")
_ORIGIN = absl_flags.DEFINE_float(
    "origin", 0.0, "week 0 of the network, seconds since 1970; the same for all peers"
)
_SYNC_S = absl_flags.DEFINE_float(
    "sync_s", 60.0, "seconds between two rounds of asking for what is missing"
)
_METRICS = absl_flags.DEFINE_string(
    "metrics", "", "PORT on loopback, or HOST:PORT, for Prometheus; empty is off"
)
_MARKET = absl_flags.DEFINE_string(
    "market", "", "MODULE:FACTORY, a factory (config, name) -> Market of your own"
)
flags.define_config()


def main(argv: list[str]) -> int | None:
    """Checks the flags, puts the peer together and lets it work."""
    del argv
    config = flags.get_train_config()
    for flag in (_IDENTITY, _WORKDIR):
        if not flag.value:
            raise ConfigError(f"--{flag.name} is missing")
    for flag in (_WEEK_S, _SYNC_S, _ORIGIN, _WEEKS):
        if not 0.0 <= flag.value < float("inf"):
            raise ConfigError(f"--{flag.name}={flag.value} must be at least 0")
    _log_as_json()
    asyncio.run(_serve(config))
    return None


async def _serve(config: TrainConfig) -> None:
    from p2p_sac_jax.agent.agent import P2PSACAgent
    from p2p_sac_jax.agent.audit import AuditedNetwork, AuditLog
    from p2p_sac_jax.agent.identity import load_identity, load_roster
    from p2p_sac_jax.agent.monitor import Endpoint, PeerCollector
    from p2p_sac_jax.agent.network import PeerNetwork
    from p2p_sac_jax.agent.service import Service
    from p2p_sac_jax.agent.storage import has_state
    from p2p_sac_jax.agent.zenoh_transport import ZenohTransport
    from p2p_sac_jax.experiment.cache import use_compilation_cache

    use_compilation_cache()
    folder = Path(_WORKDIR.value)
    folder.mkdir(parents=True, exist_ok=True)
    identity, roster = load_identity(_IDENTITY.value), load_roster(_IDENTITY.value)
    if _NAME.value not in ("", identity.name):
        raise ConfigError(
            f"--name={_NAME.value!r} must be {identity.name!r}, the name in"
            f" --identity={_IDENTITY.value!r}"
        )
    if roster.mode != config.exchange.mode:
        raise ConfigError(
            f"exchange.mode={config.exchange.mode!r} must be {roster.mode!r}, that of"
            f" the network {roster.network!r}"
        )
    clock = int((time.time() - _ORIGIN.value) / max(_WEEK_S.value, 1e-3))
    if roster.mode != "private" and not 0 <= clock < config.steps:
        raise ConfigError(
            f"--origin={_ORIGIN.value:.0f} with --week_s={_WEEK_S.value:g} makes this"
            f" week {clock} of the network; in mode {roster.mode} noise is made for"
            f" weeks 0 to steps={config.steps}"
        )
    transport = ZenohTransport(
        _IDENTITY.value, listen=_LISTEN.value, connect=_CONNECT.value
    )
    network = AuditedNetwork(
        PeerNetwork(transport, identity, roster, folder=folder / "network"),
        AuditLog(folder / "audit.jsonl"),
    )
    place = list(roster.keys).index(identity.name)
    market = _make_market(config, identity.name, place)
    agent = P2PSACAgent(
        market.observation_dim,
        market.action_dim,
        config,
        network=network,
        sync_interval=_SYNC_S.value,
        params=market.params,
        environment=market.environment,
        peer_id=place,
        start_clock=clock,
        folder=folder / "state",
    )
    if has_state(folder / "state"):
        agent.load()
        agent.catch_up(clock)
    network.budget = lambda: agent.budget
    service = Service(agent, market, network, week_s=_WEEK_S.value)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    endpoint = None
    if _METRICS.value:
        shown = PeerCollector(network.status, lambda: service.figures)
        endpoint = Endpoint(_METRICS.value, shown)
    try:
        await service.run(stop, _WEEKS.value)
    finally:
        if endpoint is not None:
            endpoint.close()


def _make_market(config: TrainConfig, name: str, place: int) -> Any:
    from p2p_sac_jax.agent.market import SimulatedMarket

    if not _MARKET.value:
        return SimulatedMarket(config, place if _STORE.value < 0 else _STORE.value)
    module, _, factory = _MARKET.value.partition(":")
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--market={_MARKET.value!r}: {error}") from error
    return make(config, name)


def _log_as_json() -> None:
    from p2p_sac_jax.agent.monitor import JsonLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("p2p_sac_jax").setLevel(logging.INFO)


if __name__ == "__main__":
    flags.run(main)
