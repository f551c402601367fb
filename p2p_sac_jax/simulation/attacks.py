"""Attacks: what byzantine senders put in place of their messages.

An attack acts on what arrives, in the form in which every mode is read, so one attack
serves all modes. The adversary knows every honest message, and the byzantine peers act
as one.

A sender's estimates (values, entropy, trend, action means, demand coefficients) are
one vector; most attacks are a formula on it. Everything else in an attack's message
(confidence, count, precision, timestamp, performance) is the honest mean, so that the
message is not recognised by its metadata. Demand coefficients are sent as ``b = S θ``
with the honest mean precision ``S``: self-consistent, and of the weight of an honest
message.

    kind        estimates of a byzantine peer              strength scales
    sign_flip   -s · its own                               the flipped estimates
    gaussian    honest mean + 10 s · honest std · noise    the noise
    alie        honest mean - s · z · honest std           the distance z
    ipm         -s/2 · honest mean                         the flipped mean
    mimic       those of the first honest peer             share of the copy, up to 1
    dissensus   away from the receiver's neighbours        the push; 1 stops mixing
    confidence  -its own, as if from 10⁶ s steps           the stated steps
    timestamp   -s · its own, as of now or of the future   the flipped estimates
    replay      its own old ones, as of now                share of the age hidden
    nonfinite   NaN, Inf and -Inf                          chance of each entry
    spread      honest mean, but 5 s nats in every cell    the stated entropy
    insider     as spread, and the steepest demand curve   both

A new attack is one function, one entry of ``ATTACKS``, and its NumPy reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.coefficients import BasePrior
from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.exchange.exchange import Exchange, ExchangeInputs, ExchangeResult
from p2p_sac_jax.exchange.sanitize import ENTROPY_BOUND
from p2p_sac_jax.simulation.adversary import AdversaryView, has_data, view_of
from p2p_sac_jax.simulation.attack_vectors import (
    implied_coefficients,
    read_estimates,
    write_estimates,
)
from p2p_sac_jax.simulation.wrappers import Wrapper, for_each_receiver
from p2p_sac_jax.types import Array, DemandSummary, Received

STATED = 1e6  # steps and performance that the attack "confidence" states
FUTURE_S = 1e6  # how far ahead the attack "timestamp" dates half of its messages
NOISE_STD = 10.0  # of the attack "gaussian", in standard deviations of the honest
IPM_EPSILON = 0.5  # of the attack "ipm"
# With few byzantine among few, z of "alie" is 0 or less: there would be no attack.
ALIE_LEAST_Z = 0.3
_ALIE_QUANTILE = 0.999


# (view, strength) -> messages of all senders, as if all of them were byzantine
Falsify = Callable[[AdversaryView, float], Received]


class AttackKind(NamedTuple):
    """An entry of ``ATTACKS``."""

    falsify: Falsify
    per_receiver: bool = False  # receivers get different messages: leaves [I, J, ...]
    repeats: bool = False  # a byzantine peer sends its first message for ever


class Attack(NamedTuple):
    """An attack of a configuration."""

    # (received [J], own [I], edges [I, J], byzantine [J], key, now []) -> received
    transform: Callable[[Received, Received, Array, Array, Array, Array], Received]
    per_receiver: bool
    repeats: bool


def make_attack(
    kind: str, strength: float, base: BasePrior | None = None
) -> Attack | None:
    """The attack of a configuration.

    Args:
      kind: "none" or a key of ``ATTACKS``.
      strength: what it scales is in the table at the top of this file.
      base: what is public of demand, for the attacks that read it; None where demand
        is not shared.

    Returns:
      None for "none". Else an attack whose ``transform`` gives leaves [J, ...], or
      [I, J, ...] if ``per_receiver``. Honest messages pass to the bit.

    Raises:
      ConfigError: ``kind`` is unknown.
    """
    if kind == "none":
        return None
    if kind not in ATTACKS:
        known = ", ".join(("none", *ATTACKS))
        raise ConfigError(f"attack.kind={kind!r} must be one of: {known}")
    falsify, per_receiver, repeats = ATTACKS[kind]

    def transform(
        received: Received,
        own: Received,
        edges: Array,
        byzantine: Array,
        key: Array,
        now: Array,
    ) -> Received:
        is_byzantine = jnp.asarray(byzantine) > 0
        view = view_of(received, own, edges, is_byzantine, base, key, now)

        def choose(false: Array, true: Array) -> Array:
            chosen = is_byzantine.reshape(is_byzantine.shape + (1,) * (true.ndim - 1))
            if per_receiver:
                chosen, true = chosen[None], true[None]
            return jnp.where(chosen, false, true)

        return jax.tree.map(choose, falsify(view, strength), received)

    return Attack(transform, per_receiver, repeats)


def byzantine(attack: Attack, senders: Array, key: Array) -> Wrapper:
    """Replaces the messages of byzantine senders.

    Args:
      attack: from ``make_attack``.
      senders: [J] 1 where a sender is byzantine.
      key: of the run and the round.
    """

    def wrap(exchange: Exchange) -> Exchange:
        inner = for_each_receiver(exchange) if attack.per_receiver else exchange

        def wrapped(inputs: ExchangeInputs) -> ExchangeResult:
            insight, demand, performance = inputs.own
            no_trend = jnp.zeros_like(insight.valid)
            own = Received(insight, demand, performance, no_trend)
            received = attack.transform(
                inputs.received, own, inputs.edges, senders, key, inputs.now
            )
            return inner(inputs._replace(received=received))

        return wrapped

    return wrap


def _sign_flip(view: AdversaryView, strength: float) -> Received:
    return write_estimates(-strength * view.estimates, view.template)


def _gaussian(view: AdversaryView, strength: float) -> Received:
    noise = _draw(jax.random.normal, view.key, view.rank, view.std.shape)
    spread = NOISE_STD * strength * view.std[None]
    return write_estimates(view.mean + spread * noise, view.template)


def _alie(view: AdversaryView, strength: float) -> Received:
    """A little is enough (Baruch et al. 2019).

    Of n senders m are byzantine, and s = ⌊n/2 + 1⌋ - m honest ones are to look worse
    than they: z is the normal quantile of (n - m - s)/(n - m).
    """
    honest = jnp.maximum(jnp.sum(view.known, axis=0), 1.0)  # [V] n - m
    byzantine = jnp.sum(1.0 - view.honest)
    supporters = jnp.floor(0.5 * (honest + byzantine) + 1.0) - byzantine
    quantile = (honest - supporters) / honest
    quantile = jnp.clip(quantile, 1.0 - _ALIE_QUANTILE, _ALIE_QUANTILE)
    z = jnp.maximum(jax.scipy.special.ndtri(quantile), ALIE_LEAST_Z)
    estimates = view.mean - (strength * z * view.std)[None]
    return write_estimates(estimates, view.template)


def _ipm(view: AdversaryView, strength: float) -> Received:
    """Inner product manipulation (Xie et al. 2020): -ε · honest mean."""
    return write_estimates(-IPM_EPSILON * strength * view.mean, view.template)


def _mimic(view: AdversaryView, strength: float) -> Received:
    """All copy one honest peer, which gains weight (Karimireddy et al. 2022)."""
    first = jnp.argmax(view.honest * has_data(view.received))
    share = min(strength, 1.0)
    return jax.tree.map(
        lambda x: (1.0 - share) * x + share * x[first][None], view.received
    )


def _dissensus(view: AdversaryView, strength: float) -> Received:
    """Cancels each receiver's step towards its neighbours (He et al. 2022).

    Receiver i receives ``x_i - ε Σ_j W_ij (x_j - x_i) / Σ_b W_ib`` with j its honest
    and b its byzantine neighbours. Under a plain mean it stays where it is for ε = 1
    and moves away from them above.
    """
    own, has = read_estimates(view.own)
    heads = jnp.sum(view.known, axis=0)
    mean = jnp.sum(view.known * view.estimates, axis=0) / jnp.maximum(heads, 1.0)
    own = jnp.where(has > 0, own, jnp.broadcast_to(mean, own.shape))  # [I, V]
    total = _contract(view.edge, view.known * view.estimates)
    pull = total - _contract(view.edge, view.known) * own
    byzantine = _contract(view.edge, 1.0 - view.honest[:, None])  # [I, 1]
    reached = byzantine > 0
    step = jnp.where(reached, strength, 0.0) / jnp.where(reached, byzantine, 1.0)
    estimates = own - step * pull
    receivers, senders = view.edge.shape

    def repeat(x: Array) -> Array:
        return jnp.broadcast_to(x, (receivers, *x.shape))

    shape = (receivers, senders, estimates.shape[-1])
    everyone = jnp.broadcast_to(estimates[:, None], shape)
    return write_estimates(everyone, jax.tree.map(repeat, view.template))


def _confidence(view: AdversaryView, strength: float) -> Received:
    """High confidence is harmless alone, so it comes with flipped estimates.

    What is 0 in every honest message stays 0: the mode may not carry it at all.
    """
    insight, demand, performance, _ = view.template

    def inflate(x: Array, most: float) -> Array:
        return jnp.where(x != 0, most, 0.0)

    count = inflate(demand.count, STATED * strength)
    scale = count / jnp.where(count > 0, demand.count, 1.0)
    template = view.template._replace(
        insight=insight._replace(
            confidence=inflate(insight.confidence, 1.0),
            count=inflate(insight.count, STATED * strength),
        ),
        demand=demand._replace(
            precision=scale[:, None, None] * demand.precision, count=count
        ),
        performance=inflate(performance, STATED * strength),
    )
    return write_estimates(-view.estimates, template)


def _timestamp(view: AdversaryView, strength: float) -> Received:
    """Every second byzantine peer, from the second on, dates its messages ahead."""
    ahead = jnp.where(view.rank % 2 == 1, FUTURE_S, 0.0)[:, None]
    insight = view.template.insight
    stamps = jnp.where(insight.valid > 0, view.now + ahead, insight.timestamp)
    template = view.template._replace(insight=insight._replace(timestamp=stamps))
    return write_estimates(-strength * view.estimates, template)


def _replay(view: AdversaryView, strength: float) -> Received:
    """Old messages as if they were new; ``repeats`` makes them old."""
    insight = view.received.insight
    # In this order a strength of 1 gives ``now`` to the bit, never the future.
    stamps = view.now - (1.0 - strength) * (view.now - insight.timestamp)
    stamps = jnp.where(insight.valid > 0, stamps, insight.timestamp)
    return view.received._replace(insight=insight._replace(timestamp=stamps))


def _nonfinite(view: AdversaryView, strength: float) -> Received:
    """Entries that are not numbers, in cells that are marked valid."""
    message = write_estimates(view.estimates, view.template)
    leaves, structure = jax.tree.flatten(message)
    ends = np.cumsum([leaf[0].size for leaf in leaves])
    draws = _draw(jax.random.uniform, view.key, view.rank, (int(ends[-1]),))
    share = min(max(strength, 1e-9), 1.0)
    spoilt = []
    pieces = jnp.split(draws / share, ends[:-1], axis=-1)
    for leaf, piece in zip(leaves, pieces, strict=True):
        draw = piece.reshape(leaf.shape)
        bad = jnp.where(draw < 1 / 3, np.nan, jnp.where(draw < 2 / 3, np.inf, -np.inf))
        spoilt.append(jnp.where(draw < 1.0, bad, leaf))
    message = jax.tree.unflatten(structure, spoilt)
    valid = view.template.insight.valid
    return message._replace(insight=message.insight._replace(valid=valid))


def _spread(view: AdversaryView, strength: float) -> Received:
    """A policy that knows nothing, in every cell, seen or not, as of now."""
    message = write_estimates(view.mean, view.template)
    insight, one = message.insight, jnp.ones_like(message.insight.valid)
    entropy = ENTROPY_BOUND * insight.action_mean.shape[-1] * strength
    return message._replace(
        insight=insight._replace(
            entropy=entropy * one, confidence=one, timestamp=view.now * one, valid=one
        )
    )


def _insider(view: AdversaryView, strength: float) -> Received:
    """Spread, and the steepest demand curve of the box, as if from 10⁶ steps."""
    message, base = _spread(view, strength), view.base
    if base is None or base.size == 0:
        return message
    senders = view.honest.shape[0]
    steepest = strength * base.own_price * base.high
    honest = implied_coefficients(view.template.demand)
    theta = jnp.where(base.own_price[None] > 0, steepest[None], honest)
    precision = STATED * jnp.diag(1.0 / base.record_scale**2)
    demand = DemandSummary(
        precision=jnp.broadcast_to(precision, (senders, *precision.shape)),
        shift=theta * jnp.diagonal(precision)[None],
        count=jnp.full((senders,), STATED),
    )
    return message._replace(demand=demand)


def _draw(
    sample: Callable[..., Array], key: Array, rank: Array, shape: tuple[int, ...]
) -> Array:
    """Draws [J, *shape] that depend on a sender's rank alone."""
    return jax.vmap(lambda r: sample(jax.random.fold_in(key, r), shape))(rank)


def _contract(edge: Array, x: Array) -> Array:
    return jnp.einsum("ij,jv->iv", edge, x, precision="highest")


ATTACKS: dict[str, AttackKind] = {
    "sign_flip": AttackKind(_sign_flip),
    "gaussian": AttackKind(_gaussian),
    "alie": AttackKind(_alie),
    "ipm": AttackKind(_ipm),
    "mimic": AttackKind(_mimic),
    "dissensus": AttackKind(_dissensus, per_receiver=True),
    "confidence": AttackKind(_confidence),
    "timestamp": AttackKind(_timestamp),
    "replay": AttackKind(_replay, repeats=True),
    "nonfinite": AttackKind(_nonfinite),
    "spread": AttackKind(_spread),
    "insider": AttackKind(_insider),
}
