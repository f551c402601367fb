"""Lies: what hostile senders put in place of their messages.

An attack acts on what arrives, in the form every mode is read in, so one lie serves
them all. The adversary knows every honest message, and the hostile peers act as one.

A sender's estimates (values, entropy, trend, action means, demand coefficients) are
one vector; most attacks are a formula on it. Everything else a liar says (confidence,
count, precision, timestamp, performance) is what the honest say on average, so that a
lie is not given away by its wrapping. Demand coefficients are told as ``b = S θ``
with the honest mean precision ``S``: self-consistent, and as weighty as the truth.

    kind        estimates of a hostile peer                strength scales
    sign_flip   -s · its own                               the flipped estimates
    gaussian    honest mean + 10 s · honest std · noise    the noise
    alie        honest mean - s · z · honest std           the distance z
    ipm         -s/2 · honest mean                         the flipped mean
    mimic       those of the first honest peer             share of the copy, up to 1
    dissensus   away from the receiver's neighbours        the push; 1 stops mixing
    confidence  -its own, claimed with 10⁶ s steps         the claims
    timestamp   -s · its own, as of now or of the future   the flipped estimates
    replay      its own old ones, as of now                share of the age hidden
    nonfinite   NaN, Inf and -Inf                          chance of each entry
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.config import ConfigError
from p2p_sac_jax.simulation.attack_vectors import read_estimates, write_estimates
from p2p_sac_jax.types import Array, Received

# (received [J], own [I], edge [I, J], hostile [J], key, now) -> received
Transform = Callable[[Received, Received, Array, Array, Array, Array], Received]

CLAIM = 1e6  # steps and performance that the attack "confidence" boasts of
FUTURE_S = 1e6  # how far ahead the attack "timestamp" dates half of its messages
NOISE_STD = 10.0  # of the attack "gaussian", in standard deviations of the honest
IPM_EPSILON = 0.5  # of the attack "ipm"
# Where few lie among few, z of "alie" is 0 or less and there would be no attack.
ALIE_LEAST_Z = 0.3
_ALIE_QUANTILE = 0.999


class Attack(NamedTuple):
    """What hostile senders do."""

    transform: Transform
    per_receiver: bool  # whether receivers are told different things: [I, J, ...]


class AdversaryView(NamedTuple):
    """All that the adversary sees, with V estimates in a message."""

    received: Received  # [J, ...] the messages, finite
    own: Received  # [I, ...] what the receivers know themselves
    edge: Array  # [I, J]
    honest: Array  # [J] 1 where a sender is honest
    rank: Array  # [J] int32 place of a hostile sender among the hostile
    estimates: Array  # [J, V] each sender's own, the honest mean where it has none
    known: Array  # [J, V] 1 where an honest sender has data
    mean: Array  # [J, V] of the honest, a sender's own where they have no data
    std: Array  # [V] of the honest
    claims: Received  # [J, ...] messages whose wrapping is the honest mean's
    key: Array
    now: Array  # [] seconds


def make_attack(kind: str, strength: float) -> Attack | None:
    """The lie of a configuration.

    Args:
      kind: "none" or a key of ``ATTACKS``.
      strength: of the lie; what it scales is said at the top of this file.

    Returns:
      None for "none". Else ``transform(received [J], own [I], edge [I, J],
      hostile [J], key, now []) -> Received`` with leaves [J, ...], or [I, J, ...] if
      ``per_receiver``. What honest senders say passes to the bit.

    Raises:
      ConfigError: ``kind`` is unknown.
    """
    if kind == "none":
        return None
    if kind not in ATTACKS:
        known = ", ".join(("none", *ATTACKS))
        raise ConfigError(f"attack.kind={kind!r} must be one of: {known}")
    lie, per_receiver = ATTACKS[kind], kind in PER_RECEIVER

    def transform(
        received: Received,
        own: Received,
        edge: Array,
        byzantine: Array,
        key: Array,
        now: Array,
    ) -> Received:
        is_byzantine = jnp.asarray(byzantine) > 0
        told = lie(_see(received, own, edge, is_byzantine, key, now), strength)

        def choose(told: Array, truth: Array) -> Array:
            lies = is_byzantine.reshape(is_byzantine.shape + (1,) * (truth.ndim - 1))
            if per_receiver:
                lies, truth = lies[None], truth[None]
            return jnp.where(lies, told, truth)

        return jax.tree.map(choose, told, received)

    return Attack(transform, per_receiver)


def _see(
    received: Received,
    own: Received,
    edge: Array,
    is_byzantine: Array,
    key: Array,
    now: Array,
) -> AdversaryView:
    received, own = _finite(received), _finite(own)
    honest = jnp.where(is_byzantine, 0.0, 1.0)
    own_estimates, has = read_estimates(received)
    known = honest[:, None] * has
    mean = _mean_or_own(own_estimates, known)
    heads = jnp.maximum(jnp.sum(known, axis=0), 1.0)
    variance = jnp.sum(known * jnp.square(own_estimates - mean), axis=0) / heads
    return AdversaryView(
        received=received,
        own=own,
        edge=edge,
        honest=honest,
        rank=jnp.maximum(jnp.cumsum(is_byzantine.astype(jnp.int32)) - 1, 0),
        estimates=jnp.where(has > 0, own_estimates, mean),
        known=known,
        mean=mean,
        std=jnp.sqrt(variance),
        claims=_claims(received, honest),
        key=key,
        now=now,
    )


def _finite(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x, 0.0), tree)


def _mean_or_own(x: Array, weight: Array) -> Array:
    """Mean of x over senders, a sender's own x where no sender weighs anything.

    Args:
      x: [J, ...].
      weight: [J] or of the first axes of x, 0 or 1.

    Returns:
      The shape of x.
    """
    weight = weight.reshape(weight.shape + (1,) * (x.ndim - weight.ndim))
    heads = jnp.sum(weight, axis=0, keepdims=True)
    mean = jnp.sum(weight * x, axis=0, keepdims=True) / jnp.maximum(heads, 1.0)
    return jnp.where(heads > 0, mean, x)


def _claims(received: Received, honest: Array) -> Received:
    """Messages [J, ...] in which all but the estimates is the honest mean."""
    insight, demand, performance, _ = received
    cells = honest[:, None] * jnp.where(insight.valid > 0, 1.0, 0.0)
    data = honest * jnp.where(demand.count > 0, 1.0, 0.0)
    has_data = honest * _has_data(received)
    # Not the mean of times: rounding could put it into the future.
    stamps = jnp.where(cells > 0, insight.timestamp, np.finfo(np.float32).min)
    newest = jnp.max(stamps, axis=0, keepdims=True)
    stamped = jnp.max(cells, axis=0, keepdims=True) > 0
    mean = jax.tree.map(lambda x: _mean_or_own(x, cells), insight)
    return Received(
        insight=mean._replace(timestamp=jnp.where(stamped, newest, insight.timestamp)),
        demand=jax.tree.map(lambda x: _mean_or_own(x, data), demand),
        performance=_mean_or_own(performance, has_data),
        trend=received.trend,
    )


def _has_data(received: Received) -> Array:
    """[J] 1 where a sender has anything to say."""
    heard = (jnp.max(received.insight.valid, axis=-1) > 0) | (received.demand.count > 0)
    return jnp.where(heard, 1.0, 0.0)


# The lies: (scene, strength) -> messages of all senders, as if all of them lied.


def _sign_flip(view: AdversaryView, strength: float) -> Received:
    return write_estimates(-strength * view.estimates, view.claims)


def _gaussian(view: AdversaryView, strength: float) -> Received:
    noise = _draw(jax.random.normal, view.key, view.rank, view.std.shape)
    spread = NOISE_STD * strength * view.std[None]
    return write_estimates(view.mean + spread * noise, view.claims)


def _alie(view: AdversaryView, strength: float) -> Received:
    """A little is enough (Baruch et al. 2019).

    Of n senders m lie, and s = ⌊n/2 + 1⌋ - m honest ones are to look worse than the
    lie: z is the normal quantile of (n - m - s)/(n - m).
    """
    honest = jnp.maximum(jnp.sum(view.known, axis=0), 1.0)  # [V] n - m
    byzantine = jnp.sum(1.0 - view.honest)
    supporters = jnp.floor(0.5 * (honest + byzantine) + 1.0) - byzantine
    quantile = (honest - supporters) / honest
    quantile = jnp.clip(quantile, 1.0 - _ALIE_QUANTILE, _ALIE_QUANTILE)
    z = jnp.maximum(jax.scipy.special.ndtri(quantile), ALIE_LEAST_Z)
    lie = view.mean - (strength * z * view.std)[None]
    return write_estimates(lie, view.claims)


def _ipm(view: AdversaryView, strength: float) -> Received:
    """Inner product manipulation (Xie et al. 2020): -ε · honest mean."""
    return write_estimates(-IPM_EPSILON * strength * view.mean, view.claims)


def _mimic(view: AdversaryView, strength: float) -> Received:
    """All copy one honest peer, who then counts too much (Karimireddy et al. 2022)."""
    first = jnp.argmax(view.honest * _has_data(view.received))
    share = min(strength, 1.0)
    return jax.tree.map(
        lambda x: (1.0 - share) * x + share * x[first][None], view.received
    )


def _dissensus(view: AdversaryView, strength: float) -> Received:
    """Cancels each receiver's step towards its neighbours (He et al. 2022).

    Receiver i is told ``x_i - ε Σ_j W_ij (x_j - x_i) / Σ_b W_ib`` with j its honest
    and b its hostile neighbours. Under a plain mean it stays where it is for ε = 1
    and moves away from them above.
    """
    mine, has = read_estimates(view.own)
    heads = jnp.sum(view.known, axis=0)
    mean = jnp.sum(view.known * view.estimates, axis=0) / jnp.maximum(heads, 1.0)
    mine = jnp.where(has > 0, mine, jnp.broadcast_to(mean, mine.shape))  # [I, V]
    total = _contract(view.edge, view.known * view.estimates)
    pull = total - _contract(view.edge, view.known) * mine
    byzantine = _contract(view.edge, 1.0 - view.honest[:, None])  # [I, 1]
    heard = byzantine > 0
    step = jnp.where(heard, strength, 0.0) / jnp.where(heard, byzantine, 1.0)
    lie = mine - step * pull
    receivers, senders = view.edge.shape

    def repeat(x: Array) -> Array:
        return jnp.broadcast_to(x, (receivers, *x.shape))

    lies = jnp.broadcast_to(lie[:, None], (receivers, senders, lie.shape[-1]))
    return write_estimates(lies, jax.tree.map(repeat, view.claims))


def _confidence(view: AdversaryView, strength: float) -> Received:
    """Boasts are harmless alone, so they come with flipped estimates.

    What is 0 in every honest message stays 0: the mode may not carry it at all.
    """
    insight, demand, performance, _ = view.claims

    def boast(claim: Array, most: float) -> Array:
        return jnp.where(claim != 0, most, 0.0)

    count = boast(demand.count, CLAIM * strength)
    scale = count / jnp.where(count > 0, demand.count, 1.0)
    claims = view.claims._replace(
        insight=insight._replace(
            confidence=boast(insight.confidence, 1.0),
            count=boast(insight.count, CLAIM * strength),
        ),
        demand=demand._replace(
            precision=scale[:, None, None] * demand.precision, count=count
        ),
        performance=boast(performance, CLAIM * strength),
    )
    return write_estimates(-view.estimates, claims)


def _timestamp(view: AdversaryView, strength: float) -> Received:
    """Every second hostile peer, from the second on, speaks from the future."""
    ahead = jnp.where(view.rank % 2 == 1, FUTURE_S, 0.0)[:, None]
    insight = view.claims.insight
    stamps = jnp.where(insight.valid > 0, view.now + ahead, insight.timestamp)
    claims = view.claims._replace(insight=insight._replace(timestamp=stamps))
    return write_estimates(-strength * view.estimates, claims)


def _replay(view: AdversaryView, strength: float) -> Received:
    """Old messages as if they were new; that they are old, the caller sees to."""
    insight = view.received.insight
    # In this order a strength of 1 gives ``now`` to the bit, never the future.
    stamps = view.now - (1.0 - strength) * (view.now - insight.timestamp)
    stamps = jnp.where(insight.valid > 0, stamps, insight.timestamp)
    return view.received._replace(insight=insight._replace(timestamp=stamps))


def _nonfinite(view: AdversaryView, strength: float) -> Received:
    """What is not a number, in cells and data that claim to be there."""
    message = write_estimates(view.estimates, view.claims)
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
    valid = view.claims.insight.valid
    return message._replace(insight=message.insight._replace(valid=valid))


def _draw(
    sample: Callable[..., Array], key: Array, rank: Array, shape: tuple[int, ...]
) -> Array:
    """Presampled [J, *shape] that depend on a sender's place among the hostile alone."""
    return jax.vmap(lambda r: sample(jax.random.fold_in(key, r), shape))(rank)


def _contract(edge: Array, x: Array) -> Array:
    return jnp.einsum("ij,jv->iv", edge, x, precision="highest")


ATTACKS: dict[str, Callable[[AdversaryView, float], Received]] = {
    "sign_flip": _sign_flip,
    "gaussian": _gaussian,
    "alie": _alie,
    "ipm": _ipm,
    "mimic": _mimic,
    "dissensus": _dissensus,
    "confidence": _confidence,
    "timestamp": _timestamp,
    "replay": _replay,
    "nonfinite": _nonfinite,
}
PER_RECEIVER = frozenset({"dissensus"})
