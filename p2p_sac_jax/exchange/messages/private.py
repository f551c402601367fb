"""Mode private: peers of one owner send each other everything in full."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from p2p_sac_jax.exchange.messages.base import Mode, Setting, no_demand
from p2p_sac_jax.privacy.accountant import Releases
from p2p_sac_jax.types import Array, LocalSummary, MessageInputs, Received

PrivateMessage = LocalSummary


def make_private(setting: Setting) -> Mode:
    """Builds the mode; it makes no use of randomness."""
    # Arrays without elements are not sent: some programs cannot return them.
    empty = setting.num_features == 0

    def encode(
        inputs: MessageInputs, key: Array, round_index: Array, clock_s: Array
    ) -> PrivateMessage:
        del key, round_index, clock_s
        message = inputs.message
        return message._replace(demand=()) if empty else message

    def decode(message: PrivateMessage) -> Received:
        return Received(
            insight=message.insight,
            demand=no_demand(0) if empty else message.demand,
            performance=message.performance,
            trend=jnp.zeros_like(message.insight.state_value),
        )

    def releases() -> Releases:
        names = ["values and counts", "actions", "entropy", "time"]
        names += ["demand statistics"] if setting.shares_demand else []
        return Releases(
            dict.fromkeys(names, "no epsilon: shared in full"),
            no_guarantee="it shares everything in full, no bound holds",
        )

    return Mode("private", encode, jax.vmap(decode), releases)
