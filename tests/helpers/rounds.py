"""Whole rounds as kinds, and what travels in them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange.aggregation import AGGREGATORS
from p2p_sac_jax.exchange.exchange import POOLINGS, Clock, make_exchange
from p2p_sac_jax.exchange.messages import MODES, Mode, make_mode
from p2p_sac_jax.exchange.sanitize import sanitize_received
from p2p_sac_jax.simulation.faults import make_fault_plan
from p2p_sac_jax.simulation.network import (
    Broadcast,
    Participation,
    Receivers,
    RoundInfo,
    make_network,
)
from p2p_sac_jax.simulation.schedules import DYNAMIC
from tests.helpers.contracts import STRANGER_ORDER, Kind, P
from tests.helpers.exchange_cases import (
    BASE,
    CLOCK,
    FAULTS,
    HOSTILE,
    NOW,
    RANKED_ORDER,
    TOLERATED,
    VALUE_MODES,
    A,
    K,
    edges,
    hyper,
    local_summary,
    messages,
    opinions,
    received,
    settings,
)

CELLS_PER_GROUP = 2


def mode_of(config: TrainConfig) -> Mode:
    return make_mode(
        config,
        num_cells=K,
        cells_per_group=CELLS_PER_GROUP,
        action_dim=A,
        base_prior=BASE,
    )


def mode_kind(name: str) -> Kind:
    """One peer writes, another reads; in between ``told`` replaces what is written."""
    mode = mode_of(settings(exchange={"mode": name}))

    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        seeds = np.arange(peers, dtype=np.int32) + np.int32(100 * seed)
        return local_summary(rng, peers), seeds, np.ones(peers, np.float32), CLOCK, NOW

    def run(known, seeds, told, clock, now):
        wire = write(mode, known, seeds, told, clock, now)
        read = mode.bound(mode.inbound(wire))
        return (sanitize_received(read, BASE.record_scale, clock),)

    return Kind(run, make, "ssj--", "j", "absent")


def write(mode: Mode, known: Any, seeds: Any, told: Any, clock: Any, now: Any) -> Any:
    """The wire [J, ...]: as the mode writes it where ``told`` is 1, else ``told``."""
    keys = jax.vmap(jax.random.key)(seeds)
    wire = jax.vmap(mode.outbound, (0, 0, None, None))(known, keys, clock // 4, now)

    def spoil(leaf: Any) -> Any:
        instead = told.reshape(told.shape + (1,) * (leaf.ndim - 1))
        instead = jnp.broadcast_to(instead, leaf.shape)
        return jnp.where(instead == 1.0, leaf, instead.astype(leaf.dtype))

    return jax.tree.map(spoil, wire)


def round_kind(
    value_sharing: str = "precision", aggregator: str = "mean", pooling: str = "prior"
) -> Kind:
    cells = 1 if value_sharing == "scalar" else K
    exchange = make_exchange(value_sharing, pooling, A, BASE, aggregator, TOLERATED)

    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        steps = rng.uniform(0.0, 200.0, peers).astype(np.float32)
        return (
            received(rng, peers, cells),
            messages(rng, peers, cells),
            edges(rng, peers),
            opinions(rng, peers),
            hyper(seed),
            Clock(CLOCK, NOW),
            steps,
        )

    def run(*args):
        return tuple(exchange(*args))

    return Kind(run, make, "jiET--i", "iTi", "absent")


def listen_kind(**sections: dict[str, Any]) -> Kind:
    """From what peers know to what others make of it, through a mode's messages."""
    config = settings(environment={"seconds_per_step": float(NOW / CLOCK)}, **sections)
    mode = mode_of(config)
    network = make_network(config, A, BASE, mode)

    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        sized = dataclasses.replace(config.population, peers=peers)
        plan = make_fault_plan(dataclasses.replace(config, population=sized), peers)
        joins = np.where(np.arange(peers) == 2, 99, 0).astype(np.int32)
        byzantine = np.float32([HOSTILE[j % P] for j in range(peers)])
        known = local_summary(rng, peers)
        seeds = np.arange(peers, dtype=np.int32) + np.int32(100 * seed)
        partners = ()
        if config.exchange.topology in DYNAMIC:
            partners = rng.integers(-1, peers, (peers, 3)).astype(np.int32)
        listeners = Receivers(
            own=known.message,
            adjacency=(),
            trust=(),
            steps=rng.uniform(0.0, 200.0, peers).astype(np.float32),
            sending=np.ones(peers, np.float32),
            releases=np.full(peers, 3, np.int32),
        )
        presence = Participation(joins, byzantine, plan)
        graph = edges(rng, peers), opinions(rng, peers)
        told = np.ones(peers, np.float32)
        shared = np.int32(seed), hyper(seed), CLOCK
        peer = known, seeds, told, listeners, presence, presence, partners
        return *peer, *graph, *shared

    def run(
        known,
        seeds,
        told,
        listeners,
        presence,
        senders,
        partners,
        edge,
        opinion,
        seed,
        rules,
        clock,
    ):
        wire = write(mode, known, seeds, told, clock, clock * NOW / CLOCK)
        listeners = listeners._replace(adjacency=edge, trust=opinion)
        round_info = RoundInfo(presence, partners, senders, clock)
        said = Broadcast(wire, listeners.sending)
        guidance, trust, report = network.listen(
            said, listeners, rules, seed, round_info
        )
        books = report.sent, report.releases, report.bytes_received
        return guidance, trust, report.weighing, books

    # The adversary listens to a sender even where no peer does.
    lies = config.attack.byzantine > 0
    order = RANKED_ORDER if lies else STRANGER_ORDER
    byzantine = "finite" if lies else "absent"
    return Kind(run, make, "ssjiispET---", "iTib", byzantine, order)


ROUNDS = {
    **{f"round: {name}": round_kind(name) for name in VALUE_MODES.values()},
    **{
        f"round: {name}": round_kind(aggregator=name)
        for name in AGGREGATORS
        if name != "mean"
    },
    **{
        f"round: pooling {name}": round_kind(pooling=name)
        for name in POOLINGS
        if name != "prior"
    },
}
LISTENS = {
    **{f"listen: {name}": listen_kind(exchange={"mode": name}) for name in MODES},
    "listen: faults": listen_kind(
        exchange={"topology": "random_matching"}, faults=FAULTS["all"]
    ),
    "listen: dissensus": listen_kind(attack={"kind": "dissensus", "byzantine": 2}),
}
WIRES = {f"mode: {name}": mode_kind(name) for name in MODES}
