"""Whole rounds as kinds, and what travels in them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.exchange.aggregators import AGGREGATORS
from p2p_sac_jax.exchange.exchange import POOLINGS, ExchangeInputs, make_exchange
from p2p_sac_jax.exchange.messages import MODES, Mode, make_mode, payload_bytes
from p2p_sac_jax.exchange.sanitize import sanitize_received
from p2p_sac_jax.exchange.send_policy import bytes_received
from p2p_sac_jax.exchange.topology import DYNAMIC
from p2p_sac_jax.simulation.faults import make_fault_plan
from p2p_sac_jax.simulation.network import (
    Conditions,
    Participation,
    make_simulated_network,
)
from tests.helpers.contracts import STRANGER_ORDER, Kind, P
from tests.helpers.exchange_cases import (
    BASE,
    BYZANTINE,
    BYZANTINE_FRACTION,
    CLOCK,
    FAULTS,
    NOW,
    RANKED_ORDER,
    VALUE_MODES,
    A,
    K,
    edges,
    hyper,
    local_summary,
    messages,
    random_trust,
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
    """Peers encode, another decodes; in between ``value`` replaces a message."""
    mode = mode_of(settings(exchange={"mode": name}))

    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        seeds = np.arange(peers, dtype=np.int32) + np.int32(100 * seed)
        return local_summary(rng, peers), seeds, np.ones(peers, np.float32), CLOCK, NOW

    def run(inputs, seeds, value, clock, now):
        sent = encode(mode, inputs, seeds, value, clock, now)
        read = mode.clamp(mode.decode(sent))
        return (sanitize_received(read, BASE.record_scale, clock),)

    return Kind(run, make, "ssj--", "j", "absent")


def encode(
    mode: Mode, inputs: Any, seeds: Any, value: Any, clock: Any, now: Any
) -> Any:
    """Messages [J, ...]: the mode's where ``value`` is 1, else all ``value``."""
    keys = jax.vmap(jax.random.key)(seeds)
    sent = jax.vmap(mode.encode, (0, 0, None, None))(inputs, keys, clock // 4, now)

    def spoil(leaf: Any) -> Any:
        instead = value.reshape(value.shape + (1,) * (leaf.ndim - 1))
        instead = jnp.broadcast_to(instead, leaf.shape)
        return jnp.where(instead == 1.0, leaf, instead.astype(leaf.dtype))

    return jax.tree.map(spoil, sent)


def round_kind(
    value_sharing: str = "precision", aggregator: str = "mean", pooling: str = "prior"
) -> Kind:
    cells = 1 if value_sharing == "scalar" else K
    exchange = make_exchange(
        BASE,
        value_sharing=value_sharing,
        pooling=pooling,
        entropy_sharing=True,
        aggregator=aggregator,
        byzantine_fraction=BYZANTINE_FRACTION,
    )

    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        steps = rng.uniform(0.0, 200.0, peers).astype(np.float32)
        return ExchangeInputs(
            received=received(rng, peers, cells),
            own=messages(rng, peers, cells),
            edges=edges(rng, peers),
            trust=random_trust(rng, peers),
            own_steps=steps,
            hyper=hyper(seed),
            clock=CLOCK,
            now=NOW,
        )

    def run(*args):
        return tuple(exchange(ExchangeInputs(*args)))[:3]

    return Kind(run, make, "jiETi---", "iTi", "absent")


def network_kind(**sections: dict[str, Any]) -> Kind:
    """From what peers know to the guidance of others, through a mode's messages."""
    config = settings(environment={"seconds_per_step": float(NOW / CLOCK)}, **sections)
    mode = mode_of(config)
    network = make_simulated_network(config, BASE, mode)

    def make(peers: int, seed: int) -> tuple:
        rng = np.random.default_rng([seed, peers])
        sized = dataclasses.replace(config.population, peers=peers)
        plan = make_fault_plan(dataclasses.replace(config, population=sized), peers)
        joins = np.where(np.arange(peers) == 2, 99, 0).astype(np.int32)
        byzantine = np.float32([BYZANTINE[j % P] for j in range(peers)])
        inputs = local_summary(rng, peers)
        seeds = np.arange(peers, dtype=np.int32) + np.int32(100 * seed)
        partners = ()
        if config.exchange.topology in DYNAMIC:
            partners = rng.integers(-1, peers, (peers, 3)).astype(np.int32)
        steps = rng.uniform(0.0, 200.0, peers).astype(np.float32)
        participation = Participation(joins, byzantine, plan)
        graph = edges(rng, peers), random_trust(rng, peers)
        shared = np.int32(seed), hyper(seed), CLOCK
        sender = inputs, seeds, np.ones(peers, np.float32)
        receiver = inputs.message, steps
        joint = participation, participation, partners
        return *sender, *receiver, *joint, *graph, *shared

    def run(
        inputs,
        seeds,
        value,
        own,
        steps,
        receivers,
        senders,
        partners,
        edge,
        trust,
        seed,
        rules,
        clock,
    ):
        now = clock * NOW / CLOCK
        sent = encode(mode, inputs, seeds, value, clock, now)
        result = network.exchange(
            ExchangeInputs(
                mode.decode(sent), own, edge, trust, steps, rules, clock, now
            ),
            Conditions(receivers, senders, partners, seed),
        )
        size = payload_bytes(jax.tree.map(lambda leaf: leaf[0], sent))
        arrived = bytes_received(size, jnp.ones(edge.shape[1]), result.edges)
        return result.guidance, result.trust, result.metrics, arrived

    # The adversary reads a sender's message even where no peer receives it.
    attacked = config.attack.byzantine > 0
    order = RANKED_ORDER if attacked else STRANGER_ORDER
    byzantine = "finite" if attacked else "absent"
    return Kind(run, make, "ssjiiispET---", "iTib", byzantine, order)


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
NETWORKS = {
    **{f"network: {name}": network_kind(exchange={"mode": name}) for name in MODES},
    "network: faults": network_kind(
        exchange={"topology": "random_matching"}, faults=FAULTS["all"]
    ),
    "network: dissensus": network_kind(attack={"kind": "dissensus", "byzantine": 2}),
}
MODE_KINDS = {f"mode: {name}": mode_kind(name) for name in MODES}
