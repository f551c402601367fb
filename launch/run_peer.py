"""Runs one peer on a real network: one store, one process.

    python -m launch.run_peer --config=configs/peer.py --identity=DIR --workdir=DIR
                              --listen=HOST:PORT --connect=HOST:PORT,HOST:PORT
                              [--name=NAME] [--store=N] [--week_s=604800]
                              [--weeks=N] [--origin=DATE] [--sync_s=SECONDS]
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
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from p2p_sac_jax.commands import flags
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
_ORIGIN = absl_flags.DEFINE_string(
    "origin",
    "1970-01-05",
    "when week 0 of the network began, in UTC, such as 2026-11-23 or"
    " 2026-11-23T08:00; the same for all peers",
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
    for flag in (_SYNC_S, _WEEKS):
        if not 0 <= flag.value < float("inf"):
            raise ConfigError(f"--{flag.name}={flag.value} must be at least 0")
    if not 0.0 < _WEEK_S.value < float("inf"):
        raise ConfigError(f"--week_s={_WEEK_S.value} must be above 0")
    _log_as_json()
    asyncio.run(_serve(config))
    return None


async def _serve(config: TrainConfig) -> None:
    from p2p_sac_jax.agent.agent import P2PSACAgent
    from p2p_sac_jax.agent.ops.audit import AuditLog
    from p2p_sac_jax.agent.ops.identity import (
        certificate_ends,
        load_identity,
        load_roster,
    )
    from p2p_sac_jax.agent.ops.monitor import Endpoint, PeerCollector
    from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
    from p2p_sac_jax.agent.service import Service
    from p2p_sac_jax.agent.storage import has_state
    from p2p_sac_jax.agent.transport.zenoh_transport import ZenohTransport
    from p2p_sac_jax.experiment.compilation_cache import use_compilation_cache

    use_compilation_cache()
    os.umask(0o077)  # state and logs are the peer's alone
    folder = Path(_WORKDIR.value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--workdir={str(folder)!r}: {error.strerror}") from error
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
    clock = _make_clock()
    if roster.mode != "private" and not 0 <= clock() < config.steps:
        raise ConfigError(
            f"--origin={_ORIGIN.value} with --week_s={_WEEK_S.value:g} makes this week"
            f" {int(clock())} of the network; in mode {roster.mode} noise is made for"
            f" weeks 0 to steps={config.steps}"
        )
    transport = ZenohTransport(
        _IDENTITY.value, listen=_LISTEN.value, connect=_CONNECT.value
    )
    audit = AuditLog(folder / "audit.jsonl")
    network = PeerNetwork(
        transport, identity, roster, folder=folder / "network", audit=audit
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
        start_clock=int(clock()),
        folder=folder / "state",
    )
    if has_state(folder / "state"):
        agent.load()
    audit.budget = lambda: agent.budget
    left = certificate_ends(_IDENTITY.value) - datetime.now(UTC)
    if left < timedelta(days=30):
        logging.getLogger("p2p_sac_jax").warning(
            "certificate ends soon", extra={"data": {"days": left.days}}
        )
    service = Service(
        agent,
        market,
        network,
        clock=clock,
        week_s=_WEEK_S.value,
        sync_s=_SYNC_S.value,
    )
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


def _make_clock() -> Callable[[], float]:
    """Weeks of the network since its origin, with their fraction."""
    try:
        origin = datetime.fromisoformat(_ORIGIN.value)
    except ValueError as error:
        raise ConfigError(
            f"--origin={_ORIGIN.value!r} must be a date, such as 2026-11-23"
        ) from error
    if origin.tzinfo is None:
        origin = origin.replace(tzinfo=UTC)
    start_s, week_s = origin.timestamp(), _WEEK_S.value
    return lambda: (time.time() - start_s) / week_s


def _make_market(config: TrainConfig, name: str, place: int) -> Any:
    from p2p_sac_jax.agent.market import SimulatedMarket

    if not _MARKET.value:
        return SimulatedMarket(config, place if _STORE.value < 0 else _STORE.value)
    module, _, factory = _MARKET.value.partition(":")
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--market={_MARKET.value!r}: {error}") from error
    market = make(config, name) if callable(make) else make
    for need in ("reset", "step", "observation_dim", "action_dim", "environment"):
        if not hasattr(market, need):
            raise ConfigError(f"--market={_MARKET.value!r}: no {need} in {market!r}")
    return market


def _log_as_json() -> None:
    from p2p_sac_jax.agent.ops.monitor import JsonLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("p2p_sac_jax").setLevel(logging.INFO)


if __name__ == "__main__":
    flags.run(main)
