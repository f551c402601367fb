"""Wrappers of an exchange, composed by ``chain`` as optax composes updates.

A wrapper is a function from an exchange to an exchange of the same signature. What it
needs beside the inputs of a round it closes over, traced arrays included.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

from p2p_sac_jax.exchange.exchange import Exchange, ExchangeInputs, ExchangeResult
from p2p_sac_jax.types import Array

Wrapper = Callable[[Exchange], Exchange]


def chain(*wrappers: Wrapper) -> Wrapper:
    """Applies wrappers in order: the first acts first on the inputs of a round."""

    def wrap(exchange: Exchange) -> Exchange:
        for wrapper in reversed(wrappers):
            exchange = wrapper(exchange)
        return exchange

    return wrap


def on_edges(change: Callable[[ExchangeInputs], Array]) -> Wrapper:
    """Replaces the edges [I, J] of a round."""

    def wrap(exchange: Exchange) -> Exchange:
        return lambda inputs: exchange(inputs._replace(edges=change(inputs)))

    return wrap


def for_each_receiver(exchange: Exchange) -> Exchange:
    """The same round where ``received`` has leaves [I, J, ...], one row a receiver."""
    axes = ExchangeInputs._make((0, 0, 0, 0, 0, None, None, None))

    def one(inputs: ExchangeInputs) -> ExchangeResult:
        own, edges, trust, own_steps = jax.tree.map(
            lambda leaf: leaf[None],
            (inputs.own, inputs.edges, inputs.trust, inputs.own_steps),
        )
        result = exchange(
            inputs._replace(own=own, edges=edges, trust=trust, own_steps=own_steps)
        )
        return jax.tree.map(lambda leaf: leaf[0], result)

    return jax.vmap(one, (axes,))
