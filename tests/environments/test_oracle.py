"""Closed-form optimal prices against brute force and published values."""

from __future__ import annotations

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw

from p2p_sac_jax.environments import oracle
from tests.reference import market as reference

COSTS = st.floats(0.3, 1.2)


def test_lambert_w_agrees_with_scipy():
    z = np.concatenate([[0.0], np.logspace(-12, 30, 400)]).astype(np.float32)
    np.testing.assert_allclose(
        jax.jit(oracle.lambert_w)(z), lambertw(z.astype(np.float64)).real, rtol=1e-6
    )


@settings(deadline=None, max_examples=25)
@given(
    cost=COSTS,
    sensitivity=st.floats(0.5, 8.0),
    appeal=st.floats(-3.0, 12.0),
    rival=st.floats(-20.0, 5.0),
)
def test_logit_price_is_the_best_on_a_grid(cost, sensitivity, appeal, rival):
    def share(price):
        odds = np.exp(appeal - sensitivity * price)
        return odds / (1 + odds + np.exp(rival))

    best, _, spacing = reference.best_price(
        lambda p: (p - cost) * share(p), cost, cost + 16 / sensitivity, 20_001
    )
    price = np.float64(
        jax.jit(oracle.logit_price)(sensitivity, cost, appeal, np.exp(rival))
    )
    assert abs(price - best) <= spacing
    # First-order condition: markup = 1 / (sensitivity (1 - share)).
    np.testing.assert_allclose(
        (price - cost) * sensitivity * (1 - share(price)), 1.0, rtol=1e-4
    )
