"""The pytrees that packages exchange; this module has no logic.

Axis legend, used by every shape comment in the package:

    R  runs (arm x seed)        P  peers            I  receiving peers
    J  sending peers            T  steps            B  batch rows
    D  observation size         A  action size      K  context cells
    F  demand features          N  candidate actions

Functions are written for one peer; ``population`` adds the axes ``[P, R]`` in
front and ``exchange`` is the only package that handles two peers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax

if TYPE_CHECKING:
    # Pytrees of both kinds are the same type here: what is known before tracing is
    # NumPy, what is traced is JAX. A checker need not distinguish them.
    Array = Any
else:
    Array = jax.Array


class Transition(NamedTuple):
    """One environment step as the learner sees it."""

    obs: Array  # [D]
    action: Array  # [A] in [-1, 1]
    reward: Array  # []
    next_obs: Array  # [D] the true successor, never the one after a reset
    discount: Array  # [] 1 - terminated: a truncated episode bootstraps


class Experience(NamedTuple):
    """One real step as a price memory sees it."""

    features: Array  # [F] regressors of log demand, zeros where there are none
    log_sales: Array  # [] ln(units / usual units)
    action: Array  # [A] in [-1, 1]
    reward: Array  # []
    cell: Array  # [] int32 public context cell


class Candidates(NamedTuple):
    """Actions open in one observed state, and what is known of each."""

    actions: Array  # [N, A] in [-1, 1]
    features: Array  # [N, F] regressors of log demand
    gain: Array  # [N] reward per usual unit sold
    cell: Array  # [] int32 public context cell


class Insight(NamedTuple):
    """What a peer sends about each context cell (``ModelInsight``)."""

    state_value: Array  # [K] soft state value, in units of the sender's own rewards
    action_value: Array  # [K] value of the greedy action, same units
    entropy: Array  # [K] nats, of the Gaussian before the tanh
    confidence: Array  # [K] in [0, 1], computed from own data
    timestamp: Array  # [K] seconds on the shared clock
    action_mean: Array  # [K, A] mean greedy action
    action_std: Array  # [K, A] mean policy std before the tanh
    count: Array  # [K] real steps seen in the cell
    valid: Array  # [K] 1 where the cell has data, else 0


class DemandSummary(NamedTuple):
    """Sufficient statistics of a peer's own demand data, no prior inside."""

    precision: Array  # [F, F] S = G / noise variance
    shift: Array  # [F] b, so that the posterior mean is (P0 + S)^-1 (P0 mu0 + b)
    count: Array  # [] real steps behind it


class DemandStatistics(NamedTuple):
    """Running sums over a peer's own steps, each of bounded influence."""

    G: Array  # [F, F] sum of x xᵀ
    h: Array  # [F] sum of x z
    yy: Array  # [] sum of z²
    n: Array  # [] number of steps


class Prior(NamedTuple):
    """Gaussian prior of one peer's demand coefficients."""

    mean: Array  # [F]
    covariance: Array  # [F, F]


class LocalSummary(NamedTuple):
    """All that one peer could send; the mode decides what leaves."""

    insight: Insight
    demand: DemandSummary
    performance: Array  # [] moving average of the peer's rewards


class MessageInputs(NamedTuple):
    """What a mode of the exchange may draw on to write an outbound message."""

    message: LocalSummary
    statistics: DemandStatistics
    past_value: Array  # [K] state values ``privacy.trend_window`` rounds ago
    past_valid: Array  # [K] 1 where there was one
    visits: Array  # [K] own real steps in each cell, exactly


class Received(NamedTuple):
    """What receivers read out of a message, the same in every mode.

    What a mode does not carry is 0 here: ``count`` where values may not be used,
    ``demand.count`` where demand may not, ``trend`` where there is none.
    """

    insight: Insight
    demand: DemandSummary
    performance: Array  # []
    trend: Array  # [K] in [-1, 1], expected sign of the change of values


class Guidance(NamedTuple):
    """What one peer makes of all it received; constant within a round."""

    value: Array  # [K] network state value, in the receiver's own units
    value_weight: Array  # [K] in [0, 1]; 0 means pure local bootstrap
    entropy: Array  # [K] nats, aggregated over neighbours
    entropy_weight: Array  # [K] in [0, 1]; 0 means own spread alone
    std_weight: Array  # [K] in [0, 1]; 0 means own exploration alone
    trend: Array  # [K] in [-1, 1], which way the neighbours' values move
    prior: Prior  # the network's prior of demand; the base prior without messages
    has_prior: Array  # [] 1 where the network informs the prior, else 0


class Score(NamedTuple):
    """Noise-free outcome of one step, beside what could have been earned."""

    achieved: Array  # [] expected reward of the action taken
    oracle: Array  # [] expected reward of the best policy, 0 where unknown
    baseline: Array  # [] expected reward of leaving things alone, 0 where unknown
