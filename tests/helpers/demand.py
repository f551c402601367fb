"""Demand coefficients of the pricing market, by their number."""

from __future__ import annotations

import numpy as np

from p2p_sac_jax.coefficients import BasePrior, make_base_prior
from p2p_sac_jax.demand.posterior import make_demand_memory
from p2p_sac_jax.environments.pricing_coefficients import pricing_coefficients


def coefficients(size):
    """Five coefficients, six with a reference price, or none."""
    return pricing_coefficients(reference_price=size == 6) if size else ()


def base_prior(size) -> BasePrior:
    """The base prior of these coefficients."""
    return make_base_prior(coefficients(size))


def base_with(mean, covariance) -> BasePrior:
    """A base prior of another mean and covariance, else as in the market."""
    mean = np.asarray(mean, np.float32)
    return base_prior(mean.size)._replace(
        mean=mean, covariance=np.asarray(covariance, np.float32)
    )


def demand_memory(size):
    """The memory of these coefficients."""
    return make_demand_memory(coefficients(size))
