"""Mode private: peers of one owner tell each other everything in full."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from p2p_sac_jax.exchange.messages.base import Mode, Setting, no_demand
from p2p_sac_jax.types import Array, LocalSummary, MessageInputs, Received

PrivateMessage = LocalSummary


def make_private(setting: Setting) -> Mode:
    """Builds the mode; it makes no use of randomness."""
    # Arrays without elements stay at home: some programs cannot return them.
    empty = setting.num_features == 0

    def outbound(
        inputs: MessageInputs, key: Array, round_index: Array, clock_s: Array
    ) -> PrivateMessage:
        del key, round_index, clock_s
        message = inputs.message
        return message._replace(demand=()) if empty else message

    def read(wire: PrivateMessage) -> Received:
        return Received(
            insight=wire.insight,
            demand=no_demand(0) if empty else wire.demand,
            performance=wire.performance,
            trend=jnp.zeros_like(wire.insight.state_value),
        )

    return Mode("private", outbound, jax.vmap(read))
